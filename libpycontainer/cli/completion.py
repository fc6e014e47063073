"""``--generate-completion``: what makes bash, zsh or fish complete a command line of pyrunc's.

Everything comes from the tables that the command line itself is read with. Only what a value is
(a directory, one of some words) is told here, by the name of its flag.
"""

from __future__ import annotations

from libpycontainer.cli.command import PROGRAM, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from libpycontainer.cli.command import Command
    from libpycontainer.cli.options import Flag

_DIRECTORIES = frozenset(("bundle", "image-path", "parent-path", "root", "work-path"))
_FILES = frozenset(("console-socket", "log", "pid-file", "pidfd-socket", "process", "resources"))
_WORDS = {
    "empty-ns": "network",
    "format": "json table",
    "generate-completion": "bash fish zsh",
    "log-format": "json text",
    "manage-cgroups-mode": "full ignore soft strict",
    "rootless": "auto false true",
}
# Verbs that make a container, or are about none: their first argument is no existing name.
_NO_NAME = frozenset(("create", "features", "list", "restore", "run", "spec"))
_SIGNALS = "HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH"


def script(shell: str, commands: Sequence[Command], flags: Sequence[Flag]) -> str:
    """The script for ``shell``. Raises :class:`CommandError` for one that is not known."""
    makers: dict[str, Callable[[Sequence[Command], Sequence[Flag]], str]] = {
        "bash": _bash,
        "fish": _fish,
        "zsh": _zsh,
    }
    if shell not in makers:
        raise CommandError(f"cannot complete for {shell!r}: there are scripts for bash, fish, zsh")
    return makers[shell](commands, flags)


def _shown(flags: Iterable[Flag]) -> list[Flag]:
    return [flag for flag in flags if not flag.hidden]


def _takes_value(flag: Flag) -> bool:
    return flag.kind != "bool"


def _spellings(flag: Flag) -> list[str]:
    return [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]


def _quoted(text: str) -> str:
    """For a word between single quotes."""
    return text.replace("'", "'\\''")


# ---- bash --------------------------------------------------------------------------------------

_BASH = """\
# bash completion for pyrunc, made by: pyrunc --generate-completion bash

_pyrunc_flags() {
    case "$1" in
@flags@
    esac
}

_pyrunc_valued() {
    case "$1" in
@valued@
    esac
}

_pyrunc_value() {
    case "$1" in
@values@
    esac
}

_pyrunc() {
    local cur="${COMP_WORDS[COMP_CWORD]}" verb="" flag="" word index
    local -i given=0
    local -a root=()
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${COMP_WORDS[index]}"
        [[ "$word" == "=" ]] && continue
        if [[ -n "$flag" ]]; then
            [[ "$flag" == --root ]] && root=(--root "$word")
            flag=""
        elif [[ "$word" == -* ]]; then
            [[ "$word" == --root=* ]] && root=("$word")
            [[ " $(_pyrunc_valued "$verb") " == *" $word "* ]] && flag="$word"
        elif [[ -z "$verb" ]]; then
            verb="$word"
        else
            given+=1
        fi
    done
    [[ "$cur" == "=" ]] && cur=""
    if [[ -n "$flag" ]]; then
        _pyrunc_value "$flag"
    elif [[ "$verb" == @foreign@ ]] && ((given > 0)); then
        # The rest is another program's command line.
        compopt -o default 2>/dev/null
    elif [[ "$cur" == -* ]]; then
        COMPREPLY=($(compgen -W "$(_pyrunc_flags "$verb")" -- "$cur"))
    elif [[ -z "$verb" || "$verb" == help ]]; then
        COMPREPLY=($(compgen -W "@verbs@ help" -- "$cur"))
    elif ((given == 0)) && [[ "$verb" != @unnamed@ ]]; then
        COMPREPLY=($(compgen -W "$(pyrunc "${root[@]}" list --quiet 2>/dev/null)" -- "$cur"))
    elif [[ "$verb" == kill ]] && ((given == 1)); then
        COMPREPLY=($(compgen -W "@signals@" -- "$cur"))
    fi
}

complete -F _pyrunc pyrunc
"""


def _bash(commands: Sequence[Command], flags: Sequence[Flag]) -> str:
    tables = [("", _shown(flags)), *((each.name, _shown(each.flags)) for each in commands)]
    return _filled(
        _BASH,
        flags=_cases(
            (name, " ".join([word for flag in table for word in _spellings(flag)] + _help(name)))
            for name, table in tables
        ),
        valued=_cases(
            (name, " ".join(w for flag in table if _takes_value(flag) for w in _spellings(flag)))
            for name, table in tables
        ),
        values=_bash_values([flag for _, table in tables for flag in table]),
        foreign=_alternatives(each.name for each in commands if not each.interspersed),
        unnamed=_alternatives(sorted(_NO_NAME)),
        verbs=" ".join(each.name for each in commands),
        signals=_SIGNALS,
    )


def _filled(template: str, **holes: str) -> str:
    for name, text in holes.items():
        template = template.replace(f"@{name}@", text)
    return template


def _help(name: str) -> list[str]:
    """Every verb has it, without a row in its table."""
    return ["--help", "-h"] if name else []


def _cases(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f'        "{name}") echo "{text}" ;;' for name, text in rows if text)


