"""A sandbox for an agent: its shell commands run in one container, around a directory of its own.

    python examples/agent_sandbox.py WORKSPACE        # reads commands, one on each line

The agent sees WORKSPACE as /workspace, which it may write to, and the host's programs in /usr. It
has no network, no rights, and shares a limit of memory, processors and tasks with all that it
starts. Each command has a time and a size of output. When it ends, or is ended, everything that it
has started is killed; what it wrote to /workspace and /tmp stays for the next one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import libpycontainer as lc
from libpycontainer import aio

# A shell that waits: the first process inside is left with the orphans of the others, and reaps
# them meanwhile. Both live as long as the sandbox does: in a full one nothing can be started.
KEEPER = ["sh", "-c", "sleep infinity; :"]


@dataclass
class Outcome:
    """What is told to the agent; ``code`` is ``None`` for a command that was killed."""

    code: int | None
    output: str
    reason: str = ""


class AgentSandbox:
    """``async with AgentSandbox(directory) as sandbox: await sandbox.shell("ls")``"""

    def __init__(self, workspace: Path, *, memory: str = "512M", pids: int = 64) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="agent-")
        root = Path(self._place.name)
        for name in ("bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        self._factory = aio.Factory(warm=True)
        self._name = f"agent-{os.urandom(4).hex()}"
        self._spec = lc.Spec.default().evolve(
            args=KEEPER,
            env={"PATH": "/usr/bin:/bin", "HOME": "/workspace"},
            rootfs=root,
            add_mounts=[
                lc.Mount.bind("/usr"),
                lc.Mount.bind(workspace, "/workspace", read_only=False),
                lc.Mount.tmpfs("/tmp", size="64M"),
            ],
            memory=memory,
            cpus=1,
            pids=pids,
        )
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        quiet = {"stdin": lc.DEVNULL, "stdout": lc.DEVNULL, "stderr": lc.DEVNULL}
        self._container = await self._factory.run(self._name, self._spec, **quiet)
        while len(await self._container.processes()) < 2:
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._container.delete(force=True)
        await self._factory.close()
        self._place.cleanup()

    async def shell(self, command: str, *, timeout: float = 10, most: int = 10_000) -> Outcome:
        """Run one command; ``timeout`` in seconds, ``most`` in bytes of output."""
        process = lc.Process(
            ["sh", "-c", command],
            cwd="/workspace",
            stdin=lc.DEVNULL,
            stdout=lc.PIPE,
            stderr=lc.STDOUT,
        )
        output, code, reason = bytearray(), None, ""

        async def collect(running: aio.Process) -> None:
            assert running.stdout is not None
            while len(output) <= most and (data := await running.stdout.read(4096)):
                output.extend(data)
            if len(output) > most:
                running.kill()

        async with self._one_at_a_time:
            before = set(await self._container.processes())
            async with self._container.exec(process) as running:
                collecting = asyncio.create_task(collect(running))
                try:
                    code = await running.wait(timeout)
                except lc.TimeoutExpired:
                    reason = f"more than {timeout:g} s"
                finally:
                    await self._kill_all_but(before)
                await collecting
        if len(output) > most:
            code, reason = None, f"more than {most} bytes of output"
        return Outcome(code, output[:most].decode(errors="replace"), reason)

    async def _kill_all_but(self, spared: set[int]) -> None:
        # Frozen, none of them can start another one meanwhile.
        await self._container.pause()
        try:
            for pid in set(await self._container.processes()) - spared:
                os.kill(pid, signal.SIGKILL)
        finally:
            await self._container.resume()
        while set(await self._container.processes()) - spared:
            await asyncio.sleep(0.005)


async def main(workspace: Path) -> None:
    async with AgentSandbox(workspace) as sandbox:
        for line in sys.stdin:
            outcome = await sandbox.shell(line, timeout=5)
            print(outcome.output, end="")
            print(f"[{outcome.reason or f'exit code {outcome.code}'}]", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
