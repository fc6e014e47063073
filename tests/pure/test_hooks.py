"""Running one hook: a program of the host, the state on its input, a time limit."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from libpycontainer import hooks, lifecycle
from libpycontainer.errors import HookError

STATE = b'{"id": "web"}'


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd")), children()
    yield
    assert (sorted(os.listdir("/proc/self/fd")), children()) == before


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update((task / "children").read_text().split())
        except FileNotFoundError:
            # A thread that has just ended has no children any more.
            continue
    return found


def shell(script: str, *, env: tuple[str, ...] = (), timeout: int | None = 60) -> str:
    return run("/bin/sh", ["sh", "-c", script], list(env), timeout, STATE)


def run(path: str, args: list[str], env: list[str], timeout: int | None, state: bytes) -> str:
    """Why the hook failed; empty when it did not."""
    failure = hooks.execute(path, args, env, timeout, state)
    return failure.reason if failure else ""


def test_a_hook_that_succeeds_says_nothing() -> None:
    assert run("/bin/true", ["true"], [], None, STATE) == ""
    assert shell("echo ignored") == ""


def test_a_hook_is_given_the_state_and_exactly_its_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    problem = shell(f"cat > {out}; /usr/bin/env >> {out}", env=("A=1", "B=x y"))
    assert problem == ""
    state, *environment = out.read_text().split("\n", 1)
    assert state.startswith('{"id": "web"}A=1') or json.loads(state) == {"id": "web"}
    rest = "\n".join([state.removeprefix(STATE.decode()), *environment])
    names = {line.partition("=")[0] for line in rest.splitlines() if line}
    # The shell adds its own to what it was given.
    assert {"A", "B"} <= names <= {"A", "B", "PWD", "OLDPWD", "SHLVL", "_"}


def test_a_hooks_arguments_are_its_own() -> None:
    said = run("/bin/sh", ["name", "-c", 'echo "$0 $1"; exit 1', "a", "b"], [], 60, STATE)
    assert said.endswith("output: a b")


@pytest.mark.parametrize("code", [1, 2, 255])
def test_an_exit_status_is_reported_with_what_was_said(code: int) -> None:
    assert shell(f"echo out; echo err >&2; exit {code}") == f"exit status {code}, output: out\nerr"


def test_a_silent_failure_is_reported_alone() -> None:
    assert shell("exit 3") == "exit status 3"


def test_a_death_by_signal_is_reported() -> None:
    assert shell("kill -TERM $$") == "killed by signal 15"


def test_only_the_beginning_of_a_long_output_is_quoted() -> None:
    assert len(shell("head -c 1000000 /dev/zero | tr '\\0' x; exit 1")) < 2 * hooks.OUTPUT_LIMIT


def test_output_that_is_no_text_is_quoted_all_the_same() -> None:
    assert "exit status 1" in shell("printf '\\377\\376'; exit 1")


def test_a_hook_that_takes_too_long_is_killed() -> None:
    problem = run("/bin/sh", ["sh", "-c", "read _ < /dev/tty0; while :; do :; done"], [], 1, b"")
    assert "1 s" in problem
    assert "killed" in problem


def test_a_program_that_is_missing_is_reported(tmp_path: Path) -> None:
    missing = str(tmp_path / "nope")
    assert "No such file" in run(missing, ["nope"], [], None, STATE)


def test_a_program_that_cannot_be_executed_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "hook"
    path.write_text("not a program")
    assert "ermission denied" in run(str(path), ["hook"], [], None, STATE)


def test_a_large_state_needs_no_reader() -> None:
    assert run("/bin/true", ["true"], [], None, b"x" * 1_000_000) == ""


def test_hooks_of_several_threads_do_not_meet() -> None:
    said: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: said.update({n: shell(f"echo {n}; exit {n}")}))
        for n in range(1, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {n: f"exit status {n}, output: {n}" for n in range(1, 5)}


# ---- the caller's side -----------------------------------------------------------------------

RECORD: dict[str, Any] = {"ociVersion": "1.3.0", "id": "web", "bundle": "/b"}


def hook(path: str, **fields: Any) -> Any:
    return SimpleNamespace(**{"path": path, "args": None, "env": None, "timeout": None, **fields})


def kinds(**lists: Any) -> Any:
    empty = dict.fromkeys(("prestart", "create_runtime", "poststart", "poststop"))
    return SimpleNamespace(**{**empty, **lists})


def test_the_state_document_has_the_specifications_fields_in_its_order() -> None:
    document = lifecycle.state_document({**RECORD, "annotations": {"a": "b"}}, "running", 7)
    assert list(document) == ["ociVersion", "id", "status", "pid", "bundle", "annotations"]
    assert "pid" not in lifecycle.state_document(RECORD, "stopped", 0)
    assert "annotations" not in lifecycle.state_document(RECORD, "stopped", 0)


def test_the_documents_for_hooks_inside_are_cut_at_the_pid() -> None:
    awkward = {**RECORD, "annotations": {"a": '"@PID@"', "@PID@": "@PID@"}, "bundle": "/@PID@"}
    for kind, (head, tail) in lifecycle.split_documents(awkward).items():
        document = json.loads(f"{head}42{tail}")
        assert document["pid"] == 42
        assert document["status"] == lifecycle.INSIDE[kind]
        assert document["annotations"] == awkward["annotations"]


def test_a_recorded_hook_has_its_path_for_arguments_when_none_are_given() -> None:
    rows = lifecycle.hook_rows(kinds(poststop=[hook("/bin/a"), hook("/bin/b", args=["b", "-v"])]))
    assert list(rows) == ["poststop"]
    assert [row["args"] for row in rows["poststop"]] == [["/bin/a"], ["b", "-v"]]
    assert json.loads(json.dumps(rows)) == rows
    assert lifecycle.hook_rows(None) == {}


def test_hooks_run_in_order_up_to_the_first_that_fails(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def row(number: int, code: int) -> Any:
        script = f"echo {number} >> {out}; exit {code}"
        return hook("/bin/sh", args=["sh", "-c", script])

    record = {
        **RECORD,
        "hooks": lifecycle.hook_rows(kinds(prestart=[row(0, 0), row(1, 4), row(2, 0)])),
    }
    with pytest.raises(HookError) as caught:
        lifecycle.run_hooks(record, "prestart", "creating", 7)
    assert out.read_text().split() == ["0", "1"]
    assert "prestart[1] /bin/sh: exit status 4" in str(caught.value)
    assert (caught.value.op, caught.value.path) == ("prestart", "/bin/sh")
    assert caught.value.returncode == 4


def test_hooks_of_another_kind_are_not_run() -> None:
    failing = {**RECORD, "hooks": lifecycle.hook_rows(kinds(poststop=[hook("/bin/false")]))}
    lifecycle.run_hooks(failing, "prestart", "creating", 7)
    with pytest.raises(HookError):
        lifecycle.run_hooks(failing, "poststop", "stopped", 0)
