/* Processes, packets and bare system calls; see shim.h for what each one promises. */

#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"

/* The numbers above 423 are the same on every architecture; older headers lack some. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#define SYS_fspick 433
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#define CLONE_INTO_CGROUP_FLAG 0x200000000ULL

static int result(long value)
{
    return value < 0 ? -errno : (int)value;
}

/* ---- processes --------------------------------------------------------------------------- */

struct spawning {
    struct lpc_spawn *request;
    int *moved;
    int error;
};

/*
 * Runs in the caller's memory: it may call nothing but the kernel, and write only what it owns. It
 * ends by returning to clone, as noreturn functions unwind a stack that is not ours under a sanitizer.
 */
static int spawn_child(void *argument)
{
    struct spawning *self = argument;
    struct lpc_spawn *request = self->request;
    int exe_fd = -1;

    if (request->exe_fd >= 0) {
        exe_fd = fcntl(request->exe_fd, F_DUPFD_CLOEXEC, request->nfds);
        if (exe_fd < 0) {
            self->error = -errno;
            return 127;
        }
    }
    self->error = lpc_place_fds(request->fds, request->nfds, self->moved);
    if (self->error < 0)
        return 127;
    if (!request->block_signals)
        lpc_reset_signals();
    if (exe_fd >= 0)
        syscall(SYS_execveat, exe_fd, "", request->argv, request->envp, AT_EMPTY_PATH);
    else
        execve(request->path, request->argv, request->envp);
    self->error = -errno;
    return 127;
}

#define SPAWN_STACK (64 * 1024)

static void reap(int pidfd, int options)
{
    siginfo_t info;
    while (waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, options) < 0 && errno == EINTR)
        ;
}

int lpc_spawn(struct lpc_spawn *request)
{
    int moved[request->nfds > 0 ? request->nfds : 1];
    struct spawning self = {request, moved, 0};
    sigset_t all, before;
    char *stack = mmap(NULL, SPAWN_STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    /* The caller's handlers must not run in the child, whose memory is the caller's. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int pid = clone(spawn_child, stack + SPAWN_STACK,
                    CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &self, &request->pidfd);
    int error = pid < 0 ? -errno : self.error;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, SPAWN_STACK);
    if (pid >= 0 && error < 0) {
        reap(request->pidfd, WEXITED);
        close(request->pidfd);
    }
    if (error < 0)
        request->pidfd = -1;
    return error < 0 ? error : pid;
}

/*
 * Where the C library keeps this thread's id, for its locks: in a child that may start threads it
 * must be the child's own. NULL where the kernel does not tell (CONFIG_CHECKPOINT_RESTORE).
 */
static void *thread_id_address(void)
{
    void *address = NULL;
    return prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) < 0 ? NULL : address;
}

int lpc_clone(uint64_t flags, int cgroup_fd, int *pidfd)
{
    int received = -1;
    void *thread_id = thread_id_address();
    struct clone_args args = {
        .flags = flags | CLONE_PIDFD | (thread_id ? CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID : 0),
        .child_tid = (uintptr_t)thread_id,
        .pidfd = (uintptr_t)&received,
        /* A child made with CLONE_PARENT inherits our own exit signal and may not name one. */
        .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
    };
    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP_FLAG;
        args.cgroup = (__u64)cgroup_fd;
    }
    int pid = result(syscall(SYS_clone3, &args, sizeof args));
    if (pid > 0)
        *pidfd = received;
    return pid;
}

struct park {
    uint64_t unshare_flags;
    int theirs;
};

static int park_child(void *argument)
{
    struct park *self = argument;
    char byte;
    int theirs = self->theirs;
    int status;

    /*
     * Our copies of the caller's descriptors would keep alive what he closes, another parked
     * child's keeper for one.
     */
    if (theirs > 0)
        syscall(SYS_close_range, 0, theirs - 1, 0);
    syscall(SYS_close_range, theirs + 1, ~0U, 0);
    status = self->unshare_flags && unshare((int)self->unshare_flags) < 0 ? -errno : 0;
    if (write(theirs, &status, sizeof status) == (ssize_t)sizeof status && status == 0)
        while (read(theirs, &byte, 1) < 0 && errno == EINTR)
            ;
    return 0;
}

int lpc_park(uint64_t clone_flags, uint64_t unshare_flags, void *stack, size_t stack_size,
             int *pidfd, int *keeper)
{
    int ends[2], status = 0;
    sigset_t all, before;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    struct park *self = stack;
    *self = (struct park){unshare_flags, ends[1]};
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int pid = clone(park_child, (char *)stack + stack_size,
                    (int)(clone_flags | CLONE_VM | CLONE_PIDFD), self, pidfd);
    int error = pid < 0 ? -errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (error == 0) {
        ssize_t got;
        while ((got = read(ends[0], &status, sizeof status)) < 0 && errno == EINTR)
            ;
        error = got == (ssize_t)sizeof status ? status : -EIO;
    }
    if (error < 0) {
        close(ends[0]);
        if (pid >= 0) {
            reap(*pidfd, WEXITED | __WALL);
            close(*pidfd);
        }
        return error;
    }
    *keeper = ends[0];
    return pid;
}

