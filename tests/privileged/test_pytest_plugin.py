"""The pytest plugin, in runs of pytest of its own: what a marked test sees, and how it is told.

Each run is a process that loads nothing else but what the test names.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

import libpycontainer as lc
from tests.conftest import SLOWNESS

pytest_plugins = ["pytester"]

REPOSITORY = Path(lc.__file__).parents[1]
PLUGIN = ("-p", "libpycontainer.testing.plugin")
Pytester = pytest.Pytester


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


def run(pytester: Pytester, source: str, *words: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess(*PLUGIN, "-ra", *words, timeout=100)


def outcomes(result: pytest.RunResult, **wanted: int) -> None:
    assert result.parseoutcomes() == wanted, result.stdout.str()


# ---- inside ------------------------------------------------------------------------------------


def test_a_marked_test_is_alone_in_its_namespaces(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import os, socket
        import pytest

        KINDS = ("net", "mnt", "pid", "ipc", "uts", "user", "cgroup")
        def here():
            return {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}
        HOST = here()

        @pytest.mark.container
        def test_inside():
            others = {kind for kind, link in here().items() if link != HOST[kind]}
            assert others >= {"net", "mnt", "pid", "ipc", "uts"}
            assert "cgroup" not in others
            assert [name for _, name in socket.if_nameindex()] == ["lo"]
            # Loopback is up, and nobody else is there.
            with socket.create_server(("127.0.0.1", 0)) as server:
                socket.create_connection(server.getsockname()).close()
            assert {name for name in os.listdir("/proc") if name.isdigit()} == {"1", "2"}

        @pytest.mark.container(network=False, ipc=False, cgroup=True, user=True)
        def test_other_kinds():
            others = {kind for kind, link in here().items() if link != HOST[kind]}
            assert others == {"mnt", "pid", "uts", "cgroup", "user"}
            assert os.getuid() == 0

        @pytest.mark.container(hostname="inner")
        def test_hostname():
            assert socket.gethostname() == "inner"

        def test_outside():
            assert here() == HOST
            assert socket.gethostname() != "inner"
        """,
    )
    outcomes(result, passed=4)


def test_what_a_marked_test_mounts_is_gone_after_it(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import os, subprocess
        import pytest

        @pytest.fixture(scope="module")
        def place(tmp_path_factory):
            return tmp_path_factory.mktemp("place")

        @pytest.mark.container
        def test_mount(place):
            subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
            (place / "inside").touch()
            assert os.path.ismount(place)

        @pytest.mark.container(mount=False, pid=False)
        def test_files_are_shared(place):
            assert not os.path.ismount(place)
            (place / "kept").touch()

        def test_after(place):
            assert os.listdir(place) == ["kept"]
        """,
    )
    outcomes(result, passed=3)


def test_fixtures_parameters_and_assertions_are_pytests_own(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import logging, os, sys, warnings
        import pytest

        pytestmark = pytest.mark.container

        @pytest.fixture
        def numbers(request):
            yield [1, 2]
            print("torn down in", os.getpid() == PID)

        PID = os.getpid()

        @pytest.mark.parametrize("n", [2, 3])
        def test_assertion(numbers, n, record_property):
            record_property("n", n)
            print("on stdout")
            print("on stderr", file=sys.stderr)
            os.system("echo from a child")
            logging.getLogger("noisy").warning("logged")
            warnings.warn("careful", DeprecationWarning)
            assert numbers == [1, n]
        """,
        "-W",
        "default",
        "--junitxml=report.xml",
        "-o",
        "junit_family=legacy",
    )
    outcomes(result, passed=1, failed=1, warnings=2)
    result.stdout.fnmatch_lines(
        [
            ">       assert numbers == [[]1, n]",
            "E       assert [[]1, 2] == [[]1, 3]",
            "E         At index 1 diff: 2 != 3",
            "test_fixtures_parameters_and_assertions_are_pytests_own.py:*: AssertionError",
            "*Captured log call*",
            "WARNING  noisy:*.py:* logged",
            "*Captured stdout call*",
            "on stdout",
            "from a child",
            "*Captured stderr call*",
            "on stderr",
            "*Captured stdout teardown*",
            "torn down in True",
            "*DeprecationWarning: careful",
        ],
        consecutive=False,
    )
    text = (pytester.path / "report.xml").read_text()
    assert '<property name="n" value="3"' in text


