"""Mounts, the root and what lies in /dev: the steps that make a container's file tree."""

from __future__ import annotations

from libpycontainer import kernel
from libpycontainer.errors import Problem
from libpycontainer.plan import options
from libpycontainer.plan.model import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.cgroups.hierarchies import CgroupMount
    from libpycontainer.plan.build import Builder
    from libpycontainer.spec.models import Mount

DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
"""config-linux.md#default-devices; /dev/console and /dev/ptmx are made otherwise."""

DEFAULT_SYMLINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
KCORE_SYMLINK = ("/proc/kcore", "/dev/core")

# A bind mount that names any attribute is remounted with just those: runc (and mount(8)) clear
# the rest. What is said of access times is replaced as a whole, if anything is.
_REPLACEABLE = (
    kernel.MOUNT_ATTR_RDONLY
    | kernel.MOUNT_ATTR_NOSUID
    | kernel.MOUNT_ATTR_NODEV
    | kernel.MOUNT_ATTR_NOEXEC
    | kernel.MOUNT_ATTR_NOSYMFOLLOW
)
_ACCESS_TIMES = kernel.MOUNT_ATTR_ATIME | kernel.MOUNT_ATTR_NODIRATIME

# sysfs and proc decide what a container's root may do to the host, so their mount points must be
# plain directories: a symlink would put them elsewhere (CVE-2019-19921, CVE-2023-27561).
_PLAIN_TARGET = frozenset({"proc", "sysfs"})

# What shows a namespace is mounted by the user namespace that owns that, and by no other. Where the
# host's is shared, the host's own mount shows the same.
_SHOWS = {"sysfs": ("network", "/sys"), "proc": ("pid", "/proc")}

# Their read-only flag waits until everything below is mounted, as runc does it for tmpfs.
_LATE_READ_ONLY = frozenset({"tmpfs"})
# SELinux labels these by rules of its own (as in runc, which never passes a context for them).
_UNLABELLED = frozenset({"proc", "sysfs", "mqueue"})
_NO_SUPERBLOCK_FLAGS = frozenset({"cgroup", "cgroup2"})

# Of the v1 hierarchies and the tmpfs that holds them, whatever the configuration says (as in runc).
_CGROUP_ATTRIBUTES = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_NOEXEC


def root_steps(builder: Builder) -> None:
    """The container's root, attached and ready to take mounts."""
    request = builder.request
    word = builder.linux.rootfs_propagation or "rslave"
    flag, recursive = options.propagation_flag(word, "$.linux.rootfsPropagation")
    builder.add(Step("set_propagation", f"make every mount {word}", flag=flag, recursive=recursive))
    tree, title = "", f"attach the root {request.rootfs}"
    if builder.maps_users and builder.facts.privileged:
        tree = builder.tree(request.rootfs, title, recursive=True)
    builder.add(
        Step(
            "attach_root",
            title,
            source=request.rootfs,
            tree=tree,
            # Unless nothing is shared, and nothing unbindable, any more.
            isolate=not recursive or flag not in (kernel.MS_PRIVATE, kernel.MS_SLAVE),
            read_only_tree=request.read_only_tree,
        )
    )


def mount_steps(builder: Builder) -> None:
    """Every configured mount, in the configuration's order."""
    for index, mount in enumerate(builder.spec.mounts or ()):
        parsed = options.parse(mount.options)
        first = len(builder.plan.steps)
        if "remount" in parsed.extensions:
            _remount(builder, mount, parsed)
        elif parsed.bind or mount.type == "bind":
            _bind(builder, mount, parsed, index)
        elif mount.type in ("cgroup", "cgroup2"):
            _cgroup(builder, mount, parsed)
        elif _shows_the_hosts(builder, mount):
            _host_view(builder, mount, parsed)
        else:
            _filesystem(builder, mount, parsed)
        for step in builder.plan.steps[first:]:
            step.title = f"mounts[{index}]: {step.title}"


