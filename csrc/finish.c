/* The last act before the container's program runs: one call, so that nothing can come between. */

#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SECCOMP_FILTER_FLAG_NEW_LISTENER
#define SECCOMP_FILTER_FLAG_NEW_LISTENER (1UL << 3)
#endif

/*
 * Put fds[i] at i. They are first moved above the whole range, because a source may be another
 * one's place. The first pass leaves close-on-exec copies, which execve sweeps away.
 */
int lpc_place_fds(const int *fds, int nfds, int *moved)
{
    for (int i = 0; i < nfds; i++) {
        moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, nfds);
        if (moved[i] < 0)
            return -errno;
    }
    for (int i = 0; i < nfds; i++)
        if (dup2(moved[i], i) < 0)
            return -errno;
    if (syscall(SYS_close_range, nfds, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return -errno;
    return 0;
}

static int drop_bounding(uint64_t keep, int last_cap)
{
    for (int cap = 0; cap <= last_cap; cap++) {
        if (keep >> cap & 1)
            continue;
        /* Asking first spares a process without CAP_SETPCAP that has nothing to lose. */
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 1)
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return -errno;
    }
    return 0;
}

/*
 * A working directory outside the root would be a way out (CVE-2024-21626): the kernel's getcwd
 * marks one with "(unreachable)" instead of a leading slash.
 */
static int verify_cwd(void)
{
    char path[4096];
    long size = syscall(SYS_getcwd, path, sizeof path);
    if (size < 0)
        return -errno;
    return path[0] == '/' ? 0 : -EXDEV;
}

static int enter_cwd(const char *cwd)
{
    if (chdir(cwd) < 0)
        return -errno;
    return verify_cwd();
}

/* Raw system calls: glibc's setuid and friends would look for threads to carry along. */
static int change_ids(const struct lpc_finish *self)
{
    if (syscall(SYS_setresgid, self->gid, self->gid, self->gid) < 0)
        return -errno;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return -errno;
    if (syscall(SYS_setresuid, self->uid, self->uid, self->uid) < 0)
        return -errno;
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

/*
 * Without no_new_privs only CAP_SYS_ADMIN may load a filter. It is kept for that, and goes with
 * execve, which makes the effective and permitted sets anew from the others (man 7 capabilities):
 * so the filter can be loaded after everything else, and need allow nothing but execve.
 */
static uint64_t needed_for_filter(const struct lpc_finish *self)
{
    return self->filter && !self->no_new_privileges ? UINT64_C(1) << CAP_SYS_ADMIN : 0;
}

static int set_capabilities(const struct lpc_finish *self)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    uint64_t effective = self->effective | needed_for_filter(self);
    uint64_t permitted = self->permitted | needed_for_filter(self);
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(effective >> (32 * i));
        data[i].permitted = (uint32_t)(permitted >> (32 * i));
        data[i].inheritable = (uint32_t)(self->inheritable >> (32 * i));
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int raise_ambient(uint64_t ambient, int last_cap)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;
    for (int cap = 0; cap <= last_cap; cap++)
        if (ambient >> cap & 1)
            if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
                return -errno;
    return 0;
}

/* ---- the filter, and the listener that it may have ---------------------------------------- */

#define HAND_OVER_STACK (64 * 1024)
#define NOT_LOADED_YET INT_MIN
/* Half a minute and more: only a thread that never gets a processor takes that long. */
#define PATIENCE (UINT64_C(1) << 32)

struct hand_over {
    int channel;
    int listener;  /* NOT_LOADED_YET; then the descriptor, or a negative number: it failed */
    int delivered;
};

/* One packet with the listener; its answer says that the agent has it. */
static int offer(int channel, int listener)
{
    static const char word[] = "listener", leave[] = "continue";
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec part = {(void *)(uintptr_t)word, sizeof word - 1};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    char answer[sizeof leave];
    long got;

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &listener, sizeof listener);
    if (syscall(SYS_sendmsg, channel, &message, MSG_NOSIGNAL) < 0)
        return -1;
    do
        got = syscall(SYS_recvfrom, channel, answer, sizeof answer, 0, NULL, NULL);
    while (got < 0 && errno == EINTR);
    return got == sizeof leave - 1 && memcmp(answer, leave, sizeof leave - 1) == 0 ? 0 : -1;
}

/*
 * A thread that the filter does not bind, because it is older. It shares everything with the
 * other one, errno too, so it makes no call that may fail as long as that one looks at it.
 */
