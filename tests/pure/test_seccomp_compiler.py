"""Profiles become programs: each program is run, and says what the kernel would do with a call."""

from __future__ import annotations

import ctypes.util
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libpycontainer import kernel
from libpycontainer.errors import SpecError, UnsupportedError
from libpycontainer.host import Facts
from libpycontainer.seccomp import compiler, library, names, prologue
from libpycontainer.spec import light
from libpycontainer.validate import confinement
from tests.pure import bpf
from tests.pure.bpf import AARCH64, ALLOW, ENOSYS, EPERM, ERRNO, KILL, X32, X86, X86_64, Call

pytestmark = [
    pytest.mark.skipif(
        ctypes.util.find_library("seccomp") is None, reason="libseccomp is not installed"
    ),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64"),
]

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "tests/data/configs").glob("*.json"))
PROFILES = {
    path.stem: section
    for path in CONFIGS
    if (section := json.loads(path.read_text())["linux"].get("seccomp"))
}
DOCKER = PROFILES["docker28-1"]
PODMAN = PROFILES["podman5-1"]

# arch/x86/entry/syscalls, include/uapi/asm-generic/unistd.h: not asked of libseccomp.
READ, WRITE, OPEN, MKDIR, CLONE, PERSONALITY, KEYCTL, UNSHARE = 0, 1, 2, 83, 56, 135, 250, 272
CLONE3, OPENAT2 = 435, 437
MKDIR_X86, SOCKETCALL_X86, MKDIRAT_AARCH64 = 39, 102, 34
NEWER_THAN_ANY = 100_000
NEW_USER = 0x10000000


def profile(default: str = "SCMP_ACT_ALLOW", *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(rules), **more}


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


def verdict(section: dict[str, Any], number: int, *args: int, arch: int = X86_64) -> int:
    return bpf.verdict(compiler.compile(section).code, Call(number, args, arch))


def test_the_declarations_are_those_that_cffi_makes(tmp_path: Path) -> None:
    code = """
import sys; sys.path.insert(0, "csrc")
import build_libseccomp
build_libseccomp.ffibuilder.emit_python_code(sys.argv[1])
"""
    made = tmp_path / "made.py"
    subprocess.run([sys.executable, "-c", code, made], cwd=REPOSITORY, check=True)
    kept = REPOSITORY / "libpycontainer/seccomp/_libseccomp.py"
    assert made.read_text() == kept.read_text()


# ---- actions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "more", "value"),
    [
        ("SCMP_ACT_KILL", {}, KILL),
        ("SCMP_ACT_KILL_THREAD", {}, KILL),
        ("SCMP_ACT_KILL_PROCESS", {}, bpf.KILL_PROCESS),
        ("SCMP_ACT_TRAP", {}, bpf.TRAP),
        ("SCMP_ACT_ERRNO", {}, ERRNO | EPERM),
        ("SCMP_ACT_ERRNO", {"errnoRet": 0}, ERRNO),
        ("SCMP_ACT_ERRNO", {"errnoRet": 4094}, ERRNO | 4094),
        ("SCMP_ACT_TRACE", {}, bpf.TRACE | EPERM),
        ("SCMP_ACT_TRACE", {"errnoRet": 65535}, bpf.TRACE | 65535),
        ("SCMP_ACT_LOG", {}, bpf.LOG),
        ("SCMP_ACT_NOTIFY", {}, bpf.NOTIFY),
    ],
)
def test_an_action_is_what_the_kernel_is_told(
    action: str, more: dict[str, Any], value: int
) -> None:
    section = profile("SCMP_ACT_ALLOW", rule(action, "mkdir", **more))
    assert verdict(section, MKDIR) == value
    assert verdict(section, READ) == ALLOW


def test_every_action_and_operator_of_the_spec_has_a_number() -> None:
    from libpycontainer.spec.leaves import CHOICES

    assert set(names.ACTIONS) == set(CHOICES["seccomp action"])
    assert set(names.OPERATORS) == set(CHOICES["seccomp operator"])
    assert set(names.FLAGS) == set(CHOICES["seccomp flag"])
    assert set(names.WITH_NUMBER) == set(confinement.HIGHEST_ERRNO)


@pytest.mark.parametrize("number", [None, 5])
def test_the_default_action_has_its_own_errno(number: int | None) -> None:
    more = {} if number is None else {"defaultErrnoRet": number}
    section = profile("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read", "unshare"), **more)
    assert verdict(section, MKDIR) == ERRNO | (number or EPERM)
    assert verdict(section, READ) == ALLOW


