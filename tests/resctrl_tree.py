"""A tree of plain files in the place of resctrl, which few machines have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from libpycontainer import resctrl


class Tree:
    """Directories that come with their files and go with them, as resctrl's do.

    ``writes`` are those to ``schemata``; one that begins with ``refuse`` is refused.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.writes: list[tuple[str, str]] = []
        self.refuse = "\0"
        self._mkdir, self._rmdir, self._write = os.mkdir, os.rmdir, resctrl._write
        self.make(root)
        self._mkdir(root / "info")
        self.status("ok")
        table = root.parent / f"{root.name}.mountinfo"
        table.write_text(f"40 23 0:40 / {root} rw - resctrl resctrl rw\n")
        monkeypatch.setattr(resctrl, "MOUNTINFO", str(table))
        monkeypatch.setattr(os, "mkdir", self._make)
        monkeypatch.setattr(os, "rmdir", self._remove)
        monkeypatch.setattr(resctrl, "_write", self._record)

    def add(self, name: str, schemata: str = "L3:0=fffff\nMB:0=100\n") -> None:
        """A class that somebody else has made."""
        self.make(self.root / name)
        (self.root / name / "schemata").write_text(schemata)

    def make(self, path: Path) -> None:
        self._mkdir(path)
        (path / "tasks").write_text("")
        if path.parent.name != "mon_groups":
            (path / "schemata").write_text("")
            self._mkdir(path / "mon_groups")
            self._mkdir(path / "mon_data")

    def status(self, text: str) -> None:
        (self.root / "info/last_cmd_status").write_text(f"{text}\n")

    def tasks(self, group: str) -> str:
        return (self.root / group / "tasks").read_text()

    def groups(self, below: str = "") -> set[str]:
        names = os.listdir(self.root / below)
        return {name for name in names if (self.root / below / name / "tasks").exists()}

    def _inside(self, path: str | os.PathLike[str]) -> bool:
        return Path(path).is_relative_to(self.root)

    def _make(self, path: str, mode: int = 0o777, **options: int) -> None:
        if self._inside(path):
            self.make(Path(path))
        else:
            self._mkdir(path, mode, **options)

    def _remove(self, path: str, **options: int) -> None:
        if self._inside(path) and (Path(path) / "tasks").exists():
            shutil.rmtree(path)
        else:
            self._rmdir(path, **options)

    def _record(self, path: str, text: str) -> None:
        if path.endswith("/schemata"):
            self.writes.append((os.path.relpath(path, self.root), text))
            if text.startswith(self.refuse):
                raise OSError(22, "Invalid argument")
        self._write(path, text)
