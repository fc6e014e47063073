"""The light reader and the typed models read every document alike, right or wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libpycontainer.errors import SpecError
from libpycontainer.spec import converter, default, light, models
from libpycontainer.spec._table import TABLE
from tests.pure import spec_documents as documents

HEAVY = (
    "argparse",
    "attr",
    "attrs",
    "cattrs",
    "contextlib",
    "dataclasses",
    "enum",
    "functools",
    "inspect",
    "json",
    "libpycontainer.spec.base",
    "logging",
    "pathlib",
    "re",
    "subprocess",
    "tempfile",
    "typing",
)

WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([-1, 0, 1, 255, 2**16, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "pid", "SCMP_ACT_ALLOW", "RLIMIT_CORE", "64kB", "2MB", "b", "\0", "ü" * 99]
    ),
    st.lists(st.none() | st.booleans() | st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(
        st.text(max_size=6), st.none() | st.integers() | st.text(max_size=3), max_size=3
    ),
)


@pytest.mark.parametrize(("root", "path"), documents.DOCUMENTS, ids=documents.name_of)
def test_a_document_reads_alike_and_loses_nothing(root: str, path: Path) -> None:
    model = getattr(models, root).load(path)
    record = light.load_as(root, path)
    documents.assert_alike(model, record)
    assert model.to_dict() == record.to_dict() == light.dump(record) == documents.load_json(path)
    assert model.dump() == record.dump()


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_spoilt_document_has_the_same_problems(data: st.DataObject) -> None:
    root, path = data.draw(st.sampled_from(documents.DOCUMENTS))
    document: Any = documents.load_json(path)
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.sampled_from(list(documents.places(document))))
        document = documents.with_value(document, where, data.draw(WRONG))
    model, record, problems, light_problems = documents.read_both(root, document)
    assert problems == light_problems
    if not problems:
        documents.assert_alike(model, record)
        assert model.to_dict() == record.to_dict()


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_object_of_any_shape_has_the_same_problems(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TABLE)))
    fields = {json: data.draw(st.none() | WRONG) for _, json, _, _ in TABLE[name]}
    kept = data.draw(st.sets(st.sampled_from(sorted(fields))))
    document = {key: value for key, value in fields.items() if key in kept}
    model, record, problems, light_problems = documents.read_both(name, document)
    assert problems == light_problems
    if not problems:
        documents.assert_alike(model, record)


@pytest.mark.parametrize("value", [None, 1, "text", [], [{}], True])
def test_what_is_no_object_is_refused_alike(value: object) -> None:
    _, _, problems, light_problems = documents.read_both("Process", value)
    assert problems == light_problems
    assert str(problems[0]) == "$: invalid value, expected object"


def test_a_part_is_read_on_its_own() -> None:
    process = light.record("Process", {"cwd": "/", "args": ["true"], "user": {"uid": 7}})
    assert process.cwd == "/"
    assert process.args == ("true",)
    assert process.user.uid == 7
    assert process.env is None
    assert process.extra is None
    documents.assert_alike(converter.structure(models.Process, process.to_dict()), process)


def test_errors_of_a_part_name_the_file_and_every_field() -> None:
    with pytest.raises(SpecError) as caught:
        light.record("Process", {"args": "ls", "rlimits": [{}]}, source="process.json")
    assert str(caught.value) == (
        "process.json: $.args: invalid value, expected array; $.cwd: required field missing; "
        "$.rlimits[0].type: required field missing; $.rlimits[0].hard: required field missing; "
        "$.rlimits[0].soft: required field missing"
    )


def test_records_do_not_change_and_compare_by_value() -> None:
    first, second = light.default(), light.default()
    assert first == second
    assert first != light.default(rootless=True)
    with pytest.raises(AttributeError, match="a record does not change"):
        first.hostname = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="a record does not change"):
        del first.hostname
    assert "hostname='runc'" in repr(first)


def test_a_dumped_record_shares_nothing_with_it() -> None:
    record = light.load({"ociVersion": "1.3.0", "x": {"y": [1]}, "annotations": {"a": "b"}})
    dumped = light.dump(record)
    dumped["x"]["y"].append(2)
    dumped["annotations"]["a"] = "changed"
    assert light.dump(record) == {"ociVersion": "1.3.0", "x": {"y": [1]}, "annotations": {"a": "b"}}


def test_typed_models_are_dumped_too() -> None:
    assert light.dump(models.Spec.like_runc()) == light.dump(light.default())


def test_the_default_is_fresh_each_time() -> None:
    default.config()["mounts"].clear()
    assert default.config()["mounts"]


def test_reading_imports_no_heavy_module() -> None:
    path = documents.CONFIGS[0]
    program = f"""
import sys
before = set(sys.modules)
from libpycontainer.spec import light
from libpycontainer import validate
light.record("Process", {{"cwd": "/"}})
heavy = (set(sys.modules) - before) & set({HEAVY!r})
assert not heavy, heavy
spec = light.load({str(path)!r})
assert validate.CHECKS
# What json brings along (re, enum, functools) is the price of parsing at all.
print(*sorted((set(sys.modules) - before) & {{"attr", "attrs", "cattrs", "typing", "inspect"}}))
"""
    result = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(documents.DATA.parent.parent)},
        check=False,
    )
    assert result.stderr == ""
    assert result.stdout == "\n"


def test_the_package_itself_imports_nothing() -> None:
    program = """
import sys
import libpycontainer
before = set(sys.modules)
import libpycontainer.spec
print(*sorted(set(sys.modules) - before - {"__future__"}))
assert libpycontainer.spec.Spec.__name__ == "Spec"
try:
    libpycontainer.spec.nothing
except AttributeError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(documents.DATA.parent.parent)},
        check=False,
    )
    assert result.stdout.splitlines() == [
        "libpycontainer.spec",
        "module 'libpycontainer.spec' has no attribute 'nothing'",
    ], result.stderr
