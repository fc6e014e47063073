"""The light reader: OCI documents into plain records, for a process that lives for one container.

A record has the attributes, the values and the defaults of the typed model of its name, and a
document that the models refuse is refused here with the same errors in the same order; but nothing
is imported that a cold command line does not have already, and ``json`` only to parse text. Records
are read by a table that is compiled from the models (``_table.py``), and are not to be changed.
"""

from __future__ import annotations

from libpycontainer.errors import Problem, SpecError
from libpycontainer.spec import document, leaves
from libpycontainer.spec._table import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from libpycontainer.spec import models

    # Where a value stands: its parent's place and its own key or index. Rendered for errors alone.
    Place = tuple["Place", object] | None
    Read = Callable[[object, Place, list[Problem]], Any]


class Record:
    """One object of a document, with the attributes of the typed model of its name."""

    _fields: tuple[tuple[str, str, str, bool], ...] = ()
    extra: dict[str, Any] | None = None

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: a record does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: a record does not change")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        present = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({present})"

    def evolve(self, **changes: Any) -> Any:
        """A copy with some attributes changed, as ``Model.evolve`` makes it.

        A whole configuration takes the other keywords of ``Spec.evolve`` too, and becomes a typed
        model by them.
        """
        for name in changes:
            if not hasattr(type(self), name):
                return self._typed(name).evolve(**changes)
        values = {**self.__dict__, **changes}
        return type(self)(
            {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in values.items()
                if value is not None
            }
        )

    def _typed(self, name: str) -> models.Spec:
        if type(self).__name__ != "Spec":
            raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
        from libpycontainer.spec import models

        return models.Spec.load(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """A fresh dict shaped like the JSON document; what is absent is left out."""
        made = {}
        values = self.__dict__
        for attribute, name, _, _ in self._fields:
            if attribute in values:
                made[name] = _plain(values[attribute])
        if self.extra:
            made.update(document.ordered(self.extra))  # type: ignore[call-overload]
        return made

    def dump(self) -> str:
        """The JSON text, byte for byte what the typed model of the same document dumps."""
        return document.text(self.to_dict())


def load(source: document.Source) -> models.Spec:
    """Read a config from a path, JSON text or dict: a record that reads like a ``Spec``.

    What is a path and what is text, and the errors, are those of ``models.Spec.load``.
    """
    made: models.Spec = load_as("Spec", source)
    return made


def load_as(name: str, source: document.Source) -> Any:
    """Read a document whose root is the model called ``name``, as :func:`load` does.

    ``"State"`` and ``"Features"`` are documents, and smaller objects stand in files of their own:
    ``"Process"`` for exec, ``"LinuxResources"`` for update.
    """
    value, path = document.read(source)
    return record(name, value, source=path)


def record(name: str, data: object, *, source: str = "") -> Any:
    """The record of the model called ``name`` that ``data``, as ``json.loads`` gives it, describes.

    Raises :class:`SpecError` with everything that is wrong; ``source`` names the file in it.
    """
    problems: list[Problem] = []
    made = _reader("@" + name)(data, None, problems)
    if problems:
        raise SpecError(problems, source=source)
    return made


def dump(record: Any) -> dict[str, Any]:
    """The JSON-shaped dict of a record (or of a typed model), to hand on or to store.

    Raises :class:`SpecError` for one that is nested too deeply.
    """
    try:
        made: dict[str, Any] = record.to_dict()
    except RecursionError:
        raise SpecError([Problem("$", "nested too deeply")]) from None
    return made


def default(
    rootless: bool = False,
    *,
    uid: int | None = None,
    gid: int | None = None,
    cgroup_namespace: bool | None = None,
) -> models.Spec:
    """The record of the config that ``runc spec`` writes: see ``models.Spec.like_runc``."""
    from libpycontainer.spec.default import config

    document = config(rootless, uid=uid, gid=gid, cgroup_namespace=cgroup_namespace)
    made: models.Spec = record("Spec", document)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    # A record, or a typed model that a copy was given.
    return value.to_dict() if hasattr(value, "to_dict") else value


def _path(place: Place) -> str:
    if place is None:
        return "$"
    parent, key = place
    return f"{_path(parent)}[{key}]" if isinstance(key, int) else leaves.child(_path(parent), key)


_readers: dict[str, Read] = {}


def _reader(kind: str) -> Read:
    """The function that reads what a field of ``kind`` holds; made when first needed."""
    found = _readers.get(kind)
    if found is None:
        make = {"@": _object_reader, "[": _array_reader, "+": _array_reader, "{": _map_reader}
        found = make.get(kind[0], _leaf_reader)(kind)
        _readers[kind] = found
    return found


def _leaf_reader(kind: str) -> Read:
    check = leaves.check(kind)

    def read(value: object, place: Place, problems: list[Problem]) -> object:
        message = check(value)
        if message is not None:
            problems.append(Problem(_path(place), message))
        return value

    return read


def _array_reader(kind: str) -> Read:
    read_item = _reader(kind[1:])
    non_empty = kind[0] == "+"

    def read(value: Any, place: Place, problems: list[Problem]) -> object:
        if not isinstance(value, (list, tuple)):
            problems.append(Problem(_path(place), leaves.NOT_AN_ARRAY))
        elif non_empty and not value:
            problems.append(Problem(_path(place), leaves.EMPTY))
        else:
            return tuple(
                [read_item(item, (place, index), problems) for index, item in enumerate(value)]
            )
        return None

    return read


def _map_reader(kind: str) -> Read:
    read_item = _reader(kind[1:])

    def read(value: Any, place: Place, problems: list[Problem]) -> object:
        if not isinstance(value, dict):
            problems.append(Problem(_path(place), leaves.NOT_AN_OBJECT))
            return None
        return {key: read_item(item, (place, str(key)), problems) for key, item in value.items()}

    return read


def _object_reader(kind: str) -> Read:
    name = kind[1:]
    fields = TABLE[name]
    defaults: dict[str, Any] = {attribute: None for attribute, _, _, _ in fields}
    made_by = type(name, (Record,), {**defaults, "_fields": fields})
    known = frozenset(field[1] for field in fields)

    def read(value: Any, place: Place, problems: list[Problem]) -> object:
        if not isinstance(value, dict):
            problems.append(Problem(_path(place), leaves.NOT_AN_OBJECT))
            return None
        values: dict[str, Any] = {}
        for attribute, json_name, held, required in fields:
            if json_name in value:
                item = value[json_name]
                if item is not None or required:
                    values[attribute] = _reader(held)(item, (place, json_name), problems)
            elif required:
                problems.append(Problem(_path((place, json_name)), leaves.MISSING))
        if not known.issuperset(value):
            values["extra"] = {key: item for key, item in value.items() if key not in known}
        return made_by(values)

    return read
