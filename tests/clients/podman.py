"""Podman with directories of its own, as root and as an ordinary user."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scripts import as_user
from tests.clients import remains
from tests.clients.engine import Engine, Runtime
from tests.clients.world import program

CONFIGURATION = """\
[containers]
# The defaults are above the hard limits of a host without CAP_SYS_RESOURCE.
default_ulimits = ["nofile=256:1024", "nproc=256:1024"]

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
    create_flags: Sequence[str] = ("--cgroup-parent", remains.PARENT)

    def __init__(self, runtime: Runtime, directory: Path, archive: Path, *prefix: str) -> None:
        directory.mkdir(exist_ok=True)
        configuration = directory / "containers.conf"
        configuration.write_text(
            CONFIGURATION.format(directory=directory, name=runtime.name, path=runtime.path)
        )
        places = ["--root", f"{directory}/graph", "--runroot", f"{directory}/run"]
        super().__init__(
            runtime,
            [*prefix, program("podman"), *places, "--tmpdir", f"{directory}/tmp"],
            {
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "XDG_RUNTIME_DIR": str(directory),
                "CONTAINERS_CONF": str(configuration),
                "TERM": "xterm",
            },
        )
        self.directory = directory
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

    def clear(self) -> None:
        self("pod", "rm", "--all", "--force", status=None)
        super().clear()
        # Podman makes a pod's group in every hierarchy, and removes those of controllers only.
        for parent in (remains.PARENT, remains.PODMANS_PARENT):
            for group in remains.groups_below(parent):
                if POD.fullmatch(group.name) and group.parts[4] in ("systemd", "unified"):
                    group.rmdir()

    def stop(self) -> None:
        self.clear()
        self("system", "migrate", status=None)
        self("unmount", "--all", "--force", status=None)
        subprocess.run(["umount", f"{self.directory}/graph/overlay"], capture_output=True)


class PodmanOfUser(Podman):
    """Podman as the user whom ``scripts/as_user.py`` introduces, with subordinate ids."""

    # Nothing was delegated to her, and a group that she may not make cannot be named.
    create_flags = ()

    def __init__(self, runtime: Runtime, directory: Path, archive: Path) -> None:
        directory.mkdir()
        os.chown(directory, as_user.UID, as_user.UID)
        who = [f"--reuid={as_user.UID}", f"--regid={as_user.UID}", "--clear-groups"]
        super().__init__(runtime, directory, archive, program("setpriv"), *who)
        self.title += " as a user"
