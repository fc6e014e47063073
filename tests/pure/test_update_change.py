"""Limits change as a whole: what stands in the files afterwards is all new or all old."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer.cgroups import restoring, settings, writer
from libpycontainer.cgroups.files import write
from libpycontainer.cgroups.settings import Setting
from libpycontainer.cgroups.writer import Change
from libpycontainer.errors import CgroupError
from libpycontainer.spec.models import LinuxMemory, LinuxResources


@pytest.mark.parametrize(
    ("file", "written", "text", "value"),
    [
        ("memory.limit_in_bytes", "5", "9223372036854771712", "9223372036854771712"),
        ("memory.max", "5", "max", "max"),
        ("cpu.max", "5000 10000", "max 100000", "max 100000"),
        ("cpuset.cpus", "0", "", "\n"),
        ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 3", "0"),
        ("io.max", "8:0 rbps=1", "", "8:0 rbps=max wbps=max riops=max wiops=max"),
        (
            "io.max",
            "8:0 rbps=1",
            "8:0 rbps=9 wbps=max riops=max wiops=max\n8:16 rbps=7 wbps=1 riops=1 wiops=1",
            "8:0 rbps=9 wbps=max riops=max wiops=max",
        ),
        ("io.bfq.weight", "70", "default 100", "default 100"),
        ("io.weight", "default 70", "default 100\n8:0 50", "default 100"),
        ("io.weight", "8:0 70", "default 100\n8:0 50", "8:0 50"),
        ("io.weight", "8:16 70", "default 100\n8:0 50", "8:16 default"),
        ("blkio.bfq.weight", "70", "100", "100"),
        ("blkio.throttle.read_bps_device", "8:0 70", "8:0 9\n8:16 8", "8:0 9"),
        ("blkio.throttle.read_bps_device", "8:0 70", "", "8:0 0"),
        ("blkio.throttle.read_bps_device", "8:1 70", "18:1 4\n8:16 8", "8:1 0"),
        ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 1", "eth0 1"),
        ("net_prio.ifpriomap", "eth9 5", "lo 0\neth0 1", None),
        (
            "rdma.max",
            "mlx4_0 hca_handle=1",
            "mlx4_0 hca_handle=max hca_object=2",
            "mlx4_0 hca_handle=max hca_object=2",
        ),
        ("hugetlb.2MB.max", "0", "2097152", "2097152"),
    ],
)
def test_each_file_has_a_write_that_undoes_another(
    file: str, written: str, text: str, value: str | None
) -> None:
    assert restoring.undoing(file, written, text) == value


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=40))
def test_no_text_of_a_file_breaks_the_undoing(file: str, written: str, text: str) -> None:
    found = restoring.undoing(file, written, text)
    assert found is None or isinstance(found, str)


class Group:
    """A group of plain files, some of whose values the kernel refuses."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
        self.path = path
        self.refused: dict[str, int] = {}
        for name, text in files.items():
            (path / name).write_text(text)
        monkeypatch.setattr(writer, "write", self.write)

    def write(self, path: str, value: str, **more: Any) -> None:
        if value in self.refused:
            number = self.refused[value]
            raise CgroupError(f"{more['field']}: {path} refuses {value}", errno=number)
        Path(path).write_text("") if Path(path).exists() else None
        write(path, value, **more)

    def settings(self, **values: str) -> list[tuple[Setting, str]]:
        return [
            (Setting("x", name, value, f"x.{name}"), str(self.path))
            for name, value in values.items()
        ]

    @property
    def texts(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.path.iterdir()}


def test_a_refused_value_brings_back_all_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(tmp_path, monkeypatch, one="1", two="2", three="3")
    group.refused = {"33": errno.EBUSY}
    with pytest.raises(CgroupError, match=r"x\.three.*refuses 33") as caught:
        Change().make(group.settings(one="11", two="22", three="33"))
    assert group.texts == {"one": "1", "two": "2", "three": "3"}
    assert not hasattr(caught.value, "__notes__")


def test_a_later_step_that_fails_brings_back_the_limits_and_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(tmp_path, monkeypatch, one="1")
    change = Change()
    change.make(group.settings(one="11"))
    assert group.texts == {"one": "11"}
    done = []

    def fail() -> None:
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(OSError, match="no space"):
        change.add(fail, lambda: done.append("undone"))
    assert group.texts == {"one": "1"}
    assert done == ["undone"]


def test_an_interrupt_brings_back_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(tmp_path, monkeypatch, one="1")
    change = Change()
    change.make(group.settings(one="11"))

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change.add(interrupted)
    assert group.texts == {"one": "1"}


def test_what_cannot_be_brought_back_is_noted_and_does_not_hinder_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(tmp_path, monkeypatch, one="1", two="2", three="3")
    group.refused = {"33": errno.EBUSY, "1": errno.EBUSY}
    with pytest.raises(CgroupError, match="refuses 33") as caught:
        Change().make(group.settings(one="11", two="22", three="33"))
    assert group.texts == {"one": "11", "two": "2", "three": "3"}
    (note,) = caught.value.__notes__
    assert note.startswith("the old limits are not all back: $.linux.resources.x.one: ")


def test_a_group_made_idle_gets_its_weight_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"cpu.idle": "0", "cpu.weight": "59", "pids.max": "max"}
    group = Group(tmp_path, monkeypatch, **files)
    group.refused = {"5": errno.EBUSY}

    def kernel(path: str, value: str, **more: Any) -> None:
        Group.write(group, path, value, **more)
        if path.endswith("cpu.idle"):
            (tmp_path / "cpu.weight").write_text("100")

    monkeypatch.setattr(writer, "write", kernel)
    with pytest.raises(CgroupError):
        Change().make(group.settings(**{"cpu.idle": "1", "pids.max": "5"}))
    assert group.texts == files


def test_files_that_cannot_be_read_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(tmp_path, monkeypatch)
    change = Change()
    optional = Setting("x", "missing", "5", "x", optional=True)
    change.make([(optional, str(tmp_path))])
    assert group.texts == {}


def test_what_is_off_by_default_can_be_switched_off_again() -> None:
    off = LinuxResources(memory=LinuxMemory(disable_oom_killer=False))
    assert settings.v1(off) == []
    (setting,) = settings.v1(off, explicit=True)
    assert (setting.file, setting.value) == ("memory.oom_control", "0")


def test_a_unified_file_of_several_lines_is_written_line_by_line() -> None:
    limits = "8:0 rbps=1\n8:16 rbps=2"
    found = settings.unified(LinuxResources(unified={"io.max": limits}))
    assert [each.value for each in found] == ["8:0 rbps=1", "8:16 rbps=2"]
