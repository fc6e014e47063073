"""libpycontainer: containers as Python objects.

    import libpycontainer as lc

    lc.run(["python3", "-c", "print(1)"], memory="256M", pids=64, timeout=10)

    with lc.Factory() as factory:
        with factory.create("web-1", lc.Spec.load("bundle/config.json"), bundle="bundle") as web:
            web.start()
            web.wait(timeout=10)

The rooms, in the order in which they may import each other (upwards only):

    errors.py         every exception
    quantities.py     sizes, durations and numbers as people write them
    kernel.py         the kernel's numbers
    jsontext.py       JSON without the json module
    descriptors.py    a file descriptor as an object
    syscalls.py       typed wrappers over the C shim (csrc/)
    spec/             the OCI documents: typed models, and the light reader
    cgroups/          managers for v1, hybrid, v2 and none
    host.py           the host's facts
    plan/             PURE: configuration + facts -> steps
    validate/         what is wrong with a configuration on this host
    reaping.py hooks.py    the end of a child; running one hook
    init/             what becomes a container's init; executes steps, decides nothing
    store.py status.py waiting.py undo.py log.py    records, observation, ends, clean-up
    seccomp/          a profile becomes a program for the kernel; its cache; the agent
    interpreter.py spawner.py nursery.py    the sealed interpreter that inits are cloned from
    namespaces.py conversation.py launch.py streams.py    from a plan to an init
    companions.py process.py communicate.py    a process to hold
    calling/          functions of the caller's in a container, and what comes back
    abilities.py notify.py    the features document; readiness passed on to systemd
    netlink.py network.py resctrl.py    devices lent to a container; its cache and bandwidth
    limits.py lifecycle.py grouping.py    limits; records and hooks; what lies inside of what
    creation.py joining.py deletion.py    create, exec and delete, in order
    updating.py events.py    a change of limits, and what limits do to a container
    container.py factory.py    the other two nouns
    sandbox.py        lc.run
    calls.py pool.py    lc.call, lc.Pool
    aio/              the nouns and lc.run once more, for asyncio
    tty.py            relaying a terminal
    cli/              pyrunc, one verb per file
    testing/          the pytest plugin

Importing this package imports nothing else: each public name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer import aio as aio
    from libpycontainer._version import __version__
    from libpycontainer.abilities import features
    from libpycontainer.calls import call
    from libpycontainer.container import Container
    from libpycontainer.errors import (
        AlreadyExistsError,
        ArgumentError,
        BusyError,
        CallDiedError,
        CalledProcessError,
        CallError,
        CgroupError,
        ContainerError,
        ExecutableError,
        HookError,
        InterpreterError,
        InvalidIDError,
        NotFoundError,
        Problem,
        ProtocolError,
        RemoteTraceback,
        ResultError,
        SpecError,
        StatusError,
        StepError,
        TimeoutExpired,
        UnsupportedError,
    )
    from libpycontainer.events import (
        Event,
        MemoryPressureEvent,
        OOMEvent,
        Stall,
        StallEvent,
        StatsEvent,
    )
    from libpycontainer.factory import Factory
    from libpycontainer.pool import Pool
    from libpycontainer.process import Process
    from libpycontainer.sandbox import CompletedProcess, run
    from libpycontainer.spec.models import Features, LinuxSeccomp, Mount, Spec, State
    from libpycontainer.streams import DEVNULL, PIPE, STDOUT

_HOMES = {
    "_version": ("__version__",),
    "abilities": ("features",),
    "calls": ("call",),
    "container": ("Container",),
    "errors": (
        "AlreadyExistsError",
        "ArgumentError",
        "BusyError",
        "CallDiedError",
        "CalledProcessError",
        "CallError",
        "CgroupError",
        "ContainerError",
        "ExecutableError",
        "HookError",
        "InterpreterError",
        "InvalidIDError",
        "NotFoundError",
        "Problem",
        "ProtocolError",
        "RemoteTraceback",
        "ResultError",
        "SpecError",
        "StatusError",
        "StepError",
        "TimeoutExpired",
        "UnsupportedError",
    ),
    "events": (
        "Event",
        "MemoryPressureEvent",
        "OOMEvent",
        "Stall",
        "StallEvent",
        "StatsEvent",
    ),
    "factory": ("Factory",),
    "pool": ("Pool",),
    "process": ("Process",),
    "sandbox": ("CompletedProcess", "run"),
    "spec.models": ("Features", "LinuxSeccomp", "Mount", "Spec", "State"),
    "streams": ("DEVNULL", "PIPE", "STDOUT"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - the three nouns first
    "Factory",
    "Container",
    "Process",
    "run",
    "call",
    "Pool",
    "features",
    "Spec",
    "Mount",
    "LinuxSeccomp",
    "State",
    "Features",
    "Event",
    "StatsEvent",
    "OOMEvent",
    "MemoryPressureEvent",
    "Stall",
    "StallEvent",
    "CompletedProcess",
    "PIPE",
    "DEVNULL",
    "STDOUT",
    "ContainerError",
    "SpecError",
    "ArgumentError",
    "Problem",
    "InvalidIDError",
    "NotFoundError",
    "AlreadyExistsError",
    "BusyError",
    "StatusError",
    "StepError",
    "ExecutableError",
    "HookError",
    "CgroupError",
    "UnsupportedError",
    "InterpreterError",
    "ProtocolError",
    "TimeoutExpired",
    "CalledProcessError",
    "CallError",
    "CallDiedError",
    "ResultError",
    "RemoteTraceback",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None and name != "aio":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if home is None:
        return import_module("libpycontainer.aio")
    value = getattr(import_module(f"libpycontainer.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, "aio"})
