"""The configuration that ``lc.run`` makes of its arguments; no container is started here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libpycontainer as lc
from libpycontainer import limits, quantities, sandbox, validate
from libpycontainer.errors import CalledProcessError, ContainerError
from libpycontainer.host import Facts
from libpycontainer.spec import light


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (0, 0),
        (-1, -1),
        (12345, 12345),
        ("12345", 12345),
        ("1k", 1 << 10),
        ("1K", 1 << 10),
        ("256M", 256 << 20),
        ("256m", 256 << 20),
        ("256MB", 256 << 20),
        ("256MiB", 256 << 20),
        ("256 MB", 256 << 20),
        (" 1.5G ", 3 << 29),
        ("2T", 2 << 40),
        ("100b", 100),
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_unit(size: int | str, wanted: int) -> None:
    assert quantities.size(size) == wanted


@pytest.mark.parametrize(
    "size", ["", " ", "M", "x", "1x", "1 2", "1MM", "nan", "inf", "infm", "0x10", "b"]
)
def test_any_other_size_is_refused_in_words(size: str) -> None:
    with pytest.raises(ContainerError, match="invalid size") as caught:
        quantities.size(size)
    assert repr(size) in str(caught.value)


@given(st.text(max_size=12))
def test_no_text_breaks_the_reading_of_a_size(text: str) -> None:
    found: int | ContainerError
    try:
        found = quantities.size(text)
    except ContainerError as error:
        found = error
    assert isinstance(found, int) or "invalid size" in str(found)


@pytest.mark.parametrize(
    ("bind", "destination", "mode"),
    [
        ("/data", "/data", "ro"),
        ("/data:/inside", "/inside", "ro"),
        ("/data:/inside:rw", "/inside", "rw"),
        ("/data:/inside:ro", "/inside", "ro"),
        ("/data::rw", "/data", "rw"),
        (("/data",), "/data", "ro"),
        (("/data", "/inside"), "/inside", "ro"),
        (("/data", "/inside", "rw"), "/inside", "rw"),
        ((Path("/data"), Path("/in:side")), "/in:side", "ro"),
    ],
)
def test_a_bind_is_a_source_a_destination_and_a_mode(
    bind: Any, destination: str, mode: str
) -> None:
    mount = sandbox._bind(bind)
    assert (mount["source"], mount["destination"]) == ("/data", destination)
    assert mode in mount["options"]
    assert ("rro" in mount["options"]) is (mode == "ro")
    assert {"rbind", "nosuid", "nodev"} <= set(mount["options"])


@pytest.mark.parametrize(
    "bind", ["", ":/x", "/a:/b:rx", "/a:/b:ro:x", (), ("",), ("/a", "/b", "x")]
)
def test_any_other_bind_is_refused_in_words(bind: Any) -> None:
    with pytest.raises(ValueError, match="invalid bind"):
        sandbox._bind(bind)


def test_a_relative_source_counts_from_the_callers_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sandbox._bind("data")["source"] == str(tmp_path / "data")


@pytest.mark.parametrize(
    ("given_limits", "wanted"),
    [
        ((None, None, None), {}),
        (("1k", None, None), {"memory": {"limit": 1024}}),
        ((None, 1.5, None), {"cpu": {"quota": 150_000, "period": 100_000}}),
        ((None, 0.000001, None), {"cpu": {"quota": 1000, "period": 100_000}}),
        ((None, None, 64), {"pids": {"limit": 64}}),
    ],
)
def test_limits_become_resources(given_limits: Any, wanted: dict[str, Any]) -> None:
    assert limits.resources(*given_limits) == wanted


@pytest.mark.parametrize("cpus", [0, -1, float("nan"), float("inf")])
def test_cpus_that_are_no_positive_number_are_refused(cpus: float) -> None:
    with pytest.raises(ValueError, match="cpus"):
        limits.resources(None, cpus, None)


@pytest.mark.parametrize(
    ("here", "wanted"),
    [
        ("/home/me", "/home/me"),
        ("/", "/"),
        ("/tmp", "/"),
        ("/tmp/work", "/"),
        ("/run/user/7", "/"),
        ("/proc/1", "/"),
        ("/dev/shm", "/"),
        ("/tmpfiles", "/tmpfiles"),
        ("/runner", "/runner"),
    ],
)
def test_the_callers_directory_is_the_programs_where_it_can_be_seen(
    here: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: here)
    assert sandbox._directory(None, True) == wanted
    assert sandbox._directory(None, False) == "/"
    assert sandbox._directory("/given", True) == sandbox._directory("/given", False) == "/given"


def test_a_directory_that_is_gone_does_not_keep_a_program_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert sandbox._directory(None, True) == "/"
    monkeypatch.chdir("/")


def test_the_environment_is_the_callers_path_and_locale_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LANG", "LC_ALL", "LC_CTYPE", "TZ"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/my/bin")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("SECRET", "x")
    assert sandbox._environment(None) == ["PATH=/my/bin", "HOME=/tmp", "LC_ALL=C.UTF-8"]
    assert sandbox._environment({"A": "1"}) == ["A=1"]
    assert sandbox._environment({}) == []


def config(
    *, user: Any = None, network: bool = False, host_view: bool = True, caps: tuple[str, ...] = ()
) -> dict[str, Any]:
    document = sandbox._config(["true"], "/", None, "/", user, network, caps)
    document["hostname"] = "sandbox"
    document["mounts"] = [*sandbox._mounts(host_view, network), sandbox._bind("/data")]
    document["linux"]["resources"] = limits.resources("64M", 1, 16)
    return document


def types(document: dict[str, Any]) -> set[str]:
    return {namespace["type"] for namespace in document["linux"]["namespaces"]}


@pytest.mark.parametrize("euid", [0, 1000])
@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("host_view", [False, True])
def test_the_configuration_is_valid(
    euid: int, network: bool, host_view: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setattr(os, "getegid", lambda: euid)
    document = config(network=network, host_view=host_view)
    facts = Facts() if euid == 0 else Facts(euid=euid, egid=euid, capabilities=0)
    problems = validate.check(light.record("Spec", document), facts)
    assert [str(problem) for problem in problems if not problem.warning] == []
    assert ("network" in types(document)) is not network
    assert ("user" in types(document)) is (euid != 0)


def test_an_ordinary_user_is_root_of_a_namespace_that_maps_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 50)
    linux = config()["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 50, "size": 1}]


def test_no_capabilities_and_no_way_to_gain_privileges_by_default() -> None:
    process = config()["process"]
    assert process["noNewPrivileges"] is True
    assert {tuple(names) for names in process["capabilities"].values()} == {()}
    assert "CAP_KILL" in config(caps=("CAP_KILL",))["process"]["capabilities"]["bounding"]


def test_the_hosts_sockets_are_hidden_from_a_program_that_sees_the_host() -> None:
    seen = {mount["destination"] for mount in sandbox._mounts(True, True)}
    assert {"/run", "/tmp", "/proc", "/dev"} <= seen
    assert "/run" not in {mount["destination"] for mount in sandbox._mounts(False, True)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"capture_output": True, "stdout": lc.PIPE}, "capture_output"),
        ({"capture_output": True, "stderr": lc.PIPE}, "capture_output"),
        ({"input": b"x", "stdin": lc.PIPE}, "stdin and input"),
        ({"cpus": 0}, "cpus"),
        ({"binds": ["/a:/b:c"]}, "invalid bind"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused_as_subprocess_does(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        lc.run(["true"], **arguments)


def test_a_completed_process_is_subprocesss() -> None:
    done = lc.CompletedProcess(["x"], 0, b"out")
    assert (done.args, done.returncode, done.stdout, done.stderr) == (["x"], 0, b"out", None)
    done.check_returncode()
    assert repr(done) == "CompletedProcess(args=['x'], returncode=0, stdout=b'out')"


@pytest.mark.parametrize(
    ("code", "words"), [(3, "non-zero exit status 3"), (-9, "died with signal 9")]
)
def test_a_checked_failure_has_the_output(code: int, words: str) -> None:
    with pytest.raises(CalledProcessError, match=words) as caught:
        lc.CompletedProcess(["x"], code, "out", "err").check_returncode()
    error = caught.value
    assert (error.returncode, error.cmd, error.stdout, error.stderr) == (code, ["x"], "out", "err")
