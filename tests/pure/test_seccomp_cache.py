"""What was compiled is found again, by the same profile, in a directory of one's own only."""

from __future__ import annotations

import ctypes.util
import marshal
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from libpycontainer.seccomp import cache, compiler, library
from tests.pure.test_imports import fresh

pytestmark = pytest.mark.skipif(
    ctypes.util.find_library("seccomp") is None, reason="libseccomp is not installed"
)

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}],
}


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_memory", {})


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything that is compiled from here on."""
    seen: list[object] = []
    real = compiler.compile

    def counted(section: Any) -> compiler.Compiled:
        seen.append(section)
        return real(section)

    monkeypatch.setattr(compiler, "compile", counted)
    return seen


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "state")


def files(root: str) -> list[Path]:
    return sorted(Path(root, cache.DIRECTORY).iterdir())


def forget() -> None:
    cache._memory.clear()


def variant(number: int) -> dict[str, Any]:
    return {**PROFILE, "defaultErrnoRet": number}


def test_a_profile_is_compiled_once_for_this_process(root: str, compilations: list[object]) -> None:
    first = cache.program(PROFILE, root)
    assert cache.program(dict(PROFILE), root).code == first.code == compiler.compile(PROFILE).code
    assert len(compilations) == 2  # the second one is this test's own


def test_a_profile_is_compiled_once_for_a_state_root(root: str, compilations: list[object]) -> None:
    first = cache.program(PROFILE, root)
    forget()
    assert cache.program(PROFILE, root).code == first.code
    assert len(compilations) == 1
    forget()
    cache.program(PROFILE, root + "-another")
    assert len(compilations) == 2


def test_another_profile_is_another_program(root: str) -> None:
    codes = {cache.program(variant(number), root).code for number in range(1, 6)}
    assert len(codes) == 5
    forget()
    assert {cache.program(variant(number), root).code for number in range(1, 6)} == codes


def test_flags_and_agents_are_no_part_of_the_program(root: str, compilations: list[object]) -> None:
    cache.program(PROFILE, root)
    more = {"flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/agent"}
    assert cache.program({**PROFILE, **more}, root).flags == 2
    assert len(compilations) == 1


def test_what_is_kept_is_the_owners_alone(root: str) -> None:
    cache.program(PROFILE, root)
    (file,) = files(root)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(root).stat().st_mode) == 0o700


def test_the_directory_is_no_containers(root: str) -> None:
    from libpycontainer.store import Store

    cache.program(PROFILE, root)
    assert Store(root).ids() == []


def test_a_directory_that_others_may_write_to_is_not_used(
    root: str, compilations: list[object]
) -> None:
    cache.program(PROFILE, root)
    (file,) = files(root)
    file.parent.chmod(0o770)
    forget()
    cache.program(PROFILE, root)
    assert len(compilations) == 2


def test_a_symlink_is_not_followed(root: str, tmp_path: Path, compilations: list[object]) -> None:
    cache.program(PROFILE, root)
    (file,) = files(root)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    forget()
    cache.program(PROFILE, root)
    assert len(compilations) == 2
    assert not file.is_symlink()
    file.parent.rename(tmp_path / "directory")
    file.parent.symlink_to(tmp_path / "directory")
    forget()
    cache.program(PROFILE, root)
    assert len(compilations) == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", marshal.dumps(7, 2), marshal.dumps((b"key", ("/",), b"", []), 2)],
    ids=["empty", "garbage", "a number", "cut"],
)
def test_a_file_that_is_damaged_is_compiled_anew(
    content: bytes, root: str, compilations: list[object]
) -> None:
    first = cache.program(PROFILE, root)
    (file,) = files(root)
    file.write_bytes(content)
    forget()
    assert cache.program(PROFILE, root).code == first.code
    assert len(compilations) == 2
    forget()
    cache.program(PROFILE, root)
    assert len(compilations) == 2


def test_a_file_of_another_profile_with_the_same_checksum_is_not_taken(
    root: str, compilations: list[object]
) -> None:
    other = cache.program(variant(5), root)
    (file,) = files(root)
    file.rename(file.with_name(cache._file_name(cache._key(PROFILE))))
    forget()
    assert cache.program(PROFILE, root).code != other.code
    assert len(compilations) == 2


def test_another_libseccomp_compiles_anew(root: str, compilations: list[object]) -> None:
    cache.program(PROFILE, root)
    (file,) = files(root)
    key, identity, code, unknown = marshal.loads(file.read_bytes())
    assert identity == library.file_identity(identity[0])
    assert Path(identity[0]).name.startswith("libseccomp.so.2")
    for changed in ((*identity[:2], identity[2] + 1, identity[3]), ("/gone", *identity[1:])):
        file.write_bytes(marshal.dumps((key, changed, code, unknown), 2))
        forget()
        cache.program(PROFILE, root)
    assert len(compilations) == 3


def test_there_are_never_many_files(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_FILES", 3)
    for number in range(1, 6):
        cache.program(variant(number), root)
        path = Path(root, cache.DIRECTORY, cache._file_name(cache._key(variant(number))))
        os.utime(path, ns=(number, number))
    kept = {cache._file_name(cache._key(variant(number))) for number in (3, 4, 5)}
    assert {path.name for path in files(root)} == kept


def test_memory_holds_the_last_ones_used(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_IN_MEMORY", 2)
    for number in (1, 2, 1, 3):
        cache.program(variant(number), root)
    assert list(cache._memory) == [cache._key(variant(1)), cache._key(variant(3))]


def test_a_root_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert cache.program(PROFILE, str(file)).code == compiler.compile(PROFILE).code


def test_without_a_root_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[object]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        cache.program(PROFILE, None)
    assert len(compilations) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_a_permissive_profile_cannot_refuse_is_a_warning(root: str) -> None:
    rules = [{"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO"}]
    section = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    for _ in range(2):
        (warning,) = cache.program(section, root).warnings
        assert "not filtered: no_such_call" in warning
        forget()
    rules[0]["action"] = "SCMP_ACT_ALLOW"
    section["defaultAction"] = "SCMP_ACT_ERRNO"
    assert cache.program(section, root).warnings == []


def test_a_start_with_a_known_profile_loads_neither_compiler_nor_library(root: str) -> None:
    cache.program(PROFILE, root)
    loaded = fresh(
        f"from libpycontainer.seccomp import cache\ncache.program({PROFILE!r}, {root!r})"
    )
    assert "libpycontainer.seccomp.cache" in loaded
    own = {name for name in loaded if name.startswith("libpycontainer.seccomp.")}
    assert own == {"libpycontainer.seccomp.cache", "libpycontainer.seccomp.names"}
    assert loaded & {"hashlib", "ctypes", "json", "struct"} == set()
