"""lc.call and Container.call: a function of ours, in a container, and what comes back."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged import callables
from tests.privileged.support import (
    FOREVER,
    REPOSITORY,
    TIMEOUT,
    add_user_namespace,
    children,
    create,
    open_descriptors,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


@pytest.fixture
def running(factory: lc.Factory, bundle: BundleMaker) -> Any:
    """A container without a Python in it, that runs."""
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        yield container


# ---- values ----------------------------------------------------------------------------------


def test_a_value_comes_back() -> None:
    assert lc.call(callables.add, 2) == 3
    assert lc.call(callables.add, "a", kwargs={"right": "b"}) == "ab"
    value = {"list": [1, 2.5, None, True], "bytes": b"\0", ("t", 1): {1, 2}, "text": "\udcff"}
    assert lc.call(callables.echo, value) == value


def test_what_is_no_plain_data_is_a_type_error_that_says_where() -> None:
    with pytest.raises(TypeError, match=r"result\['point'\]\[0\] is of type .*callables\.Point"):
        lc.call(callables.echo, {"point": [callables.Point(1)]})


def test_trust_brings_anything_that_pickle_can_carry() -> None:
    point = lc.call(callables.echo, callables.Point(7), trust=True)
    assert type(point) is callables.Point
    assert point.x == 7
    with pytest.raises(callables.OwnError, match="mine"):
        lc.call(callables.raise_own, trust=True)


def test_a_large_value_crosses_up_to_the_limit() -> None:
    data = os.urandom(1 << 20) * 8
    assert lc.call(callables.echo, data) == data
    with pytest.raises(ValueError, match="result takes more than 1048576 bytes"):
        lc.call(callables.echo, data, max_result="1M")
    with pytest.raises(lc.ResultError, match="takes more than 1048576 bytes of memory"):
        lc.call(callables.echo, [0.5] * 60_000, max_result="1M")


def test_functions_of_the_standard_library_and_partials() -> None:
    import functools

    assert lc.call(os.getpid) == 1
    assert lc.call(functools.partial(callables.add, 1), 2) == 3
    assert lc.call("-".join, ["a", "b"]) == "a-b"


# ---- exceptions ------------------------------------------------------------------------------


def test_a_builtin_exception_is_raised_as_itself_with_its_traceback() -> None:
    with pytest.raises(ValueError, match="two") as caught:
        lc.call(callables.raise_value_error)
    assert caught.value.args == ("two", 2)
    cause = caught.value.__cause__
    assert isinstance(cause, lc.RemoteTraceback)
    assert 'raise ValueError("two", 2)' in str(cause)
    assert "in raise_value_error" in str(cause)
    assert "calling/inside.py" not in str(cause)


def test_an_os_error_keeps_its_number_and_file() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        lc.call(callables.open_missing)
    assert (caught.value.errno, caught.value.filename) == (2, "/no/such/file")


def test_a_chain_is_told_whole() -> None:
    with pytest.raises(RuntimeError, match="second") as caught:
        lc.call(callables.raise_chain)
    text = str(caught.value.__cause__)
    assert text.index("KeyError: 'first'") < text.index("direct cause") < text.index("second")


def test_other_exceptions_are_told_of() -> None:
    with pytest.raises(lc.CallError) as caught:
        lc.call(callables.raise_own)
    error = caught.value
    assert error.type_name == "tests.privileged.callables.OwnError"
    assert error.words == r"mine \x1b[2J"
    assert "\x1b" not in str(error) + str(error.__cause__)


@pytest.mark.parametrize(
    "name", ["KeyboardInterrupt", "SystemExit", "StopIteration", "SyntaxError"]
)
def test_what_would_end_a_program_or_a_loop_is_only_told_of(name: str) -> None:
    with pytest.raises(lc.CallError) as caught:
        lc.call(callables.raise_named, name, 3)
    assert caught.value.type_name == name


def test_unicode_errors_are_made_anew() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        lc.call(callables.raise_named, "UnicodeDecodeError", "utf-8", b"\xff", 0, 1, "no")
    assert caught.value.object == b"\xff"
    with pytest.raises(lc.CallError) as told:
        lc.call(callables.raise_named, "UnicodeDecodeError", "utf-8", b"\xff", 7, 2**40, "no")
    assert told.value.type_name == "UnicodeDecodeError"


# ---- ends ------------------------------------------------------------------------------------


def test_an_exit_is_told_with_its_code() -> None:
    with pytest.raises(lc.CallDiedError, match="exited with code 7") as caught:
        lc.call(callables.exit_with, 7)
    assert (caught.value.returncode, caught.value.out_of_memory) == (7, False)


def test_a_signal_is_told_by_its_name(running: lc.Container) -> None:
    with pytest.raises(lc.CallDiedError, match="killed by SIGSEGV"):
        lc.call(callables.kill_self, int(signal.SIGTERM))
    with pytest.raises(lc.CallDiedError, match="killed by SIGTERM") as caught:
        running.call(callables.kill_self, int(signal.SIGTERM))
    assert caught.value.returncode == -signal.SIGTERM


def test_too_little_memory_is_told_of() -> None:
    assert lc.call(callables.eat_memory, 1 << 20, memory="64M") == 1 << 20
    with pytest.raises(lc.CallDiedError, match="out of memory") as caught:
        lc.call(callables.eat_memory, 1 << 28, memory="64M")
    assert caught.value.out_of_memory
    assert caught.value.returncode == -signal.SIGKILL


def test_the_time_is_up_and_the_output_is_kept() -> None:
    began = time.monotonic()
    with pytest.raises(lc.TimeoutExpired, match=r"callables\.speak_and_sleep timed out") as caught:
        lc.call(callables.speak_and_sleep, 1000, timeout="500ms", capture_output=True)
    assert time.monotonic() - began < TIMEOUT
    assert (caught.value.timeout, caught.value.output) == (0.5, b"early\n")


def test_limits_are_enforced() -> None:
    assert lc.call(callables.hold_threads, 2, pids=3) == 2
    with pytest.raises(RuntimeError, match="can't start new thread"):
        lc.call(callables.hold_threads, 3, pids=3)


def used(descriptors: dict[int, str]) -> set[int]:
    """Without those whose place an empty file has taken: a sanitizer's interpreter has some."""
    return {fd for fd, link in descriptors.items() if not link.startswith("/memfd:closed")}


