"""What each verb must refuse in each status, and what a container is once it is created.

Source: runtime.md#operations. Where runc allows more than the specification (deleting a created
container ends it, a paused one may be signalled) so does this.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = pytest.mark.conformance
PATIENCE = 20
MISSING = "container does not exist"
TAKEN = "container with given ID already exists"

# Status: what is called, the exit code, and words of the one message.
REFUSED: dict[str, list[tuple[list[str], int, str]]] = {
    "missing": [
        (["state", "c"], 1, MISSING),
        (["start", "c"], 1, MISSING),
        (["kill", "c"], 1, MISSING),
        (["kill", "c", "KILL"], 1, MISSING),
        (["kill", "--all", "c", "KILL"], 1, MISSING),
        (["delete", "c"], 1, MISSING),
        (["exec", "c", "true"], 255, MISSING),
    ],
    "creating": [
        (["start", "c"], 1, "cannot start container c: it is creating"),
        (["kill", "c"], 1, "container not running: c is creating"),
        (["kill", "c", "KILL"], 1, "container not running: c is creating"),
        (["delete", "c"], 1, "cannot delete container c that is not stopped: creating"),
        (["exec", "c", "true"], 255, "cannot exec container c: it is creating"),
        (["create", "c"], 1, TAKEN),
        (["run", "c"], 1, TAKEN),
    ],
    "created": [
        (["create", "c"], 1, TAKEN),
        (["run", "c"], 1, TAKEN),
    ],
    "running": [
        (["start", "c"], 1, "cannot start container c: it is running already"),
        (["delete", "c"], 1, "cannot delete container c that is not stopped: running"),
        (["create", "c"], 1, TAKEN),
        (["run", "c"], 1, TAKEN),
        (["run", "-d", "c"], 1, TAKEN),
    ],
    "paused": [
        (["start", "c"], 1, "cannot start container c: it is paused"),
        (["exec", "c", "true"], 255, "cannot exec container c: it is paused"),
        (["delete", "c"], 1, "cannot delete container c that is not stopped: paused"),
        (["create", "c"], 1, TAKEN),
    ],
    "stopped": [
        (["start", "c"], 1, "cannot start container c: it has run and stopped"),
        (["kill", "c"], 1, "container not running"),
        (["kill", "c", "KILL"], 1, "container not running"),
        (["exec", "c", "true"], 255, "cannot exec"),
        (["create", "c"], 1, TAKEN),
        (["run", "c"], 1, TAKEN),
    ],
}
# Status: what is called in it, and the status that follows.
ALLOWED: dict[str, list[tuple[list[str], str]]] = {
    "missing": [(["delete", "--force", "c"], "missing"), (["create", "c"], "created")],
    "created": [
        (["start", "c"], "running"),
        (["kill", "c", "KILL"], "stopped"),
        (["exec", "c", "true"], "created"),
        (["delete", "c"], "missing"),
        (["delete", "--force", "c"], "missing"),
    ],
    "running": [
        (["kill", "c", "KILL"], "stopped"),
        (["kill", "--all", "c", "KILL"], "stopped"),
        (["kill", "c", "0"], "running"),
        (["exec", "c", "true"], "running"),
        (["delete", "--force", "c"], "missing"),
    ],
    "paused": [
        (["kill", "c", "TERM"], "paused"),
        (["kill", "--all", "c", "TERM"], "paused"),
        (["kill", "--all", "c", "KILL"], "stopped"),
        (["delete", "--force", "c"], "missing"),
    ],
    "stopped": [
        (["delete", "c"], "missing"),
        (["delete", "--force", "c"], "missing"),
        (["kill", "--all", "c", "KILL"], "stopped"),
    ],
}
ALLOWED_ROWS = [(status, argv, after) for status, rows in ALLOWED.items() for argv, after in rows]


def state(pyrunc: Pyrunc) -> dict[str, Any]:
    """The state of the container "c"; one that is missing has the status "missing"."""
    done = pyrunc("state", "c")
    if done.returncode:
        assert MISSING in done.stderr
        return {"status": "missing"}
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def wait_for_end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], PATIENCE)[0]
    finally:
        os.close(pidfd)


@pytest.fixture
def waiting(bundle: BundleMaker, tmp_path: Path) -> Bundle:
    """A bundle whose program waits for ever."""
    inside = tmp_path / "inside"
    inside.mkdir()
    os.mkfifo(inside / "never")
    made = bundle(["sh", "-c", "read line < /tmp/never"])
    made.config["mounts"].append(
        {"destination": "/tmp", "source": str(inside), "options": ["bind"]}
    )
    made.save()
    return made


@contextmanager
def creating(pyrunc: Pyrunc, made: Bundle, path: Path) -> Iterator[None]:
    """A create that is held in a createRuntime hook for the length of the block."""
    for name in ("reached", "go"):
        os.mkfifo(path / name)
    script = f"echo > {path}/reached; read line < {path}/go"
    made.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    made.save()
    go = os.open(path / "go", os.O_RDWR)
    argv = pyrunc.argv("create", "--bundle", str(made), "c")
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as create:
        try:
            (path / "reached").read_bytes()
            yield
        finally:
            os.write(go, b"\n")
            os.close(go)
            create.wait(PATIENCE)


@contextmanager
def container(status: str, pyrunc: Pyrunc, made: Bundle, path: Path) -> Iterator[None]:
    """The container "c" in ``status``."""
    try:
        if status == "creating":
            with creating(pyrunc, made, path):
                yield
            return
        if status in ("created", "running", "paused", "stopped"):
            pyrunc("create", "--bundle", made, "c", check=True)
        if status in ("running", "paused", "stopped"):
            pyrunc("start", "c", check=True)
        if status == "paused":
            lc.Factory(pyrunc.root).load("c").pause()
        if status == "stopped":
            pid = state(pyrunc)["pid"]
            pyrunc("kill", "c", "KILL", check=True)
            wait_for_end(pid)
        yield
    finally:
        pyrunc("delete", "--force", "c", check=True)


def call(pyrunc: Pyrunc, argv: list[str], made: Bundle) -> subprocess.CompletedProcess[str]:
    verb, *rest = argv
    bundle = ["--bundle", str(made)] if verb in ("create", "run") else []
    return pyrunc(verb, *bundle, *rest)


@pytest.mark.parametrize("status", REFUSED)
def test_what_is_refused_has_no_effect(
    status: str, waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    with container(status, pyrunc, waiting, tmp_path):
        before = state(pyrunc)
        assert before["status"] == status
        for argv, code, words in REFUSED[status]:
            done = call(pyrunc, argv, waiting)
            assert (done.returncode, done.stdout) == (code, ""), argv
            (line,) = done.stderr.splitlines()
            assert "level=error" in line
            assert words in line, argv
            assert state(pyrunc) == before, argv


@pytest.mark.parametrize(("status", "argv", "after"), ALLOWED_ROWS)
def test_what_is_allowed_leads_on(
    status: str, argv: list[str], after: str, waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    with container(status, pyrunc, waiting, tmp_path):
        pid = state(pyrunc).get("pid", 0)
        done = call(pyrunc, argv, waiting)
        assert (done.returncode, done.stderr) == (0, "")
        if after == "stopped" and pid:
            wait_for_end(pid)
        assert state(pyrunc)["status"] == after


@pytest.mark.parametrize("status", ["creating", "created", "running", "paused", "stopped"])
def test_the_state_has_what_the_specification_asks_for(
    status: str, waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    waiting.config["annotations"] = {"org.example.key": "value", "org.example.empty": ""}
    waiting.config["ociVersion"] = "1.0.2-dev"
    waiting.save()
    with container(status, pyrunc, waiting, tmp_path):
        document = state(pyrunc)

    assert document["status"] == status
    assert document["ociVersion"] == "1.0.2-dev"
    assert document["id"] == "c"
    assert document["bundle"] == str(waiting)
    assert document["annotations"] == {"org.example.empty": "", "org.example.key": "value"}
    assert (document["pid"] == 0) is (status == "stopped")


@pytest.mark.parametrize(
    "argv", [["state"], ["start"], ["kill"], ["delete"], ["create"], ["run"], ["exec"]]
)
def test_a_verb_without_an_id_is_an_error(argv: list[str], pyrunc: Pyrunc) -> None:
    done = pyrunc(*argv)

    assert done.returncode == 1
    assert re.search(r"requires (exactly|a minimum of) 1 argument", done.stderr)
    done = pyrunc(*argv, "")
    assert done.returncode == (255 if argv == ["exec"] else 1)
    assert "container id cannot be empty" in done.stderr


@pytest.mark.parametrize("name", ["a//b", "a/..", "/a", "..", ".", "a b", "\u00e9", "a\n"])
def test_an_id_that_is_no_name_is_refused(
    name: str, bundle: BundleMaker, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    made = bundle(["true"])
    for argv in (["create", "-b", str(made)], ["run", "-b", str(made)], ["state"], ["delete"]):
        done = pyrunc(*argv, name)
        assert done.returncode == 1
        assert "level=error" in done.stderr
    assert pyrunc("list", "-q").stdout == ""


def test_a_deleted_id_may_be_taken_again(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    for _ in range(2):
        done = pyrunc("run", "--bundle", bundle(["echo", "hi"]), "c")
        assert (done.returncode, done.stdout) == (0, "hi\n")


def test_create_without_a_process_is_refused(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    """The specification allows it until start; runc and this refuse it at once."""
    made = bundle(["true"])
    del made.config["process"]
    made.save()
    done = pyrunc("create", "--bundle", made, "c")

    assert done.returncode == 1
    assert "process property must not be empty" in done.stderr
    assert state(pyrunc)["status"] == "missing"


def test_the_program_is_not_run_by_create(
    bundle: BundleMaker, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    made = bundle(["touch", "/tmp/ran"])
    made.config["mounts"].append(
        {"destination": "/tmp", "source": str(tmp_path), "options": ["bind"]}
    )
    made.save()
    pyrunc("create", "--bundle", made, "c", check=True)
    try:
        assert not (tmp_path / "ran").exists()
        pid = state(pyrunc)["pid"]
        pyrunc("start", "c", check=True)
        wait_for_end(pid)
        assert (tmp_path / "ran").exists()
    finally:
        pyrunc("delete", "--force", "c", check=True)


def test_the_bundle_in_the_state_is_absolute(waiting: Bundle, pyrunc: Pyrunc) -> None:
    pyrunc("create", "--bundle", waiting.path.name, "c", cwd=waiting.path.parent, check=True)
    try:
        assert state(pyrunc)["bundle"] == str(waiting)
    finally:
        pyrunc("delete", "--force", "c", check=True)


GOOD_VERSIONS = (
    "1.0.0",
    "1.0.0-rc5",
    "1.0.1",
    "1.0.2",
    "1.0.2-dev",
    "1.1.0",
    "1.1.0+dev",
    "1.2.1",
    "1.3.0",
    "1.3.0-rc.1+build.5",
)
BAD_VERSIONS = (
    "0.9.0",
    "2.0.0",
    "2.0.0-dev",
    "10.0.0",
    "1",
    "1.0",
    "v1.0.0",
    "01.0.0",
    "latest",
    "",
)


@pytest.mark.parametrize("version", GOOD_VERSIONS)
def test_every_version_of_this_major_is_taken(
    version: str, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    made = bundle(["true"])
    made.config["ociVersion"] = version
    made.save()

    assert pyrunc("run", "--dry-run", "--bundle", made, "c").returncode == 0


@pytest.mark.parametrize("version", BAD_VERSIONS)
def test_another_major_and_what_is_no_version_are_refused(
    version: str, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    made = bundle(["true"])
    made.config["ociVersion"] = version
    made.save()
    for verb in ("create", "run"):
        done = pyrunc(verb, "--bundle", made, "c")
        assert done.returncode == 1
        assert "$.ociVersion" in done.stderr
    assert state(pyrunc)["status"] == "missing"


def test_a_missing_version_is_refused(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    made = bundle(["true"])
    del made.config["ociVersion"]
    made.save()
    done = pyrunc("create", "--bundle", made, "c")

    assert done.returncode == 1
    assert "$.ociVersion" in done.stderr


@pytest.mark.parametrize("change", ["edit", "break", "remove"])
def test_the_configuration_counts_as_it_was_at_create(
    change: str, bundle: BundleMaker, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    """runtime.md#lifecycle, step 2: program, names, mounts, hooks, and what exec starts from."""
    made = bundle(["sh", "-c", "echo old $WHO $(hostname) > /tmp/out; read line < /tmp/never"])
    os.mkfifo(tmp_path / "never")
    told = tmp_path / "told"

    def hook(word: str) -> list[dict[str, Any]]:
        return [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {word} >> {told}"]}]

    made.config["mounts"].append(
        {"destination": "/tmp", "source": str(tmp_path), "options": ["bind"]}
    )
    made.config["hostname"] = "first"
    made.config["annotations"] = {"key": "old"}
    made.process["env"].append("WHO=me")
    made.config["hooks"] = {kind: hook(kind) for kind in ("poststart", "poststop")}
    made.save()
    pyrunc("create", "--bundle", made, "c", check=True)
    try:
        if change == "edit":
            made.process["args"] = ["sh", "-c", "echo new > /tmp/out"]
            made.process["env"] = ["PATH=/bin", "WHO=you"]
            made.config.update(hostname="second", annotations={"key": "new"}, mounts=[])
            made.config["hooks"] = {kind: hook("new") for kind in ("poststart", "poststop")}
            made.save()
        elif change == "break":
            (made.path / "config.json").write_text("{", encoding="ascii")
        else:
            (made.path / "config.json").unlink()
        pyrunc("start", "c", check=True)
        done = pyrunc("exec", "c", "sh", "-c", "echo $WHO $(hostname)", check=True)
        assert done.stdout == "me first\n"
        assert state(pyrunc)["annotations"] == {"key": "old"}
    finally:
        pyrunc("delete", "--force", "c", check=True)
    assert (tmp_path / "out").read_text(encoding="ascii") == "old me first\n"
    assert told.read_text(encoding="ascii") == "poststart\npoststop\n"