@pytest.mark.parametrize("capture", ["fd", "sys", "tee-sys", "no"])
def test_output_is_captured_in_each_way(capture: str, pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import sys
        import pytest

        @pytest.mark.container
        def test_printed():
            print("first")
            sys.stderr.write("second\\n")
            assert False

        @pytest.mark.container
        def test_read(capsys):
            print("seen")
            assert capsys.readouterr().out == "seen\\n"
            print("unseen")

        @pytest.mark.container
        def test_read_of_files(capfd):
            print("seen")
            assert capfd.readouterr().out == "seen\\n"
        """,
        f"--capture={capture}",
    )
    outcomes(result, passed=2, failed=1)
    out = result.stdout.str()
    if capture == "no":
        assert re.search("^.*first$", out, re.MULTILINE)
        assert "Captured stdout call" not in out
    else:
        assert re.search("Captured stdout call -+\nfirst\n-+ Captured stderr call -+\nsecond", out)


def test_skips_and_expected_failures(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        pytestmark = pytest.mark.container

        def test_skips():
            pytest.skip("for a reason")

        @pytest.mark.xfail(raises=ZeroDivisionError)
        def test_expected():
            1 / 0

        def test_expected_late():
            pytest.xfail("known")

        @pytest.mark.xfail(raises=ZeroDivisionError)
        def test_another_failure():
            raise ValueError("not that one")

        @pytest.mark.xfail(strict=True)
        def test_unexpectedly_good():
            pass

        @pytest.mark.xfail
        def test_good():
            pass
        """,
    )
    outcomes(result, skipped=1, xfailed=2, failed=2, xpassed=1)
    result.stdout.fnmatch_lines(
        ["*ValueError: not that one*", "*XPASS(strict)*", "SKIPPED [[]1[]] *.py:6: for a reason"],
    )


def test_other_plugins_see_the_outcome(pytester: Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        seen = []

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            if report.when == "call":
                seen.append(report.outcome)
            return report

        def pytest_sessionfinish():
            print("\\nseen:", sorted(seen))
        """
    )
    result = run(
        pytester,
        """
        import pytest
        pytestmark = pytest.mark.container
        def test_good(): pass
        def test_bad(): assert 0
        def test_skipped(): pytest.skip("x")
        """,
    )
    outcomes(result, passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["seen: [[]'failed', 'passed', 'skipped'[]]"])


def test_a_test_that_ends_badly_fails_with_the_reason_and_its_output(pytester: Pytester) -> None:
    seconds = 0.3 * SLOWNESS
    result = run(
        pytester,
        f"""
        import os, signal, time
        import pytest

        @pytest.mark.container(timeout="{int(seconds * 1000)}ms")
        def test_slow():
            print("so far", flush=True)
            time.sleep(600)

        @pytest.mark.container(timeout={seconds}, pid=False)
        def test_slow_without_pids():
            time.sleep(600)

        @pytest.mark.container
        def test_killed():
            os.kill(os.getpid(), signal.SIGKILL)

        @pytest.mark.container(pid=False)
        def test_killed_without_pids():
            os.kill(os.getpid(), signal.SIGTERM)

        @pytest.mark.container
        def test_leaves():
            os._exit(3)

        @pytest.mark.container
        def test_leaves_by_systemexit():
            raise SystemExit(4)
        """,
    )
    outcomes(result, failed=6)
    out = result.stdout.str()
    assert out.count(f"the test was still running after {seconds:g} s") >= 2
    assert "Captured stdout call" in out
    assert "so far" in out
    assert "the test's process was killed by SIGKILL" in out
    assert "the test's process was killed by SIGTERM" in out
    assert "the test ended its process (exit code 3)" in out
    assert "SystemExit: 4" in out


def test_what_a_test_leaves_running_ends_with_it(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import os, subprocess
        import pytest

        @pytest.mark.container
        def test_daemon():
            # It keeps the report's pipe open, and would otherwise keep everybody waiting.
            if os.fork() == 0:
                os.setsid()
                os.execvp("sleep", ["sleep", "98765"])
            if os.fork() == 0:
                import time
                time.sleep(98765)
        """,
    )
    outcomes(result, passed=1)
    listing = "".join(
        path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")
    )
    assert "98765" not in listing


