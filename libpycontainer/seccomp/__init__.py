"""The system call filter: ``linux.seccomp`` becomes a program for the kernel, in the caller.

    names.py       actions, operators and flags as numbers
    library.py     libseccomp, opened at run time
    compiler.py    a profile becomes a BPF program
    prologue.py    ENOSYS for system calls that are newer than the profile
    cache.py       the same profile is compiled once
    agent.py       who answers for SCMP_ACT_NOTIFY: the hand-over of the listener

Init loads the program (csrc/finish.c) and never sees the profile. A profile is taken as JSON has
it, and valid (:mod:`libpycontainer.validate`). Only :mod:`.cache` and :mod:`.names` are on the way
of a start whose profile is known.

Source: runtime-spec config-linux.md#seccomp, man 2 seccomp.
"""
