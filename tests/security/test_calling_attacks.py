"""A function that was called in a container against whoever called it."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer.calling import codec
from tests.privileged import callables
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    children,
    create,
    exec_inside,
    sh,
    writable_tmp,
)
from tests.security import attackers
from tests.security.attackers import frame

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


@pytest.fixture
def running(factory: lc.Factory, bundle: BundleMaker) -> Iterator[lc.Container]:
    one = bundle(FOREVER)
    writable_tmp(one.config)
    with create(factory, one) as container:
        container.start()
        yield container


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever became of a call, the caller has the descriptors and children that he had."""
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= before
    assert children() == set()


def number(value: int) -> bytes:
    out = bytearray()
    codec._put_number(out, value)
    return bytes(out)


def colliding(count: int) -> bytes:
    out = bytearray(b"e" + number(count))
    for index in range(count):
        codec._put_int(out, index * sys.hash_info.modulus)
    return bytes(out)


RUBBISH = {
    "rubbish": bytes(range(256)) * 100,
    "a huge length": frame(b"v", b"", 2**64 - 1),
    "a length of lengths": frame(b"v", b"l" + number(2**60)),
    "an empty answer": frame(b"v", b""),
    "half an answer": frame(b"v", b"N" * 5, 10),
    "deep nesting": frame(b"v", b"l\x01" * 500_000 + b"N"),
    "a memory bomb": frame(b"v", b"l" + number(1_000_000) + b"e\0" * 1_000_000),
    "colliding keys": frame(b"v", colliding(100_000)),
    "a pickle": frame(b"p", b"cos\nabort\n(tR."),
    "a pickle as a value": frame(b"v", b"cos\nabort\n(tR."),
    "a description that is none": frame(b"e", b"l\0"),
    "an endless description": frame(b"e", b"", 2**40),
    "HTTP": b"HTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.attack("a forged answer", "breaks, fills or stops the caller by what it answers")
@pytest.mark.parametrize("data", RUBBISH.values(), ids=RUBBISH)
def test_answers_that_are_none(data: bytes) -> None:
    began, most = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((lc.ResultError, lc.CallDiedError)):
        lc.call(attackers.say, data, max_result="32M")
    assert time.thread_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 200 << 10


@pytest.mark.attack("a forged answer", "breaks, fills or stops the caller by what it answers")
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (attackers.say_for_ever, (b"", b"v" * 65536)),
        (attackers.say_for_ever, (frame(b"v", b"", 1 << 20), b"q" * 65536)),
        (attackers.speak_for_ever, (1,)),
        (attackers.speak_for_ever, (2,)),
    ],
    ids=["the line", "inside a frame", "stdout", "stderr"],
)
def test_endless_answers_and_output(function: Any, args: tuple[Any, ...]) -> None:
    began = time.monotonic()
    with pytest.raises(lc.ResultError):
        lc.call(function, *args, capture_output=True, max_output="1M")
    assert time.monotonic() - began < TIMEOUT


@pytest.mark.attack("a slow answer", "holds the caller beyond his timeout")
def test_slow_answers_end_with_the_time(running: lc.Container) -> None:
    for call in (lc.call, running.call):
        began = time.monotonic()
        with pytest.raises(lc.TimeoutExpired):
            call(attackers.drip, timeout=0.5)
        assert time.monotonic() - began < TIMEOUT
    with pytest.raises(lc.TimeoutExpired):
        running.call(attackers.stop, timeout=0.5)


@pytest.mark.attack("a held line", "holds the caller by a process that keeps the line")
def test_a_child_that_holds_the_line(running: lc.Container) -> None:
    began = time.monotonic()
    with pytest.raises(lc.CallDiedError, match="code 9"):
        running.call(attackers.hold_the_line, 1000.0, capture_output=True)
    with pytest.raises(lc.CallDiedError, match="code 9"):
        lc.call(attackers.hold_the_line, 1000.0, capture_output=True)
    assert time.monotonic() - began < TIMEOUT
    # A child is as good as its parent: nobody inside is to be told apart.
    assert running.call(attackers.answer_by_a_child, timeout=TIMEOUT) == "child"