def test_exit_ends_the_whole_run(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.container
        def test_exits():
            pytest.exit("enough", 7)

        def test_never(): pass
        """,
    )
    assert result.ret == 7
    result.stdout.fnmatch_lines(["*Exit: enough*"])


def test_a_hostile_report_is_only_a_failure(pytester: Pytester) -> None:
    """What the child says is data, also where it is none."""
    result = run(
        pytester,
        """
        import json, os
        import pytest

        def say(data):
            # The write end is the highest pipe that this process still has.
            pipes = [int(fd) for fd in os.listdir("/proc/self/fd") if _is_pipe(fd)]
            for fd in pipes:
                try:
                    os.write(fd, data)
                except OSError:
                    continue
            os._exit(0)

        def _is_pipe(fd):
            try:
                return int(fd) > 2 and os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
            except OSError:
                return False

        def packet(value):
            data = json.dumps(value).encode()
            return len(data).to_bytes(8, "big") + data

        @pytest.mark.container
        @pytest.mark.parametrize("data", [
            (1 << 60).to_bytes(8, "big"),
            b"\\0" * 7 + b"\\5hello",
            packet([1]),
            packet({}),
            packet({"report": 5}),
            packet({"report": {"$report_type": "TestReport"}}),
            packet({"report": {"$report_type": "CollectReport"}}),
            packet({"report": None, "warnings": [["x", "__import__", "f", "y"]]}),
        ], ids=str)
        def test_liar(data):
            say(data)

        def test_next(): pass
        """,
    )
    outcomes(result, passed=1, failed=8, warnings=1)
    assert "INTERNALERROR" not in result.stdout.str()


# ---- limits, and what cannot be had --------------------------------------------------------------


@pytest.mark.privileged_caller("sets limits")
def test_limits_are_felt_inside(pytester: Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where there is swap, the limit only makes the test slow.
    swap = re.search(r"^SwapTotal: +([1-9])", Path("/proc/meminfo").read_text(), re.MULTILINE)
    monkeypatch.setenv("SWAP", "1" if swap else "0")
    result = run(
        pytester,
        """
        import os
        import pytest

        @pytest.mark.skipif(os.environ.get("SWAP") == "1", reason="there is swap")
        @pytest.mark.container(memory="48M")
        def test_memory():
            hog = bytearray(400 << 20)
            for place in range(0, len(hog), 4096):
                hog[place] = 1

        @pytest.mark.container(pids=8)
        def test_pids():
            with pytest.raises(BlockingIOError):
                for _ in range(20):
                    if os.fork() == 0:
                        import time
                        time.sleep(600)

        @pytest.mark.container(memory="x")
        def test_mistake(): pass
        """,
    )
    out = result.stdout.str()
    if swap:
        outcomes(result, passed=1, failed=1, skipped=1)
    else:
        outcomes(result, passed=1, failed=2)
        assert f"killed by SIGKILL; its memory limit is {48 << 20} bytes" in out
    assert "@pytest.mark.container: memory: invalid size 'x'" in out


def test_mistakes_in_the_marker_are_told(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import unittest
        import pytest

        @pytest.mark.container(nework=True)
        def test_typo(): pass

        @pytest.mark.container(True)
        def test_positional(): pass

        @pytest.mark.container(network="host")
        def test_value(): pass

        @pytest.mark.container(mount=False)
        def test_pid_alone(): pass

        @pytest.mark.container(uts=False, hostname="x")
        def test_hostname_alone(): pass

        @pytest.mark.container(timeout="soon")
        def test_timeout(): pass

        class TestOld(unittest.TestCase):
            @pytest.mark.container
            def test_old(self): pass

        @pytest.fixture
        def late(request):
            request.node.add_marker(pytest.mark.container)

        def test_late(late): pass
        """,
    )
    outcomes(result, errors=7, failed=1)
    out = result.stdout.str()
    for words in (
        "nework: the marker container has no such keyword, only network",
        "only keywords are taken",
        "network: expected True or False, not 'host'",
        "pid: needs mount=True as well",
        "hostname: needs uts=True",
        "timeout: invalid duration 'soon'",
        "the marker container is for test functions",
        "the mark came too late: a fixture cannot set it",
    ):
        assert words in out, words


