"""The last step of a call has what execve would leave, and refuses what only execve can do."""

from __future__ import annotations

from typing import Any

import pytest

import libpycontainer as lc
from libpycontainer.host import Facts
from libpycontainer.plan import Plan, Request, build, build_exec
from libpycontainer.plan.build import join_flags
from libpycontainer.spec import default, light

CAPABILITY = "CAP_CHOWN"


def planned(
    edit: Any = None, *, exec: bool = False, call: bool = True, filter: bytes = b""
) -> Plan:
    config = default.config()
    config["process"]["terminal"] = False
    if edit is not None:
        edit(config["process"])
    spec = light.load(config)
    request = Request("x", bundle="/", rootfs="/r", nfds=4, call=call, filter=filter)
    if exec:
        assert spec.process is not None
        return build_exec(spec, spec.process, Facts(), request, join_flags=join_flags(spec))
    return build(spec, Facts(), request)


@pytest.mark.parametrize("exec", [False, True])
def test_only_the_last_steps_differ(exec: bool) -> None:
    called, executed = planned(exec=exec), planned(exec=exec, call=False)
    assert called.enter == executed.enter
    ours, theirs = ([step.op for step in plan.steps] for plan in (called, executed))
    assert ours[-1] == "call"
    assert theirs[-1] == "execute"
    translated = {"prepare_program": "prepare_environment", "execute": "call"}
    assert ours == [translated.get(op, op) for op in theirs]
    assert called.steps[-1].title.startswith("call the function as 0:0")


@pytest.mark.parametrize("exec", [False, True])
def test_nothing_can_be_gained(exec: bool) -> None:
    def allow(process: dict[str, Any]) -> None:
        process["noNewPrivileges"] = False

    assert planned(allow, exec=exec).steps[-1].arguments["no_new_privileges"] is True
    assert planned(allow, exec=exec, call=False).steps[-1].arguments["no_new_privileges"] is False


def test_a_user_who_is_not_root_has_the_ambient_set_alone() -> None:
    def become(process: dict[str, Any]) -> None:
        process["user"] = {"uid": 1000, "gid": 1000}
        sets = ("bounding", "effective", "permitted")
        process["capabilities"] = {name: [CAPABILITY] for name in sets}

    def raise_ambient(process: dict[str, Any]) -> None:
        become(process)
        process["capabilities"].update(inheritable=[CAPABILITY], ambient=[CAPABILITY])

    bare = planned(become).steps[-1].arguments
    assert (bare["effective"], bare["permitted"], bare["bounding"]) == (0, 0, 1)
    raised = planned(raise_ambient).steps[-1].arguments
    assert (raised["effective"], raised["permitted"], raised["ambient"]) == (1, 1, 1)


@pytest.mark.parametrize("exec", [False, True])
@pytest.mark.parametrize("field", ["apparmorProfile", "selinuxLabel"])
def test_a_label_that_only_execve_takes_on_is_refused(field: str, exec: bool) -> None:
    def label(process: dict[str, Any]) -> None:
        process[field] = "strict"

    with pytest.raises(lc.UnsupportedError, match=rf"process\.{field}: it takes effect at execve"):
        planned(label, exec=exec)
    assert planned(label, exec=exec, call=False).steps


def test_a_filter_needs_no_capability() -> None:
    def allow(process: dict[str, Any]) -> None:
        process["noNewPrivileges"] = False

    plan = planned(allow, filter=bytes(8))
    assert plan.steps[-1].arguments["filter"] == bytes(8)