def test_a_rule_that_says_what_the_default_says_is_skipped() -> None:
    # libseccomp would refuse it (EACCES).
    section = profile(
        "SCMP_ACT_ERRNO",
        rule("SCMP_ACT_ERRNO", "mkdir"),
        rule("SCMP_ACT_ERRNO", "rmdir", errnoRet=EPERM),
        rule("SCMP_ACT_ALLOW", "read"),
    )
    assert verdict(section, MKDIR) == ERRNO | EPERM
    other = profile("SCMP_ACT_ERRNO", rule("SCMP_ACT_ERRNO", "mkdir", errnoRet=2))
    assert verdict(other, MKDIR) == ERRNO | 2


def test_kill_and_kill_thread_are_one_default() -> None:
    section = profile("SCMP_ACT_KILL", rule("SCMP_ACT_KILL_THREAD", "mkdir"))
    assert verdict(section, MKDIR) == KILL


def test_names_that_mean_nothing_here_are_skipped_and_told() -> None:
    section = profile("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "mkdir", "no_such_call"))
    compiled = compiler.compile(section)
    assert compiled.unknown == ["no_such_call"]
    assert bpf.verdict(compiled.code, Call(MKDIR)) == ERRNO | EPERM


def test_a_profile_without_a_rule_is_its_default_action() -> None:
    assert verdict(profile("SCMP_ACT_ALLOW"), MKDIR) == ALLOW
    assert verdict(profile("SCMP_ACT_KILL_PROCESS"), MKDIR) == bpf.KILL_PROCESS


def test_of_two_rules_without_conditions_the_first_one_counts() -> None:
    # libseccomp's rule, and so every runtime's; one with conditions yields to one without.
    refuse, kill = rule("SCMP_ACT_ERRNO", "mkdir"), rule("SCMP_ACT_KILL", "mkdir")
    sometimes = rule("SCMP_ACT_TRAP", "mkdir", args=[equal(0, 1)])
    assert verdict(profile("SCMP_ACT_ALLOW", refuse, kill), MKDIR) == ERRNO | EPERM
    assert verdict(profile("SCMP_ACT_ALLOW", kill, refuse), MKDIR) == KILL
    for rules in ((sometimes, kill), (kill, sometimes)):
        assert verdict(profile("SCMP_ACT_ALLOW", *rules), MKDIR, 1) == KILL


def test_two_actions_under_one_condition_are_refused_with_their_place() -> None:
    section = profile(
        "SCMP_ACT_ALLOW",
        rule("SCMP_ACT_ERRNO", "mkdir", args=[equal(0, 1)]),
        rule("SCMP_ACT_KILL", "read", "mkdir", args=[equal(0, 1)]),
    )
    with pytest.raises(SpecError) as caught:
        compiler.compile(section)
    (problem,) = caught.value.problems
    assert problem.path == "$.linux.seccomp.syscalls[1].names[1]"
    assert "another action" in problem.message


# ---- conditions --------------------------------------------------------------------------------

BIG = (1 << 40) + 7


@pytest.mark.parametrize(
    ("operator", "value", "two", "holds", "fails"),
    [
        ("NE", 7, None, (6, 8, BIG), (7,)),
        ("LT", 7, None, (0, 6), (7, 8, BIG)),
        ("LE", 7, None, (0, 7), (8, BIG)),
        ("EQ", BIG, None, (BIG,), (7, BIG + 1, BIG & 0xFFFFFFFF)),
        ("GE", BIG, None, (BIG, BIG + 1, 1 << 63), (BIG - 1, 7)),
        ("GT", BIG, None, (BIG + 1, 1 << 63), (BIG, 7)),
        # The value is the mask, the second value what is left under it.
        ("MASKED_EQ", 0xF0, 0x30, (0x30, 0x3F, 0x130), (0x20, 0xF0, 0)),
        ("MASKED_EQ", 0xF0, None, (0, 0x0F, 0x100), (0x10, 0x30)),
        ("MASKED_EQ", 0xFF << 32, 5 << 32, ((5 << 32) + 9,), (5, 4 << 32)),
    ],
)
def test_an_operator_compares_all_64_bits(
    operator: str, value: int, two: int | None, holds: tuple[int, ...], fails: tuple[int, ...]
) -> None:
    arg: dict[str, Any] = {"index": 1, "value": value, "op": f"SCMP_CMP_{operator}"}
    if two is not None:
        arg["valueTwo"] = two
    section = profile("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "mkdir", args=[arg]))
    code = compiler.compile(section).code
    assert {bpf.verdict(code, Call(MKDIR, (99, each))) for each in holds} == {ERRNO | EPERM}
    assert {bpf.verdict(code, Call(MKDIR, (99, each))) for each in fails} == {ALLOW}


def equal(index: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def test_conditions_on_several_arguments_must_all_hold() -> None:
    args = [equal(0, 1), equal(2, 3)]
    section = profile("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "mkdir", args=args))
    assert verdict(section, MKDIR, 1, 0, 3) == ERRNO | EPERM
    assert verdict(section, MKDIR, 1, 0, 4) == ALLOW
    assert verdict(section, MKDIR, 0, 0, 3) == ALLOW


def test_conditions_on_one_argument_are_alternatives() -> None:
    # Then the others are too, each by itself: what runc made of such rules from the beginning.
    args = [equal(0, 1), equal(0, 2), equal(2, 3)]
    section = profile("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "mkdir", "unshare", args=args))
    for allowed in ((1, 0, 0), (2, 0, 0), (9, 0, 3)):
        assert verdict(section, MKDIR, *allowed) == ALLOW
    assert verdict(section, MKDIR, 9, 0, 9) == ERRNO | EPERM


# ---- architectures -----------------------------------------------------------------------------


def test_the_native_architecture_is_filtered_whether_it_is_listed_or_not() -> None:
    refuse = rule("SCMP_ACT_ERRNO", "mkdir")
    for architectures in ([], ["SCMP_ARCH_X86"], ["SCMP_ARCH_X86_64"]):
        section = profile("SCMP_ACT_ALLOW", refuse, architectures=architectures)
        assert verdict(section, MKDIR) == ERRNO | EPERM


def test_an_architecture_that_is_not_listed_is_killed() -> None:
    section = profile("SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_X86_64"])
    assert verdict(section, MKDIR_X86, arch=X86) == KILL
    assert verdict(section, X32 | MKDIR) == KILL
    assert verdict(section, MKDIRAT_AARCH64, arch=AARCH64) == KILL


def test_each_architecture_has_its_own_numbers() -> None:
    section = profile(
        "SCMP_ACT_ALLOW",
        rule("SCMP_ACT_ERRNO", "mkdir", "mkdirat"),
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
    )
    code = compiler.compile(section).code
    refused = [
        Call(MKDIR),
        Call(MKDIR_X86, arch=X86),
        Call(X32 | MKDIR),
        Call(MKDIRAT_AARCH64, arch=AARCH64),
    ]
    allowed = [
        Call(MKDIR_X86),
        Call(MKDIR, arch=X86),
        Call(X32 | MKDIR_X86),
        Call(83, arch=AARCH64),
    ]
    assert set(bpf.verdicts(code, refused)) == {ERRNO | EPERM}
    assert set(bpf.verdicts(code, allowed)) == {ALLOW}


def test_a_call_that_only_another_architecture_has_is_no_unknown_one() -> None:
    section = profile(
        "SCMP_ACT_ALLOW",
        rule("SCMP_ACT_ERRNO", "socketcall"),
        architectures=["SCMP_ARCH_X86"],
    )
    compiled = compiler.compile(section)
    assert compiled.unknown == []
    assert bpf.verdict(compiled.code, Call(SOCKETCALL_X86, arch=X86)) == ERRNO | EPERM


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("SCMP_ARCH_SH", "does not know|cannot add"),
        # The other byte order; one program cannot have both.
        ("SCMP_ARCH_S390X", "cannot add SCMP_ARCH_S390X"),
    ],
)
def test_an_architecture_that_cannot_be_added_is_named(architecture: str, words: str) -> None:
    section = profile("SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_X86", architecture])
    with pytest.raises(SpecError, match=words) as caught:
        compiler.compile(section)
    assert caught.value.problems[0].path == "$.linux.seccomp.architectures[1]"


# ---- what is newer than the profile ------------------------------------------------------------

ALL_X86 = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


@pytest.mark.parametrize(
    "default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]
)
def test_calls_newer_than_the_profile_are_unknown_to_the_program(default: str) -> None:
    section = profile(
        default,
        rule("SCMP_ACT_ALLOW", "read", "clone3"),
        architectures=[*ALL_X86, "SCMP_ARCH_AARCH64"],
    )
    code = compiler.compile(section).code
    refused = names.action(default, None)
    for arch, bit in ((X86_64, 0), (X86_64, X32), (X86, 0), (AARCH64, 0)):
        assert bpf.verdict(code, Call(bit | CLONE3, arch=arch)) == ALLOW
        assert bpf.verdict(code, Call(bit | CLONE3 + 1, arch=arch)) == ERRNO | ENOSYS
        assert bpf.verdict(code, Call(bit | CLONE3 - 1, arch=arch)) == refused
        assert bpf.verdict(code, Call(bit | NEWER_THAN_ANY, arch=arch)) == ERRNO | ENOSYS


def test_the_highest_number_counts_whatever_its_rule_says() -> None:
    same = rule("SCMP_ACT_ERRNO", "clone3")
    conditional = rule("SCMP_ACT_ALLOW", "openat2", args=[equal(0, 1)])
    section = profile("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read"), same)
    assert verdict(section, CLONE3) == ERRNO | EPERM
    assert verdict(section, CLONE3 + 1) == ERRNO | ENOSYS
    section = profile("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read"), same, conditional)
    assert verdict(section, OPENAT2) == ERRNO | EPERM
    assert verdict(section, OPENAT2, 1) == ALLOW
    assert verdict(section, OPENAT2 + 1) == ERRNO | ENOSYS


