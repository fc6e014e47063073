#!/usr/bin/env bash
# Looks for what building and testing need from the host. As root on a Debian host, what is missing
# gets installed; anywhere else it is named. PYTHON chooses the interpreter (default: python3).
set -euo pipefail

python=${PYTHON:-python3}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
needed=() # without these nothing can be built
wanted=() # without these some tests cannot run

die() {
    echo "setup: $*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null
}

# Old interpreters must be able to read this program, to be told that they are too old.
python_packages='
import os, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
if sys.version_info < (3, 11):
    sys.exit("setup: libpycontainer needs Python 3.11 or newer, and %s is %s; choose one with PYTHON=..."
             % (sys.executable, version))
lacks = []
try:
    import ensurepip, venv
except ImportError:
    lacks.append("venv")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    lacks.append("dev")
if lacks and sys.base_prefix != "/usr":
    sys.exit("setup: %s lacks its %s files, and is not from a Debian package; choose another with PYTHON=..."
             % (sys.executable, " and ".join(lacks)))
print(" ".join("python%s-%s" % (version, part) for part in lacks))
'

look_for_python() {
    if have "$python"; then
        local packages
        packages=$("$python" -c "$python_packages") || exit 1
        # shellcheck disable=SC2206  # package names, one word each
        needed+=($packages)
    elif [[ $python == python3 ]]; then
        needed+=(python3 python3-venv python3-dev)
    else
        die "PYTHON=$python: no such command"
    fi
}

look_for_compiler() {
    have make || needed+=(make)
    have gcc || needed+=(gcc)
    [[ -e /usr/include/stdio.h ]] || needed+=(libc6-dev)
}

look_for_test_programs() {
    # The tests put busybox alone into a root filesystem: one that needs shared libraries is no use.
    if ! have busybox || ldd "$(command -v busybox)" >/dev/null 2>&1; then
        wanted+=(busybox-static)
    fi
    ldconfig -p | grep -q 'libseccomp\.so\.2' || wanted+=(libseccomp2)
    have runc || wanted+=(runc)
    have script || wanted+=(bsdutils)
    have newuidmap || wanted+=(uidmap)
    have ip || wanted+=(iproute2)
    have nsenter || wanted+=(util-linux)
    have strace || wanted+=(strace)
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "$@"
}

look_for_python
look_for_compiler
look_for_test_programs
missing=("${needed[@]}" "${wanted[@]}")

if ((${#missing[@]} == 0)); then
    exit 0
elif ((EUID == 0)) && have apt-get; then
    install "${missing[@]}"
    # A python3 that was only just installed may still be too old.
    "$python" -c "$python_packages" >/dev/null
elif ((${#needed[@]})); then
    die "missing: ${missing[*]} (Debian's names); install them, or run this as root on Debian"
else
    echo "setup: some tests will be skipped or fail without: ${wanted[*]}" >&2
fi
