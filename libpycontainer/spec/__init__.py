"""The OCI documents: config, state and features.

Importing this package imports nothing. ``libpycontainer.spec.Spec`` and the other typed models come
from :mod:`libpycontainer.spec.models` when first asked for; a process that lives as long as one
container reads with :mod:`libpycontainer.spec.light` instead.

    leaves.py         what a single value may be: the rules of both readers
    document.py       paths, text and dicts to JSON values, and back to text
    base.py           what makes a class a model
    config.py linux.py platforms.py state.py features.py    the typed models
    models.py         all of them under one name
    converter.py      cattrs: JSON values to models
    light.py          JSON values to plain records, by _table.py
    compile_table.py  writes _table.py from the models
    default.py        what ``runc spec`` writes
    building/         configurations built in code: ``Spec.default`` and ``Spec.evolve``
    mounting.py       ``Mount.bind`` and the others
    profile.py        the default system call filter
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.spec.models import Features, Model, Process, Spec, State

__all__ = ["Features", "Model", "Process", "Spec", "State"]


def __getattr__(name: str) -> object:
    # Asked for the name of a submodule too, before that is imported: the light reader's must not
    # bring the models with it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from libpycontainer.spec import models

    return getattr(models, name)
