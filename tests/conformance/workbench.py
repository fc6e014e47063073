"""One bundle, made anew for each runtime that runs it, and what each run came to."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conformance import configs, probe
from tests.conformance.configs import Case
from tests.conformance.mount_configs import ROOTFS_LINKS

PATIENCE = 30
MOUNTED = (
    ("flags", "nosuid,nodev,noexec,noatime"),
    ("shared", "nodiratime"),
    ("tree/sub", "nosuid,relatime"),
)
"""Sources that are mounts of their own, with their options."""

NAMESPACE_FILES = {
    "pid": "pid_for_children",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "mount": "mnt",
    "user": "user",
}


class Outcome(NamedTuple):
    """What a run came to."""

    code: int
    ran: bool
    """Did the probe begin? Otherwise the container was refused, or its program was another."""
    report: probe.Report
    error: str
    """What the runtime itself had to say, or the program on its standard error."""


class Holder:
    """A process in namespaces of its own, for a container to join."""

    def __init__(self, types: set[str]) -> None:
        words = [f"--{'net' if type == 'network' else type}" for type in sorted(types)]
        self._process = subprocess.Popen(
            ["unshare", *words, "--fork", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._process.stdout.read(1)
        pid = self._process.pid
        self.pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        if "user" in types:
            rows = "".join(
                f"{inside} {host} {size}\n" for inside, host, size in configs.HELD_MAPPING
            )
            for name in ("gid_map", "uid_map"):
                Path(f"/proc/{self.pid}/{name}").write_text(rows)

    def path(self, type: str) -> str:
        return f"/proc/{self.pid}/ns/{NAMESPACE_FILES[type]}"

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


class Workbench:
    """One place where the same bundle is made anew for each runtime."""

    def __init__(
        self, directory: Path, busybox: str, commands: Mapping[str, Sequence[str]], group: str
    ) -> None:
        """``commands`` are command lines by name, up to the verb; ``group`` begins cgroup paths."""
        self.directory = directory
        self.rootfs = directory / "rootfs"
        self.source = directory / "source"
        self._busybox = directory / "busybox"
        shutil.copy2(busybox, self._busybox)
        self._commands = commands
        self._group = group
        self._runs = 0
        self._make_sources()

    def _make_sources(self) -> None:
        for name, options in MOUNTED:
            (self.source / name).mkdir(parents=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size=1m,mode=755,{options}", "source"]
            subprocess.run([*command, str(self.source / name)], check=True)
        subprocess.run(["mount", "--make-shared", str(self.source / "shared")], check=True)

    def close(self) -> None:
        """Give back what the sources took."""
        for name, _ in reversed(MOUNTED):
            subprocess.run(["umount", str(self.source / name)], check=True)

    def run(self, name: str, case: Case) -> Outcome:
        """Run ``case`` with the runtime of that name, in a bundle that nobody has touched."""
        self._make_rootfs(case.owner)
        self._fill_sources()
        before = set(_listing(self.rootfs))
        # A name of its own: a session keyring outlives its container, and the next would join it.
        self._runs += 1
        id = f"the-{self._runs}-probe"
        group = f"{self._group}-{name}"
        types = {each["type"] for each in case.config["linux"]["namespaces"] if "path" in each}
        holder = Holder(types) if types else None
        try:
            names = {group: "/GROUP", id: "probe", **_names_of_namespaces(types, holder)}
            self._write_config(case, group, types, holder)
            done = self._run(name, id, case.preserved)
        finally:
            if holder is not None:
                holder.close()
            self._clear(name, group)
        output = done.stdout.decode(errors="replace")
        report = probe.report(output, names) if probe.ran(output) else {}
        after = set(_listing(self.rootfs))
        report["root file system"] = sorted(f"{line} (made)" for line in after - before)
        report["root file system"] += sorted(f"{line} (gone)" for line in before - after)
        return Outcome(done.returncode, probe.ran(output), report, done.stderr.decode())

    def _write_config(self, case: Case, group: str, types: set[str], holder: Holder | None) -> None:
        holes = {"rootfs": str(self.rootfs), "source": str(self.source), "group": group}
        if holder is not None:
            holes.update({f"ns:{type}": holder.path(type) for type in types})
        text = json.dumps(case.config)
        for hole, value in {**holes, "probe": probe.SCRIPT}.items():
            text = text.replace(f"{{{hole}}}", json.dumps(value)[1:-1])
        (self.directory / "config.json").write_text(text, encoding="utf-8")

    def _run(self, name: str, id: str, preserved: int) -> subprocess.CompletedProcess[bytes]:
        argv = [*self._commands[name], "run", "--bundle", str(self.directory), id]
        if preserved:
            argv[-1:-1] = ["--preserve-fds", str(preserved)]
            argv = ["sh", "-c", 'exec "$@" 3</etc/hosts 4</dev/zero', "sh", *argv]
        return subprocess.run(argv, input=b"typed\n", capture_output=True, timeout=PATIENCE)

    def _make_rootfs(self, owner: tuple[int, int]) -> None:
        shutil.rmtree(self.rootfs, ignore_errors=True)
        root = self.rootfs
        for name in ("bin", "dev", "etc", "home/app", "mnt/linked", "opt", "proc", "root", "run"):
            (root / name).mkdir(parents=True)
        for name in ("sys", "tmp", "usr/bin", "var"):
            (root / name).mkdir(parents=True)
        for name, content in ROOTFS_LINKS.items():
            (root / name).symlink_to(content)
        for applet in probe.APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text(
            "root:x:0:0:r:/root:/bin/sh\napp:x:1000:1000::/home/app:\n"
        )
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (root / "mnt/file").write_text("a file\n")
        script = root / "bin/script-without-interpreter"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        (root / "tmp").chmod(0o1777)
        if owner != (0, 0):
            for path, names, files in os.walk(root):
                for name in ("", *names, *files):
                    os.chown(os.path.join(path, name), *owner, follow_symlinks=False)
        # The same file in every root file system: after the owners were changed.
        os.link(self._busybox, root / "bin/busybox")

    def _fill_sources(self) -> None:
        """Mount points that the run before has made there are gone, the mounts stay."""
        kept = {self.source / path for name, _ in MOUNTED for path in (name, Path(name).parent)}
        for path in {self.source, *kept}:
            for entry in set(path.iterdir()) - kept:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        (self.source / "dir/sub").mkdir(parents=True)
        (self.source / "to-dir").symlink_to("dir")
        for name in ("file", "dir/file", "flags/file", "shared/file", "tree/sub/file"):
            (self.source / name).write_text(name)

    def _clear(self, name: str, group: str) -> None:
        """runc 1.1 leaves cgroups behind when a creation fails; ours are asserted to be gone."""
        for hierarchy in ("", *os.listdir("/sys/fs/cgroup")):
            path = Path("/sys/fs/cgroup", hierarchy, group[1:])
            if path.is_dir():
                assert name != "pyrunc", f"{path} was left behind"
                path.rmdir()


def _names_of_namespaces(types: set[str], holder: Holder | None) -> dict[str, str]:
    """The links of /proc/self/ns for namespaces that are not the container's own."""
    links = probe.host_namespaces()
    for type in types:
        assert holder is not None
        file = NAMESPACE_FILES[type]
        link = os.readlink(f"/proc/{holder.pid}/ns/{file}")
        links[link] = f"{link.partition(':')[0]}:[joined]"
    return links


def _listing(top: Path) -> Iterator[str]:
    """Every file below ``top``, with its kind, mode and owner: what a run has left there."""
    for path, names, files in os.walk(top):
        names.sort()
        for name in sorted([*names, *files]):
            full = os.path.join(path, name)
            status = os.lstat(full)
            numbers = f"{status.st_uid}:{status.st_gid} {status.st_rdev:x}"
            shown = os.path.relpath(full, top)
            if stat.S_ISLNK(status.st_mode):
                shown += f" -> {os.readlink(full)}"
            yield f"{stat.filemode(status.st_mode)} {numbers} {shown}"
