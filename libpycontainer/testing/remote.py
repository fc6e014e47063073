"""A test's call inside the namespaces, and its report, which comes back as data.

The child makes the report with pytest's own hooks, so a failure looks as it always does; what
crosses is JSON, and nothing of it is executed here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings

import pytest

from libpycontainer.testing import entering, isolation
from libpycontainer.testing.plugin import INSIDE, REPORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from libpycontainer.testing.isolation import Wishes

OUTCOMES = ("passed", "failed", "skipped")
LENGTH = 8
LONGEST = 1 << 28
CAPTURES = ("capsys", "capsysbinary", "capteesys", "capfd", "capfdbinary")


# ---- in the test process ----------------------------------------------------------------------


def call(item: pytest.Function) -> None:
    """Run the test function inside, and keep its report; fails where there is none."""
    wishes = item.stash.get(isolation.WISHES, None)
    if wishes is None:
        pytest.fail("the mark came too late: a fixture cannot set it", pytrace=False)
    sys.stdout.flush()
    sys.stderr.flush()
    group = isolation.make_group(wishes)
    try:
        answer = _converse(item, wishes, group)
    finally:
        if group is not None:
            group.delete(force=True)
    _take(item, answer)


def _converse(item: pytest.Function, wishes: Wishes, group: Any) -> dict[str, Any]:
    reader, writer = os.pipe()
    waiting, go = os.pipe()
    pid = 0
    try:
        pid = entering.start(
            wishes,
            lambda: _serve(item, writer),
            lambda reason: _send(writer, {"obstacle": reason}),
            {"reader": waiting, "writer": go},
        )
        os.close(writer)
        writer = -1
        if group is not None:
            group.cgroup.add(pid)
        os.close(go)
        go = -1
        return _receive(reader, pid, wishes, group)
    except entering.Obstacle as error:
        return {"obstacle": str(error)}
    finally:
        # Also where a time limit of somebody else's, or a Ctrl-C, ends the waiting.
        if pid:
            _end(pid)
        for fd in (reader, writer, waiting, go):
            if fd >= 0:
                os.close(fd)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def _receive(reader: int, pid: int, wishes: Wishes, group: Any) -> dict[str, Any]:
    """The child's message; without one, what became of the child."""
    deadline = None if wishes.timeout is None else time.monotonic() + wishes.timeout
    data = bytearray()
    while len(data) < LENGTH or len(data) < LENGTH + int.from_bytes(data[:LENGTH], "big"):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return {"failure": f"the test was still running after {wishes.timeout:g} s"}
        if not select.select([reader], [], [], left)[0]:
            continue
        piece = os.read(reader, 1 << 16)
        if not piece:
            return {"failure": _ending(pid, group)}
        data += piece
        if int.from_bytes(data[:LENGTH], "big") > LONGEST:
            return {"failure": "the test's report is too long"}
    try:
        answer = json.loads(bytes(data[LENGTH:]))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return {"failure": "the test's report is not one"}
    return answer


def _ending(pid: int, group: Any) -> str:
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    # Above 128 it is a signal too, told by the container's first process.
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if not number:
        return f"the test ended its process (exit code {code})"
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    memory = group.stats().memory if group is not None else None
    limit = memory.limit if memory is not None and number == signal.SIGKILL else None
    why = f"; its memory limit is {limit} bytes" if limit else ""
    return f"the test's process was killed by {name}{why}"


def _take(item: pytest.Function, answer: dict[str, Any]) -> None:
    """Pass on what the child printed, and its report; fail, skip or exit where there is none."""
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        if text := answer.get(name):
            stream.write(str(text))
    if text := answer.get("log"):
        item.add_report_section("call", "log", str(text))
    for text, category, filename, line in answer.get("warnings", ()):
        _show_warning(text, category, filename, line)
    if "obstacle" in answer:
        pytest.skip(str(answer["obstacle"]))
    if "exit" in answer:
        pytest.exit(str(answer["exit"]), answer.get("returncode"))
    if "failure" in answer:
        pytest.fail(str(answer["failure"]), pytrace=False)
    item.stash[REPORT] = json.dumps(answer.get("report"))
    try:
        made = _restored(item)
        item.user_properties[:] = made.user_properties
    except Exception:
        del item.stash[REPORT]
        raise pytest.fail.Exception("the test's report is not one", pytrace=False) from None


