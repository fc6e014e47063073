"""An engine with docker's command line: podman as root, podman as a user, docker."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import remains
from tests.clients.battery import SkippedError
from tests.clients.images import IMAGE

PATIENCE = float(os.environ.get("LPC_TEST_SLOWNESS", "1")) * 30


@dataclass(frozen=True)
class Runtime:
    """One of the two that are compared."""

    name: str
    """What clients call it."""
    path: Path
    version: str


@dataclass(frozen=True)
class Answer:
    out: str
    err: str
    status: int

    @property
    def message(self) -> str:
        """What the client's user reads when something went wrong."""
        return " ".join((self.err or self.out).split())


class Engine(ABC):
    """Calls one client; each call fails unless the client's exit status is the expected one."""

    title = "an engine"
    removal: Sequence[str] = ("rm", "--force", "--volumes")
    create_flags: Sequence[str] = ()
    state_roots: Sequence[Path] = ()
    group_parents: Sequence[str] = (remains.PARENT,)
    without_cgroups = ""
    """Why its containers have no cgroup of their own; empty when they have."""

    def __init__(
        self,
        runtime: Runtime,
        directory: Path,
        command: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.runtime = runtime
        self.directory = directory
        self.command = [*command]
        self.environment = {**environment}
        self._numbers = itertools.count(1)

    def __call__(
        self,
        *words: str,
        status: int | None = 0,
        given: str = "",
        patience: float = PATIENCE,
    ) -> Answer:
        """Call the client. ``status=None`` takes any exit status."""
        with self.begin(*words) as process:
            try:
                out, err = process.communicate(given.encode(), timeout=patience)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"{words[0]} hangs: {' '.join(words)}") from None
        answer = Answer(_text(out), _text(err), process.returncode)
        if status is not None and answer.status != status:
            raise AssertionError(
                f"{' '.join(words[:3])} …: exit {answer.status}, not {status}: {answer.message}"
            )
        return answer

    def begin(self, *words: str, **streams: Any) -> subprocess.Popen[bytes]:
        """Call the client without waiting for it."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            [*self.command, *words],
            env=self.environment,
            cwd="/",
            start_new_session=True,
            **{**pipes, **streams},
        )

    def run(
        self, flags: Sequence[str], *command: str, status: int | None = 0, given: str = ""
    ) -> Answer:
        """One container, to its end; it is removed."""
        words = ["run", "--rm", *self.create_flags, *flags, IMAGE, *command]
        return self(*words, status=status, given=given)

    def shell(self, flags: Sequence[str], script: str, *, status: int | None = 0) -> str:
        """What a script in a container prints."""
        return self.run(flags, "sh", "-c", script, status=status).out

    def start(self, flags: Sequence[str], *command: str) -> str:
        """A container in the background; its name."""
        name = f"c{next(self._numbers)}"
        self("run", "-d", "--name", name, *self.create_flags, *flags, IMAGE, *command)
        return name

    def create(self, flags: Sequence[str], *command: str) -> str:
        name = f"c{next(self._numbers)}"
        self("create", "--name", name, *self.create_flags, *flags, IMAGE, *command)
        return name

    def inspect(self, name: str, what: str) -> str:
        """One value of a container's description, by a template."""
        return self("inspect", "--type", "container", "--format", what, name).out.strip()

    def configuration(self, name: str) -> Any:
        """The config.json that the runtime was given for a container."""
        return json.loads(self.bundle(name).joinpath("config.json").read_text())

    @abstractmethod
    def bundle(self, name: str) -> Path:
        """Where the client keeps the bundle of a running container."""

    def scratch(self) -> Path:
        """A new directory that everybody may write to. It goes when the whole world has gone."""
        path = Path(tempfile.mkdtemp(prefix="s-", dir=self.directory))
        path.chmod(0o777)
        return path

    def status(self, name: str) -> str:
        return self.inspect(name, "{{.State.Status}}")

    def limit(self, name: str, controller: str, file: str) -> str:
        """A limit, read from the host's file of the container's cgroup."""
        pid = self.inspect(name, "{{.State.Pid}}")
        for line in Path("/proc", pid, "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return Path(f"/sys/fs/cgroup/{controller}{path}/{file}").read_text().strip()
        # Version 2 has one hierarchy for all of them.
        path = Path("/proc", pid, "cgroup").read_text().rpartition("::")[2].strip()
        return Path(f"/sys/fs/cgroup{path}/{file}").read_text().strip()

    def wait_until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain until {what}")
            time.sleep(0.05)

    def wait_for_output(self, name: str, text: str) -> None:
        try:
            self.wait_until(f"{name} prints {text!r}", lambda: text in self("logs", name).out)
        except AssertionError as error:
            logs = self("logs", name)
            raise AssertionError(f"{error}: {logs.out[-300:]!r}, {logs.err[-300:]!r}") from None

    def lines(self, *words: str) -> list[str]:
        return self(*words).out.split()

    def clear(self) -> None:
        if names := self.lines("ps", "--all", "--quiet", "--no-trunc"):
            # One that is paused may not be removed by every version.
            for name in self.lines("ps", "--quiet", "--no-trunc", "--filter", "status=paused"):
                self("unpause", name, status=None)
            self(*self.removal, *names, status=None)
        self("network", "prune", "--force", status=None)
        self("volume", "prune", "--force", status=None)

    def remains(self) -> remains.Remains:
        return remains.take(self.state_roots, self.group_parents)

    def json(self, *words: str) -> Any:
        return json.loads(self(*words).out)


def same(got: object, expected: object) -> None:
    """Fail unless they are equal, saying both."""
    if got != expected:
        raise AssertionError(f"{got!r}, not {expected!r}")


def needs_cgroups(engine: Engine) -> None:
    """Skip an operation that asks for limits, or for the freezer."""
    if engine.without_cgroups:
        raise SkippedError(engine.without_cgroups)


def contains(text: str, *parts: str) -> None:
    for part in parts:
        if part not in text:
            raise AssertionError(f"no {part!r} in {text.strip()[-300:]!r}")


def _text(content: bytes) -> str:
    return content.decode(errors="replace").replace("\r\n", "\n")
