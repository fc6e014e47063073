"""What the planner resolves about the process: capabilities, limits, environment, ids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libpycontainer import kernel, plan
from libpycontainer.errors import SpecError, UnsupportedError
from libpycontainer.host import Facts
from libpycontainer.plan import process
from libpycontainer.spec import light
from tests.pure import plan_cases as cases

CHOWN, KILL, SYS_ADMIN, CHECKPOINT_RESTORE = 1 << 0, 1 << 5, 1 << 21, 1 << 40
ALL = (1 << 41) - 1


def record(**changes: Any) -> Any:
    return light.record("Process", {"cwd": "/", "args": ["true"], **changes})


def sets_of(
    capabilities: dict[str, list[str]], facts: Facts, *, maps_users: bool = False
) -> tuple[dict[str, int], list[str]]:
    masks, warnings = process.capability_sets(
        record(capabilities=capabilities), facts, maps_users=maps_users
    )
    names = ("effective", "permitted", "bounding", "inheritable", "ambient")
    return dict(zip(names, masks, strict=True)), warnings


def everywhere(*names: str) -> dict[str, list[str]]:
    kinds = ("effective", "permitted", "bounding", "inheritable", "ambient")
    return {kind: list(names) for kind in kinds}


def execute_arguments(document: cases.Document, facts: Facts) -> dict[str, Any]:
    made = plan.build(light.record("Spec", document), facts, cases.request())
    assert made.steps[-1].op == "execute"
    return made.steps[-1].arguments


def test_capability_names_are_numbered_as_the_kernel_does() -> None:
    assert process.capability_mask(["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"]) == (
        CHOWN | KILL | SYS_ADMIN,
        [],
    )
    assert kernel.CAPABILITIES.index("CAP_CHECKPOINT_RESTORE") == 40
    assert len(set(kernel.CAPABILITIES)) == 41


def test_without_the_field_there_are_no_capabilities() -> None:
    masks, warnings = process.capability_sets(record(), Facts(), maps_users=False)
    assert (masks, warnings) == ([0] * 5, [])


def test_an_unknown_name_is_warned_about_and_left_out() -> None:
    masks, warnings = sets_of({"permitted": ["CAP_KILL", "CAP_FLY", "cap_kill"]}, Facts())
    assert masks["permitted"] == KILL
    assert [text for text in warnings if "CAP_FLY" in text and "permitted" in text]
    assert len(warnings) == 2


def test_a_capability_that_the_host_lacks_is_warned_about_and_left_out() -> None:
    facts = Facts(bounding=ALL & ~SYS_ADMIN)
    masks, warnings = sets_of(everywhere("CAP_SYS_ADMIN", "CAP_KILL"), facts)
    assert set(masks.values()) == {KILL}
    assert len(warnings) == 5
    assert all("CAP_SYS_ADMIN" in text for text in warnings)


def test_a_capability_that_the_kernel_is_too_old_for_is_left_out() -> None:
    masks, warnings = sets_of({"bounding": ["CAP_CHECKPOINT_RESTORE"]}, Facts(last_cap=37))
    assert masks["bounding"] == 0
    assert len(warnings) == 1


def test_a_user_namespace_has_the_full_set_whatever_the_caller_lacks() -> None:
    facts = Facts(bounding=0, capabilities=0)
    masks, warnings = sets_of(everywhere("CAP_SYS_ADMIN"), facts, maps_users=True)
    assert (set(masks.values()), warnings) == ({SYS_ADMIN}, [])
    masks, _warnings = sets_of(everywhere("CAP_SYS_ADMIN"), facts)
    assert set(masks.values()) == {0}


@pytest.mark.parametrize(
    ("permitted", "inheritable", "granted"),
    [
        (["CAP_KILL"], ["CAP_KILL"], KILL),
        (["CAP_KILL"], [], 0),
        ([], ["CAP_KILL"], 0),
        ([], [], 0),
    ],
)
def test_ambient_needs_permitted_and_inheritable(
    permitted: list[str], inheritable: list[str], granted: int
) -> None:
    sets = {"permitted": permitted, "inheritable": inheritable, "ambient": ["CAP_KILL"]}
    masks, _warnings = sets_of({"bounding": ["CAP_KILL"], **sets}, Facts())
    assert masks["ambient"] == granted


@pytest.mark.parametrize(
    ("sets", "limited", "limit"),
    [
        ({"effective": ["CAP_KILL"]}, "effective", "permitted"),
        ({"inheritable": ["CAP_KILL"], "permitted": ["CAP_KILL"]}, "inheritable", "bounding"),
    ],
)
def test_what_the_kernel_would_refuse_is_warned_about_and_left_out(
    sets: dict[str, list[str]], limited: str, limit: str
) -> None:
    # config.md#linux-process: runtimes should not fail, and must warn (capset would be EPERM).
    masks, warnings = sets_of(sets, Facts())
    assert masks[limited] == 0
    assert warnings == [f"ignoring {limited} capability CAP_KILL: it is not in the {limit} set"]


def test_the_effective_set_stays_within_the_permitted_one() -> None:
    masks, _warnings = sets_of(
        {"effective": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"]}, Facts()
    )
    assert masks["effective"] == KILL


@given(
    st.fixed_dictionaries(
        dict.fromkeys(
            ("effective", "permitted", "bounding", "inheritable", "ambient"),
            st.lists(st.sampled_from([*kernel.CAPABILITIES, "CAP_FLY"])),
        )
    ),
    st.integers(0, ALL),
    st.booleans(),
)
def test_no_set_exceeds_what_the_kernel_would_grant(
    capabilities: dict[str, list[str]], bounding: int, maps_users: bool
) -> None:
    masks, _warnings = sets_of(capabilities, Facts(bounding=bounding), maps_users=maps_users)
    available = ALL if maps_users else bounding
    assert all(mask & ~available == 0 for mask in masks.values())
    assert masks["effective"] & ~masks["permitted"] == 0
    assert masks["ambient"] & ~(masks["permitted"] & masks["inheritable"]) == 0


def test_warnings_reach_the_plan() -> None:
    document = cases.config()
    document["process"]["capabilities"]["bounding"].append("CAP_FLY")
    made = plan.build(light.record("Spec", document), Facts(), cases.request())
    assert any("CAP_FLY" in text for text in made.warnings)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("RLIMIT_CPU", 0),
        ("RLIMIT_FSIZE", 1),
        ("RLIMIT_DATA", 2),
        ("RLIMIT_STACK", 3),
        ("RLIMIT_CORE", 4),
        ("RLIMIT_RSS", 5),
        ("RLIMIT_NPROC", 6),
        ("RLIMIT_NOFILE", 7),
        ("RLIMIT_MEMLOCK", 8),
        ("RLIMIT_AS", 9),
        ("RLIMIT_LOCKS", 10),
        ("RLIMIT_SIGPENDING", 11),
        ("RLIMIT_MSGQUEUE", 12),
        ("RLIMIT_NICE", 13),
        ("RLIMIT_RTPRIO", 14),
        ("RLIMIT_RTTIME", 15),
    ],
)
def test_limits_are_numbered_as_the_kernel_does(name: str, number: int) -> None:
    rows = process.rlimit_rows(record(rlimits=[{"type": name, "soft": 1, "hard": 2}]))
    assert rows == [(name, number, 1, 2)]


def test_without_limits_there_is_no_step_about_them() -> None:
    document = cases.config()
    del document["process"]["rlimits"]
    made = plan.build(light.record("Spec", document), Facts(), cases.request())
    assert not {"raise_rlimits", "set_rlimits"} & {step.op for step in [*made.enter, *made.steps]}


@pytest.mark.parametrize(
    ("given_", "extra", "wanted"),
    [
        (None, [], []),
        (["A=1", "B=2"], [], ["A=1", "B=2"]),
        (["A=1", "B=2", "A=3"], [], ["B=2", "A=3"]),
        (["A=1=2", "A="], [], ["A="]),
        (["LISTEN_FDS=9", "B=1"], ["LISTEN_FDS=2"], ["LISTEN_FDS=2", "B=1"]),
    ],
)
def test_a_name_occurs_once_in_the_environment_and_the_last_one_counts(
    given_: list[str] | None, extra: list[str], wanted: list[str]
) -> None:
    document = cases.config()
    document["process"]["env"] = given_
    made = plan.build(light.record("Spec", document), Facts(), cases.request(extra_env=extra))
    step = next(step for step in made.steps if step.op == "prepare_program")
    assert step.arguments["env"] == wanted


def test_a_user_may_be_absent() -> None:
    document = cases.config()
    del document["process"]["user"]
    arguments = execute_arguments(document, Facts())
    assert [arguments[name] for name in ("uid", "gid", "groups", "umask")] == [0, 0, [], 0o022]


def test_a_umask_of_zero_is_not_the_default_one() -> None:
    document = cases.config()
    document["process"]["user"] = {"uid": 1, "gid": 2, "umask": 0}
    assert execute_arguments(document, Facts())["umask"] == 0


@pytest.mark.parametrize("value", [None, False, True])
def test_no_new_privileges_has_two_values_once_it_is_planned(value: bool | None) -> None:
    document = cases.config()
    document["process"]["noNewPrivileges"] = value
    assert execute_arguments(document, Facts())["no_new_privileges"] is bool(value)


def test_where_setgroups_is_denied_the_groups_are_left_alone() -> None:
    document = cases.config()
    assert execute_arguments(document, Facts(setgroups=False))["groups"] is None
    document["process"]["user"]["additionalGids"] = [5]
    with pytest.raises(SpecError) as caught:
        execute_arguments(document, Facts(setgroups=False))
    assert caught.value.problems[0].path == "$.process.user.additionalGids"


def test_an_ordinary_user_who_maps_only_himself_may_not_call_setgroups() -> None:
    rootless = Facts(euid=1000, egid=1000, capabilities=0)
    assert execute_arguments(cases.config(rootless=True), rootless)["groups"] is None
    assert execute_arguments(cases.config(rootless=True), Facts())["groups"] == []


def test_the_seccomp_program_goes_to_the_last_step() -> None:
    document = cases.config()
    document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    program = b"\x06\0\0\0\0\0\xff\x7f"
    wanted = cases.request(filter=program, filter_flags=2)
    arguments = plan.build(light.record("Spec", document), Facts(), wanted).steps[-1].arguments
    assert (arguments["filter"], arguments["filter_flags"]) == (program, 2)


def test_the_title_tells_the_program_by_its_length_and_checksum() -> None:
    document = cases.config()
    document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    wanted = cases.request(filter=cases.ALLOW_ALL * 3)
    title = plan.build(light.record("Spec", document), Facts(), wanted).steps[-1].title
    assert title.endswith(", under a seccomp filter of 3 instructions (CRC 288b99db)")


def test_loading_a_filter_needs_a_right_or_no_new_privileges() -> None:
    document = cases.config()
    document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    weak = Facts(capabilities=(1 << 41) - 1 & ~(1 << Facts.CAP_SYS_ADMIN))
    wanted = cases.request(filter=cases.ALLOW_ALL)
    assert plan.build(light.record("Spec", document), weak, wanted).steps
    document["process"]["noNewPrivileges"] = False
    with pytest.raises(UnsupportedError, match=r"linux\.seccomp.*CAP_SYS_ADMIN"):
        plan.build(light.record("Spec", document), weak, wanted)
    assert plan.build(light.record("Spec", document), Facts(), wanted).steps
