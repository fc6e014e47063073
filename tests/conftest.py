"""What every room of the tests shares: a root filesystem, bundles, the command, the leak check.

Whatever a test puts on disk lies under one short directory that every user may enter: a container
in a user namespace must reach its root filesystem, and the path of a socket has 107 bytes.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from tests import leaks, ways

TESTS = Path(__file__).parent
ROOMS = {name: TESTS / name for name in ("privileged", "security", "conformance")}
RUN_PREFIX = f"lpc-test-{secrets.token_hex(3)}"
DIRECTORIES = ("dev", "etc", "home/app", "proc", "root", "run", "sys", "tmp", "var")
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1000:\nstaff:x:50:app\n"
CALL_FAILED = pytest.StashKey[bool]()
SLOWNESS = float(os.environ.get("LPC_TEST_SLOWNESS", "1"))
"""How many times longer to wait before something counts as hanging: an emulated machine is slow."""


def pytest_configure(config: pytest.Config) -> None:
    ways.register(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the room they lie in, and leave out what cannot be done as who we are."""
    for item in items:
        for marker, room in ROOMS.items():
            if item.path.is_relative_to(room):
                item.add_marker(marker)
        if _touches_the_host(item) and (reason := ways.obstacle(item)):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[CALL_FAILED] = report.failed
    return report


def _touches_the_host(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(marker) for marker in ROOMS)


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    """An empty directory for this run, open to every user's eyes, gone when the run ends."""
    path = Path(tempfile.mkdtemp(prefix=f"{RUN_PREFIX}-"))
    path.chmod(0o755)
    yield path
    leaks.remove_tree(path)


@pytest.fixture
def state_root(workspace: Path) -> Iterator[str]:
    """A state root of the test's own, for ``--root`` and ``Factory(root=...)``."""
    path = tempfile.mkdtemp(prefix="state-", dir=workspace)
    yield path
    leaks.remove_tree(path)


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test of the real kernel that leaves anything behind.

    It is set up before a test's other fixtures and torn down after them, so what they clean up
    counts as cleaned up.
    """
    if not _touches_the_host(request.node):
        yield
        return
    scope = leaks.Scope(RUN_PREFIX, request.getfixturevalue("state_root"))
    before = leaks.Snapshot.take(scope)
    yield
    left = leaks.settle(before, scope)
    leaks.clear(left, scope)
    if request.node.stash.get(CALL_FAILED, False):
        # The traceback of the failure keeps the test's own files open.
        left = [leak for leak in left if leak.kind.look is not leaks.descriptors]
    if left:
        listing = "\n".join(f"  {leak}" for leak in left)
        pytest.fail(f"the test left behind:\n{listing}", pytrace=False)


@pytest.fixture(scope="session")
def busybox_rootfs(workspace: Path) -> Path:
    """A root filesystem of static busybox: every applet, root and the user ``app`` (uid 1000).

    Shared by the whole run: a test that writes to its root filesystem takes a copy.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    rootfs = workspace / "rootfs"
    for name in DIRECTORIES:
        (rootfs / name).mkdir(parents=True)
    (rootfs / "tmp").chmod(0o1777)
    (rootfs / "etc/passwd").write_text(PASSWD, encoding="ascii")
    (rootfs / "etc/group").write_text(GROUP, encoding="ascii")
    _install_busybox(busybox, rootfs)
    _own_rootfs(rootfs)
    return rootfs


def _install_busybox(busybox: str, rootfs: Path) -> None:
    listing = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True)
    program = rootfs / "bin/busybox"
    program.parent.mkdir()
    shutil.copy2(busybox, program)
    for applet in listing.stdout.split():
        link = rootfs / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if link != program:
            link.symlink_to("/bin/busybox")


class Bundle:
    """A bundle directory. Change ``config`` as you like, then :meth:`save` it."""

    def __init__(self, path: Path, rootfs: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.rootfs = rootfs
        self.config = config
        self.save()

    def save(self) -> None:
        """Write ``config`` to config.json."""
        text = json.dumps(self.config, indent=2)
        (self.path / "config.json").write_text(text, encoding="utf-8")

    @property
    def process(self) -> dict[str, Any]:
        """The configuration's ``process``."""
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        """The configuration's ``linux``."""
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)


