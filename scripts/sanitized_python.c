/*
 * A Python that has the runtime of AddressSanitizer and UBSan from its first instruction, so that
 * an instrumented shim can be loaded into it. The options are compiled in and the reports go to a
 * descriptor that is opened before main: a container's init has neither an environment nor, after
 * its pivot_root, a way to a log file.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Above what a test hands to a container, below what a process may have open by default. */
#define REPORT_FD 1000

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
void __sanitizer_on_print(const char *text);

/*
 * Python frees little when it ends, so leaks are not looked for. Faults, signal stacks and core
 * limits stay what the tests make of them; a refused allocation is Python's MemoryError.
 */
const char *__asan_default_options(void)
{
    return "detect_leaks=0:detect_stack_use_after_return=1:allocator_may_return_null=1:"
           "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:use_sigaltstack=0:disable_coredump=0:"
           "quarantine_size_mb=4:exitcode=99";
}

const char *__ubsan_default_options(void)
{
    return "print_stacktrace=1:exitcode=99";
}

__attribute__((constructor)) static void open_reports(void)
{
    int fd = open(REPORTS, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return;
    dup3(fd, REPORT_FD, O_CLOEXEC);
    close(fd);
}

/* Both runtimes call it with everything that they print, to wherever standard error leads. */
void __sanitizer_on_print(const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t written = write(REPORT_FD, text, left);
        if (written <= 0)
            return;
        text += written;
        left -= (size_t)written;
    }
}

int main(int argc, char **argv)
{
    PyPreConfig config;

    /* Python's own allocator cuts small objects out of large pieces, where an overrun is unseen. */
    PyPreConfig_InitPythonConfig(&config);
    config.allocator = PYMEM_ALLOCATOR_MALLOC;
    if (PyStatus_Exception(Py_PreInitializeFromBytesArgs(&config, argc, argv)))
        return 1;
    return Py_BytesMain(argc, argv);
}
