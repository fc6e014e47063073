"""What confines the process beyond namespaces: seccomp, labels, resctrl, NUMA, personality."""

from __future__ import annotations

from libpycontainer.errors import Problem
from libpycontainer.validate.process import is_cpu_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from libpycontainer.host import Facts
    from libpycontainer.spec.models import LinuxMemoryPolicy, LinuxSeccomp, Spec

NODELESS_MODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
NODE_MODES = ("MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED_MANY")
SECCOMP_ARGS = 6
HIGHEST_ERRNO = {"SCMP_ACT_ERRNO": 4094, "SCMP_ACT_TRACE": 65535}
"""The actions that give a number back: up to what libseccomp takes, and 16 bits for a tracer."""


def seccomp(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#seccomp: a listener where one is needed, and none that would deadlock."""
    filter_ = spec.linux.seccomp if spec.linux else None
    if filter_ is None:
        return
    here = "$.linux.seccomp"
    if filter_.default_action == "SCMP_ACT_NOTIFY":
        yield Problem(f"{here}.defaultAction", "SCMP_ACT_NOTIFY cannot be the default action")
    if filter_.listener_metadata and not filter_.listener_path:
        yield Problem(f"{here}.listenerMetadata", "there is no listenerPath to send it to")
    notifies = False
    for index, rule in enumerate(filter_.syscalls or ()):
        if rule.action == "SCMP_ACT_NOTIFY":
            notifies = True
            if "write" in rule.names:
                # runc writes under the filter and refuses this; a profile shall not work here only.
                place = list(rule.names).index("write")
                message = "SCMP_ACT_NOTIFY cannot be used for write"
                yield Problem(f"{here}.syscalls[{index}].names[{place}]", message)
    if notifies and not filter_.listener_path:
        yield Problem(f"{here}.listenerPath", "required by the action SCMP_ACT_NOTIFY")
    for index, flag in enumerate(filter_.flags or ()):
        if flag not in facts.seccomp_flags:
            yield Problem(f"{here}.flags[{index}]", f"this kernel has no {flag}")
    yield from _errno(f"{here}.defaultErrnoRet", filter_.default_action, filter_.default_errno_ret)
    for index, rule in enumerate(filter_.syscalls or ()):
        yield from _errno(f"{here}.syscalls[{index}].errnoRet", rule.action, rule.errno_ret)
    yield from _seccomp_arguments(filter_, here)


def _errno(path: str, action: str, number: int | None) -> Iterator[Problem]:
    """A number where none can be given back, or more than the kernel would."""
    if number is None:
        return
    highest = HIGHEST_ERRNO.get(action)
    if highest is None:
        yield Problem(path, f"{action} has no errno")
    elif number > highest:
        yield Problem(path, f"{number} is not between 0 and {highest}")


def _seccomp_arguments(filter_: LinuxSeccomp, here: str) -> Iterator[Problem]:
    for index, rule in enumerate(filter_.syscalls or ()):
        if not rule.names:
            yield Problem(f"{here}.syscalls[{index}].names", "must not be empty")
        for place, condition in enumerate(rule.args or ()):
            if condition.index >= SECCOMP_ARGS:
                message = f"{condition.index} is not between 0 and {SECCOMP_ARGS - 1}"
                yield Problem(f"{here}.syscalls[{index}].args[{place}].index", message)


def mount_label(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """The label becomes a mount option that only SELinux knows."""
    if spec.linux is not None and spec.linux.mount_label and "selinux" not in facts.lsms:
        yield Problem("$.linux.mountLabel", "SELinux is not enabled on this host")


def intel_rdt(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#intelrdt: closID is the name of a directory, or "/" for the root's class."""
    rdt = spec.linux.intel_rdt if spec.linux else None
    if rdt is None or not rdt.clos_id or rdt.clos_id == "/":
        return
    if rdt.clos_id in (".", "..") or "/" in rdt.clos_id:
        message = f"{rdt.clos_id!r} cannot be the name of a directory"
        yield Problem("$.linux.intelRdt.closID", message)


def memory_policy(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """``man 2 set_mempolicy``: which mode takes nodes, and which flags."""
    policy = spec.linux.memory_policy if spec.linux else None
    if policy is None:
        return
    here = "$.linux.memoryPolicy"
    if not policy.mode:
        yield Problem(f"{here}.mode", "required")
    if policy.nodes and not is_cpu_list(policy.nodes):
        yield Problem(f"{here}.nodes", f"{policy.nodes!r} is not a list such as 0-3,7")
    if policy.mode in NODELESS_MODES and policy.nodes:
        yield Problem(f"{here}.nodes", f"{policy.mode} takes no nodes")
    if policy.mode in NODE_MODES and not policy.nodes:
        yield Problem(f"{here}.nodes", f"required by {policy.mode}")
    yield from _memory_policy_flags(policy, here)


def _memory_policy_flags(policy: LinuxMemoryPolicy, here: str) -> Iterator[Problem]:
    flags = policy.flags or ()
    if "MPOL_F_STATIC_NODES" in flags and "MPOL_F_RELATIVE_NODES" in flags:
        message = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"
        yield Problem(f"{here}.flags", message)
    if "MPOL_F_NUMA_BALANCING" in flags and policy.mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        message = "MPOL_F_NUMA_BALANCING needs MPOL_BIND or MPOL_PREFERRED_MANY"
        yield Problem(f"{here}.flags", message)


def personality(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#personality: a domain; there are no flags yet."""
    wanted = spec.linux.personality if spec.linux else None
    if wanted is None:
        return
    if not wanted.domain:
        yield Problem("$.linux.personality.domain", "required")
    if wanted.flags:
        yield Problem("$.linux.personality.flags", "not supported, ignored", warning=True)


def rootfs_propagation(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#rootfs-mount-propagation."""
    mode = spec.linux.rootfs_propagation if spec.linux else None
    if mode and mode.removeprefix("r") not in ("private", "shared", "slave", "unbindable"):
        yield Problem("$.linux.rootfsPropagation", f"{mode!r} is not a propagation mode")


CHECKS = (seccomp, mount_label, intel_rdt, memory_policy, personality, rootfs_propagation)
