"""Containers for asyncio: the same nouns and verbs as in :mod:`libpycontainer`, to be awaited.

    from libpycontainer import aio

    done = await aio.run(["python3", "-c", "print(1)"], memory="256M", timeout=10)

    async with aio.Factory() as factory:
        async with factory.create("web-1", spec, bundle="bundle") as web:
            await web.start()
            await web.wait(timeout=10)

What is cancelled is killed and cleaned up. Ends, pipes and events are waited for by the loop; a
few threads of the factory's own make the calls that wait for the kernel.
"""

from libpycontainer.aio.container import Container
from libpycontainer.aio.events import Events
from libpycontainer.aio.factory import Factory
from libpycontainer.aio.pending import Pending
from libpycontainer.aio.process import Process
from libpycontainer.aio.sandbox import run

__all__ = ["Container", "Events", "Factory", "Pending", "Process", "run"]
