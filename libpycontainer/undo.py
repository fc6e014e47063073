"""What to take back when an operation fails half-way."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Undo:
    """A stack of clean-ups: pushed right after each acquisition, forgotten by :meth:`commit`.

    Leaving the ``with`` block without a commit runs them, last first. A clean-up that fails is
    noted on the exception that is on its way, and never takes its place.

    (contextlib.ExitStack does the same and costs an import that a cold command can feel.)
    """

    def __init__(self) -> None:
        self._actions: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def push(self, action: Callable[..., object], *arguments: object) -> None:
        self._actions.append((action, arguments))

    def commit(self) -> None:
        """The operation has succeeded: keep everything."""
        self._actions.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        failed: BaseException | None = None
        while self._actions:
            action, arguments = self._actions.pop()
            try:
                action(*arguments)
            except BaseException as problem:
                # Also a KeyboardInterrupt must not keep the others from being cleaned up.
                if error is not None:
                    error.add_note(f"while cleaning up: {problem}")
                else:
                    failed = failed or problem
        if failed is not None:
            raise failed
