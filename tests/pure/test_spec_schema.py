"""The models have every property of the specification's JSON schema, with its types and ranges."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import referencing
import referencing.jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from libpycontainer.errors import SpecError
from libpycontainer.spec import leaves, light, models
from libpycontainer.spec._table import TABLE
from libpycontainer.spec.base import fields_of
from libpycontainer.spec.compile_table import kind_of, source
from tests.pure import spec_documents as documents

FILES = {path.name: documents.load_json(path) for path in documents.SCHEMA.glob("*.json")}

# What the specification's text, or every runtime, allows beyond its schema.
WIDER_CHOICES = {
    "rootfs propagation": {"rprivate", "rshared", "rslave", "runbindable"},
    "status": {"paused"},
}
WIDER_RANGES = {("fileMode", "uint32"): (0, 511), ("mode", "uint32"): (0, 511)}
# What features-linux.md of 1.3 defines and its schema lacks.
BEYOND_THE_SCHEMA = {
    "FeaturesLinux": {"memoryPolicy"},
    "FeaturesIntelRdt": {"schemata", "monitoring"},
}
UNBOUNDED = (-(2**63), 2**63 - 1)


def resolve(schema: dict[str, Any], file: str) -> tuple[dict[str, Any], str]:
    """Follow ``$ref``, one-armed ``anyOf`` and ``allOf``, to a schema that says something."""
    while True:
        if "$ref" in schema:
            name, _, pointer = schema["$ref"].partition("#")
            file = name or file
            schema = FILES[file]
            for part in pointer.strip("/").split("/"):
                schema = schema[part]
        elif "anyOf" in schema:
            (schema,) = schema["anyOf"]
        elif "allOf" in schema:
            merged: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
            for part in schema["allOf"]:
                arm, _ = resolve(part, file)
                merged["properties"].update(
                    {name: {**value, "$file": file} for name, value in arm["properties"].items()}
                )
                merged["required"] += arm.get("required", [])
            return merged, file
        else:
            return schema, file


def compare(schema: dict[str, Any], file: str, kind: str, name: str, seen: set[str]) -> None:
    """Hold a field of ``kind`` against its schema; on objects, go on with every property."""
    schema, file = resolve(schema, schema.get("$file", file))
    type_ = schema["type"]
    if type_ == "array":
        assert kind[0] == ("+" if schema.get("minItems") else "["), name
        compare(schema["items"], file, kind[1:], name, seen)
    elif type_ == "object" and "properties" in schema:
        assert kind[0] == "@", name
        compare_object(schema, file, kind[1:], seen)
    elif type_ == "object" and {"additionalProperties", "patternProperties"} & set(schema):
        assert kind[0] == "{", name
        patterns = list(schema.get("patternProperties", {}).values())
        compare(schema.get("additionalProperties") or patterns[0], file, kind[1:], name, seen)
    elif type_ == "object":
        assert kind == "object", name
    else:
        compare_leaf(schema, type_, kind, name)


def compare_leaf(schema: dict[str, Any], type_: str, kind: str, name: str) -> None:
    if type_ == "boolean":
        assert kind == "bool", name
    elif type_ == "integer":
        wanted = (schema.get("minimum", UNBOUNDED[0]), schema.get("maximum", UNBOUNDED[1]))
        assert wanted == WIDER_RANGES.get((name, kind), leaves.INTEGERS[kind]), name
    elif "enum" in schema:
        wider = WIDER_CHOICES.get(kind, set())
        assert set(leaves.CHOICES[kind]) - wider == set(schema["enum"]), name
    elif "pattern" in schema:
        assert kind in leaves.PATTERNS, name
    else:
        assert type_ == "string", name
        assert kind == "string", name


def compare_object(schema: dict[str, Any], file: str, model: str, seen: set[str]) -> None:
    fields = {field[1]: field for field in fields_of(getattr(models, model))}
    beyond = BEYOND_THE_SCHEMA.get(model, set())
    assert set(fields) - beyond == set(schema["properties"]), model
    required = {name for name, (_, _, _, needed) in fields.items() if needed}
    assert required == set(schema.get("required", [])), model
    seen.add(model)
    for name, each in schema["properties"].items():
        compare(each, file, kind_of(fields[name][2]), name, seen)


@pytest.mark.parametrize(
    ("file", "root"),
    [
        ("config-schema.json", "Spec"),
        ("state-schema.json", "State"),
        ("features-schema.json", "Features"),
    ],
)
def test_every_property_of_the_schema_is_in_the_models_with_its_type(file: str, root: str) -> None:
    seen: set[str] = set()
    compare_object(FILES[file], file, root, seen)
    assert root in seen


def test_every_model_stands_in_the_schema() -> None:
    seen: set[str] = set()
    for file, root in (("config", "Spec"), ("state", "State"), ("features", "Features")):
        compare_object(FILES[f"{file}-schema.json"], f"{file}-schema.json", root, seen)
    assert seen == set(TABLE) - {"FeaturesMemoryPolicy"}


def test_the_compiled_table_is_current() -> None:
    path = documents.DATA.parent.parent / "libpycontainer" / "spec" / "_table.py"
    assert path.read_text() == source()


PATTERNS = {
    "capability": r"^CAP_[A-Z_]+$",
    "cpu list": r"^[0-9, -]*$",
    "device type": r"^[cbup]$",
    "memory bandwidth schema": r"^MB:[^\n]*$",
    "page size": r"^[1-9][0-9]*[KMG]B$",
    "rlimit": r"^RLIMIT_[A-Z]+$",
}


def patterns_in(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["pattern"].replace("\\\\", "\\")} if "pattern" in value else set()
        return own.union(*map(patterns_in, value.values()))
    return set().union(*map(patterns_in, value)) if isinstance(value, list) else set()


def test_every_pattern_of_the_schema_has_its_test() -> None:
    assert set(PATTERNS) == set(leaves.PATTERNS)
    assert patterns_in(list(FILES.values())) - {"^MB:[^\\n]*$"} <= set(PATTERNS.values())


@pytest.mark.parametrize("kind", sorted(PATTERNS))
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_pattern_test_agrees_with_its_regular_expression(kind: str, data: st.DataObject) -> None:
    # Python's $ also matches before a final line feed; JSON schema's does not.
    expression = re.compile(PATTERNS[kind].removesuffix("$") + r"\Z")
    alphabet = st.sampled_from("CAP_RLIMIT:MBKG0159, -cbup\nx²")
    text = data.draw(st.from_regex(expression) | st.text(alphabet, max_size=12))
    assert (leaves.check(kind)(text) is None) == bool(expression.match(text))


BAD = {
    "linux-netdevice": ("$.linux.netDevices.eth0.name", "expected string"),
    "linux-rdma": ("$.linux.resources.rdma.mlx5_1.hcaHandles", "expected int"),
    "linux-hugepage": ("$.linux.resources.hugepageLimits[0].pageSize", "expected a page size"),
    "freebsd-vnet-disable": ("$.freebsd.jail.vnet", "expected one of new, inherit"),
    "invalid-json": ("$", "line 1 column 2"),
    "missing-ociVersionMax": ("$.ociVersionMax", "required field missing"),
}


@pytest.mark.parametrize("kind", sorted(documents.ROOTS))
def test_the_bad_documents_fail_at_the_right_path(kind: str) -> None:
    paths = sorted((documents.SCHEMA / "test" / kind / "bad").glob("*.json"))
    assert paths
    for path in paths:
        where, says = BAD[path.stem]
        for load in (getattr(models, documents.ROOTS[kind]).load, light_load(kind)):
            with pytest.raises(SpecError) as caught:
                load(path)
            assert [problem.path for problem in caught.value.problems] == [where]
            assert says in caught.value.problems[0].message
            assert caught.value.source == str(path)


def light_load(kind: str) -> Any:
    return lambda path: light.load_as(documents.ROOTS[kind], path)


def validator() -> Any:
    create = referencing.jsonschema.DRAFT4.create_resource
    resources = [(name, create(value)) for name, value in FILES.items()]
    registry: Any = referencing.Registry().with_resources(resources)
    return jsonschema.Draft4Validator(FILES["config-schema.json"], registry=registry)


VALIDATOR = validator()
SMALL = [
    path
    for root, path in documents.DOCUMENTS
    if root == "Spec" and len(json.dumps(documents.load_json(path))) < 9000
]
LATITUDE = ("fileMode", "mode", "oomScoreAdj", "rootfsPropagation")


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_readers_refuse_what_the_schema_refuses_and_nothing_else(data: st.DataObject) -> None:
    document = documents.load_json(data.draw(st.sampled_from(SMALL)))
    where = data.draw(st.sampled_from(list(documents.places(document))))
    wrong = st.sampled_from([True, 0, -1, 2**32, 2**64, "", "0", "pid", [], {}, ["x"], [1], [{}]])
    changed = documents.with_value(document, where, data.draw(wrong))
    _, _, problems, _ = documents.read_both("Spec", changed)
    if not any(name in problem.path for name in LATITUDE for problem in problems) and not any(
        name in where for name in LATITUDE
    ):
        assert bool(problems) != VALIDATOR.is_valid(changed), problems
