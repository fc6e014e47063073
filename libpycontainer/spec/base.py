"""The ground the typed models stand on: how a class becomes a model, and the kinds of its leaves.

An attribute is the JSON name in snake_case, optional means ``None``, and an array is a tuple. The
names of leaf kinds (``"uint32"``, ``"seccomp action"``) are those of :mod:`.leaves`.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, dataclass_transform

import attrs

if TYPE_CHECKING:
    import os
    from typing import Self

T = TypeVar("T")

Uint8 = Annotated[int, "uint8"]
Uint16 = Annotated[int, "uint16"]
Uint32 = Annotated[int, "uint32"]
Uint64 = Annotated[int, "uint64"]
Int32 = Annotated[int, "int32"]
Int64 = Annotated[int, "int64"]

Strings = Sequence[str]
NonEmptyStrings = Annotated[Sequence[str], "non-empty"]
StringMap = Mapping[str, str]
Opaque = Annotated[Mapping[str, Any], "object"]

JSON_NAMES = {
    "allow_unqualified_dns_query": "allowUnqualifiedDNSQuery",
    "block_io": "blockIO",
    "capped_cpu": "cappedCPU",
    "class_": "class",
    "class_id": "classID",
    "clos_id": "closID",
    "container_id": "containerID",
    "disable_oom_killer": "disableOOMKiller",
    "dns_search_list": "DNSSearchList",
    "exec_cpu_affinity": "execCPUAffinity",
    "first_gfn": "firstGFN",
    "first_mfn": "firstMFN",
    "host_id": "hostID",
    "kernel_tcp": "kernelTCP",
    "nr_mfns": "nrMFNs",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
    "utility_vm_path": "utilityVMPath",
}
"""Attributes whose JSON name is not simply their camelCase."""


def json_name(attribute: str) -> str:
    """The field of the OCI document that ``attribute`` of a model stands for."""
    if attribute in JSON_NAMES:
        return JSON_NAMES[attribute]
    first, *rest = attribute.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _frozen_sequence(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _freeze_sequences(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Turn lists given by hand into tuples, so that equal documents make equal models."""
    return [
        field.evolve(converter=_frozen_sequence)
        if "Sequence[" in str(field.type) or "Strings" in str(field.type)
        else field
        for field in fields
    ]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(attrs.field,))
def model(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen attrs class whose fields are given by keyword."""
    return attrs.frozen(cls, kw_only=True, repr=False, field_transformer=_freeze_sequences)


@model
class Model:
    """One object of an OCI document.

    ``extra`` holds the fields that the specification does not name; it asks for them to be
    tolerated (config.md#extensibility), and a round trip gives them back.
    """

    extra: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        cls: Any = type(self)
        values = ((field.name, getattr(self, field.name)) for field in attrs.fields(cls))
        present = (f"{name}={value!r}" for name, value in values if value is not None)
        return f"{cls.__name__}({', '.join(present)})"

    @classmethod
    def load(cls, source: str | bytes | os.PathLike[str] | dict[str, Any]) -> Self:
        """Read a document from a path, from JSON text, or from a dict shaped like it.

        A ``str`` whose first visible character is ``{`` is text, and so are ``bytes``; any other
        is a path. Raises :class:`~libpycontainer.errors.SpecError` with everything that is wrong,
        each with its JSON path; ``OSError`` where the file cannot be read.
        """
        from libpycontainer.spec import converter

        return converter.load(cls, source)

    def evolve(self, **changes: Any) -> Self:
        """A copy with some attributes changed, named as those of the model are."""
        return changed(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """A fresh dict shaped like the JSON document; what is absent is left out."""
        from libpycontainer.spec import converter

        return converter.unstructure(self)

    def dump(self) -> str:
        """The JSON text, indented with tabs as ``runc spec`` does; equal models, equal bytes."""
        from libpycontainer.spec import document

        return document.text(self.to_dict())


def changed(model: T, **changes: Any) -> T:
    """A copy of a model with some attributes changed; nothing is checked."""
    evolve: Any = attrs.evolve
    made: T = evolve(model, **changes)
    return made


def fields_of(cls: type) -> tuple[tuple[str, str, Any, bool], ...]:
    """Attribute, JSON name, resolved type and "is it required" of each field but ``extra``."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(
        (field.name, json_name(field.name), hints[field.name], field.default is attrs.NOTHING)
        for field in attrs.fields(cls)
        if field.name != "extra"
    )
