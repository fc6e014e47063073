"""A process in a container: what the caller asks for and, once it runs, what he holds."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself imports enum
import _thread
import os
import time

from libpycontainer import companions, reaping, waiting
from libpycontainer.descriptors import Fd
from libpycontainer.errors import ContainerError, TimeoutExpired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO, Any

    from libpycontainer.communicate import Exchange
    from libpycontainer.factory import Factory
    from libpycontainer.spawner import Spawner
    from libpycontainer.spec.models import Process as SpecProcess
    from libpycontainer.streams import Stream, Streams


_STUCK_LOOK = 0.05


class Process:
    """One process, described and later held.

    ``args`` is the command; ``env`` a mapping or a list of ``"NAME=value"`` (``None``: that of the
    container's own process), ``cwd`` an absolute path inside (``None``: likewise); ``user`` a uid,
    ``"uid:gid"`` or ``(uid, gid)``: numbers, as nothing inside the container is asked for names.
    ``capabilities`` are names for the bounding, effective and permitted sets; ``rlimits`` maps
    names such as ``"RLIMIT_NOFILE"`` to ``(soft, hard)``.

    ``cgroup`` is for :meth:`Container.exec`: a group below the container's own, which is there
    already, or on v1 a mapping of controllers to such paths.

    ``stdin``, ``stdout`` and ``stderr`` are subprocess's: ``None`` inherits, ``PIPE``, ``DEVNULL``,
    ``STDOUT``, a descriptor or a file. With ``terminal`` the process gets a pseudo terminal: its
    master is sent to ``console_socket`` or else kept as :attr:`console`. ``pass_fds`` become 3, 4
    ... inside, after ``preserve_fds`` descriptors of the caller's from 3 upwards.

    A started process has a pid, a pidfd (:meth:`fileno`, for select and asyncio) and, for pipes,
    binary files ``stdin``, ``stdout``, ``stderr``; all are this object's and closed by
    :meth:`close` or leaving its ``with`` block, which does not end the process.
    """

    calls = False
    """Whether it comes to call a function of the caller's, and to execute nothing."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def __init__(
        self,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | Sequence[str] | None = None,
        cwd: str | None = None,
        user: int | str | tuple[int, int] | None = None,
        additional_gids: Sequence[int] | None = None,
        terminal: bool = False,
        console_socket: str | None = None,
        console_size: tuple[int, int] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        pass_fds: Sequence[int] = (),
        preserve_fds: int = 0,
        capabilities: Sequence[str] | None = None,
        no_new_privileges: bool | None = None,
        rlimits: Mapping[str, tuple[int, int]] | None = None,
        oom_score_adj: int | None = None,
        apparmor_profile: str | None = None,
        selinux_label: str | None = None,
        cgroup: str | Mapping[str, str] | None = None,
    ) -> None:
        self.args = list(args)
        self.cgroup = cgroup
        self._changes: dict[str, Any] = {
            "env": _env_list(env),
            "cwd": cwd,
            "additional_gids": additional_gids,
            "capabilities": capabilities,
            "no_new_privileges": no_new_privileges,
            "rlimits": rlimits,
            "oom_score_adj": oom_score_adj,
            "apparmor_profile": apparmor_profile,
            "selinux_label": selinux_label,
        }
        self._user = user_pair(user)
        self._document: dict[str, Any] | None = None
        self.terminal = terminal
        self.console_size = console_size
        self._stream_arguments = (stdin, stdout, stderr)
        self._stream_options: dict[str, Any] = {
            "terminal": terminal,
            "console_socket": console_socket,
            "pass_fds": tuple(pass_fds),
            "preserve_fds": preserve_fds,
        }
        self.stdin = self.stdout = self.stderr = None
        self._console: Fd | None = None
        self._pidfd: Fd | None = None
        self._identity: waiting.Identity | None = None
        self._returncode: int | None = None
        self._reaping = _thread.allocate_lock()
        self._exchange: Exchange | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any], **streams: Any) -> Process:
        """A process from a JSON-shaped ``process`` object, as in config.json, complete as it is.

        ``streams`` are the keyword arguments for stdio, terminals and descriptors.
        """
        streams.setdefault("terminal", bool(document.get("terminal")))
        process = cls(document.get("args") or (), **streams)
        process._document = dict(document)
        return process

    # ---- description ---------------------------------------------------------------------

    def describe(self, base: SpecProcess) -> SpecProcess:
        """The specification's process object: this description over the container's own process."""
        from libpycontainer.spec import light

        if self._document is not None:
            return light.record("Process", self._document)  # type: ignore[no-any-return]
        document = light.dump(base)
        document["args"] = self.args
        document["terminal"] = self.terminal
        document.pop("consoleSize", None)
        self._apply_changes(document)
        return light.record("Process", document)  # type: ignore[no-any-return]

    def _apply_changes(self, document: dict[str, Any]) -> None:
        changes = self._changes
        for name, key in (
            ("env", "env"),
            ("cwd", "cwd"),
            ("no_new_privileges", "noNewPrivileges"),
            ("oom_score_adj", "oomScoreAdj"),
            ("apparmor_profile", "apparmorProfile"),
            ("selinux_label", "selinuxLabel"),
        ):
            if changes[name] is not None:
                document[key] = changes[name]
        if self._user is not None:
            uid, gid = self._user
            user = {"uid": uid, "gid": gid}
            if "umask" in document.get("user", {}):
                user["umask"] = document["user"]["umask"]
            document["user"] = user
            # A variable of the container's own user would be wrong for another one.
            if changes["env"] is None:
                document["env"] = [e for e in document.get("env", ()) if not e.startswith("HOME=")]
        if changes["additional_gids"] is not None:
            document["user"] = {
                **document.get("user", {"uid": 0, "gid": 0}),
                "additionalGids": list(changes["additional_gids"]),
            }
        if changes["capabilities"] is not None:
            # Inheritable ones would come back with every program that has them in its file
            # (CVE-2022-24769), and ambient ones need them.
            kinds = ("bounding", "effective", "permitted")
            document["capabilities"] = {kind: list(changes["capabilities"]) for kind in kinds}
        if changes["rlimits"] is not None:
            document["rlimits"] = [
                {"type": name, "soft": soft, "hard": hard}
                for name, (soft, hard) in changes["rlimits"].items()
            ]

    def spawner(self, factory: Factory) -> Spawner:
        """What it is cloned by; not started yet, and its taker's to close."""
        return factory.spawner()

    def open_streams(self) -> Streams:
        """The descriptors for init. For the library's own use: one call per start."""
        from libpycontainer.streams import Streams

        if self._identity is not None:
            raise ContainerError(f"process {self.pid} has been started already", op="start")

        return Streams(*self._stream_arguments, **self._stream_options)

    # ---- a started process -----------------------------------------------------------------

    def attach(self, identity: waiting.Identity, pidfd: Fd, streams: Streams | None) -> None:
        """Become the handle of a running process; pidfd and streams become this object's."""
        self._identity = identity
        self._pidfd = pidfd
        if streams is None:
            return
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if number in streams.ours:
                mode = "wb" if number == 0 else "rb"
                setattr(self, name, os.fdopen(streams.ours.pop(number).detach(), mode))

    def attach_console(self, master: Fd) -> None:
        self._console = master

    @property
    def pid(self) -> int:
        """The pid as the caller sees it. Raises :class:`ContainerError` before the start."""
        if self._identity is None:
            raise ContainerError("the process has not been started")
        return self._identity.pid

    def fileno(self) -> int:
        """The pidfd, readable when the process has ended; it stays this object's."""
        if self._pidfd is None:
            raise ContainerError("the process has not been started, or its handle is closed")
        return self._pidfd.fileno()

    @property
    def console(self) -> int | None:
        """The master of its terminal; it stays this object's."""
        return None if self._console is None else self._console.fileno()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, or ``None`` as long as nobody has seen the end."""
        return self._returncode

    @property
    def held(self) -> bool:
        """Has it been started, and not been closed since?"""
        return self._pidfd is not None

    def poll(self) -> int | None:
        """Look whether it has ended, without waiting."""
        try:
            return self.wait(timeout=0)
        except TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; returns the exit code, negative for a signal, as subprocess does.

        ``timeout`` is in seconds; :class:`TimeoutExpired` is raised when it is up, and the process
        goes on. Works also where somebody else's ``waitpid(-1)`` was faster (Linux 6.15 or newer).
        """
        if self._returncode is None:
            fd = self.fileno()
            assert self._identity is not None
            deadline = None if timeout is None else time.monotonic() + timeout
            try:
                if not self._wait_readable(deadline):
                    raise TimeoutError
                self._reap(fd, deadline)
            except TimeoutError:
                raise TimeoutExpired(
                    f"process {self.pid} is still running after {timeout} s", timeout=timeout or 0.0
                ) from None
        assert self._returncode is not None
        return self._returncode

    def _reap(self, fd: int, deadline: float | None) -> None:
        """One thread at a time: before Linux 6.15, what one has taken no other can learn."""
        assert self._identity is not None
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        # acquire's own words: -1 is "for ever", and where it may not block at all.
        if not self._reaping.acquire(left != 0.0, left or -1.0):
            raise TimeoutError
        try:
            if self._returncode is None:
                self._returncode = waiting.exit_code(fd, self._identity, left)
        finally:
            self._reaping.release()

    def _wait_readable(self, deadline: float | None) -> bool:
        """Wait for the end, and reap those whose reaping it waits for itself."""
        assert self._identity is not None
        stuck: set[int] = set()
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            others = {each.fileno() for each in companions.remaining(self._identity)}
            # Ended, and not to be reaped as long as a tracer holds them: asked again now and then.
            stuck &= others
            look = min(_STUCK_LOOK, _STUCK_LOOK if left is None else left) if stuck else left
            ended = reaping.wait_any([self.fileno(), *(others - stuck)], look)
            if self.fileno() in ended:
                return True
            if not ended and (left is not None and left <= (look or 0.0)):
                return False
            stuck |= set(ended)

    def signal(self, number: int) -> None:
        """Send a signal; raises :class:`ProcessLookupError` once the process is gone."""
        _signal.pidfd_send_signal(self.fileno(), number)

    def kill(self) -> None:
        """Send SIGKILL; a process that is gone already is fine."""
        try:
            self.signal(9)
        except ProcessLookupError:
            pass

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal a new size. Raises :class:`ContainerError` where it has none."""
        if self._console is None:
            raise ContainerError("the process has no terminal that this caller holds")
        from libpycontainer import syscalls as sys_

        window = rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4)
        sys_.ioctl_buffer(self._console.fileno(), sys_.TIOCSWINSZ, bytearray(window))

    def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Feed ``input``, collect the output until its end, and wait; as subprocess does it.

        Raises :class:`TimeoutExpired` after ``timeout`` seconds, with the output so far; the
        process then goes on, and another call goes on with it and loses nothing.
        """
        from libpycontainer.communicate import Exchange

        if self._exchange is None:
            self._exchange = Exchange(self, input)
        return self._exchange.finish(timeout)

    def close(self) -> None:
        """Close the pidfd, the pipes and the terminal. The process itself is left alone."""
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                try:
                    file.close()
                except BrokenPipeError:
                    pass
        for fd in (self._console, self._pidfd):
            if fd is not None:
                fd.close()
        self._console = self._pidfd = None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        pid = self._identity.pid if self._identity else None
        return f"<Process {self.args!r} pid={pid} returncode={self._returncode}>"


def _env_list(env: Mapping[str, str] | Sequence[str] | None) -> list[str] | None:
    if env is None:
        return None
    if hasattr(env, "items"):
        for name in env:
            if not name or "=" in name:
                raise ContainerError(f"invalid name of a variable: {name!r}", op="env")
        return [f"{name}={value}" for name, value in env.items()]
    return list(env)


def user_pair(user: int | str | tuple[int, int] | None) -> tuple[int, int] | None:
    if user is None:
        return None
    if isinstance(user, tuple):
        return user
    uid, _, gid = str(user).partition(":")
    if not all(part.isascii() and part.isdigit() for part in (uid, gid or "0")):
        raise ContainerError(
            f"invalid user {user!r}: give numbers, as 1000 or '1000:1000' (names belong to the "
            "container, which is not asked)",
            op="user",
        )
    return int(uid), int(gid or 0)