def test_a_class_and_a_module_may_be_marked_and_the_closest_mark_counts(
    pytester: Pytester,
) -> None:
    result = run(
        pytester,
        """
        import socket
        import pytest

        pytestmark = pytest.mark.container(hostname="module")

        def test_module():
            assert socket.gethostname() == "module"

        @pytest.mark.container(network=False)
        class TestClass:
            def test_method(self):
                assert socket.gethostname() == "module"

            @pytest.mark.container(hostname="method")
            def test_own(self):
                assert socket.gethostname() == "method"
        """,
    )
    outcomes(result, passed=3)


def test_where_the_host_cannot_the_test_is_skipped_with_the_reason(pytester: Pytester) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root can give the right away (with setpriv)")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.container
        def test_one(): pass

        @pytest.mark.container
        def test_two(): pass

        def test_fixture(netns): pass

        def test_container(container): pass

        def test_none_of_it(): pass
        """
    )
    python = pytester._getpytestargs()
    weak = [setpriv, "--bounding-set=-sys_admin"]
    result = pytester.run(*weak, *python, *PLUGIN, "-ra", timeout=60)
    outcomes(result, passed=1, skipped=4)
    result.stdout.fnmatch_lines(
        [
            # The tests' own places, not the plugin's.
            "SKIPPED [[]1[]] test_where_*.py:3: cannot make namespaces (network, mount, pid, ipc, "
            "uts): *Operation not permitted (needs root, or user=True*",
            "SKIPPED [[]1[]]*cannot make a network namespace: *Operation not permitted",
            "SKIPPED [[]1[]]*no container can be made here: *",
        ]
    )


# ---- the fixtures --------------------------------------------------------------------------------


def test_a_container_is_running_and_gone_after_the_test(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        import libpycontainer as lc

        IDS = []

        def test_container(container):
            IDS.append(container.id)
            assert container.status == "running"
            assert container.run(["id", "-u"]).stdout == "0\\n"
            assert container.run(["cat"], input="fed").stdout == "fed"
            done = container.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
            assert (done.returncode, done.stdout, done.stderr) == (3, "out\\n", "err\\n")
            with pytest.raises(lc.CalledProcessError):
                container.run(["false"], check=True)
            with pytest.raises(lc.TimeoutExpired):
                container.run(["sleep", "600"], timeout="200ms")
            touch = container.run(["touch", "/usr/planted", "/etc/planted"])
            assert touch.stderr.count("Read-only file system") == 2
            assert container.run(["ls", "/sys/class/net"]).stdout == "lo\\n"

        def test_factory(container_factory):
            one = container_factory(hostname="one", env={"A": "1", "PATH": "/bin:/usr/bin"})
            two = container_factory(name="two", args=["sh", "-c", "sleep 600"])
            IDS.extend([one.id, two.id])
            assert one.run(["sh", "-c", "hostname; echo $A"]).stdout == "one\\n1\\n"
            assert two.id.startswith("two-")
            waiting = container_factory(start=False)
            assert waiting.status == "created"
            IDS.append(waiting.id)

        def test_gone():
            left = {container.id for container in lc.Factory().list()}
            assert len(IDS) == 4
            assert left.isdisjoint(IDS)
        """,
    )
    outcomes(result, passed=3)


def test_a_factory_takes_a_root_and_a_spec(pytester: Pytester, busybox_rootfs: Path) -> None:
    result = run(
        pytester,
        f"""
        import libpycontainer as lc
        ROOT = {str(busybox_rootfs)!r}

        def test_rootfs(container_factory):
            box = container_factory(rootfs=ROOT)
            assert "busybox" in box.run(["ls", "/bin"]).stdout
            assert box.container.rootfs == ROOT

        def test_spec(container_factory):
            spec = lc.Spec.default().evolve(rootfs=ROOT, args=["sleep", "600"])
            box = container_factory(spec, hostname="changed")
            assert box.run(["hostname"]).stdout == "changed\\n"
        """,
    )
    outcomes(result, passed=2)


