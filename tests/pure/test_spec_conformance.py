"""docs/spec-conformance.md is complete, and everything that it names exists."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/spec-conformance.md"
SCHEMA = REPOSITORY / "tests/data/oci-schema"
HEADER = ("property or requirement", "where", "test", "note")
OTHER_PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd")
# By what stands before its properties on the page.
DOCUMENTS = {
    "": "config-schema.json",
    "state:": "state-schema.json",
    "features:": "features-schema.json",
}


class Row(NamedTuple):
    line: int
    what: str
    where: str
    test: str
    note: str


def rows() -> list[Row]:
    """The rows of every table with the page's own header."""
    found: list[Row] = []
    inside = False
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if not line.startswith("|"):
            inside = False
        elif cells == HEADER:
            inside = True
        elif inside and set(line) - set("|-"):
            assert len(cells) == len(HEADER), f"line {number}: {len(cells)} cells"
            found.append(Row(number, *cells))
    return found


ROWS = rows()


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def names_of(source: Path) -> set[str]:
    """The functions and classes at the top of a module."""
    body = ast.parse(source.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def properties(node: Any, file: str, path: str) -> Iterator[str]:
    """Every property that a schema gives a name to, below ``path``."""
    while "$ref" in node:
        name, _, place = node["$ref"].partition("#")
        file = name or file
        node = json.loads((SCHEMA / file).read_text(encoding="utf-8"))
        for part in place.strip("/").split("/"):
            node = node[part]
    for part in (*node.get("allOf", ()), *node.get("anyOf", ())):
        yield from properties(part, file, path)
    for name, part in node.get("properties", {}).items():
        if path == "" and name in OTHER_PLATFORMS:
            continue
        below = f"{path}.{name}" if path else name
        yield below
        yield from properties(part, file, below)
    if "items" in node:
        yield from properties(node["items"], file, f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from properties(node["additionalProperties"], file, f"{path}.*")


def test_the_page_has_its_rows() -> None:
    assert len(ROWS) > 150


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.line))
def test_no_cell_is_empty(row: Row) -> None:
    assert row.what
    assert words(row.where)
    assert words(row.test)


def test_every_place_that_is_named_exists() -> None:
    missing = []
    known: dict[str, set[str]] = {}
    for row in ROWS:
        for word in words(row.where):
            module, _, name = word.partition(":")
            if module not in known:
                path = REPOSITORY / "libpycontainer" / module.replace(".", "/")
                files = [path.with_suffix(".py"), path / "__init__.py"]
                known[module] = set().union(*(names_of(file) for file in files if file.exists()))
            if name not in known[module]:
                missing.append(f"line {row.line}: {word}")
    assert missing == []


def test_every_test_that_is_named_exists() -> None:
    missing = []
    known: dict[str, set[str]] = {}
    for row in ROWS:
        for word in words(row.test):
            file, _, name = word.partition("::")
            if file not in known:
                path = REPOSITORY / "tests" / file
                known[file] = names_of(path) if path.exists() else set()
            if not name.startswith("test_") or name not in known[file]:
                missing.append(f"line {row.line}: {word}")
    assert missing == []


@pytest.mark.parametrize("prefix", DOCUMENTS, ids=DOCUMENTS.values())
def test_every_property_of_the_schema_has_a_row(prefix: str) -> None:
    file = DOCUMENTS[prefix]
    schema = json.loads((SCHEMA / file).read_text(encoding="utf-8"))
    written = {word for row in ROWS for word in words(row.what)}
    wanted = {f"{prefix}{path}" for path in properties(schema, file, "")}
    assert len(wanted) > 5
    assert sorted(wanted - written) == []


def test_every_property_that_is_named_is_one() -> None:
    """A row of a property that was renamed would be believed for ever."""
    known: set[str] = set()
    for prefix, file in DOCUMENTS.items():
        schema = json.loads((SCHEMA / file).read_text(encoding="utf-8"))
        known |= {f"{prefix}{path}" for path in properties(schema, file, "")}
    roots = {"process", "mounts", "mounts[]", "root", "hooks", "linux", "state:", "features:"}
    written = {word for row in ROWS for word in words(row.what)}
    named = {word for word in written if re.match(r"[a-z]+(\[\])?[.:]\w", word)}
    assert {word.partition(".")[0] for word in named if ":" not in word} <= roots
    assert sorted(word for word in named if word not in known) == []
