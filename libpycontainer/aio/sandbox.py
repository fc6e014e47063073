"""aio.run: one program, one throw-away container, awaited."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from libpycontainer import sandbox
from libpycontainer.aio.factory import Factory
from libpycontainer.errors import TimeoutExpired
from libpycontainer.store import default_root

if TYPE_CHECKING:
    from typing import Unpack

_factories: dict[str, Factory] = {}
"""By state root, for calls that bring none: all together they have the few threads of one."""


async def run(
    args: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    factory: Factory | None = None,
    **options: Unpack[sandbox.Options],
) -> sandbox.CompletedProcess:
    """Run a program in a container of its own, wait for it, and delete the container.

    ``options``, the result and the errors are :func:`libpycontainer.run`'s. A call that is
    cancelled has killed the program and deleted its container when the
    :class:`asyncio.CancelledError` reaches the caller.
    """
    order = sandbox.arrange(args, **options)
    async with (factory or _own()).run(order.id, order.config, **order.options) as container:
        process = container.process
        assert process is not None
        try:
            output = await process.communicate(order.input, order.timeout)
        except TimeoutExpired as expired:
            raise order.expired(expired) from None
        assert process.returncode is not None
    return order.completed(process.returncode, *output)


def _own() -> Factory:
    root = default_root()
    return _factories.get(root) or _factories.setdefault(root, Factory(root))