def _options_text(mount: Mount) -> str:
    return f" ({','.join(mount.options)})" if mount.options else ""


def _remount(builder: Builder, mount: Mount, parsed: options.Options) -> None:
    """Other options for what is mounted there: just those that are named (man 8 mount, "remount").

    With "bind", or without an option of the file system, they are the mount's alone; "ro" always
    is, because a sysfs or a procfs may have other mounts, the host's among them.
    """
    data = [] if parsed.bind else [*parsed.data, *((word, None) for word in parsed.superblock)]
    builder.add(
        Step(
            "remount",
            f"remount {mount.destination}{_options_text(mount)}",
            target=mount.destination,
            data=data,
            set=parsed.set,
            clear=_cleared(builder, parsed, all=True),
            propagation=parsed.propagation,
        )
    )


def _bind(builder: Builder, mount: Mount, parsed: options.Options, index: int) -> None:
    if parsed.data:
        word = parsed.data[0][0]
        from libpycontainer.errors import SpecError

        path = f"$.mounts[{index}].options"
        raise SpecError([Problem(path, f"invalid value {word!r} for a bind mount")])
    source = mount.source or ""
    if not source.startswith("/"):
        # Relative sources count from the bundle (config.md#mounts).
        source = f"{builder.request.bundle}/{source}"
    mapping = _id_mapping(builder, mount, parsed)
    tree, title = "", f"bind {source} on {mount.destination}{_options_text(mount)}"
    if mapping or (builder.maps_users and builder.facts.privileged):
        where = f"mounts[{index}]: {title}"
        tree = builder.tree(source, where, recursive=parsed.recursive_bind, **mapping)
    builder.add(
        Step(
            "bind",
            title,
            source=source,
            tree=tree,
            target=mount.destination,
            recursive=parsed.recursive_bind,
            set=parsed.set,
            clear=_cleared(builder, parsed),
            tree_set=parsed.tree_set,
            tree_clear=parsed.tree_clear,
            propagation=parsed.propagation,
        )
    )


def _cleared(builder: Builder, parsed: options.Options, *, all: bool = False) -> int:
    """In a user namespace only what is named: a nosuid, nodev or noexec of the host's that is not
    spoken of is a protection that the container must not lose (runc keeps it since 1.2)."""
    keep = not (parsed.given or all)
    if keep or builder.maps_users or builder.facts.in_user_namespace:
        return parsed.clear
    clear = parsed.clear | _REPLACEABLE & ~parsed.set
    if clear & kernel.MOUNT_ATTR_ATIME or parsed.set & kernel.MOUNT_ATTR_NODIRATIME:
        clear |= _ACCESS_TIMES & ~(parsed.set & kernel.MOUNT_ATTR_NODIRATIME)
    return clear


def _id_mapping(builder: Builder, mount: Mount, parsed: options.Options) -> dict[str, Any]:
    """The mappings of an id-mapped mount: its own, or else those of the container's users."""
    from libpycontainer.plan.build import map_lines

    asked = "idmap" in parsed.extensions or "ridmap" in parsed.extensions
    if not (asked or mount.uid_mappings or mount.gid_mappings):
        return {}
    linux = builder.linux
    return {
        "uid_map": map_lines(mount.uid_mappings or linux.uid_mappings),
        "gid_map": map_lines(mount.gid_mappings or linux.gid_mappings),
        "map_recursive": "ridmap" in parsed.extensions,
    }