int lpc_unpark(int *pidfd, int *keeper)
{
    if (*keeper < 0)
        return 0;
    close(*keeper);
    *keeper = -1;
    reap(*pidfd, WEXITED | __WALL);
    close(*pidfd);
    *pidfd = -1;
    return 0;
}

/* ---- packets that carry descriptors ------------------------------------------------------ */

#define MAX_FDS 253 /* SCM_MAX_FD */

int lpc_send(int sock, const void *data, size_t size, const int *fds, int nfds, int flags)
{
    union {
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    long sent;

    if (nfds > MAX_FDS)
        return -E2BIG;
    if (nfds > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
        struct cmsghdr *header = &control.align;
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
        memcpy(CMSG_DATA(header), fds, (size_t)nfds * sizeof(int));
    }
    do
        sent = sendmsg(sock, &message, flags | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return result(sent);
}

static int collect_fds(struct msghdr *message, int *fds, int max_fds)
{
    int count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        int here = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + (size_t)i * sizeof(int), sizeof fd);
            if (count < max_fds)
                fds[count++] = fd;
            else
                close(fd);
        }
    }
    return count;
}

int lpc_recv(int sock, void *data, size_t size, int *fds, int max_fds, int *nfds, int flags)
{
    union {
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {data, size};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    long received;

    *nfds = 0;
    received = recvmsg(sock, &message, flags | MSG_CMSG_CLOEXEC);
    if (received < 0)
        return -errno;
    *nfds = collect_fds(&message, fds, max_fds);
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (int i = 0; i < *nfds; i++)
            close(fds[i]);
        *nfds = 0;
        return -EMSGSIZE;
    }
    return (int)received;
}

int lpc_socketpair(int type, int *ends)
{
    return result(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends));
}

