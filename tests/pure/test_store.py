"""Records on disk: names and races for them, whole records, locks that die with their holder."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer import store as store_
from libpycontainer.errors import (
    AlreadyExistsError,
    BusyError,
    ContainerError,
    InvalidIDError,
    NotFoundError,
)
from libpycontainer.store import Entry, Store

REPOSITORY = Path(__file__).parents[2]
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-."


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "root"))


@pytest.fixture
def entry(store: Store) -> Iterator[Entry]:
    entry = store.reserve("web")
    entry.unlock()
    yield entry
    entry.unlock()


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["a", "web-1", "A_b+c.d", "...", "-", ".hidden", "0", "x" * 255])
def test_a_name_that_runc_takes_is_taken(id: str, store: Store) -> None:
    with store.reserve(id):
        assert store.ids() == [id]


@pytest.mark.parametrize(
    "id",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a//b",
        "/a",
        "a/",
        "a/b c",
        "/",
        "a b",
        "a\0b",
        "\0",
        "a\n",
        "caf\u00e9",
        "a,b",
        "a:b",
        "a@b",
        "\u0661",
        "x" * 256,
        "x" * 4096,
        "x" * 1_000_000,
    ],
)
def test_any_other_name_is_refused_by_every_door(id: str, store: Store) -> None:
    for door in (store_.check_id, store.reserve, store.find):
        with pytest.raises(InvalidIDError) as caught:
            door(id)
        assert len(str(caught.value)) < 600
    assert not os.path.exists(store.root)


@given(st.text(max_size=300))
def test_the_rule_for_names_is_characters_and_length(id: str) -> None:
    names = id.split("/")
    valid = len(id) <= 255 and all(
        name and set(name) <= set(ALPHABET) and name not in (".", "..") for name in names
    )
    if valid:
        store_.check_id(id)
    else:
        with pytest.raises(InvalidIDError):
            store_.check_id(id)


def test_a_path_is_recorded_inside_of_what_it_lies_in(store: Store) -> None:
    for id in ("job", "job/containers", "job/containers/x", "job-2", "zoo", "job/b"):
        store.reserve(id).unlock()
    assert store.ids() == ["job", "job/b", "job/containers", "job/containers/x", "job-2", "zoo"]
    assert store.ids("job") == ["job/b", "job/containers", "job/containers/x"]
    assert store.ids("zoo") == []
    entry = store.find("job/containers/x")
    assert entry.path == f"{store.root}/job/containers/containers/containers/x"
    with pytest.raises(AlreadyExistsError):
        store.reserve("job/b")


def test_nothing_is_recorded_inside_of_nothing(store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"job, which job/task is to lie inside of"):
        store.reserve("job/task")
    assert store.ids() == []


def test_those_who_share_a_lock_exclude_one_who_does_not(store: Store) -> None:
    store.reserve("job").unlock()
    with store.find("job") as one, store.find("job") as other, store.find("job") as third:
        one.lock(shared=True)
        other.lock(timeout=0, shared=True)
        with pytest.raises(BusyError):
            third.lock(timeout=0)
        one.unlock()
        other.unlock()
        third.lock(timeout=0)
        with pytest.raises(BusyError):
            one.lock(timeout=0, shared=True)


# ---- reserving -------------------------------------------------------------------------------


def test_a_name_is_taken_once(store: Store) -> None:
    with store.reserve("web"), pytest.raises(AlreadyExistsError) as caught:
        store.reserve("web")
    # The words that clients know from runc.
    assert "container with given ID already exists: web" in str(caught.value)


def test_of_many_threads_that_want_one_name_exactly_one_gets_it(store: Store) -> None:
    barrier = threading.Barrier(8)
    won: list[Entry] = []
    lost: list[BaseException] = []

    def race() -> None:
        barrier.wait()
        try:
            won.append(store.reserve("web"))
        except BaseException as error:
            lost.append(error)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error) for error in lost] == [AlreadyExistsError] * 7
    assert len(won) == 1
    won[0].unlock()


RACER = """
import sys
from libpycontainer.errors import AlreadyExistsError
from libpycontainer.store import Store
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    store.reserve("web")
    print("won", flush=True)
