"""What is made once and kept: a directory for each stage, with the recipe that it was made by."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RECIPE = ".recipe"
LOCATION = "LPC_VM_CACHE"
UNFINISHED = "new-"
RUN = "run-"


class Cache:
    """A directory that several builds and machines may use at a time."""

    def __init__(self) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.path = Path(os.environ.get(LOCATION) or Path(base, "libpycontainer-vm"))
        self.path.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, recipe: str, make: Callable[[Path], None]) -> Path:
        """The directory ``name`` as ``make`` fills it, made anew whenever ``recipe`` is another.

        It appears whole or not at all: ``make`` works in a directory beside it.
        """
        path = self.path / name
        if _recipe(path) == recipe:
            return path
        with self._locked():
            # Whoever held the lock before may have made just this.
            if _recipe(path) != recipe:
                self._make(path, recipe, make)
        return path

    def _make(self, path: Path, recipe: str, make: Callable[[Path], None]) -> None:
        for left in self.path.glob(f"{UNFINISHED}*"):
            remove(left)
        new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.path))
        try:
            new.chmod(0o755)
            make(new)
            (new / RECIPE).write_text(recipe, encoding="utf-8")
            remove(path)
            new.rename(path)
        finally:
            remove(new)

    @contextmanager
    def run_directory(self) -> Iterator[Path]:
        """A directory for one machine, gone when the block ends."""
        for left in self.path.glob(f"{RUN}*"):
            if not Path("/proc", left.name.split("-")[1]).exists():
                remove(left)
        path = Path(tempfile.mkdtemp(prefix=f"{RUN}{os.getpid()}-", dir=self.path))
        try:
            yield path
        finally:
            remove(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.path / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _recipe(path: Path) -> str | None:
    try:
        return (path / RECIPE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def remove(path: Path) -> None:
    """Remove a directory if it is there."""
    if path.exists():
        shutil.rmtree(path)
