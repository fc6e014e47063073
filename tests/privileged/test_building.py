"""Containers from configurations that were built in code, and what their filter really does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import libpycontainer as lc
from libpycontainer.seccomp import library
from tests.conftest import RUN_PREFIX
from tests.ways import cgroup

pytestmark = pytest.mark.skipif(not library.installed(), reason="libseccomp is not installed")

STATUS = "grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd):' /proc/self/status"


def start(factory: lc.Factory, rootfs: Path, script: str, **changes: Any) -> str:
    """What a shell says that runs ``script`` in the default container, with some changes."""
    spec = lc.Spec.default().evolve(
        args=["sh", "-c", script], rootfs=rootfs, cgroups_path=cgroup(f"{RUN_PREFIX}-building")
    )
    spec = spec.evolve(**changes)
    options: dict[str, Any] = {"stdin": lc.DEVNULL, "stdout": lc.PIPE, "stderr": lc.STDOUT}
    with factory.create("built", spec, **options) as container:
        container.start()
        process = container.process
        assert process is not None
        output, _ = process.communicate(timeout=20)
    assert output is not None
    return output.decode()


def test_the_default_runs_and_gives_nothing_away(factory: lc.Factory, busybox_rootfs: Path) -> None:
    script = f"{STATUS}; ls /sys/class/net; touch /x; touch /tmp/x && hostname"
    lines = start(factory, busybox_rootfs, script).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["CapBnd:" if "Bnd" in lines[0] else "CapEff:", "0" * 16],
        ["CapEff:" if "Bnd" in lines[0] else "CapBnd:", "0" * 16],
        ["NoNewPrivs:", "1"],
        ["Seccomp:", "2"],
    ]
    assert lines[4:] == ["lo", "touch: /x: Read-only file system", "sandbox"]


@pytest.mark.parametrize(
    "command",
    ["unshare -U true", "unshare -n true", "mount -t tmpfs none /tmp", "chroot / true"],
)
def test_the_default_filter_refuses_what_reaches_beyond(
    command: str, factory: lc.Factory, busybox_rootfs: Path
) -> None:
    # With every capability it is the filter alone that can say no.
    held = ["SYS_ADMIN", "SYS_CHROOT"]
    without = lc.LinuxSeccomp.default()
    script = f"{command}; echo $?"
    said = start(factory, busybox_rootfs, script, capabilities=held, seccomp=without)
    assert "not permitted" in said or "permission denied" in said
    assert said.endswith("1\n")
    free = start(factory, busybox_rootfs, script, capabilities=held)
    assert free == "0\n"


def test_limits_and_mounts_are_those_that_were_asked_for(
    factory: lc.Factory, busybox_rootfs: Path, tmp_path: Path
) -> None:
    (tmp_path / "word").write_text("hello\n")
    script = "cat /data/word; touch /data/x; df -k /scratch | tail -1; ulimit -n; echo $GREETING"
    lines = start(
        factory,
        busybox_rootfs,
        script,
        add_mounts=[
            lc.Mount.bind(tmp_path, "/data"),
            lc.Mount.tmpfs("/scratch", size="1M"),
        ],
        rlimits={"NOFILE": 99},
        add_env={"GREETING": "hi"},
    ).splitlines()
    assert lines[:2] == ["hello", "touch: /data/x: Read-only file system"]
    assert lines[2].split()[1] == "1024"
    assert lines[3:] == ["99", "hi"]


@pytest.mark.privileged_caller("sets limits")
def test_limits_reach_the_cgroup(factory: lc.Factory, busybox_rootfs: Path) -> None:
    spec = lc.Spec.default().evolve(
        args=["sleep", "60"],
        rootfs=busybox_rootfs,
        memory="32M",
        pids=7,
        cgroups_path=cgroup(f"{RUN_PREFIX}-built"),
    )
    with factory.run("limited", spec, stdin=lc.DEVNULL) as container:
        stats = container.stats()
        assert stats.memory is not None
        assert stats.pids is not None
        assert (stats.memory.limit, stats.pids.limit) == (32 << 20, 7)


def test_another_user_keeps_his_capabilities(factory: lc.Factory, busybox_rootfs: Path) -> None:
    spec = lc.Spec.default()
    if any(each.type == "user" for each in (spec.linux and spec.linux.namespaces) or ()):
        pytest.skip("nobody but root is mapped")
    said = start(factory, busybox_rootfs, STATUS + "; id -u", user=1000, capabilities=["KILL"])
    assert "CapEff:\t0000000000000020" in said
    assert said.endswith("1000\n")


def test_run_is_held_to_the_default_filter_unless_it_is_told_otherwise() -> None:
    """lc.run, whose program is this very Python."""
    code = "import os; print([line.split()[1] for line in open('/proc/self/status')"
    code += " if line.startswith('Seccomp:')])"

    def said(**options: Any) -> str:
        done = lc.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    assert said() == "['2']\n"
    assert said(seccomp=None) == "['0']\n"
    logging_only = {"defaultAction": "SCMP_ACT_LOG"}
    assert said(seccomp=logging_only) == "['2']\n"
    with pytest.raises(lc.ArgumentError, match=r"^seccomp: expected 'default'"):
        lc.run(["true"], seccomp="strict")


def test_without_libseccomp_run_still_works_and_a_spec_says_what_to_do(
    factory: lc.Factory, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "SONAME", "libnothing-of-that-name.so.2")
    monkeypatch.setattr(library, "_opened", [])
    from libpycontainer.seccomp import cache

    monkeypatch.setattr(cache, "_memory", {})
    assert lc.run(["true"], factory=factory).returncode == 0
    with pytest.raises(lc.UnsupportedError, match="libseccomp") as caught:
        start(factory, busybox_rootfs, "true")
    assert "seccomp=None" in caught.value.hint
    assert start(factory, busybox_rootfs, "echo ran", seccomp=None) == "ran\n"


def test_a_timeout_may_be_written_with_its_unit() -> None:
    with pytest.raises(lc.TimeoutExpired) as caught:
        lc.run(["sleep", "60"], timeout="300ms")
    assert caught.value.timeout == 0.3
