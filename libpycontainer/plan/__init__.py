"""The planner: a configuration and the host's facts in, a list of resolved steps out.

Pure: nothing in this room touches the kernel or a file, so every plan can be made, printed and
compared anywhere. The steps are executed by :mod:`libpycontainer.init`, which decides nothing.
"""

from libpycontainer.plan.build import (
    Request,
    build,
    build_exec,
    early_clone_flags,
    stops_when_mounted,
)
from libpycontainer.plan.model import Namespace, Plan, Step, Tree

__all__ = [
    "Namespace",
    "Plan",
    "Request",
    "Step",
    "Tree",
    "build",
    "build_exec",
    "early_clone_flags",
    "stops_when_mounted",
]