static int hand_over(void *argument)
{
    struct hand_over *self = argument;
    int listener;
    while ((listener = __atomic_load_n(&self->listener, __ATOMIC_ACQUIRE)) == NOT_LOADED_YET)
        syscall(SYS_sched_yield);
    if (listener >= 0) {
        if (offer(self->channel, listener) < 0)
            syscall(SYS_exit_group, 1);
        __atomic_store_n(&self->delivered, 1, __ATOMIC_RELEASE);
    }
    syscall(SYS_exit, 0);
    return 0;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

/*
 * The filter may have any system call wait for the agent's answer, and the agent answers nothing
 * before it has the listener. So this thread makes no call at all until another one, which the
 * filter does not bind, has it delivered: it turns in a circle, some hundred microseconds long.
 * execve then ends the other thread.
 */
static int load_with_listener(const struct lpc_finish *self, struct sock_fprog *program)
{
    char *stack = mmap(NULL, HAND_OVER_STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    /* At the stack's far end, which stays: after a failure the other thread still reads it. */
    struct hand_over *shared = (void *)stack;
    *shared = (struct hand_over){self->channel, NOT_LOADED_YET, 0};
    if (clone(hand_over, stack + HAND_OVER_STACK,
              CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SYSVSEM,
              shared) < 0)
        return -errno;
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, self->filter_flags, program);
    int loaded = listener < 0 ? -errno : (int)listener;
    __atomic_store_n(&shared->listener, loaded, __ATOMIC_RELEASE);
    if (loaded < 0)
        return loaded;
    for (uint64_t turn = 0; !__atomic_load_n(&shared->delivered, __ATOMIC_ACQUIRE); turn++) {
        if (turn > PATIENCE)
            __builtin_trap();
        relax();
    }
    return 0;
}

static int load_filter(const struct lpc_finish *self)
{
    struct sock_fprog program = {
        .len = (unsigned short)self->filter_length,
        .filter = (struct sock_filter *)(uintptr_t)self->filter,
    };
    if (!self->filter)
        return 0;
    if (self->filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
        return load_with_listener(self, &program);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, self->filter_flags, &program) < 0)
        return -errno;
    return 0;
}

/*
 * A program starts with default dispositions and nothing blocked, whatever its caller had. Raw
 * system calls, because glibc keeps two signals (32 and 33) to itself and would leave them ignored.
 */
void lpc_reset_signals(void)
{
    /* No kernel's struct sigaction is larger; all zero is SIG_DFL without flags. */
    static const char by_default[64];
    static const uint64_t nothing;
    for (int number = 1; number <= 64; number++)
        syscall(SYS_rt_sigaction, number, by_default, NULL, sizeof nothing);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &nothing, NULL, sizeof nothing);
}

/* After the descriptors, which a low limit on their number would refuse. */
static int set_rlimits(const struct lpc_finish *self)
{
    for (int i = 0; i < self->nrlimits; i++) {
        const uint64_t *limit = self->rlimits + 3 * i;
        if (syscall(SYS_prlimit64, 0, (int)limit[0], limit + 1, NULL) < 0)
            return -errno;
    }
    return 0;
}

#define ACT(number, call)             \
    do {                              \
        self->stage = (number);       \
        int failed_ = (call);         \
        if (failed_ < 0)              \
            return failed_;           \
    } while (0)

int lpc_finish(struct lpc_finish *self)
{
    int moved[self->nfds > 0 ? self->nfds : 1];

    ACT(LPC_STAGE_FDS, lpc_place_fds(self->fds, self->nfds, moved));
    ACT(LPC_STAGE_RLIMITS, set_rlimits(self));
    if (self->umask >= 0)
        umask((mode_t)self->umask);
    ACT(LPC_STAGE_BOUNDING, drop_bounding(self->bounding, self->last_cap));
    /* As root it reaches what the user may not search; as the user, what root may not (NFS). */
    int inside = enter_cwd(self->cwd);
    if (self->ngroups >= 0) {
        self->stage = LPC_STAGE_GROUPS;
        if (syscall(SYS_setgroups, self->ngroups, self->groups) < 0)
            return -errno;
    }
    ACT(LPC_STAGE_IDS, change_ids(self));
    if (inside < 0)
        ACT(LPC_STAGE_CWD, enter_cwd(self->cwd));
    ACT(LPC_STAGE_CAPABILITIES, set_capabilities(self));
    ACT(LPC_STAGE_AMBIENT, raise_ambient(self->ambient, self->last_cap));
    lpc_reset_signals();
    if (self->no_new_privileges) {
        self->stage = LPC_STAGE_NO_NEW_PRIVILEGES;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
            return -errno;
    }
    ACT(LPC_STAGE_SECCOMP, load_filter(self));
    if (!self->path)
        return 0;
    self->stage = LPC_STAGE_EXECVE;
    execve(self->path, self->argv, self->envp);
    return -errno;
}
