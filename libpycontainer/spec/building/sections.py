"""Whole sections of a configuration, and mappings of what to change in them, at any depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin

from libpycontainer.errors import ArgumentError
from libpycontainer.spec.base import Model, changed, fields_of

M = TypeVar("M", bound=Model)

_known_attributes: dict[type[Model], dict[str, Any]] = {}


def _attributes(cls: type[Model]) -> dict[str, Any]:
    """The attributes of a model and what they hold, looked up once."""
    if cls not in _known_attributes:
        hints = {name: hint for name, _json, hint, _needed in fields_of(cls)}
        _known_attributes[cls] = hints
    return _known_attributes[cls]


def section(cls: type[M], present: M | None, value: Any, where: str) -> M | None:
    """``value`` as a ``cls``: one as it is, or a mapping of what to change in the present one."""
    if value is None or isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        wanted = f"a {cls.__name__}, or a mapping of its attributes"
        raise ArgumentError(
            f"{where}: expected {wanted}, not {value!r}", parameter=where, value=value
        )
    known = _attributes(cls)
    values = {}
    for name, item in value.items():
        if name not in known:
            raise ArgumentError(
                f"{where}: {cls.__name__} has no attribute {name!r}{similar(name, known)}",
                parameter=where,
                value=name,
            )
        values[name] = _nested(known[name], getattr(present, name, None), item, f"{where}.{name}")
    try:
        return changed(present, **values) if present is not None else cls(**values)
    except TypeError as error:
        raise ArgumentError(f"{where}: {error}", parameter=where, value=value) from None


def _nested(hint: Any, present: Any, value: Any, where: str) -> Any:
    held = [each for each in (*get_args(hint), hint) if isinstance(each, type)]
    models = [each for each in held if issubclass(each, Model)]
    if models:
        return section(models[0], present, value, where)
    item = _item(hint)
    if item is None or not isinstance(value, list | tuple):
        return value
    return [section(item, None, each, f"{where}[{place}]") for place, each in enumerate(value)]


def _item(hint: Any) -> type[Model] | None:
    """The model that a sequence holds, if it is one of models."""
    for each in (hint, *get_args(hint)):
        plain = get_args(each)[0] if get_origin(each) is Annotated else each
        if get_origin(plain) is Sequence:
            (inner,) = get_args(plain)
            return inner if isinstance(inner, type) and issubclass(inner, Model) else None
    return None


def similar(name: str, known: Iterable[str]) -> str:
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