def test_each_architecture_has_a_highest_number_of_its_own() -> None:
    # mkdir is 83, 39 and, in x32, 83 with a bit; execve has a number above all others there (520).
    section = profile(
        "SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "mkdir", "execve"), architectures=ALL_X86
    )
    code = compiler.compile(section).code
    assert bpf.verdict(code, Call(84)) == ERRNO | ENOSYS
    assert bpf.verdict(code, Call(40, arch=X86)) == ERRNO | ENOSYS
    assert bpf.verdict(code, Call(38, arch=X86)) == ERRNO | EPERM
    assert bpf.verdict(code, Call(X32 | 519)) == ERRNO | EPERM
    assert bpf.verdict(code, Call(X32 | 521)) == ERRNO | ENOSYS


def test_a_mode_that_is_not_in_the_profile_is_left_to_the_filter() -> None:
    section = profile("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read", "clone3"))
    assert verdict(section, X32 | NEWER_THAN_ANY) == KILL
    assert verdict(section, NEWER_THAN_ANY, arch=X86) == KILL


@pytest.mark.parametrize("default", names.PERMISSIVE)
def test_a_default_that_lets_pass_lets_new_calls_pass(default: str) -> None:
    section = profile(default, rule("SCMP_ACT_ERRNO", "mkdir"))
    assert verdict(section, NEWER_THAN_ANY) == names.action(default, None)
    assert list(compiler._highest(section, [X86_64])) == []


