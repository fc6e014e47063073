"""Podman with directories of its own, as root and as an ordinary user."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from scripts import as_user
from tests.clients import remains
from tests.clients.engine import Engine, Runtime
from tests.clients.world import program

CONFIGURATION = """\
[containers]
# The defaults are above the hard limits of a host without CAP_SYS_RESOURCE.
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
# An ordinary user may have 200 keys, and those that are no longer used stay for a while.
keyring = {keyring}

[network]
network_backend = "netavark"
network_config_dir = "{directory}/networks"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{name}"
runtime_supports_json = ["runc", "pyrunc"]

[engine.runtimes]
{name} = ["{path}"]
"""
POD = re.compile("[0-9a-f]{64}")


class Podman(Engine):
    # Podman would wait ten seconds for each that does not listen to SIGTERM.
    removal = (*Engine.removal, "--time", "0")
    create_flags: Sequence[str] = ("--cgroup-parent", remains.PARENT)
    keyring = True
    group_parents: Sequence[str] = (remains.PARENT, remains.PODMANS_PARENT)

    def __init__(self, runtime: Runtime, directory: Path, archive: Path, *prefix: str) -> None:
        directory.mkdir(exist_ok=True)
        # Another podman of this host may be using it.
        self.standing = {group for group in remains.tops(remains.PODMANS_PARENT) if group.exists()}
        configuration = directory / "containers.conf"
        configuration.write_text(
            CONFIGURATION.format(
                directory=directory,
                name=runtime.name,
                path=runtime.path,
                keyring="true" if self.keyring else "false",
            )
        )
        places = ["--root", f"{directory}/graph", "--runroot", f"{directory}/run"]
        super().__init__(
            runtime,
            directory,
            [*prefix, program("podman"), *places, "--tmpdir", f"{directory}/tmp"],
            {
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "XDG_RUNTIME_DIR": str(directory),
                "CONTAINERS_CONF": str(configuration),
                "TERM": "xterm",
            },
        )
        self.state_roots = [
            Path("/run/runc"),
            Path("/run/libpycontainer"),
            directory / "runc",
            directory / "libpycontainer",
            directory / "tmp/exits",
        ]
        self("load", "--quiet", "--input", str(archive))
        # The first container makes what stays: conmon's cgroup, mounts, the pause process.
        self.run([], "true")
        self.title = f"podman {self('version', '--format', '{{.Client.Version}}').out.strip()}"

    def bundle(self, name: str) -> Path:
        return Path(self.inspect(name, "{{.OCIConfigPath}}")).parent

    def clear(self) -> None:
        self("pod", "rm", "--all", "--force", "--time", "0", status=None)
        super().clear()
        # Podman makes a pod's group in every hierarchy, and removes those of controllers only.
        for parent in self.group_parents:
            for group in remains.groups_below(parent):
                if POD.fullmatch(group.name) and group.parts[4] in ("systemd", "unified"):
                    remains.remove_groups(group)

    def stop(self) -> None:
        self.clear()
        self("system", "migrate", status=None)
        for group in remains.tops(remains.PODMANS_PARENT):
            if group not in self.standing:
                remains.remove_groups(group)


class PodmanOfUser(Podman):
    """Podman as the user whom ``scripts/as_user.py`` introduces, with subordinate ids."""

    # Nothing was delegated to her, and a group that she may not make cannot be named.
    create_flags = ()
    keyring = False
    group_parents = ()
    without_cgroups = "podman of a user has no cgroups without systemd"

    def __init__(self, runtime: Runtime, directory: Path, archive: Path) -> None:
        directory.mkdir()
        os.chown(directory, as_user.UID, as_user.UID)
        who = [f"--reuid={as_user.UID}", f"--regid={as_user.UID}", "--clear-groups"]
        super().__init__(runtime, directory, archive, program("setpriv"), *who)
        self.title += " as a user"
