"""The caller's side of the talk, against a peer that says whatever the test has it say."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer import conversation
from libpycontainer import syscalls as sys_
from libpycontainer.conversation import CREATE, END, EXEC, START, Conversation
from libpycontainer.errors import (
    ContainerError,
    ExecutableError,
    HookError,
    ProtocolError,
    StepError,
)

Order = tuple[str, ...]


class Talk:
    """A conversation whose other end is scripted: packets first, then maybe end-of-file."""

    def __init__(self, order: Order = CREATE, diagnosis: str = "") -> None:
        ours, self.peer = sys_.socketpair()
        self.ours = ours
        self.logged: list[tuple[str, str]] = []
        self.talk = Conversation(
            ours,
            order,
            log=lambda level, message: self.logged.append((level, message)),
            diagnosis=lambda: diagnosis,
        )

    def say(self, *packets: str | bytes, fds: Sequence[int] = ()) -> Talk:
        for packet in packets:
            data = packet if isinstance(packet, bytes) else packet.encode()
            sys_.send(self.peer.fileno(), data, fds)
        return self

    def leave(self) -> Talk:
        self.peer.close()
        return self

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.peer.close()
        self.ours.close()


def error_packet(
    message: str = "no",
    *,
    step: object = 0,
    total: object = 0,
    op: str = "mount",
    path: str = "",
    errno: object = 0,
) -> str:
    return "\0".join(["error", str(step), str(total), op, path, str(errno), message])


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def test_a_create_in_the_right_order() -> None:
    with Talk() as t:
        peer = t.peer.fileno()
        answers: list[bytes] = []

        def init() -> None:
            for word in (b"started\x0042", b"mounted", b"ready"):
                sys_.send(peer, word)
                answers.append(sys_.receive(peer)[0])

        thread = threading.Thread(target=init)
        thread.start()
        assert t.talk.expect("started")[0] == ["42"]
        t.talk.proceed()
        for word in ("mounted", "ready"):
            assert t.talk.expect(word) == ([], [])
            t.talk.proceed()
        thread.join()
        assert answers == [b"continue"] * 3


@pytest.mark.parametrize("order", [EXEC, START])
def test_the_last_word_of_an_exec_is_end_of_file(order: Order) -> None:
    with Talk(order) as t:
        t.say(*order[:-1]).leave()
        for word in order[:-1]:
            t.talk.expect(word)
        assert t.talk.expect(END) == ([], [])


def test_descriptors_that_come_with_a_word_are_the_callers() -> None:
    with Talk() as t, open("/dev/null", "rb") as null:
        t.say("started\x001", fds=[null.fileno()])
        _fields, fds = t.talk.expect("started")
        assert len(fds) == 1
        assert os.fstat(fds[0].fileno()).st_rdev == os.fstat(null.fileno()).st_rdev
        fds[0].close()


@pytest.mark.parametrize("heard", ["started", "log\0info\0hello", error_packet(), "other"])
def test_descriptors_that_come_with_anything_else_are_closed(heard: str) -> None:
    with Talk(("ready",)) as t, open("/dev/null", "rb") as null:
        t.say(heard, "ready", fds=[null.fileno()])
        if heard.startswith("log"):
            for fd in t.talk.expect("ready")[1]:
                fd.close()
        else:
            with pytest.raises(ContainerError):
                t.talk.expect("ready")


@pytest.mark.parametrize(
    ("order", "position", "heard"),
    [
        (order, position, heard)
        for order in (CREATE, EXEC, START)
        for position in range(len(order))
        for heard in {*CREATE, *EXEC, "continue", "start"} - {END, order[position]}
    ],
)
def test_a_word_out_of_order_is_refused(order: Order, position: int, heard: str) -> None:
    with Talk(order) as t:
        t.say(*order[:position], heard)
        for word in order[:position]:
            t.talk.expect(word)
        with pytest.raises(ProtocolError, match=heard):
            t.talk.expect(order[position])


@pytest.mark.parametrize(
    ("order", "position"),
    [(order, n) for order in (CREATE, EXEC, START) for n, word in enumerate(order) if word != END],
)
def test_an_early_end_of_file_is_a_death_at_every_point(order: Order, position: int) -> None:
    with Talk(order, diagnosis="cannot load libc.so") as t:
        t.say(*order[:position]).leave()
        for word in order[:position]:
            t.talk.expect(word)
        with pytest.raises(ProtocolError, match=r"died .*: cannot load libc\.so"):
            t.talk.expect(order[position])


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("started", "before it was cloned"),
        ("mounted", "while it made its mounts"),
        ("ready", "before it was ready"),
    ],
)
def test_a_death_says_how_far_it_was(word: str, words: str) -> None:
    with Talk((word,)) as t, pytest.raises(ProtocolError, match=words):
        t.leave().talk.expect(word)


def test_a_peer_that_never_read_our_answer_is_a_death_too() -> None:
    # Its end of the socket goes with "continue" unread in it, and the kernel says ECONNRESET.
    with Talk() as t:
        t.talk.proceed()
        t.leave()
        with pytest.raises(ProtocolError, match="died"):
            t.talk.expect("started")


def test_an_answer_to_a_dead_peer_is_no_error_of_its_own() -> None:
    with Talk() as t:
        t.say("started").leave()
        t.talk.expect("started")
        t.talk.proceed()
        with pytest.raises(ProtocolError, match="died"):
            t.talk.expect("mounted")


def test_log_packets_may_come_at_any_time() -> None:
    with Talk() as t:
        t.say("log\0warning\0one", "started", "log\0info\0two", "log\0info\0", "mounted")
        t.talk.expect("started")
        t.talk.expect("mounted")
        assert t.logged == [("warning", "one"), ("info", "two"), ("info", "")]


@pytest.mark.parametrize("packet", ["log", "log\0info", "log\0info\0a\0b"])
def test_a_misshapen_log_packet_fails_the_call(packet: str) -> None:
    with Talk() as t, pytest.raises(ProtocolError):
        t.say(packet).talk.expect("started")


@pytest.mark.parametrize("position", range(3))
def test_an_error_may_come_instead_of_every_word(position: int) -> None:
    with Talk() as t:
        t.say(*CREATE[:position], error_packet("mount proc: no", step=4, total=31, errno=1))
        for word in CREATE[:position]:
            t.talk.expect(word)
        with pytest.raises(StepError) as caught:
            t.talk.expect(CREATE[position])
    error = caught.value
    assert (error.step, error.total, error.op, error.errno) == (4, 31, "mount", 1)
    assert str(error) == "step 4/31: mount proc: no"


def test_an_error_comes_also_after_the_word_before_execve() -> None:
    packet = error_packet('exec: "x": bad', step=9, total=9, op="execve", path="/x", errno=8)
    with Talk(START) as t:
        t.say("executing", packet)
        t.talk.expect("executing")
        with pytest.raises(ExecutableError) as caught:
            t.talk.expect(END)
    assert (caught.value.path, caught.value.errno) == ("/x", 8)


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("resolve", ExecutableError),
        ("execve", ExecutableError),
        ("mount", StepError),
        ("clone3", StepError),
        ("init", StepError),
        ("", StepError),
        ("hook:createContainer", HookError),
    ],
)
def test_what_failed_decides_the_class_of_the_error(op: str, kind: type[ContainerError]) -> None:
    with Talk() as t, pytest.raises(ContainerError) as caught:
        t.say(error_packet("what happened", op=op, path="/p")).talk.expect("started")
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.path) == ("what happened", "/p")
    if isinstance(caught.value, HookError):
        assert caught.value.op == "createContainer"


def test_an_executables_message_is_left_as_clients_look_for_it() -> None:
    message = 'exec: "nope": executable file not found in $PATH'
    with Talk() as t, pytest.raises(ExecutableError) as caught:
        t.say(error_packet(message, step=50, total=55, op="resolve", errno=2)).talk.expect(
            "started"
        )
    assert str(caught.value) == message
    assert caught.value.step == 50


@pytest.mark.parametrize(
    "number", ["", "x", "-1", "1.5", " 7", "9" * 30, "9" * 5000, "\N{SUPERSCRIPT TWO}", "1_0"]
)
def test_a_malformed_number_counts_as_none(number: str) -> None:
    packet = error_packet("no", step=number, total=number, errno=number)
    with Talk() as t, pytest.raises(StepError) as caught:
        t.say(packet).talk.expect("started")
    error = caught.value
    assert (error.step, error.total, error.errno, str(error)) == (0, 0, 0, "no")


@pytest.mark.parametrize("count", range(7))
def test_an_error_packet_that_is_cut_is_still_an_error(count: int) -> None:
    packet = "\0".join(error_packet("no", step=1, total=2).split("\0")[: count + 1])
    with Talk() as t, pytest.raises(StepError):
        t.say(packet).talk.expect("started")


def test_a_packet_that_is_longer_than_any_of_ours_fails_the_call() -> None:
    with Talk() as t, open("/dev/null", "rb") as null, pytest.raises(ProtocolError) as caught:
        t.say(error_packet("x" * 150_000), fds=[null.fileno()]).talk.expect("started")
    assert len(str(caught.value)) < 200


def test_a_long_word_is_not_repeated_in_full() -> None:
    with Talk() as t, pytest.raises(ProtocolError) as caught:
        t.say("x" * 60_000).talk.expect("started")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("packet", [b"\0", b"\0\0\0", b"\0started"])
@pytest.mark.parametrize("word", ["started", END])
def test_a_packet_that_begins_with_nul_is_not_end_of_file(packet: bytes, word: str) -> None:
    # Taken for the end it would mean "execve has happened".
    with Talk((word,)) as t:
        t.say(packet)
        with pytest.raises(ProtocolError, match="said"):
            t.talk.expect(word)


def test_bytes_that_are_no_text_survive_in_the_message() -> None:
    with Talk() as t, pytest.raises(StepError) as caught:
        t.say(b"error\x000\x000\0mount\0/\xff\x000\0bad name \xfe").talk.expect("started")
    assert os.fsencode(caught.value.path) == b"/\xff"
    assert os.fsencode(str(caught.value)) == b"bad name \xfe"


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=4), st.sampled_from([CREATE, START]))
def test_garbage_fails_the_call_and_nothing_else(packets: list[bytes], order: Order) -> None:
    with Talk(order) as t:
        t.say(*packets).leave()
        understood = []
        try:
            for word in order:
                t.talk.expect(word)
                understood.append(word)
        except ContainerError:
            pass
        # Every word has its packet, and only the last one may be the end-of-file.
        heard = [packet.partition(b"\0")[0].decode("utf-8", "replace") for packet in packets]
        assert set(understood) <= {*heard, END}


FIELDS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(FIELDS, max_size=9))
def test_any_error_packet_becomes_an_error(fields: list[str]) -> None:
    with Talk() as t, pytest.raises((StepError, HookError)):
        t.say("\0".join(["error", *fields])).talk.expect("started")


def test_the_orders_are_those_of_the_design() -> None:
    assert conversation.CREATE == ("started", "mounted", "ready")
    creating = conversation.creating
    assert creating(early=False, stops=True, start=False) == conversation.CREATE
    assert creating(early=True, stops=False, start=False) == ("ready",)
    assert creating(early=True, stops=True, start=True) == ("mounted", "ready", "executing", END)
    assert conversation.EXEC == ("started", "executing", END)
    assert conversation.START == ("executing", END)
