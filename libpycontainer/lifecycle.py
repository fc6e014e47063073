"""What is on record of a container, the state document made from it, and the caller's hooks."""

from __future__ import annotations

import os
import time

from libpycontainer import jsontext, log
from libpycontainer.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from libpycontainer import syscalls as sys_
    from libpycontainer.cgroups.protocol import Manager
    from libpycontainer.spec.models import Hooks

RECORD_VERSION = 1
INSIDE = {"createContainer": "creating", "startContainer": "created"}
"""The kinds that init runs, and the status that they are shown."""

_PID = "@PID@"


def new_record(id: str, oci_version: str, bundle: str, manager: Manager) -> dict[str, Any]:
    """What is on record of every container and group from the first moment."""
    return {
        "version": RECORD_VERSION,
        # Tells this container from an earlier one of the same name.
        "instance": os.urandom(8).hex(),
        "id": id,
        "ociVersion": oci_version,
        "bundle": bundle,
        "owner": os.geteuid(),
        "cgroup": manager.record(),
    }


def now() -> str:
    """The time in RFC 3339, UTC, with nanoseconds as runc writes it."""
    nanoseconds = time.time_ns()
    seconds = time.gmtime(nanoseconds // 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", seconds) + f".{nanoseconds % 1_000_000_000:09d}Z"


def state_document(record: Mapping[str, Any], status: str, pid: int | str) -> dict[str, Any]:
    """The OCI state (runtime.md#state) of a container, in the specification's order."""
    document: dict[str, Any] = {
        "ociVersion": record["ociVersion"],
        "id": record["id"],
        "status": status,
    }
    if pid:
        document["pid"] = pid
    document["bundle"] = record["bundle"]
    if record.get("annotations"):
        document["annotations"] = record["annotations"]
    return document


def split_documents(record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The documents for the hooks that run inside, cut at the pid, which only init knows."""
    result = {}
    for kind, status in INSIDE.items():
        text = jsontext.dumps(state_document(record, status, _PID))
        head, _, tail = text.partition(f'"{_PID}"')
        result[kind] = (head, tail)
    return result


def hook_rows(hooks: Hooks | None) -> dict[str, list[dict[str, Any]]]:
    """The hooks of the caller's side as the state record keeps them."""
    rows = {}
    kinds = {
        "prestart": hooks.prestart if hooks else None,
        "createRuntime": hooks.create_runtime if hooks else None,
        "poststart": hooks.poststart if hooks else None,
        "poststop": hooks.poststop if hooks else None,
    }
    for kind, entries in kinds.items():
        if entries:
            rows[kind] = [
                {
                    "path": hook.path,
                    "args": list(hook.args or [hook.path]),
                    "env": list(hook.env or ()),
                    "timeout": hook.timeout,
                }
                for hook in entries
            ]
    return rows


def hand_over(record: Mapping[str, Any], status: str) -> Callable[[sys_.Fd, int], None] | None:
    """What sends the listener of a process's filter to the agent; ``None`` where there is none.

    The agent is shown the container with that ``status``.
    """
    target = record.get("seccompAgent")
    if target is None:
        return None

    def deliver(listener: sys_.Fd, pid: int) -> None:
        from libpycontainer.seccomp import agent

        agent.deliver(target, listener, state_document(record, status, record["pid"]), pid)

    return deliver


def run_poststop(record: Mapping[str, Any]) -> None:
    """Run the poststop hooks of a container that is gone; a failing one is only logged."""
    for index in range(len(record.get("hooks", {}).get("poststop", ()))):
        try:
            run_hook(record, "poststop", index, "stopped", 0)
        except HookError as error:
            log.warn(str(error))


def run_hooks(record: Mapping[str, Any], kind: str, status: str, pid: int) -> None:
    """Run one kind's hooks in order. Raises :class:`HookError` at the first that fails."""
    for index in range(len(record.get("hooks", {}).get(kind, ()))):
        run_hook(record, kind, index, status, pid)


def run_hook(record: Mapping[str, Any], kind: str, index: int, status: str, pid: int) -> None:
    """Run one hook on record. Raises :class:`HookError`."""
    from libpycontainer import hooks as hooks_

    hook = record["hooks"][kind][index]
    document = jsontext.dumps(state_document(record, status, pid)).encode()
    failure = hooks_.execute(hook["path"], hook["args"], hook["env"], hook["timeout"], document)
    if failure:
        message = f"hook {kind}[{index}] {hook['path']}: {failure.reason}"
        raise HookError(message, hook=kind, path=hook["path"], returncode=failure.returncode)
