"""Names of signals, and the queue that keeps them for a container."""

from __future__ import annotations

import os
import select
import signal

import pytest

from libpycontainer.cli.command import CommandError
from libpycontainer.cli.signals import SignalQueue, forwarded, parse_signal


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("TERM", 15),
        ("term", 15),
        ("sigKill", 9),
        ("15", 15),
        ("0", 0),
        ("999", 999),
        ("-5", -5),
        ("SIGRTMIN", int(signal.SIGRTMIN)),
        ("RTMIN+3", int(signal.SIGRTMIN) + 3),
        ("IOT", int(signal.SIGABRT)),
    ],
)
def test_a_signal_is_a_number_or_a_name(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["FOO", "SIG", "SIG_IGN", "_DFL", "TERM+x", "9x", "٣"])
def test_anything_else_is_no_signal(text: str) -> None:
    with pytest.raises(CommandError, match="unknown signal"):
        parse_signal(text)


def test_what_concerns_the_command_alone_is_not_forwarded() -> None:
    kept = {signal.SIGCHLD, signal.SIGURG, signal.SIGPIPE, signal.SIGKILL, signal.SIGSEGV}

    assert not kept & set(forwarded())
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGRTMAX} <= set(forwarded())


def test_signals_wait_in_the_queue_in_their_order() -> None:
    with SignalQueue() as queue:
        assert queue.take() == []
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([queue], [], [], 5)[0] == [queue]
        assert queue.take() == [signal.SIGTERM, signal.SIGUSR1]


def test_the_callers_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in forwarded()}
    with SignalQueue():
        assert signal.getsignal(signal.SIGINT) is not before[signal.SIGINT]
    assert {number: signal.getsignal(number) for number in forwarded()} == before
    assert signal.set_wakeup_fd(-1) == -1
