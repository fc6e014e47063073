"""A world for a client that ends with its column: mounts, network, processes, /run, users.

Daemons, bridges, firewall rules and mounts are made in namespaces of their own, with a first
process of ours: when it ends, the kernel ends whatever is left. Only cgroups outlive that; they are
removed here. Files are not removed inside, where the host's may be mounted among them.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts import as_user
from tests.clients import remains

PACKAGES = {
    "podman": "podman",
    "conmon": "conmon",
    "netavark": "netavark",
    "aardvark-dns": "aardvark-dns",
    "catatonit": "catatonit",
    "slirp4netns": "slirp4netns",
    "newuidmap": "uidmap",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "busybox": "busybox-static",
    "host-local": "containernetworking-plugins",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
PLACES = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/lib/podman:/usr/libexec/podman:/usr/lib/cni"
"""Debian's own programs, not those of the same name in /usr/local."""
HIDDEN = ("/run", "/var/lib/containers", "/var/lib/cni", "/etc/cni", "/opt/cni")
"""What clients write to whatever they are told."""
AUTOMATIC = "containers:1000000:1000000\n"
"""The ids out of which ``podman run --userns=auto`` takes some (man 5 containers-storage.conf)."""


def program(name: str) -> str:
    """The path of one of Debian's programs."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        raise FileNotFoundError(f"{name} (Debian's package {PACKAGES.get(name, name)})")
    return found


def install_what_is_missing() -> None:
    missing = {PACKAGES[each] for each in PACKAGES if shutil.which(each, path=PLACES) is None}
    if not missing:
        return
    print(f"installing {', '.join(sorted(missing))}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *sorted(missing)]):
        subprocess.run(["apt-get", "-q", *words], check=True, env=environment)


def run(words: Sequence[str]) -> int:
    """Run a program in namespaces of its own; its exit status, when nothing of it is left."""
    namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # Whatever ends this program ends all of it.
    bound = [program("setpriv"), "--pdeathsig", "KILL", program("unshare"), *namespaces]
    process = subprocess.Popen([*bound, *words])
    try:
        return process.wait()
    finally:
        # With it goes the first process of its namespace, and with that one everything inside.
        process.kill()
        process.wait()
        for group in remains.tops(remains.PARENT):
            remains.remove_groups(group)


def furnish(directory: Path, *, as_user_too: bool) -> None:
    """In the new namespaces: what the clients write to, a network, users with ids to give away."""
    for path in filter(os.path.isdir, HIDDEN):
        _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
    Path("/run/lock").mkdir()
    # slirp4netns opens it as the ordinary user, and not every host lets her.
    if Path("/dev/net").is_dir():
        _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/dev/net")
        os.mknod("/dev/net/tun", stat.S_IFCHR | 0o666, os.makedev(10, 200))
        os.chmod("/dev/net/tun", 0o666)
    _command("ip", "link", "set", "lo", "up")
    _show_own_network(directory)
    as_user.introduce(directory)
    for name in ("subuid", "subgid"):
        with open(directory / name, "a") as file:
            file.write(AUTOMATIC)
    if as_user_too:
        as_user.show([sys.prefix, sys.base_prefix, str(as_user.PROJECT)], directory)
    # As on a host that systemd has started: volumes with propagation need it. Not before: out of a
    # shared mount none can be moved.
    _command("mount", "--make-rshared", "/")


def _show_own_network(directory: Path) -> None:
    """A sysfs of this network namespace; the cgroups stay where they are in it."""
    aside = directory / "cgroup"
    aside.mkdir()
    _command("mount", "--move", "/sys/fs/cgroup", str(aside))
    # Nothing may be left below the new one: podman would unmount it for a user namespace, in vain.
    _command("umount", "--recursive", "--lazy", "/sys")
    _command("mount", "-t", "sysfs", "sysfs", "/sys")
    _command("mount", "--move", str(aside), "/sys/fs/cgroup")


def be_first_process() -> int | None:
    """Fork. None in the child, which goes on; in the first process its exit status, at its end.

    Whatever loses its parent becomes a child of the first process, which must wait for it.
    """
    child = os.fork()
    if child == 0:
        return None
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def write_wrapper(path: Path, command: str) -> Path:
    """A program of the name that clients are told, wherever the real one lies."""
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


def _command(*words: str) -> None:
    subprocess.run(words, check=True)