def _filesystem(builder: Builder, mount: Mount, parsed: options.Options) -> None:
    fstype = mount.type or ""
    data = list(parsed.data) + [(word, None) for word in parsed.superblock]
    if builder.linux.mount_label and fstype not in _UNLABELLED:
        data.append(("context", builder.linux.mount_label))
    late = fstype in _LATE_READ_ONLY and parsed.read_only
    if parsed.read_only and not late and fstype not in _NO_SUPERBLOCK_FLAGS:
        data.append(("ro", None))
    builder.add(
        Step(
            "mount",
            f"mount {fstype} on {mount.destination}{_options_text(mount)}",
            fstype=fstype,
            source=mount.source or fstype,
            target=mount.destination,
            data=data,
            set=parsed.set & ~(kernel.MOUNT_ATTR_RDONLY if late else 0),
            tree_set=parsed.tree_set,
            tree_clear=parsed.tree_clear,
            propagation=parsed.propagation,
            plain_target=fstype in _PLAIN_TARGET,
            copy_up="tmpcopyup" in parsed.extensions,
        )
    )
    if late:
        title = f"make {mount.destination} read-only"
        builder.late.append(Step("remount_read_only", title, target=mount.destination))


def _shows_the_hosts(builder: Builder, mount: Mount) -> bool:
    shown = _SHOWS.get(mount.type or "")
    return shown is not None and builder.maps_users and not builder.has_namespace(shown[0])


def _host_view(builder: Builder, mount: Mount, parsed: options.Options) -> None:
    """The host's /sys or /proc, in a user namespace that may mount none of its own.

    What is mounted below comes along for an ordinary user, the host's cgroups among it, so the
    options go for all of it, and /sys is read-only whatever they say (CVE-2023-25809).
    """
    fstype = mount.type or ""
    source = _SHOWS[fstype][1]
    attributes = parsed.set & _REPLACEABLE
    if fstype == "sysfs":
        attributes |= kernel.MOUNT_ATTR_RDONLY
    title = f"bind the host's {source} on {mount.destination}{_options_text(mount)}"
    tree = ""
    if builder.facts.privileged:
        tree = builder.tree(source, title, recursive=False)
    builder.add(
        Step(
            "bind_kernel_tree",
            title,
            fstype=fstype,
            source=source,
            tree=tree,
            target=mount.destination,
            set=attributes,
            propagation=parsed.propagation,
        )
    )


def _cgroup(builder: Builder, mount: Mount, parsed: options.Options) -> None:
    """Every v1 hierarchy on a tmpfs, or the v2 one. "ro" goes for the hierarchies: runc leaves the
    tmpfs that holds them writable."""
    hierarchies = builder.request.cgroup_mounts
    if len(hierarchies) == 1 and hierarchies[0].name == "":
        _cgroup_one(builder, mount, parsed, hierarchies[0], mount.destination)
        return
    target = mount.destination
    builder.add(
        Step(
            "mount",
            f"mount tmpfs on {target} for the cgroup hierarchies",
            fstype="tmpfs",
            source="tmpfs",
            target=target,
            data=[("mode", "755")],
            set=_CGROUP_ATTRIBUTES,
            tree_set=0,
            tree_clear=0,
            propagation=parsed.propagation,
            plain_target=False,
            copy_up=False,
        )
    )
    if builder.cgroup_namespace:
        parsed.set = _CGROUP_ATTRIBUTES | parsed.set & kernel.MOUNT_ATTR_RDONLY
    for hierarchy in hierarchies:
        _cgroup_one(builder, mount, parsed, hierarchy, f"{target}/{hierarchy.name}")
        for name in hierarchy.symlinks:
            _symlink(builder, hierarchy.name, f"{target}/{name}")


def _cgroup_one(
    builder: Builder, mount: Mount, parsed: options.Options, hierarchy: CgroupMount, target: str
) -> None:
    if builder.cgroup_namespace:
        data: list[tuple[str, str | None]] = [
            (key, value) for key, value in options.split_data(hierarchy.options)
        ]
        builder.add(
            Step(
                "mount",
                f"mount {hierarchy.fstype} {hierarchy.options} on {target}".replace("  ", " "),
                fstype=hierarchy.fstype,
                # A named hierarchy is mounted under its name, as systemd and runc do it.
                source="systemd" if hierarchy.name == "systemd" else "cgroup",
                target=target,
                data=data,
                set=parsed.set,
                tree_set=0,
                tree_clear=0,
                propagation=parsed.propagation,
                plain_target=False,
                copy_up=False,
            )
        )
        return
    builder.add(
        Step(
            "bind",
            f"bind {hierarchy.source} on {target}",
            source=hierarchy.source,
            tree="",
            target=target,
            recursive=True,
            set=parsed.set,
            clear=0,
            tree_set=0,
            tree_clear=0,
            propagation=parsed.propagation,
        )
    )


