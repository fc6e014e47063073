"""Running, entering, signalling and watching containers, with docker's command line."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import tarfile
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.clients.battery import Battery
from tests.clients.engine import PATIENCE, Engine, contains, needs_cgroups, same
from tests.clients.images import IMAGE

BATTERY: Battery[Engine] = Battery()
operation = BATTERY.operation
TRAPPING = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done"


@operation("run")
def run(engine: Engine) -> None:
    same(engine.run([], "echo", "hello").out, "hello\n")


@operation("standard input, output and error")
def streams(engine: Engine) -> None:
    answer = engine.run(["-i"], "sh", "-c", "cat; echo aside >&2", given="words\n")
    same((answer.out, answer.err), ("words\n", "aside\n"))


@operation("a megabyte of output")
def much_output(engine: Engine) -> None:
    same(len(engine.run([], "sh", "-c", "yes 0123456789abcde | head -n 65536").out), 1 << 20)


@operation("environment")
def environment(engine: Engine) -> str:
    out = engine.run(["-e", "A=b c", "-e", "EMPTY=", "--hostname", "box"], "env").out
    contains(out, "A=b c\n", "EMPTY=\n", "HOME=/root\n", "FROM_IMAGE=yes\n")
    return "\n".join(sorted(out.splitlines()))


@operation("working directory")
def working_directory(engine: Engine) -> None:
    same(engine.run(["-w", "/home/app"], "pwd").out, "/home/app\n")


@operation("user, by name and by numbers")
def user(engine: Engine) -> None:
    same(engine.shell(["-u", "app"], "id -u; id -g; echo $HOME"), "1000\n1000\n/home/app\n")
    out = engine.shell(["-u", "4242:4343", "--group-add", "99"], "id -u; id -g; id -G")
    same(out.split(), ["4242", "4343", "4343", "99"])


@operation("host name and hosts file")
def hostname(engine: Engine) -> None:
    flags = ["--hostname", "box", "--add-host", "other:192.0.2.7"]
    contains(engine.shell(flags, "hostname; cat /etc/hosts"), "box\n", "192.0.2.7")


@operation("exit codes")
def exit_codes(engine: Engine) -> None:
    engine.run([], "sh", "-c", "exit 7", status=7)
    engine.run(["--init"], "sh", "-c", "kill -KILL $$", status=137)
    engine.run([], "no-such-command", status=127)
    engine.run([], "/etc/passwd", status=126)
    engine.run(["--no-such-flag"], "true", status=125)


@operation("run -d, logs, wait")
def detached(engine: Engine) -> None:
    name = engine.start([], "sh", "-c", "echo out; echo aside >&2; exit 3")
    same(engine("wait", name).out, "3\n")
    logs = engine("logs", name)
    same((logs.out, logs.err), ("out\n", "aside\n"))
    same(engine.inspect(name, "{{.State.ExitCode}}"), "3")


@operation("logs -f follows to the end")
def following(engine: Engine) -> None:
    name = engine.start([], "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    same(engine("logs", "-f", name).out, "1\n2\n3\n")


@operation("create, start, start -a")
def create_and_start(engine: Engine) -> None:
    name = engine.create([], "sh", "-c", "echo once more; exit 4")
    same(engine("start", "-a", name, status=4).out, "once more\n")
    same(engine("start", "-a", name, status=4).out, "once more\n")


@operation("attach")
def attach(engine: Engine) -> None:
    name = engine.create(["-i"], "sh", "-c", "read line; echo got $line")
    same(engine("start", "-a", "-i", name, given="it\n").out, "got it\n")


@operation("exec")
def execute(engine: Engine) -> str:
    name = engine.start(["-e", "OF=container"], "sleep", "100")
    same(engine("exec", name, "sh", "-c", "echo $OF; hostname >/dev/null").out, "container\n")
    flags = ["-u", "app", "-w", "/tmp", "-e", "MORE=yes"]
    out = engine("exec", *flags, name, "sh", "-c", "id -u; pwd; echo $MORE").out
    same(out, "1000\n/tmp\nyes\n")
    same(engine("exec", "-i", name, "cat", given="through\n").out, "through\n")
    engine("exec", name, "sh", "-c", "exit 9", status=9)
    # Which of 126 and 127 it is depends on the client's version as well.
    commands = ("no-such-command", "/etc/passwd")
    statuses = [engine("exec", name, each, status=None).status for each in commands]
    same({*statuses} <= {126, 127}, True)
    return str(statuses)


@operation("exec -d")
def execute_detached(engine: Engine) -> None:
    name = engine.start([], "sleep", "100")
    engine("exec", "-d", name, "sh", "-c", "echo done > /tmp/done")
    look = ["exec", name, "cat", "/tmp/done"]
    engine.wait_until("it is done", lambda: engine(*look, status=None).out == "done\n")


@operation("exec --privileged")
def execute_privileged(engine: Engine) -> str:
    name = engine.start([], "sleep", "100")
    command = [name, "grep", "-E", "Cap(Eff|Bnd)", "/proc/self/status"]
    return engine("exec", *command).out + engine("exec", "--privileged", *command).out


@operation("ten execs at once")
def execute_at_once(engine: Engine) -> None:
    name = engine.start([], "sleep", "100")
    with ThreadPoolExecutor(10) as threads:
        outs = threads.map(lambda i: engine("exec", name, "echo", str(i)).out, range(10))
    same([*outs], [f"{i}\n" for i in range(10)])


@operation("stop")
def stop(engine: Engine) -> None:
    name = engine.start([], "sh", "-c", TRAPPING)
    engine.wait_for_output(name, "ready")
    engine("stop", "-t", "20", name)
    same(engine.inspect(name, "{{.State.ExitCode}}"), "5")
    contains(engine("logs", name).out, "caught")
    deaf = engine.start([], "sh", "-c", "trap '' TERM; echo ready; sleep 100")
    engine.wait_for_output(deaf, "ready")
    engine("stop", "-t", "1", deaf)
    same(engine.inspect(deaf, "{{.State.ExitCode}}"), "137")


@operation("kill")
def kill(engine: Engine) -> None:
    name = engine.start([], "sh", "-c", TRAPPING.replace("TERM", "USR1"))
    engine.wait_for_output(name, "ready")
    engine("kill", "-s", "USR1", name)
    same(engine("wait", name).out, "5\n")
    other = engine.start([], "sleep", "100")
    engine("kill", other)
    same(engine("wait", other).out, "137\n")
    engine("kill", other, status=None)


@operation("rm, rm -f")
def remove(engine: Engine) -> None:
    name = engine.start([], "sh", "-c", TRAPPING)
    same(engine("rm", name, status=None).status != 0, True)
    engine("rm", "-f", name)
    same(engine("inspect", name, status=None).status != 0, True)


@operation("restart, start again")
def restart(engine: Engine) -> None:
    name = engine.start([], "sh", "-c", "echo begun; exec sleep 100")
    engine("restart", "-t", "0", name)
    engine.wait_until("it begins twice", lambda: engine("logs", name).out.count("begun") == 2)
    engine("stop", "-t", "0", name)
    engine("start", name)
    same(engine.status(name), "running")


@operation("restart policy")
def restart_policy(engine: Engine) -> None:
    name = engine.start(["--restart", "on-failure:2"], "sh", "-c", "echo begun; exit 1")
    engine.wait_until("it begins 3 times", lambda: engine("logs", name).out.count("begun") == 3)
    engine.wait_until("it stays down", lambda: engine.status(name) == "exited")


@operation("tty, with its size")
def terminal(engine: Engine) -> None:
    # The size comes a moment after the terminal.
    script = "tty; until stty size | grep '31 97'; do sleep 0.1; done; read line; stty size; exit 6"
    controller, tty = pty.openpty()
    fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("4H", 31, 97, 0, 0))
    words = ["run", "--rm", "-it", *engine.create_flags, IMAGE, "sh", "-c", script]
    with engine.begin(*words, stdin=tty, stdout=tty, stderr=tty) as process:
        os.close(tty)
        seen = _read_until(controller, b"31 97")
        fcntl.ioctl(controller, termios.TIOCSWINSZ, struct.pack("4H", 44, 132, 0, 0))
        # As the kernel would if it were the client's controlling terminal.
        os.killpg(process.pid, signal.SIGWINCH)
        # The new size needs its way through the client and its helpers.
        time.sleep(0.5)
        os.write(controller, b"\n")
        seen += _read_until(controller, b"44 132")
        same(process.wait(PATIENCE), 6)
    os.close(controller)
    contains(seen.decode(), "/dev/pts/0")


@operation("exec -it")
def execute_interactively(engine: Engine) -> None:
    name = engine.start([], "sleep", "100")
    controller, tty = pty.openpty()
    fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("4H", 31, 97, 0, 0))
    script = "tty; until stty size | grep '31 97'; do sleep 0.1; done; read line; exit $line"
    words = ["exec", "-it", "-u", "app", name, "sh", "-c", script]
    with engine.begin(*words, stdin=tty, stdout=tty, stderr=tty) as process:
        os.close(tty)
        seen = _read_until(controller, b"31 97")
        os.write(controller, b"6\n")
        same(process.wait(PATIENCE), 6)
    os.close(controller)
    contains(seen.decode(), "/dev/pts/0")


@operation("exec -t")
def execute_with_terminal(engine: Engine) -> None:
    name = engine.start([], "sleep", "100")
    same(engine("exec", "-t", name, "tty").out, "/dev/pts/0\n")
    both = engine.start(["-t"], "sleep", "100")
    same(engine("exec", both, "sh", "-c", "test -t 0 || echo none").out, "none\n")


@operation("inspect: the state")
def state(engine: Engine) -> str:
    """Which fields there are, and those whose values are the same each time."""
    name = engine.create([], "sh", "-c", TRAPPING)
    seen = [_state(engine, name)]
    engine("start", name)
    running = json.loads(engine.inspect(name, "{{json .State}}"))
    engine.wait_for_output(name, "ready")
    same(Path(f"/proc/{running['Pid']}/comm").read_text(), "sh\n")
    same(running["StartedAt"] > running["FinishedAt"], True)
    seen.append(_state(engine, name))
    engine("kill", "-s", "TERM", name)
    same(engine("wait", name).out, "5\n")
    seen.append(_state(engine, name))
    ended = json.loads(engine.inspect(name, "{{json .State}}"))
    same((ended["Pid"], ended["FinishedAt"] > ended["StartedAt"]), (0, True))
    return "\n".join(seen)


def _state(engine: Engine, name: str) -> str:
    state = json.loads(engine.inspect(name, "{{json .State}}"))
    told = {key: state[key] for key in ("Status", "Running", "Paused", "ExitCode", "Error")}
    return f"{told} {sorted(state)}"


@operation("pause, unpause")
def pause(engine: Engine) -> None:
    needs_cgroups(engine)
    name = engine.start([], "sleep", "100")
    engine("pause", name)
    same(engine.status(name), "paused")
    same(engine("exec", name, "true", status=None).status != 0, True)
    engine("unpause", name)
    same(engine.status(name), "running")
    same(engine("exec", name, "echo", "awake").out, "awake\n")


@operation("top")
def top(engine: Engine) -> None:
    name = engine.start([], "sh", "-c", "sleep 100 & sleep 101")
    out = engine("top", name).out
    contains(out, "sleep 100", "sleep 101")


@operation("stats")
def stats(engine: Engine) -> None:
    needs_cgroups(engine)
    name = engine.start(["--memory", "64m"], "sh", "-c", "while :; do :; done")
    line = engine("stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}}", name).out
    contains(line, "%", "67.1" if "podman" in engine.title else "64MiB")


@operation("events")
def events(engine: Engine) -> None:
    since = str(int(time.time()))
    name = engine.start([], "sh", "-c", "exit 2")
    engine("wait", name)
    engine("rm", name)
    filters = ["--filter", f"container={name}", "--since", since, "--format", "{{json .}}"]
    wanted = {"create", "start", "died" if "podman" in engine.title else "die"}

    def told() -> bool:
        out = engine("events", *filters, "--until", str(int(time.time()) + 1)).out
        seen = [json.loads(line) for line in out.splitlines()]
        return wanted <= {each.get("Action", each.get("Status")) for each in seen}

    engine.wait_until(f"{wanted} are told", told)


@operation("healthcheck")
def healthcheck(engine: Engine) -> None:
    flags = ["--health-cmd", "test -e /tmp/well", "--health-interval", "1s"]
    name = engine.start([*flags, "--health-retries", "1"], "sleep", "100")
    if "podman" in engine.title:
        # Podman leaves the calls to systemd's timers.
        engine("healthcheck", "run", name, status=1)
        engine("exec", name, "touch", "/tmp/well")
        engine("healthcheck", "run", name)
        return
    state = "{{.State.Health.Status}}"
    engine.wait_until("it is ill", lambda: engine.inspect(name, state) == "unhealthy")
    engine("exec", name, "touch", "/tmp/well")
    engine.wait_until("it is well", lambda: engine.inspect(name, state) == "healthy")


@operation("cp, diff, export, commit")
def files(engine: Engine) -> None:
    name = engine.start([], "sh", "-c", "echo inside > /tmp/made; echo ready; sleep 100")
    engine.wait_for_output(name, "ready")
    contains(engine("diff", name).out, "A /tmp/made")
    with engine.begin("cp", f"{name}:/tmp/made", "-") as process:
        contains(process.communicate(timeout=PATIENCE)[0].decode(), "inside")
    archive = engine.scratch() / "exported.tar"
    engine("export", "-o", str(archive), name)
    with tarfile.open(archive) as tar:
        same(tar.getmember("tmp/made").size, len("inside\n"))
    engine("commit", name, "localhost/committed")
    try:
        words = ["run", "--rm", *engine.create_flags, "localhost/committed", "cat", "/tmp/made"]
        same(engine(*words).out, "inside\n")
    finally:
        engine("rmi", "localhost/committed")


@operation("build with RUN")
def build(engine: Engine) -> None:
    text = f"FROM {IMAGE}\nRUN echo built > /built && id -u\nUSER app\nRUN id -u > /tmp/who\n"
    # buildah takes it for the group itself.
    flags = [f"{each}/build" if "/" in each else each for each in engine.create_flags]
    engine("build", "-q", *flags, "-t", "localhost/built", "-", given=text)
    try:
        words = ["run", "--rm", *engine.create_flags, "localhost/built"]
        same(engine(*words, "cat", "/built", "/tmp/who").out, "built\n1000\n")
    finally:
        engine("rmi", "localhost/built")


@operation("50 containers in a row leave nothing")
def fifty_in_a_row(engine: Engine) -> None:
    for number in range(50):
        same(engine.run([], "echo", str(number)).out, f"{number}\n")


@operation("10 containers at once leave nothing")
def ten_at_once(engine: Engine) -> None:
    with ThreadPoolExecutor(10) as threads:
        outs = threads.map(lambda i: engine.run([], "echo", str(i)).out, range(10))
    same([*outs], [f"{i}\n" for i in range(10)])


def _read_until(controller: int, text: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + PATIENCE
    while text not in seen:
        try:
            if not select.select([controller], [], [], deadline - time.monotonic())[0]:
                raise OSError
            seen += os.read(controller, 4096)
        except OSError:
            raise AssertionError(f"no {text!r} in {seen!r}") from None
    return seen
