"""Writes ``_table.py``, by which the light reader reads, from the attrs models.

Run ``python -m libpycontainer.spec.compile_table`` after a change to a model; a test compares.
"""

from __future__ import annotations

import os
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import attrs

from libpycontainer.spec import models
from libpycontainer.spec.base import fields_of

HEADER = '''"""The fields of every OCI object, for the light reader.

Written by ``python -m libpycontainer.spec.compile_table`` from the models: change those instead.
A field is its attribute, its JSON name, what it holds and whether it is required. What it holds is
a leaf kind, ``@Class``, ``[`` and what the items of an array hold, ``+`` where there must be one,
or ``{`` and what the values of an object hold.
"""

from __future__ import annotations

TABLE: dict[str, tuple[tuple[str, str, str, bool], ...]] = {
'''


def kind_of(hint: Any) -> str:
    """What a field with the type ``hint`` holds, in the words of the table."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
        return kind_of(hint)
    if origin is Annotated:
        inner, name = get_args(hint)
        return "+" + kind_of(get_args(inner)[0]) if get_origin(inner) is Sequence else str(name)
    if origin is Sequence:
        return "[" + kind_of(get_args(hint)[0])
    if origin is Mapping:
        return "{" + kind_of(get_args(hint)[1])
    if attrs.has(hint):
        return "@" + str(hint.__name__)
    return {str: "string", bool: "bool"}[hint]


def _row(attribute: str, json: str, kind: str, required: bool) -> str:
    columns = (f'"{attribute}"', f'"{json}"', f'"{kind}"', str(required))
    line = f"        ({', '.join(columns)}),\n"
    if len(line) <= 101:
        return line
    return "        (\n" + "".join(f"            {each},\n" for each in columns) + "        ),\n"


def _rows(cls: type) -> str:
    rows = [_row(name, json, kind_of(hint), needed) for name, json, hint, needed in fields_of(cls)]
    if len(rows) == 1:
        return f"({rows[0].strip()})"
    return f"(\n{''.join(rows)}    )"


def source() -> str:
    """The text of ``_table.py``."""
    names = [name for name in sorted(models.__all__) if name != "Model"]
    lines = [f'    "{name}": {_rows(getattr(models, name))},\n' for name in names]
    return "".join([HEADER, *lines, "}\n"])


def main() -> None:
    path = os.path.join(os.path.dirname(__file__), "_table.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(source())


if __name__ == "__main__":
    main()
