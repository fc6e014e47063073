"""What the planner refuses, and single decisions that a whole plan would hide."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from libpycontainer import kernel, plan, validate
from libpycontainer.errors import SpecError, UnsupportedError
from libpycontainer.host import Facts
from libpycontainer.plan.build import CLONE_FLAGS, join_flags
from libpycontainer.spec import converter, light, models
from tests.pure import plan_cases as cases

ROOTLESS = Facts(euid=1000, egid=1000, capabilities=0)


def build(document: cases.Document, facts: Facts | None = None, **request: Any) -> plan.Plan:
    spec = light.record("Spec", document)
    return plan.build(spec, facts or Facts(), cases.request(**request))


def ops(made: plan.Plan) -> list[str]:
    return [step.op for step in made.steps]


def step_of(made: plan.Plan, op: str, target: str) -> dict[str, Any]:
    found = [s.arguments for s in made.steps if s.op == op and s.arguments.get("target") == target]
    assert len(found) == 1, found
    return found[0]


def with_mount(**mount: Any) -> cases.Document:
    document = cases.config()
    document["mounts"].append({"destination": "/x", **mount})
    return document


def test_both_readers_give_the_same_plan() -> None:
    for case in cases.CASES:
        spec = converter.structure(models.Spec, copy.deepcopy(case.document))
        made = plan.build(spec, case.facts, cases.request(**case.request))
        assert cases.printed(made) == cases.printed(case.plan()), case.name


def test_a_namespace_that_the_kernel_lacks_is_refused_by_its_file_name() -> None:
    facts = Facts(namespaces=frozenset(CLONE_FLAGS) - {"network"})
    with pytest.raises(UnsupportedError, match="no net namespaces"):
        build(cases.config(), facts)


def test_mounts_without_a_mount_namespace_are_refused() -> None:
    document = cases.config()
    cases.namespaces(document, drop=("mount",))
    with pytest.raises(UnsupportedError, match=r"\$\.mounts"):
        build(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["process"].update(terminal=True),
        lambda d: d["root"].update(readonly=True),
        lambda d: d["linux"].update(maskedPaths=["/proc/kcore"]),
        lambda d: d["linux"].update(readonlyPaths=["/proc/sys"]),
    ],
    ids=["terminal", "readonly root", "maskedPaths", "readonlyPaths"],
)
def test_nothing_is_mounted_on_the_host_without_a_mount_namespace(
    change: Callable[[cases.Document], object],
) -> None:
    document = next(c.document for c in cases.CASES if c.name == "no-mount-namespace")
    document = copy.deepcopy(document)
    change(document)
    spec = light.record("Spec", document)
    if any(not problem.warning for problem in validate.check(spec, Facts())):
        return
    if document["root"].get("readonly"):
        with pytest.raises(UnsupportedError, match=r"\$\.root\.readonly"):
            build(document)
        return
    made = build(document, terminal=bool(document["process"]["terminal"]))
    assert not {"read_only_root", "read_only_path", "mask_path"} & set(ops(made))
    assert not [step for step in made.steps if step.arguments.get("mount")]


def test_data_for_a_bind_mount_is_refused_with_its_path() -> None:
    with pytest.raises(SpecError) as caught:
        build(with_mount(type="bind", source="/a", options=["rbind", "size=1m"]))
    assert caught.value.problems[0].path.startswith("$.mounts[7].options")
    assert "size" in str(caught.value)


def test_a_config_without_linux_is_refused() -> None:
    document = cases.config()
    del document["linux"]
    with pytest.raises(UnsupportedError, match=r"\$\.linux"):
        build(document)


@pytest.mark.parametrize(
    ("options", "set_", "clear"),
    [
        (["rbind"], 0, 0),
        (["rbind", "rprivate"], 0, 0),
        (["rbind", "ro"], 0x1, 0x20000E),
        (["rbind", "rw"], 0, 0x20000F),
        (["rbind", "noatime"], 0x10, 0x2000FF),
        (["rbind", "nodiratime"], 0x80, 0x20007F),
        (["rbind", "rro"], 0, 0),
    ],
)
def test_a_bind_that_names_an_attribute_has_just_those(
    options: list[str], set_: int, clear: int
) -> None:
    arguments = step_of(build(with_mount(source="/a", options=options)), "bind", "/x")
    assert arguments["set"] == set_
    assert arguments["clear"] & ~set_ == clear & ~set_


def test_a_bind_in_a_user_namespace_keeps_what_protects_the_host() -> None:
    document = with_mount(source="/a", options=["rbind", "ro"])
    cases.namespaces(document, user=None)
    step = step_of(build(document), "bind", "/x")
    assert step["set"] == kernel.MOUNT_ATTR_RDONLY
    assert step["clear"] == 0


@pytest.mark.parametrize(
    ("source", "wanted"), [("/a", "/a"), ("a", "/bundle/a"), ("../a", "/bundle/../a")]
)
def test_a_relative_bind_source_counts_from_the_bundle(source: str, wanted: str) -> None:
    arguments = step_of(build(with_mount(source=source, options=["bind"])), "bind", "/x")
    assert arguments["source"] == wanted


def test_in_a_user_namespace_the_caller_opens_what_its_root_may_not_see() -> None:
    made = next(case for case in cases.CASES if case.name == "user-namespace").plan()
    assert [tree.path for tree in made.trees] == ["/bundle/rootfs", "/bundle/data"]
    document = cases.config(rootless=True)
    document["mounts"].append({"destination": "/x", "source": "/a", "options": ["bind"]})
    # A caller without privilege has no more eyes than his container's root.
    assert build(document, ROOTLESS, cgroup_mounts=()).trees == []


def test_a_read_only_tmpfs_is_made_read_only_when_everything_is_in_it() -> None:
    made = build(with_mount(type="tmpfs", source="tmpfs", options=["ro", "nosuid"]))
    assert step_of(made, "mount", "/x")["set"] == kernel.MOUNT_ATTR_NOSUID
    assert ops(made).index("remount_read_only") > ops(made).index("pivot_root")


def test_proc_and_sysfs_are_only_mounted_on_plain_directories() -> None:
    made = build(cases.config())
    plain = {s.arguments["fstype"] for s in made.steps if s.arguments.get("plain_target")}
    assert plain == {"proc", "sysfs"}


def test_a_bound_dev_is_left_as_the_user_has_it() -> None:
    made = next(case for case in cases.CASES if case.name == "own-dev").plan()
    assert not {"make_device", "bind_device", "make_symlink"} & set(ops(made))


def test_a_configured_device_takes_the_place_of_a_default_one() -> None:
    made = next(case for case in cases.CASES if case.name == "devices").plan()
    nodes = [step.arguments for step in made.steps if step.op == "make_device"]
    paths = [node["path"] for node in nodes]
    assert len(paths) == len(set(paths))
    null = next(node for node in nodes if node["path"] == "/dev/null")
    assert (null["mode"], null["uid"]) == (0o600, 7)
    assert "/dev/disk" in paths


def test_the_cgroup_namespace_is_made_inside_the_containers_group() -> None:
    made = build(cases.config())
    assert not made.clone_flags & kernel.CLONE_NEWCGROUP
    assert ops(made).index("join_cgroups") < ops(made).index("unshare")


@pytest.mark.parametrize(
    ("word", "isolate", "after"),
    [
        ("shared", True, [(kernel.MS_SHARED, False)]),
        ("rshared", True, [(kernel.MS_SHARED, True)]),
        ("unbindable", True, [(kernel.MS_UNBINDABLE, False)]),
        ("slave", True, [(kernel.MS_SLAVE, False)]),
        ("rslave", False, [(kernel.MS_SLAVE, True)]),
        ("private", True, []),
        ("rprivate", False, []),
        (None, False, []),
    ],
)
def test_the_roots_propagation_is_set_when_it_is_the_root(
    word: str | None, isolate: bool, after: list[tuple[int, bool]]
) -> None:
    # pivot_root refuses a shared root, and of an unbindable one no copy can be made: until then the
    # mount that the root lies in is private, unless all mounts are slaves or private already.
    document = cases.config()
    if word:
        document["linux"]["rootfsPropagation"] = word
    steps = build(document).steps
    names = [step.op for step in steps]
    assert steps[names.index("attach_root")].arguments["isolate"] is isolate
    late = [step for step in steps[names.index("pivot_root") :] if step.op == "set_propagation"]
    assert [(step.arguments["flag"], step.arguments["recursive"]) for step in late] == after


def test_read_only_below_the_root_itself_is_the_root() -> None:
    document = cases.config()
    document["root"]["readonly"] = False
    document["linux"]["readonlyPaths"] = ["/proc/sys", "/", "/x/.."]
    made = build(document)
    assert ops(made).count("read_only_root") == 2
    assert [step.arguments["path"] for step in made.steps if step.op == "read_only_path"] == [
        "/proc/sys"
    ]


def test_the_tmpfs_of_the_cgroup_hierarchies_is_confined_whatever_the_options_say() -> None:
    document = cases.config()
    document["mounts"] = [{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}]
    confined = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_NOEXEC
    made = build(document, cgroup_mounts=cases.HYBRID)
    attributes = {s.arguments["fstype"]: s.arguments["set"] for s in made.steps if s.op == "mount"}
    assert attributes == {"tmpfs": confined, "cgroup": confined | kernel.MOUNT_ATTR_RDONLY}


def test_in_a_user_namespace_its_root_makes_the_ipc_namespace() -> None:
    # The directory of an mqueue file system belongs to whoever made the ipc namespace.
    document = cases.config()
    cases.namespaces(document, user=None)
    made = build(document)
    assert not made.clone_flags & kernel.CLONE_NEWIPC
    made_late = [s.arguments["flags"] for s in made.steps if s.op == "unshare"]
    assert made_late[0] == kernel.CLONE_NEWIPC
    assert ops(made).index("become_root") < ops(made).index("unshare")


@pytest.mark.parametrize(("user", "permissions"), [(False, 0x80000), (True, 0x8)])
def test_the_session_keyring_can_be_searched_by_the_containers_processes(
    user: bool, permissions: int
) -> None:
    document = cases.config()
    if user:
        cases.namespaces(document, user=None)
    step = next(step for step in build(document).steps if step.op == "join_keyring")
    assert step.arguments["permissions"] == permissions


@pytest.mark.parametrize("privileged", [True, False])
def test_what_lies_on_the_host_is_joined_with_the_rights_of_the_host(privileged: bool) -> None:
    # Entering needs CAP_SYS_ADMIN over the namespace's owner (man 2 setns): whoever is inside a new
    # user namespace has lost it over what the host's owns.
    document = cases.config(rootless=not privileged)
    cases.namespaces(document, user=None, network="/run/netns/web", time=None)
    made = build(document, Facts() if privileged else ROOTLESS, cgroup_mounts=())
    entered = [s.arguments["fd"] for s in [*made.enter, *made.steps] if s.op == "join"]
    if privileged:
        assert entered.index("ns:user") == len(entered) - 1
    else:
        assert entered.index("ns:user") == 0


@pytest.mark.parametrize("type", CLONE_FLAGS)
def test_exec_joins_the_namespaces_that_the_config_names(type: str) -> None:
    document = cases.config()
    document["linux"]["namespaces"] = [{"type": type}]
    assert join_flags(light.record("Spec", document)) == CLONE_FLAGS[type]


def test_exec_takes_the_consoles_size_from_the_process_when_none_is_given() -> None:
    document = cases.config()
    document["process"]["consoleSize"] = {"height": 10, "width": 20}
    spec = light.record("Spec", document)
    for size, wanted in ((None, (10, 20)), ((1, 2), (1, 2))):
        request = cases.request(terminal=True, console_size=size)
        made = plan.build_exec(spec, spec.process, Facts(), request, join_flags=0)
        step = next(step for step in made.steps if step.op == "console")
        assert (step.arguments["size"], step.arguments["mount"]) == (wanted, False)


@pytest.mark.parametrize(
    "change",
    [
        {"scheduler": {"policy": "SCHED_BATCH", "nice": 5}},
        {"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}},
        {"execCPUAffinity": {"initial": "0"}},
        {"oomScoreAdj": 5},
        {"apparmorProfile": "web"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_that_a_process_asks_for_is_passed_over(change: dict[str, Any]) -> None:
    document = cases.config()
    spec = light.record("Spec", document)
    target = light.record("Process", {**document["process"], **change})

    def exec_ops(process: Any) -> set[str]:
        made = plan.build_exec(spec, process, Facts(), cases.request(), join_flags=0)
        return {step.op for step in [*made.enter, *made.steps]}

    refusal, more = "", set[str]()
    try:
        more = exec_ops(target) - exec_ops(spec.process)
    except UnsupportedError as error:
        refusal = str(error)
    assert more or next(iter(change)) in refusal


def test_hooks_that_run_inside_carry_the_state_cut_at_the_pid() -> None:
    made = next(case for case in cases.CASES if case.name == "hooks").plan()
    hooks = {s.arguments["kind"]: s.arguments for s in made.steps if s.op == "run_hooks"}
    assert set(hooks) == {"createContainer", "startContainer"}
    assert hooks["createContainer"]["state"] == cases.STATE["createContainer"]
    assert hooks["createContainer"]["hooks"][1] == ("/usr/bin/more", ["/usr/bin/more"], [], None)
    order = ops(made)
    assert order.index("run_hooks") < order.index("pivot_root")
    assert order.index("await_start") < len(order) - 1 - order[::-1].index("run_hooks")


@pytest.mark.parametrize(
    ("dropped", "target", "bound"),
    [
        ((), "/sys", ""),
        (("network",), "/sys", "/sys"),
        (("network",), "/proc", ""),
        (("pid",), "/proc", "/proc"),
        (("pid",), "/sys", ""),
    ],
)
@pytest.mark.parametrize("facts", [Facts(), ROOTLESS])
def test_what_shows_the_hosts_namespace_is_the_hosts(
    dropped: tuple[str, ...], target: str, bound: str, facts: Facts
) -> None:
    document = cases.config()
    cases.namespaces(document, drop=dropped, user=None)
    made = build(document, facts)
    if not bound:
        assert step_of(made, "mount", target)
        return
    step = step_of(made, "bind_kernel_tree", target)
    assert step["source"] == bound
    assert bool(step["set"] & kernel.MOUNT_ATTR_RDONLY) is (target == "/sys")
    assert [tree.path for tree in made.trees if tree.path == bound] == (
        [bound] if facts.privileged else []
    )


def test_without_a_user_namespace_they_are_mounted() -> None:
    document = cases.config()
    cases.namespaces(document, drop=("network", "pid"))
    made = build(document)
    assert "bind_kernel_tree" not in ops(made)
