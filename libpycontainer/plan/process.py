"""The process itself: limits, capabilities, environment, and the last act."""

from __future__ import annotations

from binascii import crc32

from libpycontainer.errors import Problem, SpecError, UnsupportedError
from libpycontainer.kernel import CAPABILITIES, RLIMITS
from libpycontainer.plan.model import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from libpycontainer.host import Facts
    from libpycontainer.plan.build import Builder
    from libpycontainer.spec.models import Process as SpecProcess

DEFAULT_UMASK = 0o022
EFFECTIVE, PERMITTED, BOUNDING, INHERITABLE, AMBIENT = range(5)
CAPABILITY_SETS = ("effective", "permitted", "bounding", "inheritable", "ambient")


def capability_mask(names: Sequence[str] | None) -> tuple[int, list[str]]:
    """A set of capability names as a bit mask, and the names that mean nothing here."""
    mask, unknown = 0, []
    for name in names or ():
        try:
            mask |= 1 << CAPABILITIES.index(name)
        except ValueError:
            unknown.append(name)
    return mask, unknown


def capability_sets(
    process: SpecProcess, facts: Facts, *, maps_users: bool
) -> tuple[list[int], list[str]]:
    """The five sets as masks that this host can grant, and a warning for what it cannot.

    Sets that are absent are empty ones: a container without the field gets no capabilities.
    """
    sets, warnings = [], []
    available = (1 << facts.last_cap + 1) - 1
    if not maps_users:
        # A new user namespace comes with the full set, any other process with its bounding set.
        available &= facts.bounding
    for name in CAPABILITY_SETS:
        mask, unknown = capability_mask(getattr(process.capabilities, name, None))
        missing = mask & ~available
        unavailable = [cap for bit, cap in enumerate(CAPABILITIES) if missing >> bit & 1]
        for capability in [*unknown, *unavailable]:
            warnings.append(f"ignoring unknown or unavailable capability {capability} ({name})")
        sets.append(mask & available)
    # What the kernel would refuse as a whole (man 2 capset, man 7 capabilities).
    for index, limit in ((EFFECTIVE, PERMITTED), (INHERITABLE, BOUNDING)):
        excess = sets[index] & ~sets[limit]
        for bit, capability in enumerate(CAPABILITIES):
            if excess >> bit & 1:
                name, lacking = CAPABILITY_SETS[index], CAPABILITY_SETS[limit]
                warnings.append(
                    f"ignoring {name} capability {capability}: it is not in the {lacking} set"
                )
        sets[index] &= sets[limit]
    # The kernel raises only what is both permitted and inheritable.
    sets[AMBIENT] &= sets[PERMITTED] & sets[INHERITABLE]
    return sets, warnings


def rlimit_rows(process: SpecProcess) -> list[tuple[str, int, int, int]]:
    """``(name, number, soft, hard)`` of every limit."""
    return [
        (limit.type, RLIMITS.index(limit.type), limit.soft, limit.hard)
        for limit in process.rlimits or ()
    ]


def enter_steps(builder: Builder, process: SpecProcess) -> None:
    """What must happen while the process still sees the host and has the caller's privileges."""
    plan = builder.plan
    if process.oom_score_adj is not None:
        plan.enter.append(
            Step(
                "set_oom_score_adj",
                f"set oom_score_adj to {process.oom_score_adj}",
                value=process.oom_score_adj,
            )
        )
    limits = rlimit_rows(process)
    if limits:
        # Here a limit that may not be raised fails the creation, and a user namespace, which has
        # no right to raise any, is not entered yet. The limits themselves come last: a low one
        # would be in init's own way.
        plan.enter.append(Step("raise_rlimits", "raise hard limits", limits=limits))
    plan.enter.append(Step("forbid_tracing", "become untraceable"))


def prepare_steps(builder: Builder, process: SpecProcess) -> None:
    """Everything about the program that can be found out, and fail, before ``start``."""
    args = list(process.args or ())
    uid = process.user.uid if process.user else 0
    if builder.request.call:
        title = "prepare the environment"
        env = _environment(builder, process)
        builder.add(Step("prepare_environment", title, env=env, uid=uid))
        return
    builder.add(
        Step(
            "prepare_program",
            f"find the program {args[0] if args else ''!r}",
            args=args,
            env=_environment(builder, process),
            cwd=process.cwd,
            uid=uid,
        )
    )


