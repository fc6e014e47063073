"""Standard streams: inherited, piped, to files, to nowhere, closed; and who comes to own them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import TIMEOUT, Program, add_user_namespace, create, read_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

MANY = 4 << 20


def as_user(config: dict[str, Any]) -> None:
    config["process"]["user"] = {"uid": 1000, "gid": 1000}


def test_streams_are_inherited(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = """
reader, writer = os.pipe()
os.write(writer, b"typed\\n")
os.close(writer)
os.dup2(reader, 0)
container = factory.create("one", f"{bundle}/config.json", bundle=bundle)
with container:
    container.start()
    container.wait(20)
"""
    with Program(factory.root, bundle(sh("cat; echo error >&2")), script, stderr=-2) as program:
        assert program.rest() == "typed\nerror"


def test_pipes_carry_much_both_ways(factory: lc.Factory, bundle: BundleMaker) -> None:
    data = os.urandom(MANY)
    one = bundle(sh("tee /dev/stderr"))
    options: dict[str, Any] = {"stdin": lc.PIPE, "stdout": lc.PIPE, "stderr": lc.PIPE}
    with create(factory, one, "one", **options) as container:
        container.start()
        assert container.process is not None
        output, error = container.process.communicate(data, timeout=TIMEOUT)
    assert output == data
    assert error == data


def test_end_of_a_pipe_is_seen_on_either_side(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = "read line; echo got $line; exec >&-; read line || echo end >&2"
    options: dict[str, Any] = {"stdin": lc.PIPE, "stdout": lc.PIPE, "stderr": lc.PIPE}
    with create(factory, bundle(sh(script)), "one", **options) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"word\n")
        process.stdin.flush()
        assert process.stdout.read() == b"got word\n"
        process.stdin.close()
        assert process.stderr.read() == b"end\n"


def test_program_that_reads_nothing_is_no_error(factory: lc.Factory, bundle: BundleMaker) -> None:
    assert read_inside(factory, bundle(["true"]), input=bytes(MANY)).code == 0


def test_errors_can_join_the_output(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(sh("echo one; echo two >&2; echo three"))
    assert read_inside(factory, one).lines == ["one", "two", "three"]


def test_errors_join_an_output_that_is_a_file(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    with open(tmp_path / "output", "wb") as file:
        one = bundle(sh("echo one; echo two >&2"))
        with create(factory, one, stdout=file, stderr=lc.STDOUT) as container:
            container.start()
            container.wait(TIMEOUT)
    assert (tmp_path / "output").read_text() == "one\ntwo\n"


def test_files_and_descriptors_are_used_as_they_are(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "input").write_text("from a file\n")
    with open(tmp_path / "input") as source, open(tmp_path / "output", "wb") as sink:
        with create(factory, bundle(["cat"]), stdin=source, stdout=sink.fileno()) as container:
            container.start()
            assert container.wait(TIMEOUT) == 0
        assert not source.closed
    assert (tmp_path / "output").read_text() == "from a file\n"


def test_devnull_is_empty_and_swallows(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(sh("wc -c; cat && exit 5"))) as container:
        container.start()
        assert container.wait(TIMEOUT) == 5


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_streams_that_the_caller_has_not_lead_nowhere(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    # The library's own descriptors get these numbers, and must not be taken for the caller's.
    script = f"""
report = os.open(f"{{bundle}}/report", os.O_WRONLY | os.O_CREAT)
report = os.dup2(report, 50, inheritable=False)
for number in {closed}:
    os.close(number)
container = factory.create("one", f"{{bundle}}/config.json", bundle=bundle, pass_fds=[report])
with container:
    container.start()
    container.wait(20)
"""
    one = bundle(sh("for n in 0 1 2; do to=$(readlink /proc/$$/fd/$n); echo $to >&3; done"))
    with Program(factory.root, one, script) as program:
        program.popen.wait(TIMEOUT)
    targets = (one.path / "report").read_text().splitlines()
    assert [targets[number] for number in closed] == ["/dev/null"] * len(closed)


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_stream_that_is_not_open_is_refused(
    factory: lc.Factory, bundle: BundleMaker, stream: str
) -> None:
    with pytest.raises(lc.ContainerError, match="4242"):
        create(factory, bundle(["true"]), "one", **{stream: 4242})
    assert factory.list() == []


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_only_errors_can_be_joined(factory: lc.Factory, bundle: BundleMaker, stream: str) -> None:
    with pytest.raises(lc.ContainerError, match=stream):
        create(factory, bundle(["true"]), "one", **{stream: lc.STDOUT})


@pytest.mark.parametrize("user_namespace", [False, True])
@pytest.mark.parametrize("uid", [0, 1000])
def test_pipes_can_be_reopened_by_the_containers_user(
    factory: lc.Factory, bundle: BundleMaker, uid: int, user_namespace: bool
) -> None:
    def become(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": uid, "gid": uid}
        if user_namespace:
            add_user_namespace(config)

    script = "cat </dev/stdin >/dev/stdout; echo error >/proc/self/fd/2"
    result = read_inside(factory, bundle(sh(script), edit=become), input=b"input\n")
    assert result.lines == ["input", "error"]


def test_files_keep_their_owner(factory: lc.Factory, bundle: BundleMaker, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    holder = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        with open(tmp_path / "file", "w") as file:
            one = bundle(["true"], edit=as_user)
            with create(factory, one, stdin=holder, stdout=file) as container:
                container.start()
                container.wait(TIMEOUT)
    finally:
        os.close(holder)
    assert {os.stat(tmp_path / name).st_uid for name in ("fifo", "file")} == {os.geteuid()}


def test_hosts_null_device_keeps_owner_and_mode(factory: lc.Factory, bundle: BundleMaker) -> None:
    before = os.stat("/dev/null")

    def become(config: dict[str, Any]) -> None:
        as_user(config)
        add_user_namespace(config)

    with create(factory, bundle(["true"], edit=become)) as container:
        container.start()
        container.wait(TIMEOUT)
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert stat.filemode(after.st_mode) == stat.filemode(before.st_mode)


def test_timeout_of_communicate_keeps_the_output_so_far(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    script = "echo early; exec >&- 2>&-; read line"
    with create(factory, bundle(sh(script)), stdin=lc.PIPE, stdout=lc.PIPE) as container:
        container.start()
        process = container.process
        assert process is not None
        holder = os.dup(process.stdin.fileno() if process.stdin else -1)
        try:
            with pytest.raises(lc.TimeoutExpired) as caught:
                process.communicate(timeout=0.3)
            assert caught.value.output == b"early\n"
        finally:
            os.close(holder)
