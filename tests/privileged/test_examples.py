"""The examples do what they say they do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SLOWNESS

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
NETWORK_TEST = str(EXAMPLES / "netns_test.py")
PLUGIN = "libpycontainer.testing.plugin"
TIMEOUT = 60 * SLOWNESS
C_SUM = '#include <stdio.h>\nint main() { int a, b; scanf("%d%d", &a, &b); printf("%d", a + b); }\n'
SUBMISSIONS = {
    "right.py": ("print(sum(map(int, input().split())))", ["1 AC", "2 AC"]),
    "right.c": (C_SUM, ["1 AC", "2 AC"]),
    "wrong.py": ("print(5)", ["1 AC", "2 WA"]),
    "busy.py": ("while True: pass", ["1 TLE", "2 TLE"]),
    "idle.py": ("import time; time.sleep(1000)", ["1 TLE", "2 TLE"]),
    "fat.py": ("x = bytearray(200 << 20)", ["1 MLE", "2 MLE"]),
    "loud.py": ("while True: print('x' * 1000)", ["1 OLE", "2 OLE"]),
    "broken.py": ("1 / 0", ["1 RE", "2 RE"]),
    "broken.c": ("int main() { *(volatile int *)0 = 1; }", ["1 RE", "2 RE"]),
    "none.c": ("int main( {", ["compile CE"]),
    "cheat.py": ("print(open('CASES/1.out').read())", ["1 RE", "2 RE"]),
}


PROGRAMS = re.findall(
    r"```python\n(.*?)```", (REPOSITORY / "docs/asyncio.md").read_text(encoding="utf-8"), re.DOTALL
)
SAID = (
    "0 42",
    "[None, 1, 4, None, 16, 25, None, 49, 64, None, 100, 121]",
    "1 + 1 = 2\nsum(range(10)) = 45\n__import__('os').getpid() = 1\nexit code 0",
    "memory: ",
)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}


def run(name: str, *words: Any, input: str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, words)],
        input=input,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def place(workspace: Path) -> Iterator[Path]:
    """An empty directory of the caller's."""
    with tempfile.TemporaryDirectory(dir=workspace) as name:
        yield Path(name)


@pytest.mark.privileged_caller("a memory limit needs a controller that is not everybody's")
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_judge(place: Path, name: str) -> None:
    if name.endswith(".c") and shutil.which("gcc") is None:
        pytest.skip("gcc is missing")
    cases = place / "cases"
    cases.mkdir()
    for case, (given, right) in {"1": ("2 3", "5"), "2": ("10 20", "30\n")}.items():
        (cases / f"{case}.in").write_text(given)
        (cases / f"{case}.out").write_text(right)
    source, verdicts = SUBMISSIONS[name]
    (place / name).write_text(source.replace("CASES", str(cases)))
    assert run("judge.py", place / name, cases) == verdicts


@pytest.mark.privileged_caller("a memory limit needs a controller that is not everybody's")
def test_agent_sandbox(place: Path) -> None:
    commands = [
        "echo hello >note; exit 3",
        "cat note; ls /home /etc/passwd",
        "sleep 1000 & (setsid sleep 1000 &); echo left",
        "yes",
        "sleep 1000 & sleep 1000",
        "f() { f | f & }; f 2>/dev/null; exec sleep 1000",
        "grep -c : /proc/net/dev; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -cx '[s]leep'",
    ]
    lines = run("agent_sandbox.py", place, input="\n".join(commands) + "\n")
    notes = [line for line in lines if line.startswith("[")]
    assert notes == [
        "[exit code 3]",
        "[exit code 2]",
        "[exit code 0]",
        "[more than 10000 bytes of output]",
        "[more than 5 s]",
        notes[5],
        "[exit code 0]",
    ]
    assert lines[1] == "hello"
    assert sum(line == "y" for line in lines) == 5000
    # One network interface, its own; what sleeps is its keeper's.
    assert lines[-3:-1] == ["1", "1"]
    assert (place / "note").read_text() == "hello\n"


@pytest.mark.privileged_caller("a memory limit needs a controller that is not everybody's")
def test_embedding_in_an_asyncio_service(place: Path) -> None:
    socket = str(place / "socket")

    async def job(*args: str, seconds: float | None = None) -> list[dict[str, Any]]:
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(json.dumps({"args": args}).encode() + b"\n")
        said = []
        try:
            async with asyncio.timeout(seconds):
                async for line in reader:
                    said.append(json.loads(line))
        except TimeoutError:
            pass
        writer.close()
        return said

    async def use() -> None:
        streamed = await job("sh", "-c", "echo a; sleep 0.3; echo b; exit 4")
        assert streamed == [{"output": "a\n"}, {"output": "b\n"}, {"code": 4}]
        assert list(*await job("no-such-program")) == ["error"]
        assert list(*await job()) == ["error"]
        many = await asyncio.gather(*(job("echo", str(number)) for number in range(30)))
        assert many == [[{"output": f"{number}\n"}, {"code": 0}] for number in range(30)]
        # These two hang up, one of them because the service ends.
        assert await job("sleep", "1000", seconds=0.3) == []
        last = asyncio.create_task(job("sh", "-c", "echo up; sleep 1000"))
        await asyncio.sleep(0.5)
        service.send_signal(signal.SIGTERM)
        assert await last == [{"output": "up\n"}]

    command = [sys.executable, str(EXAMPLES / "embedding_asyncio.py"), socket]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline() == b"serving\n"
            asyncio.run(use())
            assert service.wait(TIMEOUT) == 0
        finally:
            service.kill()


@pytest.mark.privileged_caller("another user namespace's network cannot be entered")
def test_test_of_a_network(place: Path) -> None:
    # Where the project is installed, pytest knows the plugin already.
    installed = [each.value for each in entry_points(group="pytest11")]
    plugin = [] if PLUGIN in installed else ["-p", PLUGIN]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, NETWORK_TEST],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


@pytest.mark.privileged_caller("cgroups that only root makes")
def test_measurement_of_idle_containers(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.many_idle", "5"],
        cwd=REPOSITORY,
        env={**environment(), "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(":", 1) for line in done.stdout.splitlines())
    numbers = {name: int(re.findall(r"\d+", text)[0]) for name, text in said.items()}
    assert numbers["containers"] == 5
    assert 0 < numbers["processes"] < 2000
    assert 0 < numbers["cgroup"] < 2000
    assert 1 < numbers["threads"] <= 9
    assert list(place.iterdir()) == []


@pytest.mark.privileged_caller("a memory limit needs a controller that is not everybody's")
@pytest.mark.parametrize("number", range(len(SAID)))
def test_programs_of_the_page_on_asyncio(place: Path, number: int) -> None:
    assert len(PROGRAMS) == len(SAID)
    (place / "program.py").write_text(PROGRAMS[number])
    assert "\n".join(run(str(place / "program.py"))).startswith(SAID[number])
