"""The features document says what the readers, the checks and the planner really do."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
import referencing
import referencing.jsonschema

import libpycontainer as lc
from libpycontainer import abilities, host, validate
from libpycontainer.cgroups import MANAGERS
from libpycontainer.cli import features as command
from libpycontainer.cli import main, usage
from libpycontainer.errors import SpecError, UnsupportedError
from libpycontainer.host import Facts
from libpycontainer.plan import Request, build, options
from libpycontainer.plan.model import Plan
from libpycontainer.spec import light
from libpycontainer.spec.leaves import CHOICES
from tests.pure import spec_documents as documents

FACTS = Facts()

# config.md#linux-mount-options, all of it.
OPTIONS = """
async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev
nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private
ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime
rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid
rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable
idmap ridmap
"""
TABLE = OPTIONS.split()
# Words of mount(8) that features.md's own example lists besides.
BESIDES = {"acl", "noacl", "rnodev"}
# Files of ``linux`` that a switch of the document speaks of, each at its least.
MINIMAL: dict[str, dict[str, Any]] = {
    "intelRdt": {"closID": "group"},
    "netDevices": {"eth0": {}},
}


@pytest.fixture
def document() -> dict[str, Any]:
    return abilities.features(FACTS)


def planned(facts: Facts = FACTS, **changes: Any) -> Plan:
    """The plan of the default configuration with ``changes`` in its ``linux`` or ``mounts``."""
    config = copy.deepcopy(lc.Spec.like_runc().to_dict())
    config["mounts"] += changes.pop("mounts", [])
    config["linux"].update(changes)
    spec = light.load(config)
    validate.ensure_valid(spec, facts)
    return build(spec, facts, Request("x", bundle="/", rootfs="/"))


def mount_with(option: str) -> dict[str, Any]:
    """A mount that ``option`` makes sense for."""
    if option in ("idmap", "ridmap"):
        mapping = [{"containerID": 0, "hostID": 1000, "size": 1}]
        ids = {"uidMappings": mapping, "gidMappings": mapping}
        return {"destination": "/m", "source": "/srv", "options": ["rbind", option], **ids}
    if option in ("bind", "rbind"):
        return {"destination": "/m", "source": "/srv", "options": [option]}
    return {"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": [option]}


def test_it_is_valid_by_the_schema(document: dict[str, Any]) -> None:
    files = {path.name: documents.load_json(path) for path in documents.SCHEMA.glob("*.json")}
    registry: Any = referencing.Registry().with_resources(
        (name, referencing.jsonschema.DRAFT4.create_resource(schema))
        for name, schema in files.items()
    )
    # "$ref" counts from the file that it stands in.
    jsonschema.Draft4Validator(
        {"$ref": "features-schema.json"},
        registry=registry,
    ).validate(document)


def test_it_is_read_back_by_both_readers(document: dict[str, Any]) -> None:
    typed = lc.Features.load(document)

    assert typed.to_dict() == document
    assert light.dump(light.load_as("Features", document)) == document
    assert typed.linux is not None
    assert typed.linux.memory_policy is not None
    assert typed.linux.memory_policy.flags is not None


def test_the_public_name_is_a_function_whatever_was_imported_before() -> None:
    assert lc.features is abilities.features
    assert command.COMMAND.name == "features"
    assert callable(lc.features)


@pytest.mark.parametrize("option", abilities.features(FACTS)["mountOptions"])
def test_every_listed_mount_option_is_taken(option: str) -> None:
    steps = planned(mounts=[mount_with(option)]).steps

    assert not options.is_data(option)
    step = next(step for step in steps if step.arguments.get("target") == "/m")
    # It means something to the runtime; the file system hears of what is its superblock's as well.
    if option not in {*options.SUPERBLOCK, "ro"}:
        assert (option, None) not in step.arguments.get("data", ())


@pytest.mark.parametrize("option", TABLE)
def test_an_option_of_the_table_is_listed_or_goes_to_the_file_system(
    option: str, document: dict[str, Any]
) -> None:
    if option in document["mountOptions"]:
        return
    assert options.is_data(option)
    with pytest.raises(SpecError, match=option):
        planned(mounts=[{"destination": "/m", "source": "/srv", "options": ["bind", option]}])


def test_the_whole_table_is_listed(document: dict[str, Any]) -> None:
    listed = document["mountOptions"]

    assert set(TABLE) - set(listed) == set()
    assert set(listed) - set(TABLE) <= BESIDES
    assert listed == sorted(set(listed))


def test_file_system_options_are_not_listed(document: dict[str, Any]) -> None:
    for option in ("size=1m", "mode=755", "gid=5", "newinstance"):
        assert option not in document["mountOptions"]
        assert options.is_data(option)


def test_the_namespaces_are_those_of_the_kernel() -> None:
    old = Facts(namespaces=frozenset(host.NAMESPACE_FILES) - {"time"})

    assert set(abilities.features(FACTS)["linux"]["namespaces"]) == set(CHOICES["namespace type"])
    assert "time" not in abilities.features(old)["linux"]["namespaces"]
    namespaces = lc.Spec.like_runc().to_dict()["linux"]["namespaces"]
    with pytest.raises((SpecError, UnsupportedError), match="time namespaces"):
        planned(old, namespaces=[*namespaces, {"type": "time"}])


def test_the_capabilities_end_where_the_kernels_do() -> None:
    assert abilities.features(Facts(last_cap=40))["linux"]["capabilities"][-2:] == [
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
    ]
    assert abilities.features(Facts(last_cap=37))["linux"]["capabilities"][-1] == "CAP_AUDIT_READ"
    # A kernel newer than this table.
    assert len(abilities.features(Facts(last_cap=50))["linux"]["capabilities"]) == 41


def test_the_capabilities_of_this_host() -> None:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    document = lc.features()

    assert len(document["linux"]["capabilities"]) == min(last, 40) + 1
    config = lc.Spec.like_runc().to_dict()
    config["process"]["capabilities"]["bounding"] = document["linux"]["capabilities"]
    spec = light.load(config)
    plan = build(spec, Facts(last_cap=last), Request("x", bundle="/", rootfs="/"))
    assert plan.warnings == []


def test_every_hook_of_the_list_is_planned_or_on_record(document: dict[str, Any]) -> None:
    from libpycontainer import lifecycle

    config = lc.Spec.like_runc().to_dict()
    config["hooks"] = {name: [{"path": "/bin/true"}] for name in document["hooks"]}
    spec = light.load(config)
    outside = set(lifecycle.hook_rows(spec.hooks))
    plan = build(spec, FACTS, Request("x", bundle="/", rootfs="/"))
    inside = {step.arguments["kind"] for step in plan.steps if step.op == "run_hooks"}

    assert outside | inside == set(document["hooks"])
    assert document["hooks"] == [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ]


@pytest.mark.parametrize("name", MINIMAL)
def test_what_a_switch_speaks_of_is_planned(name: str, document: dict[str, Any]) -> None:
    assert document["linux"][name]["enabled"] is True
    assert planned(FACTS, **{name: MINIMAL[name]}).steps


def test_a_profile_is_not_planned_without_its_program() -> None:
    with pytest.raises(UnsupportedError, match=r"linux\.seccomp"):
        planned(seccomp={"defaultAction": "SCMP_ACT_ALLOW"})


def test_seccomp_lists_what_a_profile_may_say(document: dict[str, Any]) -> None:
    seccomp = document["linux"]["seccomp"]

    assert seccomp["enabled"] is True
    for key, kind in (("actions", "action"), ("operators", "operator"), ("archs", "architecture")):
        assert seccomp[key] == sorted(CHOICES[f"seccomp {kind}"])
    assert seccomp["knownFlags"] == list(CHOICES["seccomp flag"])


def test_a_seccomp_flag_is_supported_where_the_kernel_takes_it() -> None:
    old = Facts(seccomp_flags=frozenset({"SECCOMP_FILTER_FLAG_LOG"}))
    seccomp = abilities.features(old)["linux"]["seccomp"]

    assert seccomp["supportedFlags"] == ["SECCOMP_FILTER_FLAG_LOG"]
    assert len(seccomp["knownFlags"]) == 4


@pytest.mark.parametrize("mode", abilities.features(FACTS)["linux"]["memoryPolicy"]["modes"])
def test_every_memory_policy_is_planned(mode: str) -> None:
    nodes = {} if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else {"nodes": "0"}
    steps = planned(memoryPolicy={"mode": mode, **nodes}).steps

    assert "set_memory_policy" in [step.op for step in steps]


def test_the_versions_at_both_ends_are_taken(document: dict[str, Any]) -> None:
    config = lc.Spec.like_runc().to_dict()
    for end in ("ociVersionMin", "ociVersionMax"):
        config["ociVersion"] = document[end]
        validate.ensure_valid(light.load(config), FACTS)
    assert document["ociVersionMax"] == usage.SPEC_VERSION


def test_the_switches_are_the_builds_and_the_annotations_the_hosts() -> None:
    bare = abilities.features(Facts(cgroup_mode="v1", kernel=(5, 10)))
    full = abilities.features(Facts(cgroup_mode="v2", lsms=frozenset({"selinux", "bpf"})))

    assert bare["linux"] == full["linux"]
    assert bare["linux"]["cgroup"]["v2"] is ("v2" in MANAGERS)
    assert bare["annotations"]["io.github.libpycontainer.host.cgroup"] == "v1"
    assert bare["annotations"]["io.github.libpycontainer.host.kernel"] == "5.10"
    assert full["annotations"]["io.github.libpycontainer.host.lsms"] == "bpf,selinux"
    assert full["annotations"]["io.github.libpycontainer.version"] == lc.__version__


def test_the_command_prints_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.main(["features"]) == 0
    text = capfd.readouterr().out

    assert json.loads(text) == lc.features()
    assert text.startswith('{\n    "ociVersionMin": "1.0.0",\n')
    assert main.main(["features", "more"]) == 1
    assert "requires exactly 0 argument(s)" in capfd.readouterr().err
