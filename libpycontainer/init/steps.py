"""The functions that a plan's steps name, and the table of them all."""

from __future__ import annotations

import os

from libpycontainer import hooks as hooks_
from libpycontainer import syscalls as sys_
from libpycontainer.init import paths, rootfs, scheduling
from libpycontainer.init.console import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libpycontainer.init.context import Context

ENOENT, ENOSYS, EACCES, EDQUOT = 2, 38, 13, 122
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
S_IFMT, S_IFIFO = 0o170000, 0o010000

# ---- before the clone, on the host's side ----------------------------------------------------


def set_oom_score_adj(context: Context, value: int) -> None:
    """Written while /proc is still the host's own (CVE-2019-16884 was a fake one)."""
    with (
        paths.host_procfs(context) as proc,
        paths.open_in_procfs(proc, "self/oom_score_adj", os.O_WRONLY) as file,
    ):
        os.write(file.fileno(), b"%d" % value)


def raise_rlimits(context: Context, limits: Sequence[tuple[str, int, int, int]]) -> None:
    for name, number, _soft, hard in limits:
        soft_now, hard_now = sys_.get_rlimit(number)
        if hard > hard_now:
            _set_rlimit(context, name, number, soft_now, hard)


def forbid_tracing(context: Context) -> None:
    """Nothing in a container that we join may trace us or read our memory (CVE-2016-9962)."""
    sys_.prctl(sys_.PR_SET_DUMPABLE, 0)


def join(context: Context, fd: str, flags: int, keep: bool) -> None:
    """Enter one namespace, or those of a process; ``keep`` its descriptor for a second time."""
    if flags:
        sys_.setns(context.fds[fd].fileno(), flags)
    if not keep:
        context.take(fd).close()


def report_progress(context: Context) -> None:
    """Announce each step from the next one on."""
    context.progress = True


# ---- identity --------------------------------------------------------------------------------


def await_continue(context: Context) -> None:
    context.await_word(b"continue")


def join_cgroups(context: Context) -> None:
    """Enter the v1 cgroups, through files that the caller opened.

    Only a process with one thread that names itself is spared the kernel's wait for a grace period,
    8 ms and more, which is why nobody else moves us.
    """
    for name in [name for name in context.fds if name.startswith("cgroup:")]:
        with context.take(name) as tasks:
            os.write(tasks.fileno(), b"0")


def unshare(context: Context, flags: int) -> None:
    sys_.unshare(flags)


def become_root(context: Context, groups: bool) -> None:
    """Root of the user namespace: with any other id its files could not even be made."""
    if groups:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def new_session(context: Context) -> None:
    os.setsid()


def join_keyring(context: Context, name: str, permissions: int) -> None:
    """A session keyring per container, so that no key of the caller's can be read in it."""
    try:
        ring = sys_.join_session_keyring(name)
    except OSError as error:
        if error.errno == ENOSYS:
            return
        if error.errno == EDQUOT:
            context.log("warning", "the quota of keys is used up: no session keyring of its own")
            return
        raise
    current = sys_.describe_key_permissions(ring)
    sys_.set_key_permissions(ring, current | permissions)


def loopback_up(context: Context) -> None:
    sys_.loopback_up()


def set_hostname(context: Context, name: str) -> None:
    sys_.sethostname(name)


def set_domainname(context: Context, name: str) -> None:
    sys_.setdomainname(name)


def write_sysctls(context: Context, values: Sequence[tuple[str, str]]) -> None:
    """Through a procfs that nothing mounted in the container lies over."""
    with _procfs(context) as mounted:
        for key, value in values:
            # Slashes and dots may be swapped: "net/ipv4/conf/eth0.100/x" (man 8 sysctl).
            path = key if "/" in key.partition(".")[0] else key.replace(".", "/")
            resolve = sys_.RESOLVE_NO_SYMLINKS
            with paths.open_in_procfs(mounted, f"sys/{path}", os.O_WRONLY, resolve=resolve) as file:
                try:
                    os.write(file.fileno(), value.encode())
                except OSError as error:
                    raise OSError(error.errno, error.strerror, key) from None


def _procfs(context: Context) -> sys_.Fd:
    """One of our own, or the container's where a user namespace does not own the pid namespace."""
    with sys_.fsopen("proc") as filesystem:
        try:
            sys_.fsconfig(filesystem.fileno(), sys_.FSCONFIG_CMD_CREATE)
            return sys_.fsmount(filesystem.fileno(), 0)
        except PermissionError:
            return paths.container_procfs(context)


