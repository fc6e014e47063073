"""In the foreground the command passes its signals on to the container, and reports its end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = pytest.mark.conformance
PATIENCE = 20
NUMBERS = [int(getattr(signal, f"SIG{name}")) for name in ("HUP", "INT", "QUIT", "USR1", "CONT")]
NUMBERS.append(int(signal.SIGRTMIN))
REPORTING = """
for number in 1 2 3 10 18 34; do trap "echo $number" $number; done
trap 'exit 9' TERM
echo ready
while :; do read line < /tmp/never; done
"""


@pytest.fixture
def reporting(bundle: BundleMaker, tmp_path: Path) -> Bundle:
    """A bundle whose program prints the signals that it gets, and ends with code 9 on SIGTERM."""
    os.mkfifo(tmp_path / "never")

    def edit(config: dict[str, Any]) -> None:
        config["mounts"].append(
            {"destination": "/tmp", "source": str(tmp_path), "options": ["bind"]}
        )

    return bundle(["sh", "-c", REPORTING], edit=edit)


@contextmanager
def started(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The command, once what it runs has said "ready"."""
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(argv, stdin=null, stdout=pipe) as process:
        try:
            assert next_line(process) == "ready"
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def next_line(process: subprocess.Popen[bytes]) -> str:
    """The next line of its output, which is never more than one ahead."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([process.stdout], [], [], PATIENCE)[0], f"only {line!r} came"
        byte = os.read(process.stdout.fileno(), 1)
        assert byte, f"the output ended with {line!r}"
        line += byte
    return line.decode().strip()


def test_signals_reach_the_program_inside(reporting: Bundle, pyrunc: Pyrunc) -> None:
    with started(pyrunc.argv("run", "--bundle", reporting, "c")) as process:
        for number in NUMBERS:
            process.send_signal(number)
            assert next_line(process) == str(number)
        process.terminate()
        assert process.wait(PATIENCE) == 9
    assert pyrunc("list", "-q").stdout == ""


def test_signals_reach_an_execed_program(
    reporting: Bundle, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    pyrunc("run", "--detach", "--bundle", reporting, "c", check=True)
    try:
        with started(pyrunc.argv("exec", "c", "sh", "-c", REPORTING)) as process:
            process.send_signal(signal.SIGUSR1)
            assert next_line(process) == str(int(signal.SIGUSR1))
            process.terminate()
            assert process.wait(PATIENCE) == 9
    finally:
        pyrunc("delete", "--force", "c", check=True)


def test_a_killed_container_gives_128_and_the_signal(reporting: Bundle, pyrunc: Pyrunc) -> None:
    with started(pyrunc.argv("run", "--bundle", reporting, "c")) as process:
        pyrunc("kill", "c", "KILL", check=True)
        assert process.wait(PATIENCE) == 128 + signal.SIGKILL
    assert pyrunc("list", "-q").stdout == ""


def test_what_a_killed_command_leaves_delete_force_clears(
    reporting: Bundle, pyrunc: Pyrunc
) -> None:
    with started(pyrunc.argv("run", "--bundle", reporting, "c")) as process:
        process.kill()
        process.wait(PATIENCE)
    pyrunc("delete", "--force", "c", check=True)
    assert pyrunc("list", "-q").stdout == ""


def test_the_program_inside_starts_with_every_signal_at_its_default(
    bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    made = bundle(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"])
    done = pyrunc("run", "--bundle", made, "c", check=True)

    assert [line.split()[1] for line in done.stdout.splitlines()] == ["0" * 16] * 3


def test_a_container_deleted_by_somebody_else_ends_the_run_quietly(
    reporting: Bundle, pyrunc: Pyrunc, capfd: pytest.CaptureFixture[str]
) -> None:
    with started(pyrunc.argv("run", "--bundle", reporting, "c")) as process:
        pyrunc("delete", "--force", "c", check=True)
        assert process.wait(PATIENCE) == 128 + signal.SIGKILL
    assert capfd.readouterr().err == ""
