"""The command as a whole, as far as it goes without a container: help, mistakes, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import libpycontainer
from libpycontainer import errors
from libpycontainer._version import __version__
from libpycontainer.cli import main, messages
from libpycontainer.cli.command import Command, CommandError

# Each costs a cold start several milliseconds, or brings in something that does.
HEAVY = {
    "argparse",
    "attr",
    "attrs",
    "cattrs",
    "contextlib",
    "dataclasses",
    "enum",
    "functools",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "psutil",
    "pyroute2",
    "re",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "traceback",
    "typing",
}


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def pyrunc(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Runner:
    return Runner(capfd, tmp_path / "root")


class Runner:
    """Runs the command in this process, with a state root of its own."""

    def __init__(self, capfd: pytest.CaptureFixture[str], root: Path) -> None:
        self._capfd = capfd
        self._root = root

    def __call__(self, *argv: str) -> Outcome:
        code = main.main(["--root", str(self._root), *argv])
        out, err = self._capfd.readouterr()
        return Outcome(code, out, err)


def test_the_version_is_what_clients_parse(pyrunc: Runner) -> None:
    for flag in ("--version", "-v", "-version"):
        done = pyrunc(flag)
        lines = done.out.splitlines()
        assert done.code == 0
        assert lines[0] == f"pyrunc version {__version__}"
        assert lines[1] == "spec: 1.3.0"
        # dockerd takes whatever stands after the last "version" of any line.
        assert not any("version" in line for line in lines[1:])


def test_help_names_every_verb_and_global_flag(pyrunc: Runner) -> None:
    for argv in (["--help"], ["-h"], ["help"], ["h"], []):
        done = pyrunc(*argv)
        assert done.code == 0
        assert done.err == ""
        titles = ("NAME", "USAGE", "VERSION", "COMMANDS", "GLOBAL OPTIONS")
        assert [line[:-1] for line in done.out.splitlines() if line[:-1] in titles] == list(titles)
        for verb in main.VERBS:
            assert f"\n   {verb} " in done.out
        assert '\n   --log-format value  set the log format ("text"' not in done.out
        assert '(default: "text")' in done.out


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_explains_itself(verb: str, pyrunc: Runner) -> None:
    texts = {pyrunc(*argv).out for argv in ([verb, "--help"], [verb, "-h"], ["help", verb])}

    assert len(texts) == 1
    assert texts.pop().startswith(f"NAME:\n   pyrunc {verb} - ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["state"], 'pyrunc: "state" requires exactly 1 argument(s)'),
        (["state", "a", "b"], 'pyrunc: "state" requires exactly 1 argument(s)'),
        (["exec"], 'pyrunc: "exec" requires a minimum of 1 argument(s)'),
        (["kill"], 'pyrunc: "kill" requires a minimum of 1 argument(s)'),
        (["kill", "a", "9", "b"], 'pyrunc: "kill" requires a maximum of 2 argument(s)'),
        (["spec", "a"], 'pyrunc: "spec" requires exactly 0 argument(s)'),
        (["list", "a"], 'pyrunc: "list" requires exactly 0 argument(s)'),
        (["state", "--bogus", "a"], "flag provided but not defined: -bogus"),
        (["run", "--cgroup-manager", "x", "a"], "flag provided but not defined: -cgroup-manager"),
        (
            ["--cgroup-manager", "disabled", "list"],
            "flag provided but not defined: -cgroup-manager",
        ),
        (["--debug=x", "list"], 'invalid boolean value "x" for -debug: parse error'),
    ],
)
def test_a_wrong_command_line_shows_the_usage(
    argv: list[str], message: str, pyrunc: Runner
) -> None:
    done = pyrunc(*argv)

    assert done.code == 1
    assert done.out.startswith("Incorrect Usage")
    assert "USAGE:" in done.out
    assert _logged(done.err) == message


@pytest.mark.parametrize("argv", [["bogus"], ["help", "bogus"], ["bogus", "--help"]])
def test_an_unknown_verb_has_runcs_code(argv: list[str], pyrunc: Runner) -> None:
    done = pyrunc(*argv)

    assert done.code == 3
    assert done.out == ""
    assert _logged(done.err) == "No help topic for 'bogus'"


@pytest.mark.parametrize("root", ["/", "", "/tmp/..", "//"])
def test_the_file_systems_root_is_no_state_root(
    root: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["--root", root, "list"]) == 1
    assert "--root argument should not be set to /" in capfd.readouterr().err


def test_a_log_that_cannot_be_opened_is_an_error(pyrunc: Runner) -> None:
    done = pyrunc("--log", "/nonexistent/log", "list")

    assert done.code == 1
    assert _logged(done.err) == "/nonexistent/log: no such file or directory"


def test_an_unknown_log_format_is_an_error(pyrunc: Runner) -> None:
    done = pyrunc("--log-format", "xml", "list")

    assert done.code == 1
    assert _logged(done.err) == "invalid log-format: xml"


def test_an_error_is_also_on_standard_error_when_there_is_a_log(
    pyrunc: Runner, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    done = pyrunc("--log", str(log), "--log-format", "json", "list", "--format", "x")

    assert done.code == 1
    assert done.err == "invalid format option\n"
    assert '"msg":"invalid format option"' in log.read_text(encoding="utf-8")


def test_a_bug_is_one_line_with_its_traceback_in_the_debug_log(
    pyrunc: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> int:
        error = ZeroDivisionError("oops")
        error.add_note("and the mount stayed")
        raise error

    command = Command("state", broken, usage="", prefix="state failed: ", failure=7)
    monkeypatch.setattr(main, "_command", lambda _: command)

    done = pyrunc("state", "x")
    assert done.code == 7
    warning, error = done.err.splitlines()
    assert "level=warning" in warning
    assert "and the mount stayed" in warning
    assert "state failed: internal error: ZeroDivisionError: oops" in error

    assert "in broken" in pyrunc("--debug", "state", "x").err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.NotFoundError("container does not exist: x"), "container does not exist: x"),
        (errors.NotFoundError("no x"), "container does not exist: no x"),
        (errors.StatusError("container not running: x"), "container not running: x"),
        (ProcessLookupError(3, os.strerror(3)), "os: process already finished: no such process"),
        (errors.ContainerError("two\nlines"), "two lines"),
        (FileNotFoundError(2, os.strerror(2), "/x"), "/x: no such file or directory"),
        (OSError(22, os.strerror(22)), "invalid argument"),
        (OSError("odd"), "odd"),
        (errors.StepError("step 3/9: EPERM"), "unable to start container process: step 3/9: EPERM"),
        (errors.HookError("the hook x failed"), "the hook x failed"),
        (CommandError("no"), "no"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_errors_read_as_clients_expect(error: BaseException, message: str) -> None:
    assert messages.sentence(error) == message


def test_spec_writes_what_runc_would(pyrunc: Runner, tmp_path: Path) -> None:
    from libpycontainer.spec.models import Spec

    assert pyrunc("spec", "--bundle", str(tmp_path)).code == 0
    config = tmp_path / "config.json"
    assert Spec.load(config) == Spec.like_runc()

    again = pyrunc("spec", "-b", str(tmp_path))
    assert again.code == 1
    assert _logged(again.err) == "File config.json exists. Remove it first"

    config.unlink()
    assert pyrunc("spec", "--rootless", "-b", str(tmp_path)).code == 0
    assert Spec.load(config) == Spec.like_runc(rootless=True)


@pytest.mark.parametrize("argv", [["--version"], ["--help"], ["state", "-h"], ["bogus"]])
def test_a_cold_start_imports_nothing_heavy(argv: list[str]) -> None:
    assert not HEAVY & _modules_of(argv)


def test_only_help_loads_the_words_of_help() -> None:
    verbs = {f"libpycontainer.cli.{verb}" for verb in main.VERBS}
    words = {f"libpycontainer.cli.{name}" for name in ("completion", "manual", "usage")}
    for verb in ("state", "kill", "delete", "start"):
        loaded = _modules_of([verb, "no-such-container"])
        assert loaded & verbs == {f"libpycontainer.cli.{verb}"}
        assert not loaded & words
    assert _modules_of(["state", "--help"]) & words == words - {"libpycontainer.cli.completion"}


def test_closed_standard_streams_are_opened_first(tmp_path: Path) -> None:
    script = 'exec 0<&- 1>&- 2>&-; "$0" -m libpycontainer --log "$1" list --format x; echo $? >"$2"'
    log, code = tmp_path / "log", tmp_path / "code"
    argv = ["sh", "-c", script, sys.executable, str(log), str(code)]
    subprocess.run(argv, env=_environment(), check=True)

    assert code.read_text(encoding="ascii") == "1\n"
    assert len(log.read_text(encoding="ascii").splitlines()) == 1


def test_the_command_needs_no_environment() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "libpycontainer", "--version"],
        env={"PYTHONPATH": _environment()["PYTHONPATH"]},
        capture_output=True,
        check=True,
        cwd="/",
    )
    assert done.stderr == b""


def _logged(err: str) -> str:
    """The message of the only line on standard error."""
    (line,) = err.splitlines()
    message = line.partition(" level=error msg=")[2]
    return message[1:-1].replace('\\"', '"') if message.startswith('"') else message


def _environment() -> Mapping[str, str]:
    here = str(Path(libpycontainer.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": here}


def _modules_of(argv: list[str]) -> set[str]:
    """The modules that the command has imported when it is done."""
    script = (
        "import os, sys\n"
        "before = set(sys.modules)\n"
        "from libpycontainer.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "sys.stderr.write('\\n' + ' '.join(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {_root()!r})\n{script}",
            *argv,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


def _root() -> str:
    return _environment()["PYTHONPATH"]