def _show_warning(text: object, category: object, filename: object, line: object) -> None:
    """Only the name of a built-in class is taken from inside; any other becomes a UserWarning."""
    import builtins

    found = getattr(builtins, str(category), None)
    kind = found if isinstance(found, type) and issubclass(found, Warning) else UserWarning
    number = line if isinstance(line, int) else 1
    warnings.showwarning(kind(str(text)), kind, str(filename), number)


def report(item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport:
    """The report that was made inside, with the sections that were captured here."""
    made = _restored(item)
    made.sections = pytest.TestReport.from_item_and_call(item, call).sections
    return made


def _restored(item: pytest.Item) -> pytest.TestReport:
    hook = item.config.hook.pytest_report_from_serializable
    # A new copy each time: pytest builds the report out of the very objects that it is given.
    made = hook(config=item.config, data=json.loads(item.stash[REPORT]))
    if not isinstance(made, pytest.TestReport) or made.outcome not in OUTCOMES:
        raise TypeError("not a report")
    if isinstance(made.longrepr, list):
        # Of a skip it is where and why, a tuple before JSON took it for a list.
        path, line, reason = made.longrepr
        made.longrepr = (str(path), int(line), str(reason))
    made.user_properties = [(str(name), value) for name, value in made.user_properties]
    # Which test this was is not for the child to say.
    made.nodeid = item.nodeid
    made.location = item.location
    made.when = "call"
    return made


class Outermost:
    """Has the last word: other plugins judged a call here that only passed the test on."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        found = yield
        if call.when == "call" and item.stash.get(REPORT, None) is not None:
            made = _restored(item)
            found.outcome, found.longrepr = made.outcome, made.longrepr
            if hasattr(made, "wasxfail"):
                found.wasxfail = made.wasxfail
            elif hasattr(found, "wasxfail"):
                del found.wasxfail
        return found


# ---- in the child -----------------------------------------------------------------------------


def _serve(item: pytest.Function, writer: int) -> None:
    try:
        answer = _run(item)
    except pytest.exit.Exception as error:
        answer = {"exit": error.msg, "returncode": error.returncode}
    except BaseException as error:
        answer = {"failure": f"the test's report could not be made: {error!r}"}
    _save_coverage()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    _send(writer, answer)


def _run(item: pytest.Function) -> dict[str, Any]:
    item.stash[INSIDE] = True
    before = len(_logged(item))
    with warnings.catch_warnings(record=True) as caught:
        made = pytest.CallInfo.from_call(
            lambda: item.ihook.pytest_pyfunc_call(pyfuncitem=item),
            when="call",
            reraise=(pytest.exit.Exception,),
        )
    out, err = _printed(item)
    report = item.ihook.pytest_runtest_makereport(item=item, call=made)
    hook = item.config.hook.pytest_report_to_serializable
    return {
        "report": hook(config=item.config, report=report),
        "out": out,
        "err": err,
        "log": _logged(item)[before:].strip(),
        "warnings": [
            (str(each.message), each.category.__name__, each.filename, each.lineno)
            for each in caught
        ],
    }


def _printed(item: pytest.Function) -> tuple[str, str]:
    """What was captured in this process's own memory; files are shared with the test process."""
    used: list[Any] = [item.funcargs[name] for name in CAPTURES if name in item.funcargs]
    found = [_text(*capture.readouterr()) for capture in used]
    if item.config.getoption("capture") in ("sys", "tee-sys"):
        manager = item.config.pluginmanager.getplugin("capturemanager")
        if manager is not None:
            found.append(_text(*manager.read_global_capture()))
    return "".join(out for out, _ in found), "".join(err for _, err in found)


def _text(*captured: Any) -> tuple[str, str]:
    out, err = (
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each)
        for each in captured
    )
    return out, err


def _logged(item: pytest.Item) -> str:
    plugin = item.config.pluginmanager.getplugin("logging-plugin")
    handler = getattr(plugin, "report_handler", None)
    return str(handler.stream.getvalue()) if handler is not None else ""


def _save_coverage() -> None:
    """What is measured here would be lost with this process; coverage names files by process."""
    coverage: Any = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage is not None else None
    if current is not None:
        current.stop()
        current.save()


def _send(writer: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer, default=repr).encode()
    data = len(data).to_bytes(LENGTH, "big") + data
    while data:
        data = data[os.write(writer, data) :]
