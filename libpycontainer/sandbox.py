"""lc.run: one program, one throw-away container, subprocess.run's manners."""

from __future__ import annotations

import os

from libpycontainer import limits, log, quantities
from libpycontainer.errors import ArgumentError, CalledProcessError, TimeoutExpired
from libpycontainer.factory import Factory
from libpycontainer.streams import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypedDict

    from libpycontainer.quantities import Duration, Size
    from libpycontainer.streams import Stream

    class Options(TypedDict, total=False):
        """What :func:`run` takes besides the program and a factory."""

        rootfs: str | os.PathLike[str]
        input: bytes | str | None
        stdin: Stream
        stdout: Stream
        stderr: Stream
        capture_output: bool
        text: bool
        encoding: str | None
        check: bool
        timeout: Duration | None
        memory: Size | None
        cpus: float | None
        pids: int | None
        env: Mapping[str, str] | None
        cwd: str | None
        user: int | str | tuple[int, int] | None
        network: bool
        binds: Sequence[str | tuple[str, ...]]
        hostname: str
        capabilities: Sequence[str]
        seccomp: Mapping[str, Any] | str | None


__all__ = ["CalledProcessError", "CompletedProcess", "run"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PRIVATE = ("/tmp", "/run", "/dev", "/proc")
_NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")
_MASKED = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class CompletedProcess:
    """What :func:`run` returns, with subprocess's attributes.

    ``returncode`` is negative for a signal; ``stdout`` and ``stderr`` are ``None`` unless captured,
    text when that was asked for and bytes otherwise.
    """

    def __init__(
        self,
        args: Any,
        returncode: int,
        stdout: Any = None,
        stderr: Any = None,
    ) -> None:
        self.args = args
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr

    def check_returncode(self) -> None:
        """Raise :class:`CalledProcessError` unless the exit code is 0."""
        if self.returncode:
            raise CalledProcessError(self.returncode, self.args, self.stdout, self.stderr)

    def __repr__(self) -> str:
        parts = [f"args={self.args!r}", f"returncode={self.returncode!r}"]
        parts += [
            f"{name}={value!r}"
            for name, value in (("stdout", self.stdout), ("stderr", self.stderr))
            if value is not None
        ]
        return f"CompletedProcess({', '.join(parts)})"


def run(
    args: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    rootfs: str | os.PathLike[str] = "/",
    input: bytes | str | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str | None = None,
    check: bool = False,
    timeout: Duration | None = None,
    memory: Size | None = None,
    cpus: float | None = None,
    pids: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: int | str | tuple[int, int] | None = None,
    network: bool = False,
    binds: Sequence[str | tuple[str, ...]] = (),
    hostname: str = "sandbox",
    capabilities: Sequence[str] = (),
    seccomp: Mapping[str, Any] | str | None = "default",
    factory: Factory | None = None,
) -> CompletedProcess:
    """Run a program in a container of its own, wait for it, and delete the container.

    With ``rootfs="/"`` it sees the host's own files, all of them read-only, with a /tmp, /run,
    /proc and /dev of its own; any other directory becomes its root, writable. It has no network
    but its own loopback (``network=True``: the host's), no capabilities unless named, cannot gain
    privileges, and runs as the caller's own user, or as ``user`` (a uid, ``"uid:gid"``,
    ``(uid, gid)``) where the caller is root. What it started ends with it.

    ``seccomp`` is the filter of its system calls: the default one, a mapping shaped like
    ``linux.seccomp``, or ``None``. On a host without libseccomp the default is none.

    ``memory`` is in bytes or "256M", ``cpus`` in processors, ``pids`` a number of tasks;
    ``timeout`` in seconds or "500ms": the program is then killed and :class:`TimeoutExpired`
    raised, with the output so far. ``binds`` shows more of the host: ``"/data"``,
    ``"/data:/inside"``, ``"/data:/inside:rw"`` (read-only unless "rw"). ``env`` is the whole
    environment; by default it is a PATH, a HOME in /tmp and the locale. ``cwd`` defaults to the
    caller's directory when the root is the host's, and to "/" otherwise.

    Standard streams, ``input``, ``capture_output``, ``text``, ``encoding`` and ``check`` are
    subprocess.run's. Raises :class:`CalledProcessError` with ``check``, :class:`ExecutableError`
    for a missing program, :class:`CgroupError` for a limit that cannot be set here, and whatever
    :meth:`Factory.create` raises. Nothing is left behind in any case.
    """
    order = arrange(
        args,
        rootfs=rootfs,
        input=input,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        capture_output=capture_output,
        text=text,
        encoding=encoding,
        check=check,
        timeout=timeout,
        memory=memory,
        cpus=cpus,
        pids=pids,
        env=env,
        cwd=cwd,
        user=user,
        network=network,
        binds=binds,
        hostname=hostname,
        capabilities=capabilities,
        seccomp=seccomp,
    )
    factory = factory or Factory()
    with factory.run(order.id, order.config, **order.options) as container:
        process = container.process
        assert process is not None
        try:
            output = process.communicate(order.input, order.timeout)
        except TimeoutExpired as expired:
            raise order.expired(expired) from None
        assert process.returncode is not None
    return order.completed(process.returncode, *output)


class Order:
    """One call of :func:`run`, resolved: what container to make, and what becomes of its output.

    ``options`` are :meth:`Factory.create`'s.
    """

    id: str
    config: dict[str, Any]
    options: dict[str, Any]
    input: bytes | None

    def __init__(self, args: Any, encoding: str | None, check: bool, timeout: float | None) -> None:
        self.id = f"run-{os.urandom(8).hex()}"
        self.args = args
        self.encoding = encoding
        self.check = check
        self.timeout = timeout

    def completed(
        self, returncode: int, stdout: bytes | None, stderr: bytes | None
    ) -> CompletedProcess:
        """The result; raises :class:`CalledProcessError` where that was asked for."""
        done = CompletedProcess(self.args, returncode, self._decode(stdout), self._decode(stderr))
        if self.check:
            done.check_returncode()
        return done

    def expired(self, error: TimeoutExpired) -> TimeoutExpired:
        """The error for the caller, from the one that waiting for the process has raised."""
        return TimeoutExpired(
            f"{self._words()} timed out after {self.timeout} s",
            timeout=error.timeout,
            # It may have been cut in the middle of a character.
            output=self._decode(error.output, "replace"),
            stderr=self._decode(error.stderr, "replace"),
        )

    def _words(self) -> Any:
        return self.config["process"]["args"] or "the program"

    def _decode(self, data: Any, errors: str = "strict") -> Any:
        if data is None or self.encoding is None:
            return data
        return data.decode(self.encoding, errors)


def arrange(
    args: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    rootfs: str | os.PathLike[str] = "/",
    input: bytes | str | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    text: bool = False,
    encoding: str | None = None,
    check: bool = False,
    timeout: Duration | None = None,
    memory: Size | None = None,
    cpus: float | None = None,
    pids: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: int | str | tuple[int, int] | None = None,
    network: bool = False,
    binds: Sequence[str | tuple[str, ...]] = (),
    hostname: str = "sandbox",
    capabilities: Sequence[str] = (),
    seccomp: Mapping[str, Any] | str | None = "default",
) -> Order:
    """Resolve :func:`run`'s parameters; raises ``ValueError`` where they contradict each other."""
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr may not be used with capture_output")
        stdout = stderr = PIPE
    if input is not None:
        if stdin is not None:
            raise ValueError("stdin and input may not both be used")
        stdin = PIPE
    if encoding is None and text:
        encoding = "utf-8"
    seconds = None if timeout is None else quantities.duration(timeout)
    order = Order(args, encoding, check, seconds)
    order.input = input.encode(encoding or "utf-8") if isinstance(input, str) else input
    root = os.path.realpath(os.fspath(rootfs))
    host_view = root == "/"
    words = [args] if isinstance(args, str | os.PathLike) else args
    config = _config(
        [os.fspath(word) for word in words],
        root,
        env,
        _directory(cwd, host_view),
        user,
        network,
        capabilities,
    )
    config["hostname"] = hostname
    config["mounts"] = _mounts(host_view, network) + [_bind(bind) for bind in binds]
    config["linux"]["resources"] = limits.resources(memory, cpus, pids)
    if seccomp is not None:
        config["linux"]["seccomp"] = _filter(seccomp, capabilities)
    order.config = config
    order.options = {"bundle": root, "read_only_tree": host_view}
    order.options.update(stdin=stdin, stdout=stdout, stderr=stderr)
    return order


def _config(
    args: list[str],
    root: str,
    env: Mapping[str, str] | None,
    cwd: str,
    user: int | str | tuple[int, int] | None,
    network: bool,
    capabilities: Sequence[str],
) -> dict[str, Any]:
    from libpycontainer.process import user_pair

    privileged = os.geteuid() == 0
    uid, gid = user_pair(user) or ((0, os.getegid()) if privileged else (0, 0))
    namespaces = [{"type": name} for name in _NAMESPACES]
    if not network:
        namespaces.append({"type": "network"})
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    if not privileged:
        # An ordinary user is root in a user namespace that maps nobody else.
        namespaces.append({"type": "user"})
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    sets = ("bounding", "effective", "permitted")
    return {
        "ociVersion": "1.3.0",
        "root": {"path": root, "readonly": False},
        "process": {
            "args": args,
            "env": _environment(env),
            "cwd": cwd,
            "user": {"uid": uid, "gid": gid},
            "capabilities": {name: list(capabilities) for name in sets},
            "noNewPrivileges": True,
        },
        "linux": linux,
    }


def _filter(seccomp: Mapping[str, Any] | str, capabilities: Sequence[str]) -> Any:
    """The system call filter; no default one where there is no libseccomp to compile it."""
    from libpycontainer.seccomp import library

    if not isinstance(seccomp, str):
        return dict(seccomp)
    if seccomp != "default":
        raise ArgumentError(
            f"seccomp: expected 'default', a mapping or None, not {seccomp!r}",
            parameter="seccomp",
            value=seccomp,
        )
    if not library.installed():
        log.warn("there is no libseccomp, so no filter of system calls: seccomp=None says the same")
        return None
    from libpycontainer.spec import profile

    return profile.section(capabilities)


def _environment(env: Mapping[str, str] | None) -> list[str]:
    if env is None:
        env = {"PATH": os.environ.get("PATH", DEFAULT_PATH), "HOME": "/tmp"}
        locale = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
        env.update({name: os.environ[name] for name in locale if name in os.environ})
    return [f"{name}={value}" for name, value in env.items()]


def _directory(cwd: str | None, host_view: bool) -> str:
    if cwd is not None:
        return cwd
    if not host_view:
        return "/"
    try:
        here = os.getcwd()
    except FileNotFoundError:
        # It was deleted under the caller; there is nothing of his to be in.
        return "/"
    # In a place that the container has of its own there is nothing of the caller's to be in.
    hidden = any(here == place or here.startswith(place + "/") for place in _PRIVATE)
    return "/" if hidden else here


def _mounts(host_view: bool, network: bool) -> list[dict[str, Any]]:
    def mount(where: str, kind: str, *options: str) -> dict[str, Any]:
        return {"destination": where, "type": kind, "source": kind, "options": list(options)}

    quiet = ("nosuid", "nodev", "noexec")
    mounts = [
        mount("/proc", "proc", *quiet),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
        mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=620"),
        mount("/dev/shm", "tmpfs", *quiet, "mode=1777"),
        mount("/dev/mqueue", "mqueue", *quiet),
        mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"),
    ]
    if host_view:
        # The sockets in there (docker's, D-Bus's) would be a way out, read-only or not.
        mounts.append(mount("/run", "tmpfs", "nosuid", "nodev", "mode=755"))
    if not network:
        # sysfs shows the network namespace it was mounted in; the host's would be the wrong one.
        mounts.append(mount("/sys", "sysfs", *quiet, "ro"))
    return mounts


def _bind(bind: str | tuple[str, ...]) -> dict[str, Any]:
    parts = tuple(bind.split(":")) if isinstance(bind, str) else tuple(os.fspath(b) for b in bind)
    source = parts[0] if parts else ""
    destination = parts[1] if len(parts) > 1 else ""
    mode = parts[2] if len(parts) > 2 else "ro"
    if len(parts) > 3 or mode not in ("ro", "rw") or not source:
        raise ValueError(f"invalid bind {bind!r}: expected 'source[:destination[:ro|rw]]'")
    source = os.path.abspath(source)
    return {
        "destination": destination or source,
        "type": "bind",
        "source": source,
        "options": ["rbind", mode, "nosuid", "nodev"] + (["rro"] if mode == "ro" else []),
    }
