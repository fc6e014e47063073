"""Build sdist and wheel, install the wheel into an empty environment, run a container with it.

Usage: check_dist.py DIRECTORY. Without root the container is left out.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parent.parent
IN_SDIST = (
    "LICENSE",
    "Makefile",
    "README.md",
    "csrc/build_shim.py",
    "csrc/shim.c",
    "csrc/shim.h",
    "docs/index.md",
    "pyproject.toml",
    "setup.py",
    "tests/conftest.py",
    "tox.ini",
)
IN_WHEEL = (
    "libpycontainer/__init__.py",
    "libpycontainer/__main__.py",
    "libpycontainer/_shim.abi3.so",
    "libpycontainer/py.typed",
)
NOT_SHIPPED = (".o", ".pyc", ".so")
GREETING = "hello from the wheel"


def main() -> None:
    workspace = Path(sys.argv[1]).resolve()
    shutil.rmtree(workspace, ignore_errors=True)
    sdist, wheel = build(workspace / "dist")
    check_sdist(sdist)
    check_wheel(wheel)
    python = install(wheel, workspace / "venv")
    check_import(python, workspace)
    if os.geteuid() == 0:
        check_container(python, workspace)
    else:
        print("not root: no container was run")


def build(dist: Path) -> tuple[Path, Path]:
    """Both archives; the wheel is built from the sdist, so the sdist is complete."""
    run([sys.executable, "-m", "build", "--outdir", dist, PROJECT])
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    return sdist, wheel


def check_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    expect(sdist, names, IN_SDIST)
    compiled = [name for name in names if name.endswith(NOT_SHIPPED)]
    if compiled:
        sys.exit(f"{sdist.name} holds what a build made: {', '.join(compiled)}")


def check_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    expect(wheel, names, IN_WHEEL)
    tops = {name.partition("/")[0] for name in names}
    strangers = [top for top in tops if not top.startswith("libpycontainer")]
    if strangers:
        sys.exit(f"{wheel.name} would also install {', '.join(strangers)}")
    if "-abi3-" not in wheel.name:
        sys.exit(f"{wheel.name} is not built for the stable ABI")


def expect(archive: Path, names: list[str], wanted: tuple[str, ...]) -> None:
    absent = [name for name in wanted if name not in names]
    if absent:
        sys.exit(f"{archive.name} lacks {', '.join(absent)}")


def install(wheel: Path, environment: Path) -> Path:
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel])
    return python


def check_import(python: Path, workspace: Path) -> None:
    """The package comes from the environment, and the installed command starts."""
    program = "import libpycontainer; print(libpycontainer.__file__)"
    path = run([python, "-c", program], cwd=workspace).strip()
    if not Path(path).is_relative_to(python.parent.parent):
        sys.exit(f"imported {path}, not what the wheel installed")
    print(run([python.with_name("pyrunc"), "--version"], cwd=workspace), end="")


def check_container(python: Path, workspace: Path) -> None:
    bundle = make_bundle(python, workspace / "bundle")
    pyrunc: list[str | Path] = [python, "-m", "libpycontainer", "--root", workspace / "state"]
    name = f"lpc-dist-{secrets.token_hex(4)}"
    output = run([*pyrunc, "run", "--bundle", bundle, name], cwd=workspace)
    if output.strip() != GREETING:
        sys.exit(f"the container printed {output!r}, expected {GREETING!r}")
    print(f"the container printed {output.strip()!r}")


def make_bundle(python: Path, bundle: Path) -> Path:
    """A bundle whose root filesystem is Debian's static busybox and nothing else."""
    busybox = shutil.which("busybox") or sys.exit("busybox is not installed")
    programs = bundle / "rootfs" / "bin"
    programs.mkdir(parents=True)
    shutil.copy2(busybox, programs / "busybox")
    (programs / "echo").symlink_to("busybox")
    run([python, "-m", "libpycontainer", "spec", "--bundle", bundle], cwd=bundle)
    document = bundle / "config.json"
    config = json.loads(document.read_text(encoding="utf-8"))
    config["process"].update(terminal=False, args=["echo", GREETING])
    config["linux"]["cgroupsPath"] = f"/lpc-dist-{secrets.token_hex(4)}"
    document.write_text(json.dumps(config), encoding="utf-8")
    return bundle


def run(command: list[str | Path], cwd: Path | None = None) -> str:
    """Standard output; a failure ends the program with the command and what it said."""
    print("+", *command, flush=True)
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nexit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
