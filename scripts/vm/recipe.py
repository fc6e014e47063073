"""What the guest is made of. A change here makes anew what depends on it, at the next start."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
OVERLAY = Path(__file__).parent / "overlay"

MIRROR = "http://deb.debian.org/debian"
SUITE = "trixie"
PYTHON = "3.13"
DIST_PACKAGES = f"usr/local/lib/python{PYTHON}/dist-packages"

# Debian 12's qemu, 7.2, makes a guest with two processors panic under software emulation.
EMULATOR_PACKAGES = ("qemu-system-x86", "seabios", "ipxe-qemu")
GUEST_PACKAGES = (
    # a system with systemd, also for a user without privilege
    "dbus",
    "dbus-user-session",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "linux-image-amd64",
    "procps",
    "systemd",
    "systemd-sysv",
    "udev",
    # what the project and its tests use
    "busybox-static",
    "gcc",
    "libc6-dev",
    "python3",
    "python3-dev",
    "runc",
    "uidmap",
)
# All that lies between the kernel and its root filesystem.
INITIAL_MODULES = ("virtio_pci", "virtio_blk", "ext4")
# Somebody without privilege, whose systemd runs from the start.
USER = "alice"
PROJECT_INSIDE = "/srv/libpycontainer"
UNITS = ("lpc-command.service", "lpc-shell.service")
# What would only take time, or the console.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "ldconfig.service",
    "serial-getty@hvc0.service",
    "serial-getty@ttyS0.service",
)


def python_packages() -> list[str]:
    """What the project depends on, the tests' needs, and what compiles the shim."""
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return sorted([*project["dependencies"], *extras["systemd"], *extras["test"], "setuptools>=77"])
