"""What is awaited for a thing, or entered for the length of a block that owns it."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, Protocol, TypeVar


class Owned(Protocol):
    """Something that is taken away at the end of its block."""

    async def __aexit__(self, *exc: Any) -> None: ...


T = TypeVar("T", bound=Owned)


class Pending(Generic[T]):
    """``thing = await pending``, or ``async with pending as thing``."""

    def __init__(self, making: Coroutine[Any, Any, T]) -> None:
        self._making = making
        self._made: T

    def __await__(self) -> Generator[Any, None, T]:
        return self._making.__await__()

    async def __aenter__(self) -> T:
        self._made = await self._making
        return self._made

    async def __aexit__(self, *exc: Any) -> None:
        await self._made.__aexit__(*exc)
