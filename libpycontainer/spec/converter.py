"""The cattrs converter of the typed models: JSON-shaped dicts in, models out, every error at once.

Types are strict, as in Go: ``true`` is not a number, ``"5"`` is not 5, and neither is 5.0. What a
leaf may be is decided in :mod:`libpycontainer.spec.leaves`, which the light reader asks too: both
find the same errors in the same order, that of the model's fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from libpycontainer.errors import Problem, SpecError
from libpycontainer.spec import document, leaves
from libpycontainer.spec.base import Model, Opaque, json_name

if TYPE_CHECKING:
    from collections.abc import Iterator

M = TypeVar("M", bound=Model)
Hook = Callable[[Any, Any], Any]


class WrongValue(ValueError):  # noqa: N818 - never raised to a caller, who sees a SpecError
    """A value that a leaf, an array or an object cannot be."""


def load(cls: type[M], source: document.Source) -> M:
    """Read a whole document, as :meth:`libpycontainer.spec.base.Model.load` says."""
    value, name = document.read(source)
    return structure(cls, value, source=name)


def structure(cls: type[M], data: object, *, source: str = "") -> M:
    """The model of ``cls`` that ``data``, a value as ``json.loads`` gives it, describes.

    Raises :class:`SpecError` with everything that is wrong; ``source`` names the file in it.
    """
    try:
        made: M = converter.structure(data, cls)
    except (WrongValue, ClassValidationError) as error:
        raise SpecError(_problems(error, "$"), source=source) from None
    return made


def unstructure(model: Model) -> dict[str, Any]:
    """A fresh JSON-shaped dict of ``model``; what is absent is left out."""
    made: dict[str, Any] = converter.unstructure(model)
    return made


def _problems(error: Exception, path: str) -> Iterator[Problem]:
    """What cattrs collected, flattened in the order of fields, items and keys."""
    if isinstance(error, ClassValidationError):
        order = {field.name: place for place, field in enumerate(attrs.fields(error.cl))}
        noted = [(order[note.name], note.name, each) for each, note in error.group_exceptions()[0]]
        for _, name, each in sorted(noted, key=lambda entry: entry[0]):
            yield from _problems(each, leaves.child(path, json_name(name)))
    elif isinstance(error, IterableValidationError):
        for each, place in error.group_exceptions()[0]:
            at = f"{path}[{place.index}]" if isinstance(place.index, int) else None
            yield from _problems(each, at or leaves.child(path, place.index))
    elif isinstance(error, KeyError):
        yield Problem(path, leaves.MISSING)
    else:
        yield Problem(path, str(error))


def _leaf_hook(kind: str) -> Hook:
    check = leaves.check(kind)

    def structure_leaf(value: object, _: object) -> object:
        message = check(value)
        if message is not None:
            raise WrongValue(message)
        return value

    return structure_leaf


def _is_leaf(cls: Any) -> bool:
    return get_origin(cls) is Annotated and get_origin(get_args(cls)[0]) is not Sequence


def _is_sequence(cls: Any) -> bool:
    origin = get_args(cls)[0] if get_origin(cls) is Annotated else cls
    return get_origin(origin) is Sequence


def _is_mapping(cls: Any) -> bool:
    return get_origin(cls) is Mapping


def _sequence_hook(cls: Any, converter: Converter) -> Hook:
    non_empty = get_origin(cls) is Annotated
    item = get_args(get_args(cls)[0] if non_empty else cls)[0]
    structure_item = converter.get_structure_hook(item)

    def structure_sequence(value: object, _: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise WrongValue(leaves.NOT_AN_ARRAY)
        if non_empty and not value:
            raise WrongValue(leaves.EMPTY)
        return tuple(_each(enumerate(value), item, structure_item, cls).values())

    return structure_sequence


def _mapping_hook(cls: Any, converter: Converter) -> Hook:
    item = get_args(cls)[1]
    structure_item = converter.get_structure_hook(item)

    def structure_mapping(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise WrongValue(leaves.NOT_AN_OBJECT)
        return _each(value.items(), item, structure_item, cls)

    return structure_mapping


def _each(places: Any, item: Any, structure_item: Hook, cls: Any) -> dict[Any, Any]:
    made = {}
    errors: list[Exception] = []
    for place, value in places:
        try:
            made[place] = structure_item(value, item)
        except Exception as error:
            error.add_note(IterableValidationNote(str(place), place, item))
            errors.append(error)
    if errors:
        raise IterableValidationError("items", errors, cls)
    return made


def _json_names(cls: Any) -> dict[str, str]:
    return {
        field.name: json_name(field.name) for field in attrs.fields(cls) if field.name != "extra"
    }


def _overrides(names: dict[str, str]) -> dict[str, Any]:
    renamed: dict[str, Any] = {name: override(rename=json) for name, json in names.items()}
    return {**renamed, "extra": override(omit=True)}


def _model_hook(cls: Any, converter: Converter) -> Hook:
    names = _json_names(cls)
    structure_known = make_dict_structure_fn(cls, converter, **_overrides(names))
    known = frozenset(names.values())

    def structure_model(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise WrongValue(leaves.NOT_AN_OBJECT)
        made = structure_known(value, cls)
        if not known.issuperset(value):
            extra = {name: item for name, item in value.items() if name not in known}
            # The object is new and nobody's yet: this is still its construction.
            object.__setattr__(made, "extra", extra)
        return made

    return structure_model


def _mapping_unstructure_hook(cls: Any, converter: Converter) -> Callable[[Any], dict[str, Any]]:
    item = Any if get_origin(cls) is Annotated else get_args(cls)[1]
    unstructure_item = document.ordered if item is Any else converter.get_unstructure_hook(item)

    def unstructure_mapping(value: Mapping[str, Any]) -> dict[str, Any]:
        return {name: unstructure_item(value[name]) for name in sorted(value)}

    return unstructure_mapping


def _model_unstructure_hook(cls: Any, converter: Converter) -> Callable[[Any], dict[str, Any]]:
    names = _json_names(cls)
    unstructure_known = make_dict_unstructure_fn(
        cls, converter, _cattrs_omit_if_default=True, **_overrides(names)
    )

    def unstructure_model(model: Any) -> dict[str, Any]:
        known = unstructure_known(model)
        # The generated function puts what is required first.
        made = {name: known[name] for name in names.values() if name in known}
        if model.extra:
            made.update(document.ordered(model.extra))  # type: ignore[call-overload]
        return made

    return unstructure_model


def _make_converter() -> Converter:
    made = Converter(detailed_validation=True)
    made.register_structure_hook(str, _leaf_hook("string"))
    made.register_structure_hook(bool, _leaf_hook("bool"))
    made.register_structure_hook_factory(_is_mapping, _mapping_hook)
    made.register_structure_hook_factory(_is_sequence, _sequence_hook)
    made.register_structure_hook_factory(
        _is_leaf, lambda cls, converter: _leaf_hook(get_args(cls)[1])
    )
    made.register_structure_hook_factory(attrs.has, _model_hook)
    made.register_unstructure_hook_factory(
        lambda cls: _is_mapping(cls) or cls == Opaque, _mapping_unstructure_hook
    )
    made.register_unstructure_hook_factory(attrs.has, _model_unstructure_hook)
    return made


converter = _make_converter()
"""The shared converter, for programs that structure documents of their own around the models."""
