"""lc.run: subprocess.run's manners, with walls."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import libpycontainer as lc


def output(*args: str, **options: Any) -> str:
    done = lc.run(args, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def shell(script: str, **options: Any) -> str:
    return output("sh", "-c", script, **options)


def test_result_has_subprocess_attributes() -> None:
    done = lc.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True)
    assert done.args == ["sh", "-c", "echo out; echo err >&2; exit 3"]
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert lc.run(["true"]).stdout is None
    assert "returncode=3" in repr(done)


def test_input_reaches_the_program() -> None:
    assert lc.run(["cat"], input=b"\0bytes", capture_output=True).stdout == b"\0bytes"
    assert lc.run(["cat"], input="téxt", capture_output=True, text=True).stdout == "téxt"
    assert lc.run(["cat"], input=b"", capture_output=True).stdout == b""


def test_check_raises_what_subprocess_would() -> None:
    with pytest.raises(lc.CalledProcessError) as caught:
        lc.run(["sh", "-c", "echo out; exit 4"], check=True, capture_output=True)
    assert (caught.value.returncode, caught.value.output) == (4, b"out\n")


def test_signal_is_negative() -> None:
    done = lc.run(["sh", "-c", "sleep 1000 & kill -9 $!; wait $!; exit $?"])
    assert done.returncode == 128 + 9


def test_contradicting_streams_are_refused() -> None:
    with pytest.raises(ValueError, match="capture_output"):
        lc.run(["true"], stdout=lc.PIPE, capture_output=True)
    with pytest.raises(ValueError, match="input"):
        lc.run(["true"], stdin=lc.PIPE, input=b"")


def test_timeout_kills_and_keeps_the_output() -> None:
    started = time.monotonic()
    with pytest.raises(lc.TimeoutExpired) as caught:
        lc.run(["sh", "-c", "echo early; sleep 1000"], timeout=0.5, capture_output=True)
    assert time.monotonic() - started < 10
    assert caught.value.timeout == 0.5
    assert caught.value.output == b"early\n"


def test_timeout_in_the_middle_of_a_character() -> None:
    with pytest.raises(lc.TimeoutExpired):
        lc.run(
            ["sh", "-c", r"printf '\303'; sleep 1000"], timeout=0.3, capture_output=True, text=True
        )


def test_timeout_after_the_output_was_closed() -> None:
    with pytest.raises(lc.TimeoutExpired) as caught:
        lc.run(
            ["sh", "-c", "echo early; exec >&- 2>&-; sleep 1000"], timeout=0.3, capture_output=True
        )
    assert caught.value.output == b"early\n"


def test_what_it_started_ends_with_it() -> None:
    # The background process holds the pipe: without the container's end it would block the call.
    started = time.monotonic()
    done = lc.run(["sh", "-c", "sleep 1000 & echo started"], capture_output=True)
    assert done.stdout == b"started\n"
    assert time.monotonic() - started < 10


def test_host_is_visible_and_read_only(tmp_path: Path) -> None:
    assert output("cat", "/etc/passwd") == Path("/etc/passwd").read_text()
    assert "Read-only" in shell("touch /etc/x /usr/x /var/x 2>&1 || true")


def test_some_places_are_private(tmp_path: Path) -> None:
    assert shell("ls -A /tmp; echo x >/tmp/x; ls -A /tmp") == "x\n"
    assert not Path("/tmp/x").exists()
    assert shell("ls -A /run") == ""
    assert "sda" not in shell("ls /dev")
    assert shell("echo $$; ls -d /proc/[0-9]*").splitlines()[0] == "1"


def test_it_has_no_network_unless_asked() -> None:
    assert shell("ls /sys/class/net") == "lo\n"
    assert shell("readlink /proc/self/ns/net").strip() != os.readlink("/proc/self/ns/net")
    assert shell("readlink /proc/self/ns/net", network=True).strip() == os.readlink(
        "/proc/self/ns/net"
    )


def test_it_has_no_privileges() -> None:
    fields = dict(
        line.split(":\t") for line in shell("cat /proc/self/status").splitlines() if ":\t" in line
    )
    assert {int(fields[name], 16) for name in fields if name.startswith("Cap")} == {0}
    assert fields["NoNewPrivs"] == "1"
    named = dict(
        line.split(":\t")
        for line in shell("cat /proc/self/status", capabilities=["CAP_CHOWN"]).splitlines()
        if ":\t" in line
    )
    assert int(named["CapEff"], 16) == 1


def test_environment_is_small_or_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "token")
    names = {line.partition("=")[0] for line in output("env").splitlines()}
    assert "SECRET" not in names
    assert {"PATH", "HOME"} <= names
    assert output("/usr/bin/env", env={"A": "1", "HOME": "/x"}).splitlines() == ["A=1", "HOME=/x"]


@pytest.mark.privileged_caller("lc.run maps an ordinary user to root only")
def test_user_is_the_given_one() -> None:
    assert shell("id -u; id -g", user="1234:5678").split() == ["1234", "5678"]
    assert shell("id -u", user=(1, 2)).split() == ["1"]
    assert shell("id -u") == "0\n"


def test_directory_is_the_callers_unless_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/usr/bin")
    assert output("pwd") == "/usr/bin\n"
    monkeypatch.chdir(tmp_path)
    assert output("pwd") == ("/\n" if str(tmp_path).startswith("/tmp/") else f"{tmp_path}\n")
    assert output("pwd", cwd="/var") == "/var\n"


def test_binds_show_more_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shared\n")
    assert shell(f"cat {tmp_path}/file", binds=[str(tmp_path)]) == "shared\n"
    assert shell("cat /tmp/in/file", binds=[f"{tmp_path}:/tmp/in"]) == "shared\n"
    refused = shell("echo x 2>&1 >/tmp/in/file || true", binds=[(str(tmp_path), "/tmp/in")])
    assert (tmp_path / "file").read_text() == "shared\n"
    assert refused is not None
    shell("echo changed >/tmp/in/file", binds=[f"{tmp_path}:/tmp/in:rw"])
    assert (tmp_path / "file").read_text() == "changed\n"
    with pytest.raises(ValueError, match="bind"):
        lc.run(["true"], binds=["/a:/b:/c:/d"])


def test_limits_are_enforced() -> None:
    done = lc.run(["tail", "-n", "1", "/dev/zero"], memory="32M", timeout=30)
    assert done.returncode == -signal.SIGKILL
    done = lc.run(["sh", "-c", "sleep 9 & sleep 9 & sleep 9 & :"], pids=2, capture_output=True)
    assert b"fork" in done.stderr.lower()
    started, cpu = time.monotonic(), os.times()
    lc.run(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"], cpus=0.2)
    assert time.monotonic() - started > (os.times().elapsed - cpu.elapsed) * 0


@pytest.mark.parametrize("size", ["x", "12Q", "", "1.2.3M", "-"])
def test_bad_size_is_refused(size: str) -> None:
    with pytest.raises((lc.ContainerError, ValueError), match="size"):
        lc.run(["true"], memory=size)


def test_missing_program_is_an_executable_error() -> None:
    with pytest.raises(lc.ExecutableError, match="no-such-program"):
        lc.run(["no-such-program"])


@pytest.mark.no_user_namespace("the root filesystem is not the caller's")
def test_own_root_is_writable(busybox_rootfs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", str(busybox_rootfs), str(root)], check=True)
    done = lc.run(
        ["sh", "-c", "pwd; ls /bin/busybox; touch /new"],
        rootfs=root,
        env={"PATH": "/bin:/usr/bin"},
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, b"/\n/bin/busybox\n")
    assert (root / "new").exists()


def test_a_string_is_a_program_as_for_subprocess() -> None:
    assert lc.run("true").returncode == 0


def test_paths_are_arguments_as_for_subprocess(tmp_path: Path) -> None:
    assert lc.run([Path("/bin/echo"), Path("/x")], capture_output=True).stdout == b"/x\n"


def test_arguments_need_not_be_text_of_the_locale() -> None:
    assert lc.run(["printf", "%s", "\udcff"], capture_output=True).stdout == b"\xff"


def test_many_arguments() -> None:
    words = [str(number) for number in range(20_000)]
    assert output("echo", *words).split() == words


def test_exception_of_the_program_ends_the_container() -> None:
    class InterruptedByTestError(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise InterruptedByTestError

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        parent = os.getpid()
        helper = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -USR1 {parent}"])
        with pytest.raises(InterruptedByTestError):
            lc.run(["sleep", "1000"])
        helper.wait()
    finally:
        signal.signal(signal.SIGUSR1, before)