# ---- the conversation ------------------------------------------------------------------------


def sync(context: Context, word: str) -> None:
    """Tell the caller how far we are, and wait for his leave to go on."""
    context.say(word.encode())
    context.await_word(b"continue")


def await_start(context: Context) -> None:
    """Created: nothing ties us to the caller any more. Whoever connects starts the program."""
    context.socket.close()
    with context.take("start") as listener:
        while True:
            connection = sys_.accept(listener.fileno())
            data, fds = sys_.receive(connection.fileno())
            for fd in fds:
                fd.close()
            if data == b"start":
                break
            connection.close()
    context.channel = connection


def run_hooks(
    context: Context,
    kind: str,
    hooks: Sequence[tuple[str, list[str], list[str], int | None]],
    state: tuple[str, str],
) -> None:
    document = f"{state[0]}{os.getpid()}{state[1]}".encode()
    if kind == "createContainer":
        # The old root is still in place and the new one prepared: hooks find it in their cwd.
        os.fchdir(context.root_fd())
    for index, hook in enumerate(hooks):
        path, args, env, timeout = hook
        failure = hooks_.execute(path, args, env, timeout, document)
        if failure:
            code = "" if failure.returncode is None else str(failure.returncode)
            message = f"hook {kind}[{index}] {path}: {failure.reason}"
            context.fail(message, op=f"hook:{kind}:{code}", path=path)


# ---- the program -----------------------------------------------------------------------------


def prepare_program(context: Context, args: list[str], env: list[str], cwd: str, uid: int) -> None:
    """Find the executable and the user's home now, so that ``create`` already reports a mistake."""
    variables = prepare_environment(context, env, uid)
    context.args = args
    search = variables.get("PATH", DEFAULT_PATH)
    context.program = _resolve(context, args[0], search, cwd)


def prepare_environment(context: Context, env: list[str], uid: int) -> dict[str, str]:
    """The environment, with the user's home where it names none; returns what it names."""
    paths.forget_trees(context)
    variables = {entry.partition("=")[0]: entry.partition("=")[2] for entry in env}
    context.env = list(env)
    if not variables.get("HOME"):
        context.env = [entry for entry in env if not entry.startswith("HOME=")]
        context.env.append(f"HOME={_home(context, uid)}")
    return variables


def _home(context: Context, uid: int) -> str:
    """The home directory that the container's own passwd gives to a uid, "/" without one."""
    data = paths.read_regular(context, "/etc/passwd")
    for line in (data or b"").split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 6 and fields[2].isdigit() and int(fields[2]) == uid:
            return os.fsdecode(fields[5]) or "/"
    return "/"


def _resolve(context: Context, name: str, search: str, cwd: str) -> str:
    """execvp's search inside the container. Messages are runc's, which clients read."""
    quoted = f'exec: "{name}"'
    if "/" in name:
        number = paths.executable_error(os.path.join(cwd, name))
        if number == ENOENT:
            message = f"{quoted}: stat {name}: no such file or directory"
            context.fail(message, op="resolve", path=name, errno=number)
        if number:
            reason = os.strerror(number).lower()
            context.fail(f"{quoted}: {reason}", op="resolve", path=name, errno=number)
        return name
    denied = 0
    for directory in search.split(":"):
        candidate = os.path.join(cwd, directory or ".", name)
        number = paths.executable_error(candidate)
        if number == 0:
            return candidate
        if number == EACCES:
            denied = number
    if denied:
        context.fail(f"{quoted}: permission denied", op="resolve", path=name, errno=EACCES)
    message = f"{quoted}: executable file not found in $PATH"
    context.fail(message, op="resolve", path=name, errno=ENOENT)


def set_exec_label(context: Context, attribute: str, label: str) -> None:
    """The LSM label that the next execve takes on."""
    with (
        _procfs(context) as proc,
        paths.open_in_procfs(proc, f"self/attr/{attribute}", os.O_WRONLY) as file,
    ):
        os.write(file.fileno(), label.encode())


def _set_rlimit(context: Context, name: str, number: int, soft: int, hard: int) -> None:
    try:
        sys_.set_rlimit(number, soft, hard)
    except OSError as error:
        reason = f"cannot set {name} to {soft}:{hard}: {error.strerror}"
        if error.errno == 1:
            reason += f" (the hard limit is {sys_.get_rlimit(number)[1]})"
        context.fail(reason, op="raise_rlimits", path=name, errno=error.errno or 0)


