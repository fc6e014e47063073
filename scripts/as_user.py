"""Run pytest as an ordinary user who has subordinate ids and cgroups of his own.

Usage: as_user.py [pytest's words]. As root, with newuidmap, setpriv and unshare.

The user exists for this run only: his name and his ids stand in files that lie over /etc/passwd,
/etc/subuid and /etc/subgid in a mount namespace, and what this Python and the project need is
shown to him where it is, also below directories that only root may enter. The tests know the way by
LPC_TEST_AS (tests/ways.py). Who has no subordinate ids is looked at by test_rootless.py.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
UID, NAME = 64_000, "lpc-test"
FIRST, SIZE = 700_000, 65_536
INSIDE = "LPC_TEST_USERS_CGROUP"
SESSION = "session"
GRANTED = f"{NAME}:{FIRST}:{SIZE}\n"
PASSWD = f"{NAME}:x:{UID}:{UID}::/:/bin/sh\n"
GROUP = f"{NAME}:x:{UID}:\n"
DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks")


def main() -> int:
    needed = [name for name in ("newuidmap", "setpriv", "unshare") if shutil.which(name) is None]
    if os.geteuid() != 0 or needed:
        print(f"as_user: needs {'root' if os.geteuid() else ', '.join(needed)}", file=sys.stderr)
        return 1
    parent = os.environ.pop(INSIDE, "")
    if parent:
        with tempfile.TemporaryDirectory(prefix="lpc-user-", ignore_cleanup_errors=True) as name:
            return run(sys.argv[1:], Path(name), parent)
    parent = f"/lpc-test-{secrets.token_hex(3)}-user"
    try:
        delegate(parent)
        command = ["unshare", "--mount", sys.executable, __file__, *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, INSIDE: parent}).returncode
    finally:
        for group in groups(parent):
            remove(group)


def run(words: Sequence[str], directory: Path, parent: str) -> int:
    """Run the tests; everything that is mounted for them goes with this mount namespace."""
    directory.chmod(0o755)
    introduce(directory)
    show([sys.prefix, sys.base_prefix, str(PROJECT)], directory)
    for group in groups(parent):
        (group / SESSION / "cgroup.procs").write_text(str(os.getpid()))
    home = directory / "home"
    home.mkdir(mode=0o700)
    os.chown(home, UID, UID)
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "LPC_TEST_AS": "user",
        "LPC_TEST_CGROUP": parent,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    who = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run([*who, *tests], cwd=PROJECT, env=environment).returncode


def introduce(directory: Path) -> None:
    """Give the user his name and his subordinate ids."""
    for name, text, keep in (
        ("passwd", PASSWD, True),
        ("group", GROUP, True),
        ("subuid", GRANTED, False),
        ("subgid", GRANTED, False),
    ):
        original = Path("/etc", name)
        original.touch()
        (directory / name).write_text((original.read_text() if keep else "") + text)
        mount("--bind", directory / name, original)


def show(paths: Sequence[str], directory: Path) -> None:
    """Let everybody come to these directories, and to nothing else beside them."""
    number = 0
    # One that is shown may lie below another closed one: tox closes .tox.
    while hidden := obstacles(paths):
        for obstacle, wanted in hidden.items():
            view = directory / f"view-{number}"
            view.mkdir()
            mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", view)
            for path in wanted:
                target = view / path.relative_to(obstacle)
                target.mkdir(parents=True, exist_ok=True)
                mount("--rbind", path, target)
                # Below a directory that is removed with all that is in it, should a step here fail.
                mount("-o", "remount,bind,ro", target)
            mount("--move", view, obstacle)
            number += 1


def obstacles(paths: Sequence[str]) -> dict[Path, list[Path]]:
    """The outermost directories that not everybody may enter, and which paths lie below."""
    hidden: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(map(Path, paths)):
        obstacle = next((each for each in ancestors(path) if not open_to_all(each)), None)
        if obstacle is not None:
            hidden.setdefault(obstacle, []).append(path)
    return hidden


def ancestors(path: Path) -> Iterator[Path]:
    return reversed(path.parents)


def open_to_all(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXOTH)


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def groups(parent: str) -> list[Path]:
    """The group ``parent`` in every hierarchy."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.partition(" - ")[2].startswith(("cgroup ", "cgroup2 ")):
            found.append(Path(line.split()[4] + parent))
    return found


def delegate(parent: str) -> None:
    """Make a group in every hierarchy, and one below it for the tests; give both to the user.

    On v2 whoever moves a process needs a say over everything that lies in between, so the tests
    must sit there themselves (man 7 cgroups, "Cgroups v2 delegation").
    """
    for group in groups(parent):
        group.mkdir()
        # A v1 cpuset is empty until its lists are written; from here on they are copied.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and (group / "tasks").exists():
                (group / name).write_text((group.parent / name).read_text())
                (group / "cgroup.clone_children").write_text("1")
        (group / SESSION).mkdir()
        for each in (group, group / SESSION):
            for path in (each, *(each / name for name in DELEGATED)):
                if path.exists():
                    os.chown(path, UID, UID)


def remove(group: Path) -> None:
    """With whatever the tests have left in it."""
    for path, _, _ in os.walk(group, topdown=False):
        for _ in range(50):
            try:
                os.rmdir(path)
                break
            except OSError:
                # The kernel takes a moment to let go of one whose last process has just ended.
                time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
