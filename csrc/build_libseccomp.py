"""How cffi declares libseccomp: ``libpycontainer.seccomp._libseccomp``, pure Python, ABI mode.

Nothing is compiled and no header is needed: the module only says what the calls look like, and the
library is opened at run time, where a filter has to be compiled. The result is kept with the
sources, where a test holds it current; ``python csrc/build_libseccomp.py`` writes it anew.

Source: seccomp.h of libseccomp 2.5, whose ABI (libseccomp.so.2) has kept these since 2.2.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef("""
typedef void *scmp_filter_ctx;

struct scmp_version { unsigned int major, minor, micro; };

struct scmp_arg_cmp {
    unsigned int arg;
    int op;
    uint64_t datum_a, datum_b;
};

const struct scmp_version *seccomp_version(void);
scmp_filter_ctx seccomp_init(uint32_t default_action);
void seccomp_release(scmp_filter_ctx filter);
uint32_t seccomp_arch_resolve_name(const char *name);
uint32_t seccomp_arch_native(void);
int seccomp_arch_add(scmp_filter_ctx filter, uint32_t arch);
int seccomp_attr_set(scmp_filter_ctx filter, int attribute, uint32_t value);
int seccomp_syscall_resolve_name(const char *name);
int seccomp_syscall_resolve_name_arch(uint32_t arch, const char *name);
int seccomp_rule_add_array(scmp_filter_ctx filter, uint32_t action, int syscall,
                           unsigned int count, const struct scmp_arg_cmp *arguments);
int seccomp_export_bpf(const scmp_filter_ctx filter, int fd);
""")
ffibuilder.set_source("libpycontainer.seccomp._libseccomp", None)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(Path(__file__).parent.parent), verbose=True)
