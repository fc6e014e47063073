"""Making and removing groups while others do the same; writing files in whatever order works.

Plain directories stand in for cgroupfs: mkdir, rmdir and extended attributes are the same.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libpycontainer.cgroups import tree, writer
from libpycontainer.cgroups.settings import Setting
from libpycontainer.errors import CgroupError


def make(base: str, path: str, settle: Callable[[str, str], None] | None = None) -> list[str]:
    """As the managers do it: all of it, or nothing."""
    made: list[str] = []
    try:
        tree.make(base, path, settle, made=made)
    except BaseException:
        tree.discard(made)
        raise
    return made


def now() -> float:
    return time.monotonic()


@pytest.fixture
def base(tmp_path: Path) -> str:
    try:
        os.setxattr(tmp_path, "user.libpycontainer", b"")
        os.removexattr(tmp_path, "user.libpycontainer")
    except OSError:
        pytest.skip("no extended attributes here")
    return str(tmp_path)


def test_make_tells_what_was_not_there(base: str) -> None:
    os.mkdir(base + "/a")
    settled: list[tuple[str, str]] = []
    made = make(base, "/a/b/c", lambda parent, child: settled.append((parent, child)))
    assert made == [base + "/a/b", base + "/a/b/c"]
    assert settled == [
        (base, base + "/a"),
        (base + "/a", base + "/a/b"),
        (base + "/a/b", base + "/a/b/c"),
    ]


def test_removal_takes_the_parents_that_were_made_and_no_other(base: str) -> None:
    os.mkdir(base + "/kept")
    make(base, "/kept/a/b")
    make(base, "/kept/a/c")
    tree.remove(base + "/kept/a/b", now())
    tree.remove_parents(base, "/kept/a/b")
    assert os.path.isdir(base + "/kept/a/c")
    # Whoever is last removes the parent, whoever made it.
    tree.remove(base + "/kept/a/c", now())
    tree.remove_parents(base, "/kept/a/c")
    assert os.listdir(base) == ["kept"]
    assert os.listdir(base + "/kept") == []


def test_removal_is_deep_and_may_be_repeated(base: str) -> None:
    os.makedirs(base + "/a/x/y/z")
    os.makedirs(base + "/a/v")
    tree.remove(base + "/a", now())
    tree.remove(base + "/a", now())
    assert os.listdir(base) == []


def test_removal_goes_deeper_than_a_path_can_name(base: str) -> None:
    os.mkdir(base + "/a")
    here = os.open(base + "/a", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("n" * 250, dir_fd=here)
        below = os.open("n" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    tree.remove(base + "/a", now())
    assert os.listdir(base) == []


def test_making_survives_the_removal_of_its_parent(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir
    hits: list[str] = []

    def mkdir(path: str, mode: int = 0o777) -> None:
        if path.endswith("/b") and len(hits) < 3:
            hits.append(path)
            os.rmdir(os.path.dirname(path))
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    make(base, "/a/b")
    assert os.path.isdir(base + "/a/b")
    assert len(hits) == 3


def test_making_gives_up_when_the_parents_never_stay(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(path: str, mode: int = 0o777) -> None:
        raise FileNotFoundError(errno.ENOENT, "gone", path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(CgroupError, match="keep being removed"):
        make(base, "/a/b")


def test_a_failure_on_the_way_down_leaves_nothing(base: str) -> None:
    def settle(parent: str, child: str) -> None:
        if child.endswith("/b"):
            raise CgroupError("no", errno=errno.EINVAL)

    with pytest.raises(CgroupError, match="no"):
        make(base, "/a/b", settle)
    assert os.listdir(base) == []


def test_removal_names_what_it_cannot_remove(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(base + "/a")

    def rmdir(path: str, dir_fd: int | None = None) -> None:
        raise OSError(errno.EBUSY, "busy", path)

    Path(base, "a/cgroup.procs").write_text("12\n34\n")
    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(CgroupError, match=r"still in it: processes \[12, 34\]") as caught:
        tree.remove(base + "/a", now() + 0.01)
    assert caught.value.errno == errno.EBUSY


def test_processes_of_the_groups_below_count(base: str) -> None:
    os.makedirs(base + "/a/b")
    Path(base, "a/cgroup.procs").write_text("1\n")
    Path(base, "a/b/cgroup.procs").write_text("2\n3\n")
    assert sorted(tree.pids(base + "/a", recursive=True)) == [1, 2, 3]
    assert tree.pids(base + "/a", recursive=False) == [1]
    assert tree.pids(base + "/missing", recursive=True) == []


class Files:
    """A kernel that refuses ``memory`` above ``swap``, whatever the order of writing."""

    def __init__(self, **values: int) -> None:
        self.values = values

    def write(self, path: str, value: str, **_: Any) -> None:
        wanted = {**self.values, os.path.basename(path): int(value)}
        if wanted["memory"] > wanted["swap"]:
            raise CgroupError(f"{path} refuses {value}", errno=errno.EINVAL)
        self.values = wanted


@pytest.mark.parametrize("target", [(1, 2), (20, 20), (5, 50), (3, 3)])
def test_settings_are_written_in_an_order_that_works(
    target: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Files(memory=10, swap=10)
    monkeypatch.setattr(writer, "write", kernel.write)
    settings = [
        Setting("memory", "memory", target[0], "a"),
        Setting("memory", "swap", target[1], "b"),
    ]
    writer.write_settings([(each, "/g") for each in settings])
    assert kernel.values == {"memory": target[0], "swap": target[1]}


def test_settings_that_no_order_makes_valid_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Files(memory=10, swap=10)
    monkeypatch.setattr(writer, "write", kernel.write)
    settings = [Setting("memory", "memory", 30, "a"), Setting("memory", "swap", 20, "b")]
    with pytest.raises(CgroupError, match="/g/memory refuses 30"):
        writer.write_settings([(each, "/g") for each in settings])


def test_a_missing_file_may_have_another_name_or_not_matter(tmp_path: Path) -> None:
    (tmp_path / "blkio.bfq.weight").touch()
    here = str(tmp_path)
    fallback = ("blkio.bfq.weight", "70")
    writer.write_settings(
        [
            (Setting("blkio", "blkio.weight", 7, "blockIO.weight", fallback=fallback), here),
            (
                Setting("hugetlb", "hugetlb.2MB.rsvd.max", 7, "hugepageLimits[0]", optional=True),
                here,
            ),
        ]
    )
    assert (tmp_path / "blkio.bfq.weight").read_text() == "70"
    with pytest.raises(CgroupError) as caught:
        writer.write_settings([(Setting("pids", "pids.max", 7, "pids.limit"), here)])
    assert caught.value.message == (
        f"$.linux.resources.pids.limit: cannot set pids limit 7 in {tmp_path}/pids.max: ENOENT"
    )
    assert (caught.value.op, caught.value.path) == ("write", f"{tmp_path}/pids.max")