# ---- what is around it -----------------------------------------------------------------------


def test_nothing_of_the_host_is_left_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "token")
    found = lc.call(callables.surroundings, env={"A": "1"}, cwd="/usr", stdout=lc.DEVNULL)
    assert found["pid"] == 1
    assert found["threads"] == 1
    assert found["cwd"] == "/usr"
    assert found["umask"] == 0o22
    assert found["argv"] == [""]
    assert found["signals"] == [True, True]
    assert {"A": "1"}.items() <= found["environ"].items()
    assert set(found["environ"]) <= {"A", "HOME"}
    assert used(found["descriptors"]) == {0, 1, 2, 3}
    assert found["descriptors"][3].startswith("socket:")
    for name, link in found["namespaces"].items():
        assert link != os.readlink(f"/proc/self/ns/{name}")


def test_it_has_no_privileges_and_cannot_be_traced() -> None:
    fields = lc.call(callables.status)
    assert {int(fields[name], 16) for name in fields if name.startswith("Cap")} == {0}
    assert fields["NoNewPrivs"] == "1"
    named = lc.call(callables.status, capabilities=["CAP_CHOWN"])
    assert (int(named["CapEff"], 16), int(named["CapPrm"], 16)) == (1, 1)


@pytest.mark.privileged_caller("lc.call maps an ordinary user to root only")
def test_another_user_has_what_execve_would_leave_him() -> None:
    fields = lc.call(callables.status, user="1234:5678", capabilities=["CAP_CHOWN"])
    assert fields["Uid"].split() == ["1234"] * 4
    assert fields["Gid"].split() == ["5678"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0


def test_threads_children_and_pipes_work_inside() -> None:
    assert lc.call(callables.run_threads, 8) == 8 * 200
    assert lc.call(callables.native_id) == (1, 1)
    assert lc.call(callables.start_program) == "on\n"
    assert lc.call(callables.fork_and_wait) == 5
    assert lc.call(callables.write_broken_pipe) == "told"
    assert lc.call(callables.leave_file) != []


def test_a_library_that_would_start_threads_when_imported() -> None:
    if importlib.util.find_spec("numpy") is None:
        pytest.skip("needs numpy")
    assert lc.call(callables.multiply_matrices, 50, imports=["numpy"]) == 50.0
    with lc.Pool(1, imports=["numpy"]) as pool:
        assert pool.submit(callables.multiply_matrices, 50).result(TIMEOUT) == 50.0


def test_it_has_no_network_unless_asked() -> None:
    assert lc.call(callables.connect, "127.0.0.1", 9) == "ConnectionRefusedError"
    assert lc.call(callables.connect, "192.0.2.1", 9) == "OSError"


def test_a_root_without_python_or_anything_else(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    found = lc.call(callables.surroundings, rootfs=root)
    assert set(found["root"]) <= {"dev", "proc", "sys", "tmp"}
    with pytest.raises(ModuleNotFoundError, match=r"no 'this' in a call.*imports=\["):
        lc.call(callables.import_late, "this", rootfs=root)
    assert lc.call(callables.import_late, "colorsys", rootfs=root, imports=["colorsys"])
    # With the host's own files, imports find what the host has.
    assert lc.call(callables.import_late, "colorsys") == "colorsys"


def test_output_goes_where_it_is_wanted(tmp_path: Path) -> None:
    out, err = io.BytesIO(), io.StringIO()
    lc.call(callables.speak, "out\n", "err\n", stdout=out, stderr=err)
    assert (out.getvalue(), err.getvalue()) == (b"out\n", "err\n")
    with open(tmp_path / "file", "wb") as file:
        lc.call(callables.speak, "x", stdout=file, stderr=lc.DEVNULL)
    assert (tmp_path / "file").read_bytes() == b"x"
    with pytest.raises(lc.CallError) as caught:
        lc.call(callables.system_exit, 3, capture_output=True)
    assert (caught.value.stdout, caught.value.stderr) == (b"", b"")
    with pytest.raises(ValueError, match="capture_output"):
        lc.call(callables.speak, "x", stdout=lc.PIPE, capture_output=True)
    with pytest.raises(TypeError, match=r"'input': expected .*rootfs"):
        lc.call(callables.read_input, input=b"x")
    with pytest.raises(ValueError, match="stdin"):
        lc.call(callables.read_input, stdin=lc.PIPE)
    assert lc.call(callables.read_input) == ""
    reader, writer = os.pipe()
    os.write(writer, b"given")
    os.close(writer)
    with open(reader, "rb") as stream:
        assert lc.call(callables.read_input, stdin=stream) == "given"


def test_too_much_output_ends_it() -> None:
    with pytest.raises(lc.ResultError, match="max_output") as caught:
        lc.call(callables.speak, "x" * 100_000, capture_output=True, max_output="10K")
    assert caught.value.stdout == b"x" * 10240


# ---- what cannot be sent -----------------------------------------------------------------------


def test_what_cannot_be_sent_is_an_argument_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(lc.ArgumentError, match="cannot be called"):
        lc.call(3)  # type: ignore[arg-type]
    with pytest.raises(lc.ArgumentError, match=r"callables\.echo cannot be sent.*lock"):
        lc.call(callables.echo, threading.Lock())
    # None stands for a module that is not to be found.
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(lc.ArgumentError, match="lambda") as caught:
        lc.call(lambda: 1)
    assert "libpycontainer[call]" in caught.value.hint


def test_what_has_no_name_goes_by_value() -> None:
    pytest.importorskip("cloudpickle")
    factor = 3
    assert lc.call(lambda x: x * factor, 4) == 12


def test_a_module_that_cannot_be_loaded_is_told_of() -> None:
    with pytest.raises(
        lc.CallError, match=r"cannot load .*No module named 'no_such_module'"
    ) as told:
        lc.call(callables.add, 1, imports=["no_such_module"])
    assert told.value.type_name == "ModuleNotFoundError"
    assert isinstance(told.value.__cause__, lc.RemoteTraceback)
    assert children() == set()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
            "threads",
        ),
        ("raise LookupError('at import')", "LookupError: at import"),
        ("import os\nos._exit(3)", "died before"),
        ("import lc_no_such", "lc_no_such"),
    ],
)
def test_a_module_that_misbehaves_when_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    (tmp_path / "lpc_misbehaves.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(lc.ContainerError, match=words):
        lc.call(callables.add, 1, imports=["lpc_misbehaves"])


def test_what_a_module_has_open_is_taken_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lpc_opens.py").write_text(
        "import os\nlog = open('/etc/hostname', 'rb')\nfd = log.fileno()\n"
        "def look():\n"
        "    with open('/proc/self/status') as mine:\n"
        "        return log.read(), os.readlink(f'/proc/self/fd/{fd}'), mine.fileno() != fd\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import lpc_opens  # type: ignore[import-not-found]

    lpc_opens.log.close()
    read, link, apart = lc.call(lpc_opens.look)
    assert read == b""
    assert link.startswith("/memfd:closed")
    assert apart


# ---- programs --------------------------------------------------------------------------------

SCRIPT = """
import os, sys
import libpycontainer as lc

def double(x):
    return 2 * x

class Mine(Exception):
    pass

def fail():
    raise Mine("oh")

if __name__ == "__main__":
    print(lc.call(double, 21))
    try:
        lc.call(fail)
    except lc.CallError as error:
        print(error)
    with lc.Pool(1) as pool:
        print(*pool.map(double, range(3)))
"""
UNGUARDED = """
import libpycontainer as lc
def double(x):
    return 2 * x
print(lc.call(double, 21))
"""


def program(*words: str, input: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        input=input,
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 2,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
    )


def test_a_script_has_its_own_functions_called(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    wanted = "42\n__main__.Mine: oh\n0 2 4\n"
    done = program(str(tmp_path / "script.py"))
    assert (done.stdout, done.stderr) == (wanted, "")
    done = program("-m", "script", PYTHONPATH=f"{REPOSITORY}:{tmp_path}")
    assert (done.stdout, done.stderr) == (wanted, "")


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = program(str(tmp_path / "script.py"))
    assert done.returncode == 1
    assert "if __name__ == " in done.stderr


@pytest.mark.parametrize("words", [("-c", UNGUARDED), ("-",), ("-i", "-q")], ids=["c", "-", "i"])
def test_a_prompt_and_dash_c_need_cloudpickle(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "cloudpickle.py").write_text("raise ImportError('not for this test')")
    source = UNGUARDED.replace("\nprint", "\n\nprint")
    given = None if words[0] == "-c" else source
    done = program(*words, input=given, PYTHONPATH=f"{tmp_path}:{REPOSITORY}")
    assert "not a file (the prompt, python -c)" in done.stderr
    assert "libpycontainer[call]" in done.stderr
    pytest.importorskip("cloudpickle")
    done = program(*words, input=given)
    assert "42\n" in done.stdout, done.stderr


# ---- in a container that runs ------------------------------------------------------------------


def test_a_container_without_python_runs_one(running: lc.Container) -> None:
    assert running.call(callables.add, 1) == 2
    found = running.call(callables.surroundings, stdout=lc.DEVNULL)
    assert "bin" in found["root"]
    assert "usr" not in found["root"] or not os.path.exists(f"{running.rootfs}/usr/bin/python3")
    for name, link in found["namespaces"].items():
        assert link == os.readlink(f"/proc/{running.pid}/ns/{name}")
    assert used(found["descriptors"]) == {0, 1, 2, 3}
    assert found["environ"]["PATH"]
    assert "PYTHONPATH" not in found["environ"]


def test_it_has_the_containers_privileges_and_never_more(running: lc.Container) -> None:
    spec = running.spec
    assert spec.process is not None
    fields = running.call(callables.status)
    init = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{running.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) & ~int(init[name], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    other = running.call(callables.status, user="1000:1000")
    assert other["Uid"].split()[0] == "1000"
    assert int(other["CapEff"], 16) == int(other["CapPrm"], 16) == 0


def test_the_process_of_a_call_is_gone_afterwards(running: lc.Container) -> None:
    before, ours = running.processes(), children()
    running.call(callables.add, 1)
    with pytest.raises(lc.TimeoutExpired):
        running.call(callables.sleep, 1000, timeout=0.2)
    with pytest.raises(ValueError, match="two"):
        running.call(callables.raise_value_error)
    assert running.processes() == before
    assert children() == ours


def test_the_containers_groups_bound_it(running: lc.Container) -> None:
    assert running.call(callables.echo, Path("/proc/self/cgroup").read_text()) is not None
    running.update(memory="64M")
    with pytest.raises(lc.CallDiedError, match="out of memory"):
        running.call(callables.eat_memory, 1 << 28)
    assert running.status == "running"


def test_in_a_user_namespace(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER)
    add_user_namespace(one.config)
    with create(factory, one) as container:
        container.start()
        fields = container.call(callables.status)
        assert fields["Uid"].split()[0] == "0"
        assert container.call(callables.run_threads, 4) == 800


def test_a_stopped_container_calls_nothing(running: lc.Container) -> None:
    running.signal(signal.SIGKILL)
    running.wait(TIMEOUT)
    with pytest.raises(lc.StatusError):
        running.call(callables.add, 1)


# ---- many of them ------------------------------------------------------------------------------


def test_calls_from_many_threads() -> None:
    found: list[int] = []
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(3):
                found.append(lc.call(callables.add, number * 10, turn))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(found) == sorted(n * 10 + turn for n in range(4) for turn in range(3))
    assert children() == set()


# As in test_embedding.py: a descriptor that is hit right behind its opening can get lost.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_interrupted_call_leaves_nothing() -> None:
    open_before = open_descriptors()

    class InterruptedByTestError(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise InterruptedByTestError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in (0.005, 0.02, 0.04, 0.3):
            signal.setitimer(signal.ITIMER_REAL, delay)
            with pytest.raises(InterruptedByTestError):
                lc.call(callables.sleep, 1000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert children() == set()
    for number in open_descriptors() - open_before:
        os.close(number)


def test_a_caller_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    root = tmp_path / "state"
    source = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import libpycontainer as lc
from tests.privileged import callables
if __name__ == "__main__":
    lc.call(callables.speak_and_sleep, 1000, factory=lc.Factory({str(root)!r}))
"""
    (tmp_path / "caller.py").write_text(source)
    caller = subprocess.Popen([sys.executable, tmp_path / "caller.py"], stdout=subprocess.PIPE)
    assert caller.stdout is not None
    with caller, lc.Factory(root) as factory:
        assert caller.stdout.readline() == b"early\n"
        (left,) = factory.list()
        assert left.status == "running"
        caller.kill()
        caller.wait()
        # It goes on, as any container does whose maker is killed; anybody may delete it.
        left.delete(force=True)
        assert factory.list() == []
