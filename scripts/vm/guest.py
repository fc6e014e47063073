"""The emulator, the guest's disk and the compiled shim: each made once, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scripts.vm import recipe
from scripts.vm.cache import Cache

ROOT, KERNEL, INITRD, SHIM = "root.ext4", "vmlinuz", "initrd", "_shim.abi3.so"
# The file has holes: only what is used takes room on the host.
ROOT_SIZE = "4G"
# A program by the Debian package that has it.
HOST_PROGRAMS = {"debootstrap": "debootstrap", "mke2fs": "e2fsprogs", "unshare": "util-linux"}
# Whoever owns the overlay on the host, root owns what it becomes.
COPY = ("cp", "--recursive", "--no-dereference", "--preserve=mode", "--remove-destination")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Guest(NamedTuple):
    """All that a machine is started from."""

    emulator: Path
    """A tree with qemu and all that it loads."""
    disk: Path
    """The directory of the root filesystem, the kernel and its first filesystem."""
    shim: Path


class BuildError(Exception):
    """A part of the guest could not be made; the words say which and why."""


def guest(cache: Cache) -> Guest:
    """The parts of the guest, made first where they are not in the cache."""
    own = (Path(__file__).read_text(), Path(recipe.__file__).read_text())
    emulator = cache.keep("emulator", _digest(_tree_recipe(recipe.EMULATOR_PACKAGES)), _emulator)
    debian_recipe = _digest(_tree_recipe(recipe.GUEST_PACKAGES))
    debian = cache.keep("debian", debian_recipe, _debian)
    packages_recipe = _digest([recipe.PYTHON, *recipe.python_packages()])
    packages = cache.keep("python", packages_recipe, _python)
    below = (debian_recipe, packages_recipe, *own)
    disk = cache.keep(
        "disk",
        _digest([*below, *_contents(recipe.OVERLAY)]),
        lambda new: _disk(new, debian, packages),
    )
    sources = _digest([*below, *_contents(recipe.PROJECT / "csrc")])
    # Small, and each version of the sources keeps its own: two trees may share the cache.
    shim = cache.keep(f"shim-{sources[:12]}", sources, lambda new: _shim(new, debian, packages))
    return Guest(emulator, disk, shim / SHIM)


def _tree_recipe(packages: Iterable[str]) -> list[str]:
    return [recipe.MIRROR, recipe.SUITE, recipe.USER, *recipe.INITIAL_MODULES, *packages]


def _contents(directory: Path) -> list[str]:
    """Every file below a directory: its path, its mode and its bytes, or where it points."""
    found = []
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_symlink():
            found.append(f"{name} -> {path.readlink()}")
        elif path.is_file() and path.suffix != ".pyc":
            mode = path.stat().st_mode & 0o111
            found.append(f"{name} {mode} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return found


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _emulator(new: Path) -> None:
    _debootstrap(new, recipe.EMULATOR_PACKAGES)


def _debian(new: Path) -> None:
    _debootstrap(new, recipe.GUEST_PACKAGES)
    (new / "etc/initramfs-tools/conf.d/guest").write_text("MODULES=list\n")
    modules = "".join(f"{name}\n" for name in recipe.INITIAL_MODULES)
    (new / "etc/initramfs-tools/modules").write_text(modules)
    _inside(new, ["update-initramfs", "-u"])
    _inside(new, ["useradd", "--create-home", "--shell", "/bin/bash", recipe.USER])
    _inside(new, ["passwd", "--quiet", "--delete", "root"])


def _debootstrap(new: Path, packages: Sequence[str]) -> None:
    _say(f"making a Debian {recipe.SUITE} tree with {' '.join(packages)}")
    _require_host_programs()
    include = f"--include={','.join(packages)}"
    command = ["debootstrap", "--variant=minbase", include, recipe.SUITE, str(new), recipe.MIRROR]
    _run_apart(command)
    shutil.rmtree(new / "var/cache/apt/archives")


def _python(new: Path) -> None:
    packages = recipe.python_packages()
    _say(f"fetching Python packages: {' '.join(packages)}")
    # The host's pip fetches them: it knows the way to the index.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
    command += ["--target", str(new), "--implementation=cp", f"--python-version={recipe.PYTHON}"]
    command += ["--only-binary=:all:"]
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 17)]
    _run([*command, *platforms, *packages])


def _disk(new: Path, debian: Path, packages: Path) -> None:
    _say("making the guest's disk")
    with _copy(new, debian, packages) as tree:
        _run([*COPY, f"{recipe.OVERLAY}/.", str(tree)])
        (tree / recipe.DIST_PACKAGES / "project.pth").write_text(recipe.PROJECT_INSIDE)
        _inside(tree, ["python3", "-m", "compileall", "-q", f"/{recipe.DIST_PACKAGES}"])
        lingering = tree / "var/lib/systemd/linger"
        lingering.mkdir(parents=True, exist_ok=True)
        (lingering / recipe.USER).touch()
        _inside(tree, ["systemctl", "--quiet", "enable", *recipe.UNITS])
        _inside(tree, ["systemctl", "--quiet", "mask", *recipe.MASKED_UNITS])
        for name, stem in ((KERNEL, "vmlinuz"), (INITRD, "initrd.img")):
            (file,) = (tree / "boot").glob(f"{stem}-*")
            shutil.copyfile(file, new / name)
        _run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(new / ROOT), ROOT_SIZE])


def _shim(new: Path, debian: Path, packages: Path) -> None:
    _say("compiling the shim for the guest")
    with _copy(new, debian, packages) as tree:
        shutil.copytree(recipe.PROJECT / "csrc", tree / "build/csrc")
        _inside(tree, ["sh", "-c", "cd /build && python3 csrc/build_shim.py"])
        (shim,) = (tree / "build").rglob("_shim.*.so")
        shutil.copyfile(shim, new / SHIM)


@contextmanager
def _copy(new: Path, debian: Path, packages: Path) -> Iterator[Path]:
    """The guest's tree with its Python packages, to be added to; gone when the block ends.

    Links suffice: nobody changes a file of it in place.
    """
    tree = new / "tree"
    _run(["cp", "--archive", "--link", str(debian), str(tree)])
    _run(["cp", "--archive", "--link", f"{packages}/.", str(tree / recipe.DIST_PACKAGES)])
    yield tree
    shutil.rmtree(tree)


def _inside(tree: Path, command: Sequence[str]) -> None:
    _run_apart(["chroot", str(tree), *command])


def _run_apart(command: Sequence[str]) -> None:
    """Run as root with mounts and processes of its own, all of which end with it."""
    _require_root()
    _run(["unshare", "--mount", "--pid", "--fork", "--kill-child", *command])


def _run(command: Sequence[str]) -> None:
    environment = {**os.environ, "PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8"}
    # Ends with this program, even if that is killed.
    argv = ["setpriv", "--pdeathsig", "KILL", *command]
    null, pipe, same = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(argv, stdin=null, stdout=pipe, stderr=same, env=environment) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            process.kill()
            # At the end of the pipe all are gone who had it, so that none of them writes any more.
            process.communicate()
            raise
    if process.returncode != 0:
        tail = b"\n".join(output.splitlines()[-30:]).decode(errors="replace")
        raise BuildError(f"{' '.join(command)}: exit code {process.returncode}\n{tail}")


def _require_root() -> None:
    if os.geteuid() != 0:
        raise BuildError("the guest is not in the cache yet, and making it takes root")


def _require_host_programs() -> None:
    _require_root()
    lacking = [p for name, p in HOST_PROGRAMS.items() if not shutil.which(name, path=SYSTEM_PATH)]
    if not lacking:
        return
    if not shutil.which("apt-get"):
        raise BuildError(f"missing: {' '.join(lacking)} (Debian's names)")
    _say(f"installing on this host: {' '.join(lacking)}")
    _run(["apt-get", "update", "-q"])
    _run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *lacking])


def _say(text: str) -> None:
    print(f"vm: {text}", file=sys.stderr, flush=True)
