"""The validator: each rule has a config that breaks it and one beside it that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libpycontainer import validate
from libpycontainer.errors import Problem, SpecError
from libpycontainer.host import Facts
from libpycontainer.kernel import CAPABILITIES
from libpycontainer.spec import base, converter, default, light, models
from libpycontainer.validate import namespaces
from libpycontainer.validate.process import PROCESS_CHECKS, is_cpu_list
from libpycontainer.validate.resources import RESOURCE_CHECKS
from tests.pure import spec_documents as documents
from tests.pure.validate_cases import CASES, Case

READERS = [
    pytest.param(lambda document: light.record("Spec", document), id="light"),
    pytest.param(lambda document: converter.structure(models.Spec, document), id="typed"),
]


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The default config with each change applied at its dotted place."""
    document = default.config(cgroup_namespace=False)
    for place, value in changes.items():
        parts = [int(part) if part.isdigit() else part for part in place.rstrip("+").split(".")]
        if place.endswith("+"):
            value = [*document["linux"][parts[-1]], value]
        document = documents.with_value(document, tuple(parts), value)
    return document


def found(case: Case, problems: list[Problem]) -> list[Problem]:
    return [each for each in problems if each.path == case.path and case.says in each.message]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.path} {case.says}")
def test_a_rule_that_is_broken_is_named_with_its_path(case: Case, read: Any) -> None:
    facts = Facts(**case.facts)
    broken = found(case, validate.check(read(changed(case.bad)), facts))
    assert broken, validate.check(read(changed(case.bad)), facts)
    assert all(each.warning is case.warning for each in broken)
    problems = validate.check(read(changed(case.good)), facts)
    assert not found(case, problems)


def test_every_check_has_a_case_that_it_finds() -> None:
    idle = {each.__name__ for each in (*PROCESS_CHECKS, *RESOURCE_CHECKS, *validate.CHECKS)}
    for case in CASES:
        spec, facts = light.record("Spec", changed(case.bad)), Facts(**case.facts)
        for each in validate.CHECKS:
            if list(each(spec, facts)):
                idle.discard(each.__name__)
        for part in PROCESS_CHECKS:
            if spec.process and list(part(spec.process, facts, "$.process")):
                idle.discard(part.__name__)
        resources = spec.linux.resources
        for limit in RESOURCE_CHECKS:
            if resources and list(limit(resources, facts, "$.linux.resources")):
                idle.discard(limit.__name__)
    # The readers refuse every other propagation mode already: this one is for models made by hand.
    assert idle == {"rootfs_propagation"}


@pytest.mark.parametrize("rootless", [False, True])
def test_the_default_config_is_valid(rootless: bool) -> None:
    facts = Facts(euid=1000, egid=100) if rootless else Facts()
    spec = models.Spec.like_runc(rootless, uid=1000, gid=100, cgroup_namespace=True)
    assert validate.check(spec, facts) == []


@pytest.mark.parametrize("path", documents.CONFIGS, ids=lambda path: path.stem)
def test_configs_of_other_programs_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some join the network namespace of a process that is long gone; its pid may be taken here.
    monkeypatch.setattr(namespaces, "is_ours", lambda path, file: False)
    facts = Facts(cgroup_mode="v1", in_user_namespace=path.stem.startswith("rootless"))
    for spec in (models.Spec.load(path), light.load(path)):
        assert validate.ensure_valid(spec, facts) == []


def test_the_example_of_the_specification_is_valid_but_for_its_version_and_this_host() -> None:
    path = documents.SCHEMA / "test" / "config" / "good" / "spec-example.json"
    problems = validate.check(light.load(path), Facts())
    assert [problem.path for problem in validate.errors_of(problems)] == [
        "$.ociVersion",
        "$.process.selinuxLabel",
        "$.process.apparmorProfile",
        "$.linux.mountLabel",
    ]
    assert [problem.path for problem in problems if problem.warning] == [
        "$.linux.resources.memory.kernel",
        "$.linux.resources.memory.useHierarchy",
    ]