except AlreadyExistsError:
    print("lost", flush=True)
sys.stdin.readline()
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def say(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_many_processes_that_want_one_name_exactly_one_gets_it(store: Store) -> None:
    racers = [python(RACER, store.root) for _ in range(4)]
    assert [hear(racer) for racer in racers] == ["ready"] * 4
    for racer in racers:
        say(racer, "go\n")
    assert sorted(hear(racer) for racer in racers) == ["lost", "lost", "lost", "won"]
    for racer in racers:
        racer.communicate("end\n")
        assert racer.returncode == 0


def test_what_the_store_makes_is_for_its_owner_alone(store: Store) -> None:
    with store.reserve("web") as entry:
        entry.save({})
        for path in (store.root, entry.path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(entry.file("state.json")).st_mode) == 0o600


@pytest.mark.parametrize("in_the_way", ["root", "parent"])
def test_a_root_that_cannot_be_made_is_an_error_with_its_path(
    in_the_way: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" if in_the_way == "root" else tmp_path / "file" / "root"
    with pytest.raises(ContainerError) as caught:
        Store(str(root)).reserve("web")
    assert (caught.value.path, str(root) in str(caught.value)) == (str(root), True)


# ---- finding ---------------------------------------------------------------------------------


def test_a_name_that_is_not_taken_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="container does not exist: web"):
        store.find("web")
    assert store.ids() == []


def test_names_are_listed_in_order_without_what_is_no_container(store: Store) -> None:
    for id in ("b", "a", "c"):
        store.reserve(id).unlock()
    (Path(store.root) / "file").write_text("")
    (Path(store.root) / "not a name").mkdir()
    (Path(store.root) / "link").symlink_to(store.root)
    assert store.ids() == ["a", "b", "c"]


def test_a_root_that_is_no_directory_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(ContainerError):
        Store(str(tmp_path / "root")).ids()


# ---- records ---------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_saved(entry: Entry) -> None:
    assert entry.load() is None
    record = {"id": "web", "pid": 1, "annotations": {"\u00e9": "\u2603"}, "path": "\udcff"}
    entry.save(record)
    assert entry.load() == record
    entry.save({"a": 1}, "config.json")
    assert (entry.load("config.json"), entry.load()) == ({"a": 1}, record)
    assert sorted(os.listdir(entry.path)) == ["config.json", "state.json"]


WRITER = """
import sys
from libpycontainer.store import Store
entry = Store(sys.argv[1]).find("web")
for number in range(200):
    entry.save({"number": number, "padding": "x" * (number * 97 % 70_000)})
"""


def test_a_reader_sees_only_whole_records_while_a_writer_rewrites_them(
    store: Store, entry: Entry
) -> None:
    entry.save({"number": 0, "padding": ""})
    writer = python(WRITER, store.root)
    seen = []
    while writer.poll() is None:
        record = entry.load()
        assert record is not None
        number = record["number"]
        assert record["padding"] == "x" * (number * 97 % 70_000)
        seen.append(number)
    writer.communicate()
    assert writer.returncode == 0
    assert seen == sorted(seen)
    last = entry.load()
    assert last is not None
    assert last["number"] == 199


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"\xff\xfe\xfd",
        b"\0" * 100,
        b'{"a": 1} x',
        b"[" * 100_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_record_that_is_garbage_is_an_error_with_its_path(text: bytes, entry: Entry) -> None:
    Path(entry.file("state.json")).write_bytes(text)
    with pytest.raises(ContainerError, match=r"state\.json") as caught:
        entry.load()
    assert caught.value.path == entry.file("state.json")


def test_a_record_that_cannot_be_read_is_an_error(entry: Entry) -> None:
    os.mkdir(entry.file("state.json"))
    with pytest.raises(ContainerError, match=r"state\.json"):
        entry.load()


def test_a_record_that_cannot_be_written_is_an_error_and_leaves_the_old_one(entry: Entry) -> None:
    entry.save({"old": True})
    # A planted link must not have us write elsewhere.
    os.symlink("/dev/null", entry.file("state.json.new"))
    with pytest.raises(ContainerError, match=r"cannot write .*state\.json"):
        entry.save({"new": True})
    assert entry.load() == {"old": True}


def test_a_forgotten_container_is_gone_with_everything_in_its_directory(
    store: Store, entry: Entry
) -> None:
    entry.save({})
    entry.save({}, "config.json")
    Path(entry.file("start.sock")).write_text("")
    entry.remove()
    assert store.ids() == []
    entry.remove()
    assert not os.path.exists(entry.path)


def test_a_name_is_free_again_when_it_is_forgotten(store: Store, entry: Entry) -> None:
    entry.remove()
    with store.reserve("web") as again:
        assert again.load() is None


# ---- locks -----------------------------------------------------------------------------------


def test_a_lock_that_is_held_is_not_waited_for_longer_than_said(entry: Entry) -> None:
    other = Entry("web", entry.path)
    with other:
        other.lock()
        with pytest.raises(ContainerError, match="busy"):
            entry.lock(timeout=0.01)
    entry.lock(timeout=0)


def test_a_lock_is_had_as_soon_as_its_holder_lets_go(entry: Entry) -> None:
    other = Entry("web", entry.path)
    other.lock()
    holds = threading.Event()

    def wait_for_it() -> None:
        entry.lock(timeout=30)
        holds.set()

    waiter = threading.Thread(target=wait_for_it)
    waiter.start()
    assert not holds.is_set()
    other.unlock()
    waiter.join()
    assert holds.is_set()


HOLDER = """
import sys
from libpycontainer.store import Store
entry = Store(sys.argv[1]).find("web")
entry.lock()
print("locked", flush=True)
sys.stdin.readline()
"""


def test_a_lock_ends_with_its_holder_however_that_dies(store: Store, entry: Entry) -> None:
    holder = python(HOLDER, store.root)
    assert hear(holder) == "locked"
    with pytest.raises(ContainerError, match="busy"):
        entry.lock(timeout=0)
    pidfd = os.pidfd_open(holder.pid)
    holder.send_signal(signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.close(pidfd)
    entry.lock(timeout=0)
    holder.communicate()


def test_the_lock_of_a_container_that_is_deleted_meanwhile_is_not_had(
    store: Store, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = store.find("web")
    entry.lock()
    failed: list[BaseException] = []
    waits = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda _seconds: waits.set())

    def wait_for_it() -> None:
        try:
            late.lock(timeout=30)
        except NotFoundError as error:
            failed.append(error)

    waiter = threading.Thread(target=wait_for_it)
    waiter.start()
    waits.wait()
    entry.remove()
    # The name is even taken again: the directory that was waited for is another one.
    again = store.reserve("web")
    entry.unlock()
    waiter.join()
    assert [type(error) for error in failed] == [NotFoundError]
    again.unlock()


def test_waiting_for_a_lock_in_vain_leaves_no_descriptor(entry: Entry) -> None:
    other = Entry("web", entry.path)
    other.lock()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ContainerError):
        entry.lock(timeout=0)
    assert len(os.listdir("/proc/self/fd")) == before
    other.unlock()


# ---- the default root ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("euid", "mapped", "runtime", "wanted"),
    [
        (0, False, None, "/run/libpycontainer"),
        (0, False, "/run/user/0", "/run/libpycontainer"),
        (0, True, "/run/user/1000", "/run/user/1000/libpycontainer"),
        (0, True, None, "/run/libpycontainer"),
        (0, True, "", "/run/libpycontainer"),
        (1000, False, "/xdg", "/xdg/libpycontainer"),
        (1000, False, None, "/run/user/1000/libpycontainer"),
        (1000, False, "", "/run/user/1000/libpycontainer"),
    ],
)
def test_the_default_root_depends_on_the_user_and_his_runtime_directory(
    euid: int,
    mapped: bool,
    runtime: str | None,
    wanted: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setattr(os, "getuid", lambda: euid)
    monkeypatch.setattr(store_, "_mapped_root", lambda: mapped)
    if runtime is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert store_.default_root() == wanted


def test_a_relative_root_is_made_absolute_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Store("state")
    monkeypatch.chdir("/")
    with made.reserve("web") as entry:
        entry.save({"a": 1})
    assert json.loads((tmp_path / "state/web/state.json").read_text()) == {"a": 1}