@pytest.mark.attack("signals from a call", "ends the caller, or what he runs beside it")
def test_signals_reach_nobody_outside(running: lc.Container) -> None:
    init = running.pid
    assert lc.call(attackers.kill_everybody) is not None
    try:
        running.call(attackers.kill_everybody, user="1000:1000")
    except lc.CallDiedError:
        pass
    assert running.status == "running"
    assert running.pid == init


@pytest.mark.attack("a closed line", "holds the caller by closing every descriptor")
def test_closing_everything_is_an_end() -> None:
    with pytest.raises(lc.CallDiedError):
        lc.call(attackers.close_everything)


@pytest.mark.attack("descriptors as an answer", "uses up the caller's descriptors")
def test_descriptors_that_are_sent_do_not_arrive() -> None:
    before = set(os.listdir("/proc/self/fd"))
    assert lc.call(attackers.send_descriptors, 50) is None
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.attack("a tampered interpreter", "has the caller unpickle what it chose")
def test_a_tampered_interpreter_only_sends_bytes(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(lc.ResultError):
        lc.call(attackers.tamper, str(target))
    assert not target.exists()


@pytest.mark.attack("a forged exception", "ends the caller's program or loop by an exception")
@pytest.mark.parametrize(
    "name", ["KeyboardInterrupt", "SystemExit", "StopIteration", "GeneratorExit", "os.abort"]
)
def test_forged_exceptions_end_nothing(name: str) -> None:
    with pytest.raises(lc.CallError) as caught:
        lc.call(attackers.tamper_with_the_description, name, (0,))
    assert type(caught.value) is lc.CallError
    assert caught.value.type_name == name
    assert "\x1b" not in str(caught.value.__cause__)
    seen = list(map(one_call, range(2)))
    assert len(seen) == 2


def one_call(_: int) -> str:
    try:
        lc.call(attackers.tamper_with_the_description, "StopIteration", ())
    except lc.CallError as error:
        return str(error)
    return ""


@pytest.mark.attack("an answer ahead", "answers for the next task of a pool")
def test_an_answer_that_nobody_asked_for_ends_the_worker() -> None:
    with lc.Pool(1, timeout=TIMEOUT) as pool:
        for ahead in (attackers.answer_for_the_next, attackers.rubbish_for_the_next):
            assert pool.submit(ahead).result() == "mine"
            assert pool.submit(callables.add, 1).result() == 2


@pytest.mark.attack("CVE-2019-5736", "overwrites the runtime through /proc/self/exe")
def test_a_function_cannot_write_what_runs_it(running: lc.Container) -> None:
    for call in (lc.call, running.call):
        tried = call(attackers.write_the_interpreter)
        assert len(tried) > 4
        assert "opened" not in tried.values(), tried


@pytest.mark.attack("secrets of the caller", "reads what the caller has in memory or environment")
@pytest.mark.privileged_caller("reads the memory of a process that only root may trace")
def test_the_callers_memory_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked for from outside, in all the memory of the process while the function runs."""
    secret = os.urandom(16).hex()
    monkeypatch.setenv("LPC_SECRET", secret)
    monkeypatch.setattr(sys, "argv", [*sys.argv, f"--token={secret}"])
    factory = lc.Factory()
    before = {each.id for each in factory.list()}
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(lc.call(sleeping_look, [secret])))
    thread.start()
    try:
        deadline = time.monotonic() + TIMEOUT
        while not (
            pids := [
                each.pid
                for each in factory.list()
                if each.id.startswith("call-") and each.id not in before and each.pid
            ]
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        # Its one argument is the secret, so that this finds what there is to be found: but as
        # nothing else, neither in an environment nor in a list of words.
        whole = memory_of(pids[0])
        assert secret.encode() in whole
        assert f"--token={secret}".encode() not in whole
        assert f"LPC_SECRET={secret}".encode() not in whole
    finally:
        thread.join()
    assert found == [[]]


def sleeping_look(secrets: list[str]) -> list[str]:
    time.sleep(1.5)
    return attackers.look_for(secrets)


def memory_of(pid: int) -> bytes:
    whole = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            first, last = (int(each, 16) for each in span.split("-"))
            if rights.startswith("rw"):
                memory.seek(first)
                try:
                    whole.append(memory.read(last - first))
                except OSError:
                    continue
    return b"".join(whole)


@pytest.mark.attack("a way out of a call", "reaches the host's files by what the process has left")
def test_no_descriptor_or_directory_leads_out(running: lc.Container) -> None:
    inside = set(running.call(os.listdir, "/"))
    found = running.call(attackers.reach_out)
    assert not [name for name in found if name.startswith("fd")]
    for path, names in found.items():
        assert set(names.split(",")) == inside, path


@pytest.mark.attack("privileges of a call", "gains what only the interpreter had before")
def test_a_call_gains_nothing() -> None:
    tried = lc.call(attackers.gain)
    assert "done" not in tried.values(), tried


@pytest.mark.attack("a look at a call", "looks into the process of a function beside it")
def test_others_inside_cannot_look_into_it(running: lc.Container) -> None:
    """Forged answers would need its memory; by itself it cannot be traced."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(running.call(callables.sleep, 2.0)))
    before = set(running.processes())
    thread.start()
    try:
        deadline = time.monotonic() + TIMEOUT
        while not (new := set(running.processes()) - before):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        status = Path(f"/proc/{new.pop()}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("NSpid")]
        pid = line.split()[-1]
        script = f"cat /proc/{pid}/environ /proc/{pid}/mem; ls -l /proc/{pid}/fd /proc/{pid}/root"
        look = exec_inside(running, sh(f"({script}) 2>&1; true"))
        assert look.text.count("Permission denied") >= 3, look.text
        assert "socket:" not in look.text
    finally:
        thread.join()
    assert done == [2.0]


@pytest.mark.attack("planted modules", "has the interpreter load code from the root filesystem")
def test_a_call_loads_nothing_from_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER, private_rootfs=True)
    planted = "raise SystemExit('planted')\n"
    libraries = (
        Path(os.__file__).parent,
        Path(callables.__file__).parent,
        Path(lc.__file__).parent,
        Path("/"),
    )
    for directory in libraries:
        place = Path(f"{one.rootfs}{directory}")
        place.mkdir(parents=True, exist_ok=True)
        for name in ("this", "colorsys", "traceback", "sitecustomize", "encodings", "codecs"):
            (place / f"{name}.py").write_text(planted)
    with create(factory, one) as container:
        container.start()
        with pytest.raises(ModuleNotFoundError, match="no 'this' in a call"):
            container.call(callables.import_late, "this", cwd="/")
        with pytest.raises(LookupError, match="tell of it"):
            container.call(attackers.fail_with_a_path, cwd="/")


@pytest.mark.attack("planted traps", "hangs or misleads init by what lies at the paths it opens")
@pytest.mark.timeout(30)
def test_a_traceback_opens_nothing_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    """The path of the function's file is a FIFO in the container: to open it is to wait."""
    one = bundle(FOREVER, private_rootfs=True)
    for file in (attackers.__file__, callables.__file__, codec.__file__):
        place = Path(f"{one.rootfs}{file}")
        place.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(place)
    with create(factory, one) as container:
        container.start()
        with pytest.raises(LookupError) as caught:
            container.call(attackers.fail_with_a_path, timeout=TIMEOUT)
        # And it has the line all the same, from the host's file.
        assert 'raise LookupError("tell of it")' in str(caught.value.__cause__)
        with pytest.raises(TypeError):
            container.call(callables.echo, object, timeout=TIMEOUT)


@pytest.mark.attack("a fork bomb", "has more processes than its limit, or leaves some")
def test_a_fork_bomb_ends_with_its_call() -> None:
    with pytest.raises((lc.TimeoutExpired, lc.CallError, OSError)):
        lc.call(fork_for_ever, pids=30, timeout=1)
    assert children() == set()


def fork_for_ever() -> None:
    while True:
        try:
            os.fork()
        except OSError:
            signal.pause()
