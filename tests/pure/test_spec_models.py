"""Loading and dumping the typed models: sources, strictness, every error at once, stable bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from libpycontainer.errors import SpecError
from libpycontainer.spec import converter, light, models
from libpycontainer.spec.models import Process, Root, Spec
from tests.pure import spec_documents as documents

MINIMAL: dict[str, Any] = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}}
LOADERS = [pytest.param(Spec.load, id="typed"), pytest.param(light.load, id="light")]


def problems_of(load: Any, source: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(source)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("load", LOADERS)
def test_a_config_loads_from_path_text_bytes_and_dict(load: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    text = json.dumps(MINIMAL)
    path.write_text(text)
    expected = load(MINIMAL)
    for source in (path, str(path), text, f" \n\t{text}", text.encode()):
        assert load(source) == expected
    assert expected.root.path == "rootfs"


@pytest.mark.parametrize("load", LOADERS)
def test_a_dict_is_taken_as_the_json_it_would_be_written_as(load: Any) -> None:
    source: dict[str, Any] = {**MINIMAL, "x": {"y": [1]}, "process": {"cwd": "/", "args": ("a",)}}
    spec = load(source)
    source["x"]["y"].append(2)
    assert spec.extra == {"x": {"y": [1]}}
    assert problems_of(load, {**MINIMAL, "x": {1, 2}})[0].startswith("$: not JSON: ")
    assert problems_of(load, {**MINIMAL, "x": float("nan")})[0].startswith("$: not JSON: ")
    source["x"]["y"] = source
    assert problems_of(load, source)[0].startswith("$: not JSON: ")


@pytest.mark.parametrize("load", LOADERS)
def test_a_file_that_cannot_be_read_is_named(load: Any, tmp_path: Path) -> None:
    path = tmp_path / "nothing" / "config.json"
    with pytest.raises(SpecError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: $: cannot be read: No such file or directory"
    assert caught.value.source == str(path)
    assert problems_of(load, tmp_path) == ["$: cannot be read: Is a directory"]
    assert problems_of(load, "a\0b")[0].startswith("$: cannot be read: ")
    with pytest.raises(TypeError):
        load(None)


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"ociVersion": "1.3.0",\n "root" {}}', "line 2 column 9"),
        (b"", "line 1 column 1"),
        (b'{"ociVersion": "1.3.0"} x', "line 1 column 25"),
        (b'{"ociVersion": "1.3.0", "x": NaN}', "NaN is not a JSON number"),
        (b'{"ociVersion": "1.3.0", "x": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"ociVersion": "1.3.0", "x": 1e999}', "1e999 is too large a number"),
        (b'{"ociVersion": "1.3.0",\n"x": "\xff"}', "not UTF-8 at line 2 column 7"),
        (b'\xef\xbb\xbf{"ociVersion": "1.3.0"}', "line 1 column 1"),
        (b'{"x":' * 100_000, "nested too deeply"),
        (b'{"x":' + b"9" * 5000 + b"}", "not JSON: "),
    ],
)
def test_text_that_is_not_json_is_one_problem_with_a_place(
    load: Any, text: bytes, says: str
) -> None:
    (problem,) = problems_of(load, text)
    assert problem.startswith("$: ")
    assert says in problem


@pytest.mark.parametrize("load", LOADERS)
def test_half_a_surrogate_pair_is_named(load: Any) -> None:
    text = '{"ociVersion": "1.3.0", "process": {"cwd": "/", "args": ["\\ud83d\\ude00", "\\ud800"]}}'
    says = "invalid value, half of a surrogate pair is not text"
    assert problems_of(load, text) == [f"$.process.args[1]: {says}"]


@pytest.mark.parametrize("load", LOADERS)
def test_of_a_field_given_twice_the_last_counts(load: Any) -> None:
    spec = load('{"ociVersion": "1.2.0", "ociVersion": "1.3.0"}')
    assert spec.oci_version == "1.3.0"


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("linux.resources.memory.limit", "5", "invalid value, expected int"),
        ("linux.resources.memory.limit", True, "invalid value, expected int"),
        ("linux.resources.memory.limit", 5.0, "invalid value, expected int"),
        ("linux.resources.memory.limit", 2**63, "expected int64"),
        ("linux.resources.memory.disableOOMKiller", 1, "invalid value, expected bool"),
        ("linux.resources.cpu.shares", -1, "invalid value -1, expected uint64"),
        ("linux.resources.blockIO.weight", 65536, "expected uint16 (0 to 65535)"),
        ("linux.uidMappings", {}, "invalid value, expected array"),
        ("linux.sysctl", [], "invalid value, expected object"),
        ("linux.sysctl.x", 1, "invalid value, expected string"),
        ("linux.personality.domain", "foo", "invalid value 'foo', expected one of LINUX, LINUX32"),
        ("linux.netDevices.eth0", None, "invalid value, expected object"),
        ("process.cwd", None, "invalid value, expected string"),
        ("process.user.uid", 2**32, "invalid value 4294967296, expected uint32 (0 to 4294967295)"),
        ("hostname", 5, "invalid value, expected string"),
        ("windows", {}, "required field missing"),
        ("windows.layerFolders", [], "invalid value, expected at least one item"),
        ("windows.credentialSpec", 1, "required field missing"),
    ],
)
def test_a_wrong_value_is_named_by_its_json_path(
    load: Any, place: str, value: object, says: str
) -> None:
    base = {**MINIMAL, "process": {"cwd": "/"}}
    document = documents.with_value(base, tuple(place.split(".")), value)
    with pytest.raises(SpecError) as caught:
        load(document)
    first = caught.value.problems[0]
    assert first.path.startswith(f"$.{place}") or first.path == "$.windows.layerFolders"
    assert says in first.message


@pytest.mark.parametrize("load", LOADERS)
def test_every_error_comes_at_once_in_the_order_of_the_fields(load: Any) -> None:
    document = {
        "linux": {"namespaces": [{"type": "pid"}, {"type": "foo"}], "cgroupsPath": 1},
        "process": {"args": ["a", 1, None], "rlimits": [{"type": "x", "hard": 1}]},
        "root": {},
    }
    assert [problem.split(": ")[0] for problem in problems_of(load, document)] == [
        "$.ociVersion",
        "$.process.args[1]",
        "$.process.args[2]",
        "$.process.cwd",
        "$.process.rlimits[0].type",
        "$.process.rlimits[0].soft",
        "$.root.path",
        "$.linux.cgroupsPath",
        "$.linux.namespaces[1].type",
    ]


@pytest.mark.parametrize("load", LOADERS)
def test_a_long_value_is_cut_in_the_message(load: Any) -> None:
    namespaces = [{"type": "x" * 1000}]
    (problem,) = problems_of(load, {**MINIMAL, "linux": {"namespaces": namespaces}})
    assert len(problem) < 200


@pytest.mark.parametrize("load", LOADERS)
def test_keys_that_are_no_names_are_quoted_in_paths(load: Any) -> None:
    document = {**MINIMAL, "annotations": {'a "b".c\\': 1, "plain-key_1": 2, "": 3}}
    assert [problem.split(": ")[0] for problem in problems_of(load, document)] == [
        '$.annotations["a \\"b\\".c\\\\"]',
        "$.annotations.plain-key_1",
        '$.annotations[""]',
    ]


@pytest.mark.parametrize("load", LOADERS)
def test_null_is_absent(load: Any) -> None:
    spec = load({**MINIMAL, "linux": None, "process": {"cwd": "/", "args": None}})
    assert spec.linux is None
    assert spec.process.args is None
    assert spec.to_dict() == {**MINIMAL, "process": {"cwd": "/"}}


@pytest.mark.parametrize("load", LOADERS)
def test_unknown_fields_are_kept_where_they_stood(load: Any) -> None:
    document = {**MINIMAL, "extra": 1, "linux": {"x": None, "resources": {"oomScoreAdj": 3}}}
    spec = load(document)
    assert spec.extra == {"extra": 1}
    assert spec.linux.extra == {"x": None}
    assert spec.linux.resources.extra == {"oomScoreAdj": 3}
    assert spec.to_dict() == document


@pytest.mark.parametrize("load", LOADERS)
def test_absent_and_empty_stay_apart(load: Any) -> None:
    document = {**MINIMAL, "mounts": [], "annotations": {}, "root": {"path": "", "readonly": False}}
    spec = load(document)
    assert (spec.mounts, spec.annotations, spec.hooks) == ((), {}, None)
    assert spec.root.readonly is False
    assert spec.to_dict() == document


def test_equal_documents_dump_equal_bytes() -> None:
    document = documents.load_json(documents.CONFIGS[0])
    shuffled = json.loads(json.dumps(document), object_pairs_hook=lambda pairs: dict(pairs[::-1]))
    assert list(shuffled) != list(document)
    text = Spec.load(document).dump()
    assert Spec.load(shuffled).dump() == text
    assert Spec.load(text).dump() == text
    assert json.loads(text) == document


def test_maps_and_unknown_fields_are_dumped_in_alphabetical_order() -> None:
    one = {**MINIMAL, "annotations": {"b": "1", "a": "2"}, "z": {"d": 1, "c": 2}, "y": 0}
    two = {**MINIMAL, "annotations": {"a": "2", "b": "1"}, "y": 0, "z": {"c": 2, "d": 1}}
    assert Spec.load(one).dump() == Spec.load(two).dump()


@pytest.mark.parametrize(
    ("rootless", "golden"), [(False, "config.json"), (True, "config-rootless.json")]
)
def test_the_default_is_what_runc_spec_writes(rootless: bool, golden: str) -> None:
    # Written by runc 1.1.5 as root on a host with cgroup v1; only the version differs.
    expected = (documents.DATA / "runc-spec" / golden).read_text()
    spec = Spec.like_runc(rootless, uid=0, gid=0, cgroup_namespace=False)
    assert spec.oci_version == "1.3.0"
    assert spec.dump() == expected.replace("1.0.2-dev", "1.3.0")
    assert light.default(rootless, uid=0, gid=0, cgroup_namespace=False).dump() == spec.dump()


def test_the_default_on_the_unified_hierarchy_has_a_cgroup_namespace() -> None:
    document = Spec.like_runc(rootless=True, cgroup_namespace=True).to_dict()
    namespaces = document["linux"]["namespaces"]
    types = [namespace["type"] for namespace in namespaces]
    assert types == ["pid", "ipc", "uts", "mount", "cgroup", "user"]


def test_the_rootless_default_maps_the_caller_or_whom_he_names() -> None:
    def host_ids(spec: Any) -> tuple[int, int]:
        return spec.linux.uid_mappings[0].host_id, spec.linux.gid_mappings[0].host_id

    assert host_ids(Spec.like_runc(rootless=True)) == (os.geteuid(), os.getegid())
    assert host_ids(Spec.like_runc(rootless=True, uid=1000, gid=100)) == (1000, 100)


def test_models_are_made_by_hand_and_do_not_change() -> None:
    process = Process(cwd="/", args=["sh", "-c", "true"])
    assert process == converter.structure(Process, {"cwd": "/", "args": ["sh", "-c", "true"]})
    assert repr(process) == "Process(args=('sh', '-c', 'true'), cwd='/')"
    assert hash(process) == hash(Process(cwd="/", args=("sh", "-c", "true")))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        process.cwd = "/tmp"  # type: ignore[misc]


@pytest.mark.parametrize("default", [Spec.like_runc, light.default])
def test_a_changed_copy_leaves_the_original_alone(default: Any) -> None:
    spec = default()
    changed = spec.evolve(root=Root(path="other"), hostname=None, mounts=[spec.mounts[0]])
    assert (changed.root.path, changed.hostname, len(changed.mounts)) == ("other", None, 1)
    assert isinstance(changed.mounts, tuple)
    assert "hostname" not in changed.to_dict()
    assert changed.to_dict()["root"] == {"path": "other"}
    assert spec == default()
    with pytest.raises(TypeError):
        spec.evolve(nothing=1)


def test_a_model_of_any_kind_loads_by_itself() -> None:
    resources = models.LinuxResources.load('{"pids": {"limit": 5}}')
    assert resources.pids == models.LinuxPids(limit=5)
    with pytest.raises(SpecError, match=r"\$\.pids\.limit: invalid value, expected int"):
        models.LinuxResources.load({"pids": {"limit": "5"}})


def test_a_paused_state_is_a_state() -> None:
    text = '{"ociVersion": "1.3.0", "id": "x", "status": "paused", "bundle": "/b"}'
    state = models.State.load(text)
    assert state.status == "paused"
    with pytest.raises(SpecError, match=r"\$\.status: invalid value 'dead', expected one of"):
        models.State.load({**state.to_dict(), "status": "dead"})
