"""Completion of the command line, asked of the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import BundleMaker, Pyrunc

CONTRIB = Path(__file__).parents[2] / "contrib" / "completions"
SHELLS = {"bash": "pyrunc", "fish": "pyrunc.fish", "zsh": "_pyrunc"}
PATIENCE = 20

# What is typed, and what is offered for its last word.
OFFERED: list[tuple[str, set[str]]] = [
    ("che", {"checkpoint"}),
    ("res", {"restore", "resume"}),
    ("--log-f", {"--log-format"}),
    ("run --no-", {"--no-pivot", "--no-new-keyring", "--no-subreaper"}),
    ("exec --ig", {"--ignore-paused"}),
    ("--debug kill --a", {"--all"}),
    ("list --format ", {"json", "table"}),
    ("--log-format ", {"json", "text"}),
    ("state ", {"c-one", "c-two"}),
    ("kill c-t", {"c-two"}),
    ("exec --user 1 c-o", {"c-one"}),
]
# The same for a shell that completes what has one answer at once.
COMPLETED = [
    ("che", "checkpoint "),
    ("run --no-piv", "run --no-pivot "),
    ("exec --ig", "exec --ignore-paused "),
    ("state c-t", "state c-two "),
    ("kill c-o", "kill c-one "),
    ("list --format j", "list --format json "),
    ("run --bundle some", "run --bundle somewhere/"),
]


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture
def home(
    bundle: BundleMaker, pyrunc: Pyrunc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A directory with a program pyrunc, which has two containers; the shells start in it."""
    made = bundle(["true"])
    group = made.linux["cgroupsPath"]
    program = tmp_path / "bin" / "pyrunc"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(pyrunc.argv())} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "somewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name in ("c-one", "c-two"):
        made.linux["cgroupsPath"] = f"{group}-{name}"
        made.save()
        pyrunc("create", "--bundle", made, name, check=True)
    yield tmp_path
    for name in ("c-one", "c-two"):
        pyrunc("delete", "--force", name, check=True)


def ask_bash(line: str) -> set[str]:
    words = ["pyrunc", *line.split(" ")]
    script = f"""
        source {shlex.quote(str(CONTRIB / "bash/pyrunc"))}
        COMP_WORDS=({shlex.join(words)})
        COMP_CWORD={len(words) - 1}
        _pyrunc
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    argv = ["bash", "--norc", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def ask_fish(line: str) -> set[str]:
    source = shlex.quote(str(CONTRIB / "fish/pyrunc.fish"))
    script = f"source {source}; complete -C {shlex.quote(f'pyrunc {line}')}"
    argv = ["fish", "--no-config", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stderr == ""
    return {row.partition("\t")[0] for row in done.stdout.splitlines()}


@needs("bash")
def test_bash_offers_what_can_follow(home: Path) -> None:
    assert {line: ask_bash(line) for line, _ in OFFERED} == dict(OFFERED)
    assert ask_bash("run --bundle some") == {"somewhere"}
    assert ask_bash("run --bundle = some") == {"somewhere"}
    assert "KILL" in ask_bash("kill c-one ")
    assert ask_bash("run ") == set()
    assert ask_bash("exec c-one --de") == set()
    assert ask_bash("--root /nonexistent state ") == set()


@needs("fish")
def test_fish_offers_what_can_follow(home: Path) -> None:
    for line, offered in OFFERED:
        found = ask_fish(line)
        # Beside names, kill is offered signals, and a prefix may match inside of a word.
        assert offered <= found, line
        assert not found & ({"c-one", "c-two", "run", "update"} - offered), line


class Zsh:
    """An interactive zsh at the other end of a terminal."""

    def __init__(self) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:
            # Without the sequences that move about the screen.
            os.environ["TERM"] = "dumb"
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self._pid = pid

    def close(self) -> None:
        os.close(self._fd)
        os.waitpid(self._pid, 0)

    def ask(self, text: str, wanted: str) -> None:
        """Type ``text``, and read until ``wanted`` is on the screen."""
        os.write(self._fd, text.encode())
        seen = ""
        deadline = time.monotonic() + PATIENCE
        while wanted not in seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {wanted!r} after {text!r}: {seen}"
            if select.select([self._fd], [], [], left)[0]:
                seen += os.read(self._fd, 4096).decode(errors="replace")


@needs("zsh")
def test_zsh_completes(home: Path) -> None:
    setup = f"fpath=({CONTRIB / 'zsh'} $fpath); autoload -U compinit; compinit -u"
    zsh = Zsh()
    try:
        zsh.ask(f"{setup}; echo done-$((1 + 1))\n", "done-2\r\n")
        for line, completed in COMPLETED:
            zsh.ask(f"pyrunc {line}\t", f"pyrunc {completed}")
            # Ctrl-U: the line begins anew.
            zsh.ask("\x15echo done-$((1 + 2))\n", "done-3\r\n")
    finally:
        zsh.close()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_files_are_what_the_command_prints(shell: str, pyrunc: Pyrunc) -> None:
    printed = pyrunc("--generate-completion", shell, check=True).stdout
    assert (CONTRIB / shell / SHELLS[shell]).read_text(encoding="utf-8") == printed


def test_another_shell_is_refused(pyrunc: Pyrunc) -> None:
    done = pyrunc("--generate-completion", "csh")
    assert done.returncode == 1
    assert "there are scripts for bash, fish, zsh" in done.stderr
