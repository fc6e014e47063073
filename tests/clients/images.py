"""The image of every client: a root filesystem of static busybox, from no registry."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.clients.world import program

IMAGE = "localhost/box:latest"
PAUSE = "localhost/pause:latest"
"""For the sandboxes of CRI: the same, but it waits for its end."""
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1000:\nstaff:x:50:app\n"
DIRECTORIES = ("dev", "etc", "home", "home/app", "proc", "root", "run", "sys", "tmp", "var", "data")


def make(directory: Path) -> Path:
    """An archive that every client loads: busybox, root and the user ``app``, a directory /data."""
    layer = _layer(Path(program("busybox")), directory)
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    manifest = []
    path = archive(directory)
    with tarfile.open(path, "w") as tar:
        _add(tar, f"{digest}/layer.tar", layer.read_bytes())
        for name, command in ((IMAGE, ["/bin/sh"]), (PAUSE, ["/bin/sleep", "1000000"])):
            configuration = json.dumps(_configuration(digest, command)).encode()
            file = f"{hashlib.sha256(configuration).hexdigest()}.json"
            _add(tar, file, configuration)
            layers = [f"{digest}/layer.tar"]
            manifest.append({"Config": file, "RepoTags": [name], "Layers": layers})
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return path


def _configuration(digest: str, command: Sequence[str]) -> dict[str, Any]:
    machine = os.uname().machine
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/bin:/bin:/sbin", "FROM_IMAGE=yes"],
            "Cmd": command,
            "Labels": {"box": "busybox"},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "the client tests"}],
    }


def archive(directory: Path) -> Path:
    """Where the archive of :func:`make` lies."""
    return directory / "box.tar"


def _layer(busybox: Path, directory: Path) -> Path:
    path = directory / "layer.tar"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    with tarfile.open(path, "w") as tar:
        for name in ("bin", *DIRECTORIES):
            mode = 0o1777 if name == "tmp" else 0o755
            _add(tar, name, None, mode=mode, owner=1000 if name == "home/app" else 0)
        _add(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in sorted({*applets.stdout.split()} - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _add(tar, "etc/passwd", PASSWD.encode())
        _add(tar, "etc/group", GROUP.encode())
        _add(tar, "data/from-image", b"seen\n")
    return path


def _add(
    tar: tarfile.TarFile, name: str, content: bytes | None, *, mode: int = 0o644, owner: int = 0
) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.uid, entry.gid = mode, owner, owner
    if content is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(content)
    tar.addfile(entry, None if content is None else io.BytesIO(content))
