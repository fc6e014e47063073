"""One machine under software emulation, from power on to power off."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

from scripts.vm.guest import INITRD, KERNEL, ROOT, Guest
from scripts.vm.recipe import PROJECT

MEMORY = "2G"
PROCESSORS = 2
PATIENCE = 10
SWAP_BYTES = 512 << 20
LIBRARIES = "usr/lib/x86_64-linux-gnu"
# psi=1 and the huge pages are there to be limited and measured.
KERNEL_ARGUMENTS = (
    "root=/dev/vda rw console=ttyS0 panic=-1 mitigations=off net.ifnames=0 psi=1 hugepages=16 "
    "systemd.show_status=no"
)
NOT_SHIPPED = {".git", ".tox", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
NOT_SHIPPED |= {".hypothesis", "__pycache__", "build", "dist", "site"}
SHIM = "libpycontainer/_shim.abi3.so"
COMMAND = ".command"


class MachineError(Exception):
    """The machine ended without a result; the words are the end of its console."""


def run(guest: Guest, directory: Path, command: str | None, timeout: float) -> int:
    """Start a machine that runs ``command``, or a shell for None; its exit code.

    Whatever the command writes appears on standard output as it comes. ``directory`` is the
    machine's own and must outlive it.
    """
    _pack_project(directory / "project.tar", guest.shim, command)
    with open(directory / "swap", "wb") as swap:
        swap.truncate(SWAP_BYTES)
    (directory / "exit").touch()
    argv = _emulator(guest.emulator) + _machine(guest, directory, shell=command is None)
    environment = {
        **os.environ,
        "QEMU_MODULE_DIR": str(guest.emulator / LIBRARIES / "qemu"),
        # What the guest writes to its disks lies there, in files without a name.
        "TMPDIR": str(directory),
    }
    # An end of the input would disconnect the port that the output comes from.
    stdin = None if command is None else subprocess.PIPE
    with subprocess.Popen(argv, stdin=stdin, env=environment) as process:
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise MachineError(_story(directory, f"not done after {timeout:g} s")) from None
        finally:
            _end(process)
    code = (directory / "exit").read_text().strip()
    if command is None:
        return 0
    if not code:
        raise MachineError(_story(directory, "the guest ended without a result"))
    return int(code)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asked to end, the emulator leaves a terminal as it was."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _emulator(tree: Path) -> list[str]:
    """The command of the emulator, with the loader and the libraries of its own suite."""
    libraries = tree / LIBRARIES
    loader = str(libraries / "ld-linux-x86-64.so.2")
    command = [loader, "--library-path", str(libraries), str(tree / "usr/bin/qemu-system-x86_64")]
    firmware = ["-L", str(tree / "usr/share/seabios"), "-L", str(tree / "usr/share/qemu")]
    return ["setpriv", "--pdeathsig", "KILL", *command, *firmware]


def _machine(guest: Guest, directory: Path, *, shell: bool) -> list[str]:
    mode = "shell" if shell else "command"
    words = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]
    words += ["-smp", str(PROCESSORS), "-m", MEMORY]
    words += ["-kernel", str(guest.disk / KERNEL), "-initrd", str(guest.disk / INITRD)]
    words += ["-append", f"{KERNEL_ARGUMENTS} lpc.mode={mode}"]
    words += _disk("root", guest.disk / ROOT, "snapshot=on")
    words += _disk("project", directory / "project.tar", "readonly=on")
    words += _disk("swap", directory / "swap", "cache=unsafe")
    words += ["-serial", f"file:{directory / 'console'}", "-device", "virtio-serial"]
    words += ["-chardev", f"file,id=exit,path={directory / 'exit'}"]
    words += ["-device", "virtserialport,chardev=exit,name=exit"]
    words += ["-chardev", f"stdio,id=output,signal={'off' if shell else 'on'}"]
    if shell:
        return [*words, "-device", "virtconsole,chardev=output"]
    return [*words, "-device", "virtserialport,chardev=output,name=output"]


def _disk(name: str, path: Path, options: str) -> list[str]:
    drive = f"if=none,id={name},format=raw,file={path},{options}"
    return ["-drive", drive, "-device", f"virtio-blk,drive={name},serial={name}"]


def _pack_project(path: Path, shim: Path, command: str | None) -> None:
    """The project as it is now, with a shim for the guest and what to run, as a disk."""

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = member.name.rpartition("/")[2]
        if name in NOT_SHIPPED or name.endswith((".so", ".pyc")):
            return None
        member.uid = member.gid = 0
        return member

    with tarfile.open(path, "w") as tar:
        tar.add(PROJECT, arcname=".", filter=wanted)
        tar.add(shim, arcname=SHIM)
        if command is not None:
            text = f"{command}\n".encode()
            member = tarfile.TarInfo(COMMAND)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))


def _story(directory: Path, what: str) -> str:
    console = directory / "console"
    lines = console.read_text(errors="replace").splitlines() if console.exists() else []
    return "\n".join([f"{what}; the end of its console:", *lines[-40:]])
