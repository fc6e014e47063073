"""Strings that the kernel could not take whole: cut at a NUL, they would mean another file."""

from __future__ import annotations

import os

from libpycontainer.errors import Problem
from libpycontainer.spec.leaves import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from libpycontainer.host import Facts
    from libpycontainer.spec.models import Hook, Linux, Mount, Process, Spec

    Named = Iterator[tuple[str, str | None]]


def usable(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """No NUL and no half character in what becomes a path, an argument, a variable, a name."""
    yield from _broken(_of_document(spec))
    if spec.process is not None:
        yield from of_process(spec.process, "$.process")
    for index, mount in enumerate(spec.mounts or ()):
        yield from _broken(_of_mount(mount, f"$.mounts[{index}]"))
    for path, hook in hooks_of(spec):
        yield from _broken(_of_hook(hook, path))
    if spec.linux is not None:
        yield from _broken(_of_linux(spec.linux, "$.linux"))


def of_process(process: Process, path: str) -> Iterator[Problem]:
    """The same for a process alone, which stands at ``path``."""
    return _broken(_of_process(process, path))


def hooks_of(spec: Spec) -> Iterator[tuple[str, Hook]]:
    """Every hook with its JSON path, in the order of the events."""
    if spec.hooks is None:
        return
    for name, hooks in (
        ("prestart", spec.hooks.prestart),
        ("createRuntime", spec.hooks.create_runtime),
        ("createContainer", spec.hooks.create_container),
        ("startContainer", spec.hooks.start_container),
        ("poststart", spec.hooks.poststart),
        ("poststop", spec.hooks.poststop),
    ):
        for index, hook in enumerate(hooks or ()):
            yield f"$.hooks.{name}[{index}]", hook


def _broken(named: Iterable[tuple[str, str | None]]) -> Iterator[Problem]:
    for path, text in named:
        if not text:
            continue
        if "\0" in text:
            yield Problem(path, "contains a NUL byte")
        elif not text.isascii():
            try:
                os.fsencode(text)
            except UnicodeEncodeError:
                yield Problem(path, "cannot be encoded as UTF-8")


def _items(path: str, texts: Iterable[str] | None) -> Named:
    for index, text in enumerate(texts or ()):
        yield f"{path}[{index}]", text


def _of_document(spec: Spec) -> Named:
    yield "$.hostname", spec.hostname
    yield "$.domainname", spec.domainname
    if spec.root is not None:
        yield "$.root.path", spec.root.path


def _of_process(process: Process, path: str) -> Named:
    yield f"{path}.cwd", process.cwd
    yield f"{path}.apparmorProfile", process.apparmor_profile
    yield f"{path}.selinuxLabel", process.selinux_label
    yield from _items(f"{path}.args", process.args)
    yield from _items(f"{path}.env", process.env)


def _of_mount(mount: Mount, path: str) -> Named:
    yield f"{path}.destination", mount.destination
    yield f"{path}.type", mount.type
    yield f"{path}.source", mount.source
    yield from _items(f"{path}.options", mount.options)


def _of_hook(hook: Hook, path: str) -> Named:
    yield f"{path}.path", hook.path
    yield from _items(f"{path}.args", hook.args)
    yield from _items(f"{path}.env", hook.env)


def _of_linux(linux: Linux, path: str) -> Named:
    yield f"{path}.cgroupsPath", linux.cgroups_path
    yield f"{path}.mountLabel", linux.mount_label
    yield from _items(f"{path}.maskedPaths", linux.masked_paths)
    yield from _items(f"{path}.readonlyPaths", linux.readonly_paths)
    for index, namespace in enumerate(linux.namespaces or ()):
        yield f"{path}.namespaces[{index}].path", namespace.path
    for index, device in enumerate(linux.devices or ()):
        yield f"{path}.devices[{index}].path", device.path
    for name, value in (linux.sysctl or {}).items():
        yield child(f"{path}.sysctl", name), name + value
    if linux.seccomp is not None:
        yield f"{path}.seccomp.listenerPath", linux.seccomp.listener_path
    if linux.intel_rdt is not None:
        yield f"{path}.intelRdt.closID", linux.intel_rdt.clos_id


CHECKS = (usable,)
