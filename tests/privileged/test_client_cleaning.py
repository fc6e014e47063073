"""What the battery of clients removes, and what it must never reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import cleaning

pytestmark = pytest.mark.privileged_caller("mounts on the host")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """What lies elsewhere on the same file system and is bound into the directory."""
    path = tmp_path / "precious"
    (path / "deep").mkdir(parents=True)
    (path / "deep/file").write_text("kept")
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "work"
    path.mkdir()
    yield path
    if path.exists():
        cleaning.unmount_below(path)


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def content(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def test_a_bound_directory_survives(directory: Path, precious: Path) -> None:
    (directory / "a b/bound").mkdir(parents=True)
    mount("--bind", precious, directory / "a b/bound")
    cleaning.remove(directory)
    assert not directory.exists()
    assert content(precious) == ["deep", "deep/file"]
    assert (precious / "deep/file").read_text() == "kept"


def test_a_bound_file_survives(directory: Path, precious: Path) -> None:
    (directory / "bound").touch()
    mount("--bind", precious / "deep/file", directory / "bound")
    cleaning.remove(directory)
    assert not directory.exists()
    assert (precious / "deep/file").read_text() == "kept"


def test_mounts_in_mounts_and_two_at_one_place_go(directory: Path, precious: Path) -> None:
    mount("-t", "tmpfs", "none", directory)
    (directory / "inner").mkdir()
    mount("--bind", precious, directory / "inner")
    mount("--bind", precious, directory / "inner/deep")
    mount("-t", "tmpfs", "none", directory / "inner/deep")
    assert len(cleaning.mounts_below(directory)) == 4
    cleaning.remove(directory)
    assert not directory.exists()
    assert content(precious) == ["deep", "deep/file"]


def test_a_busy_mount_goes_too(directory: Path, precious: Path) -> None:
    (directory / "bound").mkdir()
    mount("--bind", precious, directory / "bound")
    with open(directory / "bound/deep/file") as file:
        cleaning.remove(directory)
        assert file.read() == "kept"
    assert content(precious) == ["deep", "deep/file"]


def test_a_link_is_removed_and_not_followed(directory: Path, precious: Path) -> None:
    (directory / "link").symlink_to(precious)
    (directory / "to-file").symlink_to(precious / "deep/file")
    cleaning.remove(directory)
    assert not directory.exists()
    assert content(precious) == ["deep", "deep/file"]


def test_a_link_in_the_place_of_the_directory_is_refused(directory: Path, precious: Path) -> None:
    link = directory / "link"
    link.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        cleaning.remove(link)
    assert content(precious) == ["deep", "deep/file"]


def test_nothing_is_removed_while_a_mount_does_not_go(directory: Path, precious: Path) -> None:
    """In a user namespace the mounts that came along are locked (man 7 mount_namespaces)."""
    (directory / "bound").mkdir()
    (directory / "other").touch()
    mount("--bind", precious, directory / "bound")
    program = (
        f"from tests.clients import cleaning; cleaning.remove(cleaning.Path({str(directory)!r}))"
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    refusal = f"{directory} is not removed: still mounted below it: {directory / 'bound'}"
    assert refusal in done.stderr
    assert done.returncode == 1
    assert content(precious) == ["deep", "deep/file"]
    assert content(directory) == ["bound", "bound/deep", "bound/deep/file", "other"]


def test_a_mount_that_comes_after_the_look_is_not_entered(
    directory: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "bound").mkdir()
    mount("--bind", precious, directory / "bound")
    monkeypatch.setattr(cleaning, "mounts_below", lambda _: [])
    with pytest.raises(OSError, match="cross-device"):
        cleaning.remove(directory)
    assert content(precious) == ["deep", "deep/file"]
