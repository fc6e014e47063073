"""exec: one more process in a container that is there."""

from __future__ import annotations

from libpycontainer import companions, conversation, host, launch, lifecycle, log, waiting
from libpycontainer import syscalls as sys_
from libpycontainer.creation import give_pipes
from libpycontainer.errors import SpecError, StatusError, StepError
from libpycontainer.plan import Request, build_exec
from libpycontainer.plan.build import join_flags
from libpycontainer.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.container import Container
    from libpycontainer.errors import Problem
    from libpycontainer.factory import Factory
    from libpycontainer.host import Facts
    from libpycontainer.process import Process
    from libpycontainer.spec.models import Process as SpecProcess
    from libpycontainer.spec.models import Spec

EPERM = 1


def join(factory: Factory, container: Container, process: Process) -> None:
    """Start ``process`` in ``container`` and attach it. See :meth:`Container.exec`."""
    facts = host.facts()
    with Undo() as undo:
        streams = process.open_streams()
        undo.push(streams.close)
        spawner = process.spawner(factory)
        undo.push(spawner.close)
        factory.take(spawner)
        spawner.start()
        spec = container.spec
        assert spec.process is not None
        target = process.describe(spec.process)
        for problem in check_process(target, facts):
            log.warn(str(problem))
        give_pipes(streams, spec, target, facts)
        init_pid = container._record["pid"]
        entrances = launch.Entrances()
        undo.push(entrances.close)
        entrances.open_beside(container.cgroup, init_pid, process.cgroup)
        entered = bool(entrances.fds) or container.cgroup.mode == "none"
        placed = not entered or "intelRdt" in container._record
        request = Request(
            container.id,
            bundle=container.bundle,
            rootfs=container._record["rootfs"],
            nfds=streams.nfds,
            terminal=process.terminal,
            console_size=process.console_size,
            placed=placed,
            call=process.calls,
            **_filter(factory, spec),
        )
        plan = build_exec(spec, target, facts, request, join_flags=join_flags(spec))
        for warning in plan.warnings:
            log.warn(warning)
        hand_over = lifecycle.hand_over(container._record, "running")
        order: tuple[str, ...] = conversation.EXEC
        if hand_over is not None:
            order = conversation.with_listener(order)
        going = launch.Launch(spawner, order, log.emit)
        undo.push(going.abort)
        with _init_pidfd(container) as init:
            try:
                going.clone(plan, {**streams.fds, **entrances.fds, "init": init})
            except StepError as error:
                _explain(container, error)
                raise
        entrances.close()
        streams.close_theirs()
        started = waiting.start_time(going.pid)
        if placed:
            if not entered:
                container.cgroup.add(going.pid)
            if "intelRdt" in container._record:
                from libpycontainer import resctrl

                resctrl.join(container._record["intelRdt"], going.pid)
            going.talk.proceed()
        going.talk.expect("executing")
        if streams.console is not None:
            process.attach_console(streams.receive_console())
        identity = waiting.Identity(going.pid, started or 0)
        launch.await_execution(going.talk, identity, hand_over, executes=not process.calls)
        process.attach(identity, going.copy_pidfd(), streams)
        companions.add(waiting.Identity(init_pid, container._record["startTime"]), process)
        undo.commit()
    going.close()
    streams.close()
    spawner.close()


def _explain(container: Container, error: StepError) -> None:
    """Init is untraceable until its program runs, and only who may trace it may enter."""
    if error.op == "join" and error.errno == EPERM and container.status == "created":
        raise StatusError(
            f"cannot exec in container {container.id}: it is created and not started, and until "
            "its program runs only root may enter it: start it first",
            verb="exec",
            status="created",
        ) from error


def _filter(factory: Factory, spec: Spec) -> dict[str, Any]:
    """The container's own filter, for the request."""
    section = spec.linux.seccomp if spec.linux else None
    if section is None:
        return {}
    from libpycontainer.seccomp import cache
    from libpycontainer.spec import light

    return cache.for_request(light.dump(section), factory.root)


def check_process(target: SpecProcess, facts: Facts) -> list[Problem]:
    """Raise :class:`SpecError` with everything that is wrong; return what is only doubtful."""
    from libpycontainer import validate

    problems = validate.check_process(target, facts)
    if errors := validate.errors_of(problems):
        raise SpecError(errors)
    return problems


def _init_pidfd(container: Container) -> sys_.Fd:
    """Through it the process enters: the namespaces of exactly the init that was looked at."""
    process = container.process
    pidfd = process and waiting.open_pidfd(process.pid, container._record["startTime"])
    if not pidfd:
        raise StatusError(
            f"cannot exec in container {container.id}: it is stopped", verb="exec", status="stopped"
        )
    return pidfd