static int unix_socket(const char *path, int type, struct sockaddr_un *address)
{
    if (strlen(path) >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    strcpy(address->sun_path, path);
    return result(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
}

int lpc_listen(const char *path, int type, int backlog)
{
    struct sockaddr_un address;
    int sock = unix_socket(path, type, &address);
    if (sock < 0)
        return sock;
    if (bind(sock, (struct sockaddr *)&address, sizeof address) < 0 || listen(sock, backlog) < 0) {
        int error = -errno;
        close(sock);
        return error;
    }
    return sock;
}

int lpc_connect(const char *path, int type, int nonblocking)
{
    struct sockaddr_un address;
    int sock = unix_socket(path, nonblocking ? type | SOCK_NONBLOCK : type, &address);
    if (sock < 0)
        return sock;
    if (connect(sock, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = -errno;
        close(sock);
        return error;
    }
    return sock;
}

int lpc_shutdown_writing(int sock)
{
    return result(shutdown(sock, SHUT_WR));
}

int lpc_accept(int sock)
{
    return result(accept4(sock, NULL, NULL, SOCK_CLOEXEC));
}

/* ---- namespaces -------------------------------------------------------------------------- */

int lpc_setns(int fd, int flags)
{
    return result(setns(fd, flags));
}

int lpc_unshare(uint64_t flags)
{
    return result(unshare((int)flags));
}

int lpc_loopback_up(void)
{
    struct ifreq request;
    int status;
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return -errno;
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    status = result(ioctl(sock, SIOCGIFFLAGS, &request));
    if (status == 0) {
        request.ifr_flags |= IFF_UP;
        status = result(ioctl(sock, SIOCSIFFLAGS, &request));
    }
    close(sock);
    return status;
}

int lpc_sethostname(const char *name, size_t size)
{
    return result(sethostname(name, size));
}

int lpc_setdomainname(const char *name, size_t size)
{
    return result(setdomainname(name, size));
}

/* ---- mounts and paths -------------------------------------------------------------------- */

int lpc_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    uint64_t how[3] = {flags, mode, resolve};
    long fd;
    /* EAGAIN: a rename raced the walk, so the kernel could not vouch for "..": walk again. */
    for (int attempt = 0; attempt < 128; attempt++) {
        fd = syscall(SYS_openat2, dirfd, path, how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return result(fd);
}

int lpc_open_tree(int dirfd, const char *path, unsigned int flags)
{
    return result(syscall(SYS_open_tree, dirfd, path, flags));
}

int lpc_move_mount(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags)
{
    return result(syscall(SYS_move_mount, from_fd, from, to_fd, to, flags));
}

int lpc_fsopen(const char *name, unsigned int flags)
{
    return result(syscall(SYS_fsopen, name, flags));
}

int lpc_fspick(int dirfd, const char *path, unsigned int flags)
{
    return result(syscall(SYS_fspick, dirfd, path, flags));
}

int lpc_fsconfig(int fd, unsigned int command, const char *key, const char *value, int aux)
{
    return result(syscall(SYS_fsconfig, fd, command, key, value, aux));
}

int lpc_fsmount(int fd, unsigned int flags, unsigned int attributes)
{
    return result(syscall(SYS_fsmount, fd, flags, attributes));
}

int lpc_mount_setattr(int dirfd, const char *path, unsigned int flags, uint64_t set,
                      uint64_t clear, uint64_t propagation, int userns_fd)
{
    uint64_t attributes[4] = {set, clear, propagation, userns_fd < 0 ? 0 : (uint64_t)userns_fd};
    return result(syscall(SYS_mount_setattr, dirfd, path, flags, attributes, sizeof attributes));
}

int lpc_mount(const char *source, const char *target, const char *type, unsigned long flags,
              const char *data)
{
    return result(mount(source, target, type, flags, data));
}

int lpc_umount2(const char *path, int flags)
{
    return result(umount2(path, flags));
}

int lpc_pivot_root(const char *new_root, const char *put_old)
{
    return result(syscall(SYS_pivot_root, new_root, put_old));
}

int lpc_fstatfs_type(int fd, int64_t *type)
{
    struct statfs info;
    if (fstatfs(fd, &info) < 0)
        return -errno;
    *type = (int64_t)info.f_type;
    return 0;
}

int lpc_memfd_create(const char *name, unsigned int flags)
{
    return result(syscall(SYS_memfd_create, name, flags));
}

int lpc_seal(int fd)
{
    return result(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
}

/* ---- the process's own properties --------------------------------------------------------- */

int lpc_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
    return result(prctl(option, a, b, c, d));
}

int lpc_set_rlimit(int resource, uint64_t soft, uint64_t hard)
{
    uint64_t limit[2] = {soft, hard};
    return result(syscall(SYS_prlimit64, 0, resource, limit, NULL));
}

int lpc_get_rlimit(int resource, uint64_t *soft, uint64_t *hard)
{
    uint64_t limit[2];
    if (syscall(SYS_prlimit64, 0, resource, NULL, limit) < 0)
        return -errno;
    *soft = limit[0];
    *hard = limit[1];
    return 0;
}

int lpc_personality(unsigned long persona)
{
    return result(personality(persona));
}

int64_t lpc_keyctl(int command, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
    long value = syscall(SYS_keyctl, command, a, b, c, d);
    return value < 0 ? -errno : value;
}

int64_t lpc_join_session_keyring(const char *name)
{
    return lpc_keyctl(KEYCTL_JOIN_SESSION_KEYRING, (unsigned long)name, 0, 0, 0);
}

int lpc_sched_setattr(int pid, const void *attr)
{
    return result(syscall(SYS_sched_setattr, pid, attr, 0));
}

int lpc_ioprio_set(int which, int who, int ioprio)
{
    return result(syscall(SYS_ioprio_set, which, who, ioprio));
}

int lpc_set_mempolicy(int mode, const unsigned long *mask, unsigned long maxnode)
{
    return result(syscall(SYS_set_mempolicy, mode, mask, maxnode));
}

/* ---- odds and ends ------------------------------------------------------------------------ */

int lpc_dup_above(int fd, int least)
{
    return result(fcntl(fd, F_DUPFD_CLOEXEC, least));
}

int lpc_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
    return result(syscall(SYS_close_range, first, last, flags));
}

int lpc_ioctl(int fd, unsigned long request, void *argument)
{
    return result(ioctl(fd, request, argument));
}

int lpc_seccomp(unsigned int operation, unsigned int flags, void *argument)
{
    return result(syscall(SYS_seccomp, operation, flags, argument));
}

int lpc_bpf(int command, void *attr, unsigned int size)
{
    return result(syscall(SYS_bpf, command, attr, size));
}

int lpc_pidfd_send_signal(int pidfd, int number)
{
    return result(syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0));
}

int lpc_inotify_init(void)
{
    return result(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
}

int lpc_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    return result(inotify_add_watch(fd, path, mask));
}

/* linux/pidfd.h of 6.15, spelled out: headers that old distributions ship lack it. */
struct pidfd_info_v1 {
    uint64_t mask;
    uint64_t cgroupid;
    uint32_t pid, tgid, ppid;
    uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
#define PIDFD_GET_INFO_V1 _IOWR(0xFF, 11, struct pidfd_info_v1)
#define PIDFD_INFO_EXIT_FLAG (1ULL << 3)

int lpc_pidfd_exit_status(int pidfd, int *status)
{
    struct pidfd_info_v1 info = {.mask = PIDFD_INFO_EXIT_FLAG};
    if (ioctl(pidfd, PIDFD_GET_INFO_V1, &info) < 0)
        /* ESRCH: gone and reaped before 6.15 could keep it; ENOTTY, EINVAL: an older kernel. */
        return errno == ESRCH || errno == ENOTTY || errno == EINVAL ? -ENODATA : -errno;
    if (!(info.mask & PIDFD_INFO_EXIT_FLAG))
        return 0;
    *status = info.exit_code;
    return 1;
}
