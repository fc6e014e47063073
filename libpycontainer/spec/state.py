"""The state of a container, for ``state`` to print and hooks to read (runtime.md#state)."""

from __future__ import annotations

from typing import Annotated

from libpycontainer.spec.base import Model, StringMap, model

ContainerState = Annotated[str, "status"]
Pid = Annotated[int, "non-negative int"]


@model
class State(Model):
    """The state document; ``pid`` is absent or 0 where there is no process."""

    oci_version: str
    id: str
    status: ContainerState
    pid: Pid | None = None
    bundle: str
    annotations: StringMap | None = None
