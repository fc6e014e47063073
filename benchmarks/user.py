"""The cells of an ordinary user, measured by a program that runs as him (rootless.py)."""

from __future__ import annotations

import functools
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import _cffi_backend

import libpycontainer as lc
from benchmarks import rootless
from benchmarks.measuring import Cell, Measure, Row, UnavailableError
from benchmarks.peers import find
from benchmarks.world import World
from libpycontainer.spec import default

GROUP = "rootless"
RUNC = "runc run, rootless"


class User:
    """Starts the user's program when it is first needed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.home = world.states / "home"

    @functools.cached_property
    def _server(self) -> subprocess.Popen[str]:
        if os.geteuid() != 0:
            raise UnavailableError("only root can become another user")
        package = self._copy_package()
        interpreter = self._find_interpreter(package)
        # What he starts must not compile anything: nobody would keep it for him.
        compile_all = ["-m", "compileall", "-q", str(package)]
        subprocess.run([interpreter, *compile_all], check=True, stdout=subprocess.DEVNULL)
        self.home.mkdir()
        os.chown(self.home, rootless.UID, rootless.UID)
        argv = [interpreter, "-P", str(package / "rootless.py")]
        server = subprocess.Popen(
            [*self._become(), *argv, str(package), str(self.world.rootfs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=self._environment(),
            # An interrupt is for us, who then end him.
            start_new_session=True,
        )
        self.world.closing.callback(self._end, server)
        return server

    def _end(self, server: subprocess.Popen[str]) -> None:
        server.communicate()

    def _become(self) -> list[str]:
        ids = [f"--reuid={rootless.UID}", f"--regid={rootless.UID}", "--clear-groups"]
        return [find("setpriv"), *ids]

    def _environment(self) -> dict[str, str]:
        home = str(self.home)
        return {"PATH": os.environ["PATH"], "HOME": home, "XDG_RUNTIME_DIR": home}

    def _copy_package(self) -> Path:
        target = self.world.directory / "package"
        shutil.copytree(
            Path(lc.__file__).parent,
            target / "libpycontainer",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        shutil.copy2(_cffi_backend.__file__, target)
        shutil.copy2(rootless.__file__, target)
        for path in [target, *target.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        return target

    def _find_interpreter(self, package: Path) -> str:
        trial = f"import sys; sys.path.insert(0, {str(package)!r}); import libpycontainer._shim"
        for path in (sys.executable, shutil.which("python3"), "/usr/bin/python3"):
            if path and os.access(path, os.X_OK):
                argv = [*self._become(), path, "-c", trial]
                if subprocess.run(argv, cwd="/", capture_output=True).returncode == 0:
                    return path
        raise UnavailableError(f"uid {rootless.UID} may execute no Python of this version")

    def ask(self, order: dict[str, object]) -> float:
        """Milliseconds. What the user's program cannot do is a :class:`RuntimeError`."""
        server = self._server
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline().strip()
        if not answer.isdigit():
            raise RuntimeError(answer or "the user's program ended")
        return int(answer) / 1e6


def cells(world: World) -> list[Cell]:
    user = User(world)

    def library(kind: str) -> Measure:
        if kind == "warm" and "warm" not in inspect.signature(lc.Factory).parameters:
            raise UnavailableError("this libpycontainer has no Factory(warm=True)")
        return lambda: [user.ask({"factory": kind})]

    def command(argv: list[str]) -> Measure:
        try:
            user.ask({"argv": argv})
        except RuntimeError as error:
            raise UnavailableError(str(error)) from None
        return lambda: [user.ask({"argv": argv})]

    def runc() -> Measure:
        config = default.config(rootless=True, uid=rootless.UID, gid=rootless.UID)
        config["root"]["path"] = str(world.rootfs)
        config["process"].update(args=["true"], terminal=False)
        bundle = world.bundle("rootless", config)
        state = str(user.home / "runc")
        argv = [find("runc"), "--root", state, "run", "--bundle", str(bundle), "rootless"]
        return command(argv)

    def bubblewrap() -> Measure:
        root = str(world.rootfs)
        mounts = ["--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
        return command([find("bwrap"), "--unshare-all", *mounts, "/bin/true"])

    return [
        Cell([Row("lc.run, warm, rootless", GROUP, RUNC)], lambda: library("warm")),
        Cell([Row("lc.run, rootless", GROUP, RUNC)], lambda: library("plain")),
        Cell([Row(RUNC, GROUP)], runc),
        Cell([Row("bwrap --unshare-all, rootless", GROUP, RUNC)], bubblewrap),
    ]
