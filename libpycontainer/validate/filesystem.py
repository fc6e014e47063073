"""Mounts, masked and read-only paths, device nodes."""

from __future__ import annotations

from libpycontainer.errors import Problem
from libpycontainer.plan import options as mount_options
from libpycontainer.validate.namespaces import is_mapped, namespaces_of, well_formed
from libpycontainer.validate.process import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from libpycontainer.host import Facts
    from libpycontainer.spec.models import Linux, LinuxDevice, Mount, Spec


def is_bind(mount: Mount) -> bool:
    """Does this mount show a directory or file of the host?"""
    options = mount.options or ()
    return "bind" in options or "rbind" in options


def mounts(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config.md#mounts: an absolute destination; a relative one is taken as below /, as by runc."""
    for index, mount in enumerate(spec.mounts or ()):
        here = f"$.mounts[{index}]"
        if not mount.destination:
            yield Problem(f"{here}.destination", "must not be empty")
        elif not mount.destination.startswith("/"):
            message = f"{mount.destination!r} is not an absolute path, taken as below /"
            yield Problem(f"{here}.destination", message, warning=True)
        if is_bind(mount):
            yield from _bind(mount, here)


def _bind(mount: Mount, here: str) -> Iterator[Problem]:
    if not mount.source and "remount" not in (mount.options or ()):
        yield Problem(f"{here}.source", "a bind mount needs a source")
    for place, option in enumerate(mount.options or ()):
        # The kernel would ignore it: the mount would not be what was asked for.
        if mount_options.is_data(option):
            message = f"option {option!r} is for a file system, a bind mount has none"
            yield Problem(f"{here}.options[{place}]", message)


def id_mapped_mounts(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config.md#posix-platform-mounts: bind mounts only, with mappings, made with privilege."""
    namespace = namespaces_of(spec).get("user")
    for index, mount in enumerate(spec.mounts or ()):
        here = f"$.mounts[{index}]"
        options = mount.options or ()
        asked = "idmap" in options or "ridmap" in options
        uids, gids = mount.uid_mappings or (), mount.gid_mappings or ()
        if not (uids or gids or asked):
            continue
        if not is_bind(mount):
            yield Problem(here, "only bind mounts can be id-mapped")
        if facts.euid != 0:
            yield Problem(here, "id-mapped mounts cannot be made without privilege")
        if bool(uids) != bool(gids):
            missing = "gidMappings" if uids else "uidMappings"
            yield Problem(f"{here}.{missing}", "an id-mapped mount needs both kinds of mappings")
        elif not uids and namespace is None:
            yield Problem(here, "an id-mapped mount needs mappings, or a user namespace")
        yield from well_formed(uids, f"{here}.uidMappings")
        yield from well_formed(gids, f"{here}.gidMappings")


def rootless_mounts(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Without privilege, ``uid=`` and ``gid=`` can only name ids that the container has."""
    linux = spec.linux
    namespace = namespaces_of(spec).get("user")
    if facts.euid == 0 or linux is None or namespace is None or namespace.path:
        return
    for index, mount in enumerate(spec.mounts or ()):
        for place, option in enumerate(mount.options or ()):
            name = _unmapped_owner(option, linux)
            if name:
                message = f"{option!r} names a {name} that is not mapped in the user namespace"
                yield Problem(f"$.mounts[{index}].options[{place}]", message)


def _unmapped_owner(option: str, linux: Linux) -> str:
    for part in option.split(","):
        name, _, digits = part.partition("=")
        if name in ("uid", "gid") and is_number(digits):
            ranges = linux.uid_mappings if name == "uid" else linux.gid_mappings
            if not is_mapped(int(digits), ranges or ()):
                return name
    return ""


def hidden_paths(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#masked-paths: absolute, and of no effect on the host's mounts."""
    if spec.linux is None:
        return
    alone = "mount" in namespaces_of(spec)
    for name, paths in (
        ("maskedPaths", spec.linux.masked_paths or ()),
        ("readonlyPaths", spec.linux.readonly_paths or ()),
    ):
        if paths and not alone:
            yield Problem(f"$.linux.{name}", "cannot be set without a mount namespace")
        for index, path in enumerate(paths):
            if not path.startswith("/"):
                yield Problem(f"$.linux.{name}[{index}]", f"{path!r} is not an absolute path")


def devices(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config-linux.md#devices: where, and which."""
    for index, device in enumerate((spec.linux.devices if spec.linux else None) or ()):
        here = f"$.linux.devices[{index}]"
        if device.type not in ("b", "c", "u", "p"):
            yield Problem(f"{here}.type", f"{device.type!r} is not one of b, c, u, p")
        if not device.path.startswith("/"):
            yield Problem(f"{here}.path", f"{device.path!r} is not an absolute path")
        if device.type != "p":
            yield from _numbers(device, here)


def _numbers(device: LinuxDevice, here: str) -> Iterator[Problem]:
    for name, number, limit in (("major", device.major, 2**12), ("minor", device.minor, 2**20)):
        if number is None:
            yield Problem(f"{here}.{name}", f"required for a device of type {device.type}")
        elif not 0 <= number < limit:
            yield Problem(f"{here}.{name}", f"{number} is not a {name} device number")


CHECKS = (mounts, id_mapped_mounts, rootless_mounts, hidden_paths, devices)
