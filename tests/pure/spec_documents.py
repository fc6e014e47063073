"""The documents that the tests of the spec rooms read, and how two readings are compared."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from libpycontainer.errors import Problem, SpecError
from libpycontainer.spec import converter, light, models
from libpycontainer.spec._table import TABLE

DATA = Path(__file__).parent.parent / "data"
SCHEMA = DATA / "oci-schema"
CONFIGS = sorted((DATA / "configs").glob("*.json"))
ROOTS = {"config": "Spec", "state": "State", "features": "Features"}
GOOD = [
    (root, path)
    for kind, root in ROOTS.items()
    for path in sorted((SCHEMA / "test" / kind / "good").glob("*.json"))
]
DOCUMENTS = [*GOOD, *(("Spec", path) for path in CONFIGS)]
"""Every document that both readers must take: the name of its root model, and the file."""


def name_of(value: object) -> str | None:
    """A short name for a parametrised test."""
    return f"{value.parent.parent.name}-{value.stem}" if isinstance(value, Path) else None


def read_both(root: str, value: object) -> tuple[Any, Any, list[Problem], list[Problem]]:
    """The model and the record of one JSON value (``None`` where refused), and their problems."""
    model, record = None, None
    typed_problems: list[Problem] = []
    light_problems: list[Problem] = []
    try:
        model = converter.structure(getattr(models, root), copy.deepcopy(value))
    except SpecError as error:
        typed_problems = list(error.problems)
    try:
        record = light.record(root, copy.deepcopy(value))
    except SpecError as error:
        light_problems = list(error.problems)
    return model, record, typed_problems, light_problems


def assert_alike(model: Any, record: Any) -> None:
    """The two have the same attributes with the same values, all the way down."""
    if type(model).__name__ in TABLE:
        assert type(record).__name__ == type(model).__name__
        for attribute, _, _, _ in TABLE[type(model).__name__]:
            assert_alike(getattr(model, attribute), getattr(record, attribute))
        assert model.extra == record.extra
    elif isinstance(model, tuple):
        assert isinstance(record, tuple)
        assert len(model) == len(record)
        for one, other in zip(model, record, strict=True):
            assert_alike(one, other)
    elif isinstance(model, dict):
        assert list(model) == list(record)
        for key, one in model.items():
            assert_alike(one, record[key])
    else:
        assert type(model) is type(record)
        assert model == record


def places(value: object, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where in a JSON value something stands, below the root."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield (*here, key)
        yield from places(item, (*here, key))


def with_value(document: Any, place: tuple[str | int, ...], value: object) -> Any:
    """A copy of ``document`` that has ``value`` at ``place``; missing objects are made."""
    changed = copy.deepcopy(document)
    parent = changed
    for key in place[:-1]:
        parent = parent.setdefault(key, {}) if isinstance(parent, dict) else parent[key]
    parent[place[-1]] = value
    return changed


def load_json(path: Path) -> Any:
    """The JSON value in ``path``."""
    return json.loads(path.read_bytes())