def test_a_process_may_be_absent_until_start() -> None:
    spec = light.load({"ociVersion": "1.0.0", "root": {"path": "rootfs"}})
    assert validate.check(spec, Facts(), for_start=False) == []
    assert [str(problem) for problem in validate.check(spec, Facts())] == [
        "$.process: required to start the container"
    ]


def test_every_problem_comes_at_once_and_errors_are_raised() -> None:
    document = changed({"process.cwd": "x", "root.path": "", "linux.cgroupsPath": "..", "zos": {}})
    spec = light.record("Spec", document)
    with pytest.raises(SpecError) as caught:
        validate.ensure_valid(spec, Facts(), source="config.json")
    assert [problem.path for problem in caught.value.problems] == [
        "$.root.path",
        "$.process.cwd",
        "$.linux.cgroupsPath",
    ]
    assert str(caught.value).startswith("config.json: $.root.path: must not be empty; ")


def test_warnings_alone_are_returned() -> None:
    spec = light.record("Spec", changed({"zos": {}}))
    (warning,) = validate.ensure_valid(spec, Facts())
    assert (warning.path, warning.warning) == ("$.zos", True)


def test_a_process_alone_is_checked_where_it_stands() -> None:
    process = light.record("Process", {"cwd": "tmp", "args": ["a", "\0"], "env": ["A"]})
    assert [str(problem) for problem in validate.check_process(process, Facts())] == [
        "$.args[1]: contains a NUL byte",
        "$.cwd: 'tmp' is not an absolute path",
        "$.env[0]: 'A' is not NAME=value",
    ]
    problems = validate.check_process(process, Facts(), path="$.process")
    assert problems[0].path == "$.process.args[1]"


def test_models_made_by_hand_are_held_to_what_the_readers_refuse() -> None:
    spec = base.changed(
        models.Spec.like_runc(),
        hooks=models.Hooks(poststop=[models.Hook(path="/x", timeout=0)]),
        linux=models.Linux(
            namespaces=[models.LinuxNamespace(type=name) for name in ("mount", "uts", "foo")],
            devices=[models.LinuxDevice(type="x", path="/dev/x", major=1, minor=1)],
            rootfs_propagation="sticky",
            seccomp=models.LinuxSeccomp(
                default_action="SCMP_ACT_ALLOW",
                syscalls=[models.LinuxSyscall(names=[], action="SCMP_ACT_ALLOW")],
            ),
        ),
    )
    assert [problem.path for problem in validate.check(spec, Facts())] == [
        "$.hooks.poststop[0].timeout",
        "$.linux.namespaces[2].type",
        "$.linux.devices[0].type",
        "$.linux.seccomp.syscalls[0].names",
        "$.linux.rootfsPropagation",
    ]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("0", True),
        ("0-3,7", True),
        ("0-31:2/4", True),
        ("all", True),
        ("", False),
        ("3-1", False),
        ("1,,2", False),
        ("0:1", False),
        ("²", False),
        ("9" * 5000, False),
    ],
)
def test_cpu_lists_are_read_as_the_kernel_does(text: str, valid: bool) -> None:
    assert is_cpu_list(text) is valid


def test_capabilities_stand_in_the_order_of_their_numbers() -> None:
    assert len(CAPABILITIES) == 41
    assert CAPABILITIES.index("CAP_SYS_ADMIN") == Facts.CAP_SYS_ADMIN
    features = documents.load_json(documents.SCHEMA / "test" / "features" / "good" / "runc.json")
    assert list(CAPABILITIES) == features["linux"]["capabilities"]


@pytest.mark.parametrize(
    ("written", "dotted"),
    [
        ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
        ("kernel", "kernel"),
        ("", ""),
    ],
)
def test_the_first_separator_of_a_sysctl_decides(written: str, dotted: str) -> None:
    assert namespaces.dotted(written) == dotted
