"""The default system call filter: the one that Docker documents, as our own data.

Whatever a program of a container needs is allowed; what reaches into the kernel beyond namespaces
and capabilities (new namespaces, keys, kernel modules, BPF, io_uring, other people's memory policy)
gets EPERM. A capability that the container has brings the calls that it is for.

Source: docs.docker.com/engine/security/seccomp, and the default profile as Docker 28 writes it into
a configuration.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

ALLOWED = """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2
    dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
    fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
    fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd
    getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid
    gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
    io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
    pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2
    read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
    riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32
    setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr
    setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64
    utimes vfork vmsplice wait4 waitid waitpid write writev
"""

BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount
        mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
        sethostname setns syslog umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

X86 = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
ARM = ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")
S390 = ("SCMP_ARCH_S390X", "SCMP_ARCH_S390")
ARM_CALLS = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"
S390_CALLS = "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"
MACHINES: dict[str, tuple[tuple[str, ...], str]] = {
    "x86_64": (X86, "arch_prctl modify_ldt"),
    "i686": (X86[1:2], "modify_ldt"),
    "aarch64": (ARM, ARM_CALLS),
    "armv7l": (ARM[1:], ARM_CALLS),
    "ppc64le": (("SCMP_ARCH_PPC64LE",), "sync_file_range2 swapcontext"),
    "riscv64": (("SCMP_ARCH_RISCV64",), "riscv_flush_icache"),
    "s390x": (S390, S390_CALLS),
}
"""By ``uname -m``: the architectures whose calls may be made, and the calls that it alone has.

On any other machine the filter is for its native architecture alone.
"""

EPERM, ENOSYS = 1, 38
AF_VSOCK = 40
PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, either with UNAME26, and the question which one it is."""
NEW_NAMESPACES = 0x7E020000
"""Every CLONE_NEW* flag that clone takes."""


def section(capabilities: Iterable[str] = (), machine: str | None = None) -> dict[str, Any]:
    """The profile for a container with these capabilities, shaped like ``linux.seccomp``.

    ``machine`` is ``uname -m``'s, by default this host's.
    """
    held = [name for name in BY_CAPABILITY if name in set(capabilities)]
    machine = os.uname().machine if machine is None else machine
    architectures, own = MACHINES.get(machine, ((), ""))
    names = [*ALLOWED.split(), *own.split()]
    names += [call for capability in held for call in BY_CAPABILITY[capability].split()]
    found: dict[str, Any] = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EPERM}
    if architectures:
        found["architectures"] = list(architectures)
    rules = [_allow(list(dict.fromkeys(names)))]
    # The host's hypervisor listens there, and no namespace is around it.
    rules.append(_allow(["socket"], 0, AF_VSOCK, "SCMP_CMP_NE"))
    rules += [_allow(["personality"], 0, each, "SCMP_CMP_EQ") for each in PERSONALITIES]
    if "CAP_SYS_ADMIN" not in held:
        flags = 1 if machine == "s390x" else 0
        rules.append(_allow(["clone"], flags, NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ"))
        # Its flags lie in memory, where a filter cannot look; C libraries fall back to clone.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    found["syscalls"] = rules
    return found


def _allow(
    names: list[str], index: int | None = None, value: int = 0, op: str = ""
) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW"}
    if index is not None:
        # Of MASKED_EQ the value is the mask; what must be left under it is 0.
        rule["args"] = [{"index": index, "value": value, "op": op}]
    return rule
