"""Which interpreter becomes an init, how it is started, and that nobody can write it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from libpycontainer import interpreter
from libpycontainer import syscalls as sys_
from libpycontainer.errors import InterpreterError

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


def executable(path: Path, mode: int = 0o755) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **found: str) -> None:
    """A program in which nothing points to a Python, but for what is given."""
    monkeypatch.setattr(sys, "_base_executable", found.get("base", ""))
    monkeypatch.setattr(sys, "executable", found.get("executable", ""))
    monkeypatch.setattr(sys, "base_prefix", found.get("prefix", str(tmp_path / "nowhere")))


def test_the_running_python_is_found() -> None:
    code = "import sys; print(sys.version_info[:2])"
    command = [interpreter.find(), "-I", "-S", "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == repr(sys.version_info[:2])


def test_in_a_virtual_environment_it_is_the_one_that_made_it() -> None:
    found = interpreter.find()
    assert os.path.realpath(found) == found
    base = getattr(sys, "_base_executable", sys.executable)
    assert found == os.path.realpath(base)
    assert not (Path(found).parent.parent / "pyvenv.cfg").exists()


def test_a_virtual_environments_base_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = executable(tmp_path / "base/bin/python3")
    venv = executable(tmp_path / "venv/bin/python3")
    nowhere(monkeypatch, tmp_path, base=base, executable=venv)
    assert interpreter.find() == base


def test_a_symlink_is_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = executable(tmp_path / "opt/python3.99")
    (tmp_path / "python3").symlink_to(real)
    nowhere(monkeypatch, tmp_path, base=str(tmp_path / "python3"))
    assert interpreter.find() == real


def test_a_program_that_embeds_python_is_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uwsgi = executable(tmp_path / "bin/uwsgi")
    python = executable(tmp_path / "prefix/bin" / VERSION)
    nowhere(monkeypatch, tmp_path, base=uwsgi, executable=uwsgi, prefix=str(tmp_path / "prefix"))
    assert interpreter.find() == python


def test_where_none_is_found_the_error_names_every_place_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere(monkeypatch, tmp_path, executable=str(tmp_path / "bin/python3"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InterpreterError) as caught:
        interpreter.find()
    for place in (tmp_path / "bin/python3", tmp_path / "nowhere/bin" / VERSION):
        assert str(place) in str(caught.value)
    assert "Factory(interpreter=" in str(caught.value)


def test_a_directory_is_no_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin/python3").mkdir(parents=True)
    python = executable(tmp_path / "prefix/bin" / VERSION)
    nowhere(
        monkeypatch,
        tmp_path,
        base=str(tmp_path / "bin/python3"),
        prefix=str(tmp_path / "prefix"),
    )
    assert interpreter.find() == python


def test_a_given_interpreter_is_taken_as_it_is(tmp_path: Path) -> None:
    given = executable(tmp_path / "my-python")
    assert interpreter.find(given) == given


def test_a_relative_one_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = executable(tmp_path / "my-python")
    monkeypatch.chdir(tmp_path)
    assert interpreter.find("my-python") == given


@pytest.mark.parametrize("kind", ["missing", "not executable", "directory"])
def test_a_given_one_that_cannot_be_executed_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "python"
    if kind == "not executable":
        executable(path, 0o644)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(InterpreterError) as caught:
        interpreter.find(str(path))
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)


def test_nothing_of_the_users_environment_decides_what_is_imported(tmp_path: Path) -> None:
    (tmp_path / "marshal.py").write_text("raise SystemExit(3)")
    (tmp_path / "os.py").write_text("raise SystemExit(3)")
    (tmp_path / "libpycontainer.py").write_text("raise SystemExit(3)")
    command = interpreter.command(interpreter.find())
    code = command.index("-c")
    command[code + 1] = command[code + 1].replace(";run()", ";print(run.__module__)")
    hostile = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "os.py")}
    hostile |= {"PYTHONHOME": str(tmp_path), "PYTHONINSPECT": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=hostile, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "libpycontainer.init.main"), done.stderr


def test_only_what_the_loader_needs_is_left_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/evil.so")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert interpreter.environment() == []
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/python/lib")
    assert interpreter.environment() == ["LD_LIBRARY_PATH=/opt/python/lib"]


def test_the_sealed_interpreter_runs_and_leads_to_no_file_that_can_be_written() -> None:
    with interpreter.seal(interpreter.find()) as sealed:
        path = f"/proc/self/fd/{sealed.fileno()}"
        with pytest.raises(OSError, match=r"Read-only|not permitted|denied|busy"):
            os.close(os.open(path, os.O_WRONLY))
        with open(os.devnull, "r+b") as null, sys_.memfd("output") as output:
            fds = [null.fileno(), output.fileno(), null.fileno()]
            argv = [interpreter.find(), "-I", "-S", "-c", "print('alive')"]
            child = sys_.Child()
            sys_.spawn(argv, [], fds, executable=sealed.fileno(), child=child)
            with child as pidfd:
                ended = os.waitid(os.P_PIDFD, pidfd.fileno(), os.WEXITED)
            assert ended is not None
            assert (ended.si_status, os.pread(output.fileno(), 99, 0)) == (0, b"alive\n")


def test_the_copy_in_memory_has_the_files_content_and_every_seal(tmp_path: Path) -> None:
    import fcntl

    path = executable(tmp_path / "python")
    with interpreter._sealed_copy(path) as copy:
        assert os.pread(copy.fileno(), 100, 0) == b"#!/bin/sh\n"
        wanted = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        assert fcntl.fcntl(copy.fileno(), fcntl.F_GET_SEALS) & wanted == wanted
        assert os.fstat(copy.fileno()).st_mode & stat.S_IXUSR
        with pytest.raises(PermissionError):
            os.pwrite(copy.fileno(), b"x", 0)


def test_an_interpreter_that_vanished_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InterpreterError) as caught:
        interpreter.seal(str(tmp_path / "gone"))
    assert caught.value.path == str(tmp_path / "gone")
