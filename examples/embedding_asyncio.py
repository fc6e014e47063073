"""A service that runs what it is sent, each job in a container, all of them in one event loop.

    python examples/embedding_asyncio.py SOCKET

A client connects to the unix socket and sends one line, {"args": ["sh", "-c", "..."]}. It is sent
lines back: {"output": "..."} as it comes, and {"code": 0} at the end, or {"error": "..."}. A client
that hangs up has its job killed; so has one whose job takes too long. Try it:

    echo '{"args": ["sh", "-c", "for n in 1 2 3; do echo $n; sleep 1; done"]}' | nc -U SOCKET
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from typing import Any

import libpycontainer as lc
from libpycontainer import aio

SECONDS, AT_ONCE = 30, 50
# The host's files, read-only; not /run, where the sockets of its services are.
SPEC = lc.Spec.default().evolve(
    rootfs="/", add_mounts=[lc.Mount.tmpfs("/run")], memory="128M", cpus=0.5, pids=32
)


class Service:
    """Serves any number of clients, of whom ``AT_ONCE`` have a container at one time."""

    def __init__(self, factory: aio.Factory) -> None:
        self._factory = factory
        self._places = asyncio.Semaphore(AT_ONCE)
        self._numbers = itertools.count()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client: his job and his attention are over together, whichever ends first."""

        async def say(**message: Any) -> None:
            writer.write(json.dumps(message).encode() + b"\n")
            await writer.drain()

        job = asyncio.create_task(self._run(await reader.readline(), say))
        gone = asyncio.create_task(reader.read())
        try:
            await asyncio.wait([job, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A job that is cancelled has no container any more when it is over.
            job.cancel()
            gone.cancel()
            await asyncio.wait([job, gone])
            writer.close()

    async def _run(self, line: bytes, say: Any) -> None:
        try:
            args = json.loads(line)["args"]
            async with self._places, asyncio.timeout(SECONDS):
                await say(code=await self._in_a_container(args, say))
        except TimeoutError:
            await say(error=f"it took more than {SECONDS} s")
        except (ValueError, LookupError, TypeError, lc.ContainerError) as error:
            await say(error=str(error))

    async def _in_a_container(self, args: list[str], say: Any) -> int:
        name = f"job-{os.getpid()}-{next(self._numbers)}"
        streams = {"stdin": lc.DEVNULL, "stdout": lc.PIPE, "stderr": lc.STDOUT}
        async with self._factory.run(
            name, SPEC.evolve(args=args), read_only_tree=True, **streams
        ) as container:
            assert container.process is not None
            assert container.process.stdout is not None
            while data := await container.process.stdout.read(4096):
                await say(output=data.decode(errors="replace"))
            return await container.wait()


async def main(path: str) -> None:
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with aio.Factory(warm=True) as factory:
        async with await asyncio.start_unix_server(Service(factory).serve, path):
            print("serving", flush=True)
            await over.wait()
        os.unlink(path)
    # Jobs that still run are cancelled by asyncio.run, which waits until their containers are gone.


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
