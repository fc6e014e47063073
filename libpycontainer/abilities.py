"""What this build can do on this host, as OCI's features document.

Not named after its function: a module ``features`` would take the place of the public name
``libpycontainer.features`` as soon as somebody imports it.
"""

from __future__ import annotations

from libpycontainer import host, kernel
from libpycontainer._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.host import Facts

OCI_VERSION_MIN = "1.0.0"
OCI_VERSION_MAX = "1.3.0"

ANNOTATION_PREFIX = "io.github.libpycontainer."
"""This library's own keys: its ``version``, and under ``host.`` what it found on this host."""

ACTED_ON_ANNOTATIONS: tuple[str, ...] = ("org.systemd.property.",)
"""Annotations of a configuration that change what is done; one that ends in "." is a prefix."""


def features(facts: Facts | None = None) -> dict[str, Any]:
    """The features document, shaped as JSON (runtime-spec features.md, features-linux.md).

    It is made from the very tables that configurations are checked and planned with. Lists of names
    end where this host's kernel does: namespaces and capabilities that it lacks are left out.
    Switches say what this build does "irrelevant to the availability on the host", as
    features-linux.md defines them; what the host has is under ``annotations``.

    ``facts`` describe another host than this one. :class:`Features` is the typed form:
    ``Features.load(features())``.
    """
    from libpycontainer.plan import options
    from libpycontainer.spec._table import TABLE

    if facts is None:
        facts = host.facts()
    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION_MAX,
        "hooks": [name for _attribute, name, _kind, _required in TABLE["Hooks"]],
        "mountOptions": options.names(),
        "linux": _linux(facts),
        "annotations": _annotations(facts),
        "potentiallyUnsafeConfigAnnotations": list(ACTED_ON_ANNOTATIONS),
    }


def _linux(facts: Facts) -> dict[str, Any]:
    from libpycontainer.cgroups import MANAGERS
    from libpycontainer.plan import options, scheduling

    return {
        "namespaces": sorted(facts.namespaces),
        "capabilities": list(kernel.CAPABILITIES[: facts.last_cap + 1]),
        "cgroup": {
            "v1": "v1" in MANAGERS,
            "v2": "v2" in MANAGERS,
            "systemd": "systemd" in MANAGERS,
            "systemdUser": "systemd user" in MANAGERS,
            "rdma": True,
        },
        "seccomp": _seccomp(facts),
        "apparmor": {"enabled": True},
        "selinux": {"enabled": True},
        "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
        "memoryPolicy": {
            "modes": sorted(scheduling.MEMORY_MODES),
            "flags": sorted(scheduling.MEMORY_FLAGS),
        },
        "mountExtensions": {"idmap": {"enabled": "idmap" in options.EXTENSIONS}},
        "netDevices": {"enabled": True},
    }


def _seccomp(facts: Facts) -> dict[str, Any]:
    """Actions, operators and flags are those that are compiled, architectures those of the spec.

    Which of these the installed libseccomp knows depends on its version, and only it can tell.
    """
    from libpycontainer.seccomp import names
    from libpycontainer.spec.leaves import CHOICES

    return {
        "enabled": True,
        "actions": sorted(names.ACTIONS),
        "operators": sorted(names.OPERATORS),
        "archs": sorted(CHOICES["seccomp architecture"]),
        "knownFlags": list(names.FLAGS),
        "supportedFlags": [flag for flag in names.FLAGS if flag in facts.seccomp_flags],
    }


def _annotations(facts: Facts) -> dict[str, str]:
    major, minor = facts.kernel
    values = {
        "host.cgroup": facts.cgroup_mode,
        "host.kernel": f"{major}.{minor}",
        "host.lsms": ",".join(sorted(facts.lsms)),
        "version": __version__,
    }
    return {ANNOTATION_PREFIX + name: value for name, value in values.items()}