def execute(
    context: Context,
    cwd: str,
    uid: int,
    gid: int,
    groups: Sequence[int] | None,
    umask: int,
    effective: int,
    permitted: int,
    bounding: int,
    inheritable: int,
    ambient: int,
    last_cap: int,
    no_new_privileges: bool,
    filter: bytes,
    filter_flags: int,
    nfds: int,
    rlimits: Sequence[tuple[int, int, int]],
) -> None:
    """Become the program. Everything that is not its own was decided before.

    Where none was prepared (a call), this returns in what the program would have been.
    """
    # The program's descriptors are put in their places before the last thing that can fail: the
    # line on which failures are reported must lie above them.
    context.channel = sys_.dup_above(context.channel.fileno(), nfds)
    fds = _program_fds(context, nfds)
    _own_pipes(fds[:3], uid, gid)
    request = sys_.Finish()
    request.path, request.argv, request.env = context.program, context.args, context.env
    request.cwd, request.uid, request.gid, request.groups = cwd, uid, gid, groups
    request.umask = umask
    request.effective, request.permitted, request.bounding = effective, permitted, bounding
    request.inheritable, request.ambient, request.last_cap = inheritable, ambient, last_cap
    request.no_new_privileges = no_new_privileges
    request.filter, request.filter_flags = filter, filter_flags
    request.channel = context.channel.fileno()
    request.fds, request.rlimits = fds, rlimits
    # With this word before it, end-of-file on the channel means that execve has happened.
    context.say(b"executing")
    number, stage = sys_.finish(request)
    if not stage:
        return
    reason = os.strerror(number)
    if stage == "execve":
        message = f'exec: "{context.args[0]}": {_execve_reason(context, number)}'
    else:
        message = f"{context.title}: cannot {stage}: {reason}"
        if stage == "enter the working directory":
            message = f"cannot enter the working directory {cwd}: {reason}"
    context.fail(message, op=stage, path=context.program or "", errno=number)


def _execve_reason(context: Context, number: int) -> str:
    reason = os.strerror(number).lower()
    if number == ENOENT and paths.executable_error(context.program or "") == 0:
        # The file is there: what is missing is what it names, a script's or ELF's interpreter.
        return f"{reason} (the interpreter that it names is missing)"
    return reason


def _program_fds(context: Context, nfds: int) -> list[int]:
    names = [f"fd:{number}" for number in range(nfds)]
    terminal = context.fds.get("terminal")
    if terminal is not None:
        return [terminal.fileno()] * 3 + [context.fds[name].fileno() for name in names[3:]]
    return [context.fds[name].fileno() for name in names]


def _own_pipes(fds: Sequence[int], uid: int, gid: int) -> None:
    """Let the user reopen his standard streams through /proc/self/fd.

    Only anonymous pipes change hands. Terminals, files and devices may be the host's, and once a
    machine's /dev/null belonged to a container's user.
    """
    for fd in fds:
        if os.fstat(fd).st_mode & S_IFMT != S_IFIFO:
            continue
        if sys_.filesystem_type(fd) != sys_.PIPEFS_MAGIC:
            continue
        try:
            os.fchown(fd, uid, gid)
        except OSError:
            # An owner that this user namespace does not map: it stays as it is.
            pass


TABLE: dict[str, Callable[..., object]] = {
    function.__name__: function
    for function in (
        set_oom_score_adj,
        report_progress,
        raise_rlimits,
        forbid_tracing,
        join,
        await_continue,
        join_cgroups,
        unshare,
        become_root,
        new_session,
        join_keyring,
        loopback_up,
        rootfs.set_propagation,
        rootfs.attach_root,
        rootfs.open_root,
        rootfs.use_root,
        rootfs.mount,
        rootfs.remount,
        rootfs.bind,
        rootfs.bind_kernel_tree,
        rootfs.remount_read_only,
        rootfs.make_device,
        rootfs.bind_device,
        rootfs.make_symlink,
        rootfs.make_cwd,
        sync,
        run_hooks,
        rootfs.pivot_root,
        rootfs.move_root,
        rootfs.change_root,
        console,
        rootfs.read_only_root,
        rootfs.read_only_path,
        rootfs.mask_path,
        set_hostname,
        set_domainname,
        write_sysctls,
        scheduling.set_affinity,
        scheduling.set_personality,
        scheduling.set_memory_policy,
        scheduling.set_io_priority,
        scheduling.set_scheduler,
        prepare_program,
        await_start,
        set_exec_label,
        execute,
    )
}