class BundleMaker:
    """Makes bundles: the default configuration without a terminal, in a cgroup of its own."""

    def __init__(self, directory: Path, rootfs: Path, default: dict[str, Any]) -> None:
        self._directory = directory
        self._rootfs = rootfs
        self._default = default

    def __call__(
        self,
        args: Sequence[str] = ("true",),
        *,
        private_rootfs: bool = False,
        edit: Callable[[dict[str, Any]], object] | None = None,
    ) -> Bundle:
        """A fresh bundle that runs ``args``; ``edit`` may change the configuration first.

        The root filesystem is the run's shared one, or a copy inside the bundle that may be
        written to; the default configuration mounts either read-only.
        """
        path = Path(tempfile.mkdtemp(prefix="bundle-", dir=self._directory))
        path.chmod(0o755)
        config = copy.deepcopy(self._default)
        config["process"].update(args=list(args), terminal=False)
        name = path.name.removeprefix("bundle-")
        config["linux"]["cgroupsPath"] = ways.cgroup(f"{RUN_PREFIX}-{name}")
        rootfs = self._rootfs
        if private_rootfs:
            rootfs = path / "rootfs"
            _copy_rootfs(self._rootfs, rootfs)
        config["root"]["path"] = "rootfs" if private_rootfs else str(rootfs)
        if edit is not None:
            edit(config)
        return Bundle(path, rootfs, config)


def _copy_rootfs(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
    _own_rootfs(target)


def _own_rootfs(rootfs: Path) -> None:
    ways.own_tree(rootfs)
    ways.own(rootfs / "home/app", 1000)


@pytest.fixture(scope="session")
def default_config() -> dict[str, Any]:
    """What ``Spec.like_runc()`` says, as the JSON document, with this run's user namespace."""
    from libpycontainer.spec.models import Spec

    config = Spec.like_runc().to_dict()
    ways.adapt(config)
    return config


@pytest.fixture
def bundle(
    workspace: Path, busybox_rootfs: Path, default_config: dict[str, Any]
) -> Iterator[BundleMaker]:
    """``bundle(["id"])`` makes a bundle that runs ``id``; see :class:`BundleMaker`."""
    directory = Path(tempfile.mkdtemp(prefix="b-", dir=workspace))
    directory.chmod(0o755)
    yield BundleMaker(directory, busybox_rootfs, default_config)
    leaks.remove_tree(directory)


class Pyrunc:
    """Runs the command as anybody would: a process of its own, with a private ``--root``."""

    def __init__(self, root: str) -> None:
        self.root = root

    def argv(self, *args: str | os.PathLike[str]) -> list[str]:
        """The whole command line, for a test that starts the process itself."""
        command = [sys.executable, "-m", "libpycontainer", "--root", self.root]
        return command + [os.fspath(arg) for arg in args]

    def __call__(
        self,
        *args: str | os.PathLike[str],
        input: str | None = None,
        timeout: float = 30,
        check: bool = False,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; with ``check``, a failure is an ``AssertionError`` with its words.

        Output goes through files: with a pipe the call would last until the last process of a
        container that was left running has closed its end. Standard input is empty by default.
        """
        new = tempfile.TemporaryFile
        with new() as stdin, new() as stdout, new() as stderr:
            stdin.write((input or "").encode())
            stdin.seek(0)
            done = subprocess.run(
                self.argv(*args),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                timeout=timeout * SLOWNESS,
                cwd=cwd,
                env=env,
                pass_fds=pass_fds,
            )
            code, out, err = done.returncode, _text(stdout), _text(stderr)
        if check and code != 0:
            raise AssertionError(f"{done.args}: exit code {code}\n{err}")
        return subprocess.CompletedProcess(done.args, code, out, err)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


@pytest.fixture
def pyrunc(state_root: str) -> Pyrunc:
    """``pyrunc("run", "--bundle", bundle, "name")``; see :class:`Pyrunc`."""
    return Pyrunc(state_root)