def test_a_network_namespace_to_hold(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
        import os, socket, subprocess
        import pytest
        import libpycontainer as lc

        HOST = os.readlink("/proc/self/ns/net")

        def test_run(netns):
            assert os.readlink(netns.path) != HOST
            assert netns.run(["readlink", "/proc/self/ns/net"]).stdout.strip() != HOST
            up = netns.run(["cat", "/sys/class/net/lo/flags", "/proc/net/dev"], check=True)
            assert "lo:" in up.stdout
            with pytest.raises(subprocess.CalledProcessError):
                netns.run(["false"], check=True)
            assert os.readlink("/proc/self/ns/net") == HOST

        def test_enter(netns):
            if os.geteuid() != 0:
                with pytest.raises(lc.UnsupportedError, match="only root"):
                    netns.enter()
                return
            with netns.enter():
                assert [name for _, name in socket.if_nameindex()] == ["lo"]
                with socket.create_server(("127.0.0.1", 0)) as server:
                    socket.create_connection(server.getsockname()).close()
                with pytest.raises(ValueError):
                    with netns.enter():
                        raise ValueError
            assert os.readlink("/proc/self/ns/net") == HOST

        def test_container_joins(netns, container_factory):
            if os.geteuid() != 0:
                pytest.skip("it belongs to another user namespace")
            box = container_factory(network=netns)
            assert box.run(["readlink", "/proc/self/ns/net"]).stdout.strip() == os.readlink(
                netns.path)

        def test_pyroute2(netns):
            pyroute2 = pytest.importorskip("pyroute2")
            if os.geteuid() != 0:
                pytest.skip("it belongs to another user namespace")
            with pyroute2.NetNS(netns.path) as ns:
                assert [link.get("ifname") for link in ns.get_links()] == ["lo"]
        """,
        "-W",
        "error",
    )
    if os.geteuid() == 0:
        outcomes(result, passed=4)
    else:
        outcomes(result, passed=2, skipped=2)


# ---- company -------------------------------------------------------------------------------------


def test_under_xdist(pytester: Pytester) -> None:
    pytest.importorskip("xdist")
    result = run(
        pytester,
        """
        import os
        import pytest

        @pytest.mark.container
        @pytest.mark.parametrize("n", range(8))
        def test_inside(n, tmp_path):
            print("printed", n)
            assert os.getpid() == 2
            assert n != 5

        @pytest.mark.parametrize("n", range(2))
        def test_container(container, n):
            assert container.run(["echo", str(n)]).stdout == f"{n}\\n"
        """,
        "-p",
        "xdist",
        "-n2",
        "-W",
        "error",
    )
    outcomes(result, passed=9, failed=1)
    result.stdout.fnmatch_lines(["*Captured stdout call*", "printed 5"])


def test_with_a_timeout_of_pytest_timeout(pytester: Pytester) -> None:
    pytest.importorskip("pytest_timeout")
    result = run(
        pytester,
        """
        import time
        import pytest

        @pytest.mark.container
        @pytest.mark.timeout(0.5)
        def test_slow():
            time.sleep(600)

        def test_next(): pass
        """,
        "-p",
        "pytest_timeout",
    )
    outcomes(result, passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Timeout*0.5s*"])


def test_what_a_marked_test_covers_is_measured(pytester: Pytester) -> None:
    pytest.importorskip("pytest_cov")
    pytester.makepyfile(module="def inside():\n    return 1\n\ndef never():\n    return 2\n")
    result = run(
        pytester,
        """
        import pytest
        import module

        @pytest.mark.container
        def test_inside():
            assert module.inside() == 1
        """,
        "-p",
        "pytest_cov",
        "--cov=module",
        "--cov-report=term-missing",
    )
    outcomes(result, passed=1)
    result.stdout.fnmatch_lines(["module.py * 5"])


def test_nothing_of_the_library_is_loaded_by_a_run_that_does_not_use_it(
    pytester: Pytester,
) -> None:
    result = run(
        pytester,
        """
        import sys

        def test_modules():
            own = {name for name in sys.modules if name.startswith("libpycontainer")}
            light = {"", "._version", ".testing", ".testing.plugin"}
            assert own <= {f"libpycontainer{name}" for name in light}
            assert "libpycontainer.testing.plugin" in own
        """,
    )
    outcomes(result, passed=1)
