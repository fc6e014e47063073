/*
 * The shim: what CPython cannot ask of the kernel, and the two moments when no Python may run
 * (between clone and execve of a helper that shares our memory, and the last act before the
 * container's program). Every function returns a value >= 0, or -errno; none keeps state, none
 * exits the caller. Lines that begin with '#' are for the C compiler only: the rest is also the
 * declaration that cffi reads (build_shim.py).
 */
#ifndef LIBPYCONTAINER_SHIM_H
#define LIBPYCONTAINER_SHIM_H
#include <stddef.h>
#include <stdint.h>

/* ---- processes ------------------------------------------------------------------------- */

struct lpc_spawn {
    int exe_fd;            /* the program, or -1: the one at path */
    char *path;
    char **argv;
    char **envp;
    const int *fds;        /* become 0..nfds-1; the child gets no others */
    int nfds;
    int block_signals;     /* keep every signal blocked in the child; else none, all at default */
    int pidfd;             /* out */
};

/*
 * Start a program. The child shares our memory until execve (no page tables are copied), so the
 * cost does not grow with the caller. Returns the pid; the caller owns self->pidfd.
 */
int lpc_spawn(struct lpc_spawn *self);

/*
 * clone3 without a shared memory: returns 0 in the child, the pid in the caller, whose *pidfd is
 * then set. A cgroup_fd >= 0 starts the child in that (v2) cgroup.
 */
int lpc_clone(uint64_t flags, int cgroup_fd, int *pidfd);

/*
 * Park a child in fresh namespaces: clone_flags at clone, unshare_flags right after. It shares our
 * memory, does nothing, sends no signal when it ends, and ends when *keeper is closed, whatever
 * becomes of us. Its stack is *stack, stack_size bytes from the caller, who frees it once the
 * child was waited for (waitid with __WALL). Returns the pid, and its pidfd.
 */
int lpc_park(uint64_t clone_flags, uint64_t unshare_flags, void *stack, size_t stack_size,
             int *pidfd, int *keeper);

/* End a parked child and reap it. Its two descriptors are closed and become -1; -1 is no child. */
int lpc_unpark(int *pidfd, int *keeper);

struct lpc_finish {
    char *path;            /* the executable, resolved; NULL: none, this process goes on */
    char **argv;
    char **envp;
    char *cwd;             /* entered before or after the change of user, whichever may */
    uint32_t uid, gid;
    const uint32_t *groups;
    int ngroups;           /* -1: leave the groups alone (setgroups is denied) */
    int umask;             /* -1: leave */
    uint64_t bounding, permitted, effective, inheritable, ambient;
    int last_cap;
    int no_new_privileges;
    const void *filter;    /* struct sock_filter[filter_length], or NULL */
    int filter_length;
    unsigned int filter_flags;
    int channel;           /* where a listener is handed over: "listener", then "continue" */
    const int *fds;        /* become 0..nfds-1; everything above is close-on-exec */
    int nfds;
    const uint64_t *rlimits; /* resource, soft, hard; and so on */
    int nrlimits;
    int stage;             /* out: which act failed, an LPC_STAGE number */
};

/*
 * The last act before the container's program: descriptors, groups, ids, capabilities, seccomp,
 * execve. Returns a negative number on failure, self->stage tells where; 0 where path is NULL.
 */
int lpc_finish(struct lpc_finish *self);

/* ---- packets that carry descriptors ---------------------------------------------------- */

int lpc_send(int sock, const void *data, size_t size, const int *fds, int nfds, int flags);
/*
 * Received descriptors are close-on-exec. A cut packet is an error and its descriptors are shut.
 * -EINTR is the caller's to retry: Python runs its signal handlers in between.
 */
int lpc_recv(int sock, void *data, size_t size, int *fds, int max_fds, int *nfds, int flags);
/* Sockets of one type (SOCK_SEQPACKET, SOCK_STREAM) in AF_UNIX, all close-on-exec. */
int lpc_socketpair(int type, int *ends);
int lpc_listen(const char *path, int type, int backlog);
int lpc_connect(const char *path, int type, int nonblocking);
int lpc_shutdown_writing(int sock);
int lpc_accept(int sock);  /* -EINTR as above */

/* ---- namespaces ------------------------------------------------------------------------ */

int lpc_setns(int fd, int flags);
int lpc_unshare(uint64_t flags);
int lpc_loopback_up(void);
int lpc_sethostname(const char *name, size_t size);
int lpc_setdomainname(const char *name, size_t size);

/* ---- mounts and paths ------------------------------------------------------------------ */

int lpc_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int lpc_open_tree(int dirfd, const char *path, unsigned int flags);
int lpc_move_mount(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags);
int lpc_fsopen(const char *name, unsigned int flags);
int lpc_fspick(int dirfd, const char *path, unsigned int flags);
int lpc_fsconfig(int fd, unsigned int command, const char *key, const char *value, int aux);
int lpc_fsmount(int fd, unsigned int flags, unsigned int attributes);
int lpc_mount_setattr(int dirfd, const char *path, unsigned int flags, uint64_t set,
                      uint64_t clear, uint64_t propagation, int userns_fd);
int lpc_mount(const char *source, const char *target, const char *type, unsigned long flags,
              const char *data);
int lpc_umount2(const char *path, int flags);
int lpc_pivot_root(const char *new_root, const char *put_old);
int lpc_fstatfs_type(int fd, int64_t *type);
int lpc_memfd_create(const char *name, unsigned int flags);
int lpc_seal(int fd);      /* against every change, of content and of seals */

/* ---- the process's own properties -------------------------------------------------------- */

int lpc_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int lpc_set_rlimit(int resource, uint64_t soft, uint64_t hard);
int lpc_get_rlimit(int resource, uint64_t *soft, uint64_t *hard);
int lpc_personality(unsigned long persona);
int64_t lpc_join_session_keyring(const char *name);
int64_t lpc_keyctl(int command, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int lpc_sched_setattr(int pid, const void *attr);
int lpc_ioprio_set(int which, int who, int ioprio);
int lpc_set_mempolicy(int mode, const unsigned long *mask, unsigned long maxnode);

/* ---- odds and ends ----------------------------------------------------------------------- */

int lpc_dup_above(int fd, int least); /* close-on-exec */
int lpc_close_range(unsigned int first, unsigned int last, unsigned int flags);
int lpc_ioctl(int fd, unsigned long request, void *argument);
/* seccomp(2); -EFAULT for SECCOMP_SET_MODE_FILTER without a program: the flags are known. */
int lpc_seccomp(unsigned int operation, unsigned int flags, void *argument);
int lpc_bpf(int command, void *attr, unsigned int size);
int lpc_pidfd_send_signal(int pidfd, int signal);
int lpc_inotify_init(void);  /* close-on-exec, non-blocking */
int lpc_inotify_add_watch(int fd, const char *path, uint32_t mask);
/* 1: *status is the exit status in wait(2)'s coding; 0: still running; -ENODATA: lost. */
int lpc_pidfd_exit_status(int pidfd, int *status);

#endif