def execute_steps(builder: Builder, process: SpecProcess, *, nfds: int) -> None:
    if builder.request.call:
        _call_step(builder, process, nfds)
        return
    if process.apparmor_profile:
        builder.add(
            Step(
                "set_exec_label",
                f"use the AppArmor profile {process.apparmor_profile}",
                attribute="apparmor/exec",
                label=f"exec {process.apparmor_profile}",
            )
        )
    if process.selinux_label:
        builder.add(
            Step(
                "set_exec_label",
                f"use the SELinux label {process.selinux_label}",
                attribute="exec",
                label=process.selinux_label,
            )
        )
    title, arguments = _execute_arguments(builder, process, nfds)
    builder.add(Step("execute", title, **arguments))


def _call_step(builder: Builder, process: SpecProcess, nfds: int) -> None:
    """The function of a call has what a program would have after execve, and never more."""
    for field, value in (
        ("apparmorProfile", process.apparmor_profile),
        ("selinuxLabel", process.selinux_label),
    ):
        if value:
            text = f"$.process.{field}: it takes effect at execve, which a call does not come to"
            raise UnsupportedError(text, op="plan")
    title, arguments = _execute_arguments(builder, process, nfds)
    # No file could grant it anything, so this costs nothing; and a filter needs it, as the
    # capability that loading one takes otherwise would go only with execve.
    arguments["no_new_privileges"] = True
    if arguments["uid"] != 0:
        # What execve leaves to a user who is not root (man 7 capabilities).
        arguments["permitted"] = arguments["effective"] = arguments["ambient"]
    builder.add(Step("call", title.replace("run it", "call the function", 1), **arguments))


def _execute_arguments(
    builder: Builder, process: SpecProcess, nfds: int
) -> tuple[str, dict[str, Any]]:
    sets, warnings = capability_sets(process, builder.facts, maps_users=builder.maps_users)
    builder.plan.warnings += warnings
    user = process.user
    groups: list[int] | None = list((user and user.additional_gids) or ())
    if not builder.setgroups:
        if groups:
            message = "additional groups cannot be set by a caller that maps no group but its own"
            raise SpecError([Problem("$.process.user.additionalGids", message)])
        groups = None
    uid, gid = (user.uid, user.gid) if user else (0, 0)
    umask = DEFAULT_UMASK if user is None or user.umask is None else user.umask
    limits = rlimit_rows(process)
    bounds = "".join(f", {name} {soft}:{hard}" for name, _number, soft, hard in limits)
    filtered = _filter_title(builder, process)
    title = f"run it as {uid}:{gid}{bounds}{filtered}"
    return title, {
        "cwd": process.cwd,
        "uid": uid,
        "gid": gid,
        "groups": groups,
        "umask": umask,
        "effective": sets[EFFECTIVE],
        "permitted": sets[PERMITTED],
        "bounding": sets[BOUNDING],
        "inheritable": sets[INHERITABLE],
        "ambient": sets[AMBIENT],
        "last_cap": builder.facts.last_cap,
        "no_new_privileges": bool(process.no_new_privileges),
        "filter": builder.request.filter,
        "filter_flags": builder.request.filter_flags,
        "nfds": nfds,
        "rlimits": [row[1:] for row in limits],
    }


def _filter_title(builder: Builder, process: SpecProcess) -> str:
    """The seccomp program in words, as nobody could read it."""
    code = builder.request.filter
    if not code:
        return ""
    admin = builder.facts.capabilities >> builder.facts.CAP_SYS_ADMIN & 1
    unprivileged = process.no_new_privileges or builder.request.call
    if not (unprivileged or builder.maps_users or admin):
        raise UnsupportedError(
            "$.linux.seccomp: without process.noNewPrivileges, loading a filter needs the "
            "capability CAP_SYS_ADMIN",
            op="plan",
        )
    return f", under a seccomp filter of {len(code) // 8} instructions (CRC {crc32(code):08x})"


def _environment(builder: Builder, process: SpecProcess) -> list[str]:
    """The configured environment; a later setting of a name wins, as it does for runc."""
    chosen: dict[str, str] = {}
    for entry in process.env or ():
        name = entry.partition("=")[0]
        chosen.pop(name, None)
        chosen[name] = entry
    for entry in builder.request.extra_env:
        chosen[entry.partition("=")[0]] = entry
    return list(chosen.values())