def test_no_prologue_is_added_where_the_default_is_enosys_already() -> None:
    section = profile("SCMP_ACT_ERRNO", rule("SCMP_ACT_ALLOW", "read"), defaultErrnoRet=ENOSYS)
    assert list(compiler._highest(section, [X86_64])) == []
    assert verdict(section, NEWER_THAN_ANY) == ERRNO | ENOSYS


def test_a_profile_that_names_nothing_has_no_prologue() -> None:
    assert list(compiler._highest(profile("SCMP_ACT_KILL"), [X86_64])) == []
    assert prologue.instructions([]) == []


@pytest.mark.parametrize("token", prologue.S390)
def test_the_multiplexer_of_s390_is_unknown_too(token: int) -> None:
    code = compiler._pack([*prologue.instructions([(token, 300)]), (6, 0, 0, ALLOW)])
    assert bpf.verdict(code, Call(0, arch=token)) == ERRNO | ENOSYS
    assert bpf.verdict(code, Call(300, arch=token)) == ALLOW
    assert bpf.verdict(code, Call(301, arch=token)) == ERRNO | ENOSYS


# ---- profiles that engines write ---------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_every_engines_profile_says_what_it_means(name: str) -> None:
    """Calls that one rule names without a condition get its action, those that none names the
    default; read off the profile, not off what was compiled."""
    section = PROFILES[name]
    code = compiler.compile(section).code
    resolve = library.library().seccomp_syscall_resolve_name_arch
    default = names.action(section["defaultAction"], section.get("defaultErrnoRet"))
    named: dict[str, list[dict[str, Any]]] = {}
    for each in section["syscalls"]:
        for call in each["names"]:
            named.setdefault(call, []).append(each)
    looked = 0
    for call, rules in named.items():
        number = resolve(X86_64, call.encode())
        if number < 0 or any(each.get("args") for each in rules):
            continue
        wanted = {names.action(each["action"], each.get("errnoRet")) for each in rules} - {default}
        assert bpf.verdict(code, Call(number)) in (wanted or {default}), call
        looked += 1
    assert looked >= len(section["syscalls"]) > 0
    highest = max(resolve(X86_64, call.encode()) for call in named)
    unnamed = set(range(highest)) - {resolve(X86_64, call.encode()) for call in named}
    assert {bpf.verdict(code, Call(number)) for number in unnamed} == {default}
    allows = section["defaultAction"] == "SCMP_ACT_ALLOW"
    assert bpf.verdict(code, Call(highest + 1)) == (ALLOW if allows else ERRNO | ENOSYS)
    assert confinement_problems(section) == []