def _bash_values(flags: Iterable[Flag]) -> str:
    known = {flag.name: flag for flag in flags if _takes_value(flag)}
    lines = []
    for name, flag in sorted(known.items()):
        if name in _DIRECTORIES | _FILES:
            option = "d" if name in _DIRECTORIES else "f"
            reply = f'COMPREPLY=($(compgen -{option} -- "$cur")); compopt -o filenames 2>/dev/null'
        elif name in _WORDS:
            reply = f'COMPREPLY=($(compgen -W "{_WORDS[name]}" -- "$cur"))'
        else:
            continue
        lines.append(f"        {'|'.join(_spellings(flag))}) {reply} ;;")
    return "\n".join(lines)


def _alternatives(names: Iterable[str]) -> str:
    return f"@({'|'.join(names)})"


# ---- fish --------------------------------------------------------------------------------------

_FISH = """\
# fish completion for pyrunc, made by: pyrunc --generate-completion fish

function __pyrunc_names
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l index (contains --index -- --root $words)
    and set -l root --root $words[(math $index + 1)]
    pyrunc $root list --quiet 2>/dev/null
end

complete --command pyrunc --no-files
"""


def _fish(commands: Sequence[Command], flags: Sequence[Flag]) -> str:
    first = "-n __fish_use_subcommand"
    lines = [_fish_flag(first, flag) for flag in _shown(flags)]
    for command in commands:
        usage = _quoted(command.usage)
        lines.append(f"complete -c {PROGRAM} {first} -a {command.name} -d '{usage}'")
    for command in commands:
        when = f"-n '__fish_seen_subcommand_from {command.name}'"
        lines += [_fish_flag(when, flag) for flag in _shown(command.flags)]
        if command.name not in _NO_NAME:
            lines.append(f"complete -c {PROGRAM} {when} -a '(__pyrunc_names)'")
    lines.append(f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from kill' -a '{_SIGNALS}'")
    return _FISH + "\n".join(lines) + "\n"


def _fish_flag(when: str, flag: Flag) -> str:
    parts = [f"complete -c {PROGRAM} {when} -l {flag.name}"]
    if flag.short:
        parts.append(f"-s {flag.short}")
    if flag.name in _DIRECTORIES:
        parts.append("-r -a '(__fish_complete_directories)'")
    elif flag.name in _FILES:
        parts.append("-r -F")
    elif _takes_value(flag):
        parts.append(f"-x -a '{_WORDS[flag.name]}'" if flag.name in _WORDS else "-x")
    parts.append(f"-d '{_quoted(_summary(flag))}'")
    return " ".join(parts)


def _summary(flag: Flag) -> str:
    return flag.usage.partition("\n")[0]


# ---- zsh ---------------------------------------------------------------------------------------

_ZSH = """\
#compdef pyrunc
# zsh completion for pyrunc, made by: pyrunc --generate-completion zsh

_pyrunc_names() {
    local -a root names
    local index=${_pyrunc_line[(I)--root]}
    ((index)) && root=(--root "${_pyrunc_line[index + 1]}")
    names=(${(f)"$(pyrunc $root list --quiet 2>/dev/null)"})
    compadd -a names
}

_pyrunc() {
    local context state state_descr line
    local -a _pyrunc_line=($words)
    typeset -A opt_args
    local -a verbs=(
@verbs@
    )
    _arguments -C \\
@flags@
        '1:command:->verb' \\
        '*::argument:->rest' && return
    case "$state" in
        verb) _describe command verbs ;;
        rest)
            case "${words[1]}" in
@cases@
            esac ;;
    esac
}

_pyrunc "$@"
"""


def _zsh(commands: Sequence[Command], flags: Sequence[Flag]) -> str:
    verbs = [f"        '{each.name}:{_quoted(_colons(each.usage))}'" for each in commands]
    cases = []
    for command in commands:
        words = [_zsh_flag(flag) for flag in _shown(command.flags)]
        words.append("'(- *)'{-h,--help}'[show help]'")
        words += _zsh_arguments(command)
        indent = " \\\n" + " " * 20
        cases.append(f"                {command.name}) _arguments{indent}{indent.join(words)} ;;")
    return _filled(
        _ZSH,
        verbs="\n".join(verbs),
        flags="\n".join(f"        {_zsh_flag(flag)} \\" for flag in _shown(flags)),
        cases="\n".join(cases),
    )


def _zsh_flag(flag: Flag) -> str:
    """A row for _arguments: which excludes itself unless it may be repeated."""
    spellings = _spellings(flag)
    if _takes_value(flag):
        spellings = [f"{word}=" if word.startswith("--") else f"{word}+" for word in spellings]
    text = _summary(flag).replace("[", "\\[").replace("]", "\\]")
    tail = f"[{_quoted(text)}]{_zsh_value(flag)}"
    names = spellings[0] if len(spellings) == 1 else f"'{{{','.join(spellings)}}}'"
    if flag.kind in ("strings", "ints"):
        return f"'*{names}{tail}'"
    if len(spellings) == 1:
        return f"'{names}{tail}'"
    return f"'({' '.join(_spellings(flag))}){names}{tail}'"


def _zsh_value(flag: Flag) -> str:
    if not _takes_value(flag):
        return ""
    if flag.name in _DIRECTORIES:
        return ":directory:_directories"
    if flag.name in _FILES:
        return ":file:_files"
    return f":value:({_WORDS[flag.name]})" if flag.name in _WORDS else ":value: "


def _zsh_arguments(command: Command) -> list[str]:
    if command.name in _NO_NAME:
        return []
    rest = ["'2:signal:(" + _SIGNALS + ")'"] if command.name == "kill" else []
    if not command.interspersed:
        rest = ["'*:: :_default'"]
    return ["'1:name:_pyrunc_names'", *rest]


def _colons(text: str) -> str:
    return text.replace(":", "\\:")