def device_steps(builder: Builder) -> None:
    """The mandatory devices, the configured ones and the links of /dev.

    Left out when the configuration binds a /dev of its own: that one is the user's.
    """
    for mount in builder.spec.mounts or ():
        is_bind = mount.type == "bind" or options.parse(mount.options).bind
        if is_bind and _clean(mount.destination) == "/dev":
            return
    configured = {_clean(device.path): device for device in builder.linux.devices or ()}
    for path, major, minor in DEFAULT_DEVICES:
        if path not in configured:
            _device(builder, path, "c", major, minor, 0o666, 0, 0)
    for path, device in configured.items():
        mode = 0o666 if device.file_mode is None else device.file_mode
        numbers = (device.major or 0, device.minor or 0)
        _device(builder, path, device.type, *numbers, mode, device.uid or 0, device.gid or 0)
    links = (*DEFAULT_SYMLINKS, KCORE_SYMLINK) if builder.facts.kcore else DEFAULT_SYMLINKS
    for content, path in links:
        if path not in configured:
            _symlink(builder, content, path)


def _device(
    builder: Builder, path: str, type: str, major: int, minor: int, mode: int, uid: int, gid: int
) -> None:
    if builder.maps_users or builder.facts.in_user_namespace:
        # A user namespace may not make device nodes; the host's own are bound instead.
        title = f"bind the device {path} ({type} {major}:{minor})"
        builder.add(Step("bind_device", title, path=path, type=type, major=major, minor=minor))
        return
    builder.add(
        Step(
            "make_device",
            f"make the device {path} ({type} {major}:{minor})",
            path=path,
            type="c" if type == "u" else type,
            major=major,
            minor=minor,
            # docker leaves the file type's bits in it.
            mode=mode & 0o7777,
            uid=uid,
            gid=gid,
        )
    )


def _symlink(builder: Builder, content: str, path: str) -> None:
    builder.add(Step("make_symlink", f"link {path} to {content}", content=content, path=path))


def switch_steps(builder: Builder) -> None:
    """Make the prepared tree the root of this process, and let the host's go."""
    if not builder.has_namespace("mount"):
        builder.add(Step("change_root", "chroot into the root"))
    elif builder.request.no_pivot:
        builder.add(Step("move_root", "move the root over the host's (no pivot_root)"))
    else:
        builder.add(Step("pivot_root", "pivot_root, and let the host's root go"))
    word = builder.linux.rootfs_propagation
    if builder.has_namespace("mount") and word:
        # Not before: pivot_root refuses a shared root. A private one it is already.
        flag, recursive = options.propagation_flag(word, "$.linux.rootfsPropagation")
        if flag != kernel.MS_PRIVATE:
            title = f"make the root {word}"
            builder.add(Step("set_propagation", title, flag=flag, recursive=recursive))


def seal_steps(builder: Builder) -> None:
    """What makes the finished tree read-only or invisible, in part or as a whole."""
    spec = builder.spec
    for step in builder.late:
        builder.add(step)
    if spec.root is not None and spec.root.readonly:
        builder.add(Step("read_only_root", "make the root read-only"))


def path_steps(builder: Builder) -> None:
    linux = builder.linux
    for path in linux.readonly_paths or ():
        if _clean(path) == "/":
            # A mount over "/" would leave the one below as it is, which is the processes' root.
            builder.add(Step("read_only_root", "make the root read-only"))
        else:
            builder.add(Step("read_only_path", f"make {path} read-only", path=path))
    for path in linux.masked_paths or ():
        builder.add(Step("mask_path", f"mask {path}", path=path))


def _clean(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