def confinement_problems(section: dict[str, Any], facts: Facts | None = None) -> list[Any]:
    document = {"ociVersion": "1.2.0", "linux": {"seccomp": section}}
    return list(confinement.seccomp(light.record("Spec", document), facts or Facts()))


def test_dockers_profile_by_its_documented_sentences() -> None:
    # docs.docker.com/engine/security/seccomp: what its default profile is for.
    code = compiler.compile(DOCKER).code
    refused = {
        "keyctl": Call(KEYCTL),
        "unshare": Call(UNSHARE),
        "clone with a namespace": Call(CLONE, (NEW_USER,)),
        "personality": Call(PERSONALITY, (0x0040000,)),
        "mount": Call(165),
        "reboot": Call(169),
        "bpf": Call(321),
        "init_module in x86": Call(128, arch=X86),
        "mount in x32": Call(X32 | 165),
    }
    allowed = {
        "clone": Call(CLONE, (0x3D0F00,)),
        "personality": Call(PERSONALITY, (0xFFFFFFFF,)),
        "mkdir": Call(MKDIR),
        "mkdir in x86": Call(MKDIR_X86, arch=X86),
        "mkdir in x32": Call(X32 | MKDIR),
    }
    for what, call in refused.items():
        assert bpf.verdict(code, call) == ERRNO | EPERM, what
    for what, call in allowed.items():
        assert bpf.verdict(code, call) == ALLOW, what
    # So that the C library falls back to clone, whose flags a filter can see.
    assert bpf.verdict(code, Call(CLONE3)) == ERRNO | ENOSYS
    assert bpf.verdict(code, Call(MKDIRAT_AARCH64, arch=AARCH64)) == KILL


# ---- limits and flags --------------------------------------------------------------------------


def test_a_program_that_is_too_long_for_the_kernel_is_refused() -> None:
    args = [equal(0, value << 32 | value) for value in range(1, 1500)]
    section = profile("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "mkdir", args=args))
    with pytest.raises(SpecError, match=r"seccomp: it makes \d+ instructions.*4096"):
        compiler.compile(section)


def test_the_flags_are_those_of_the_system_call() -> None:
    every = list(names.FLAGS)
    notify = rule("SCMP_ACT_NOTIFY", "mkdir")
    assert names.filter_flags(profile()) == 0
    # TSYNC is for other threads, WAIT_KILLABLE_RECV for a listener: there is none of either.
    expected = kernel.SECCOMP_FILTER_FLAG_LOG | kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    assert names.filter_flags(profile(flags=every)) == expected
    assert names.filter_flags(profile("SCMP_ACT_ALLOW", notify)) == 8
    assert names.filter_flags(profile("SCMP_ACT_ALLOW", notify, flags=every)) == expected | 8 | 32


def test_a_flag_that_the_kernel_lacks_is_named() -> None:
    old = Facts(seccomp_flags=frozenset({"SECCOMP_FILTER_FLAG_LOG"}))
    section = profile(flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])
    (problem,) = confinement_problems(section, old)
    assert problem.path == "$.linux.seccomp.flags[1]"
    assert confinement_problems(section) == []


def test_a_host_without_libseccomp_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "_opened", [])
    monkeypatch.setattr(library, "SONAME", "libseccomp-which-is-not-there.so.2")
    with pytest.raises(UnsupportedError, match=r"\$\.linux\.seccomp.*install libseccomp2"):
        compiler.compile(profile())
