"""Descriptors of the host's that a process inside might come by."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, create, exec_inside, sh
from tests.security.support import text_or_refusal, tree

if TYPE_CHECKING:
    from tests.conftest import BundleMaker, Pyrunc

attack = pytest.mark.attack


def host_only_program(tmp_path: Path) -> Path:
    """A program of the host's, that no path of a container leads to."""
    program = tmp_path / "host-only"
    program.write_text("#!/bin/sh\necho ESCAPED\n")
    program.chmod(0o755)
    return program


@attack("CVE-2024-21626", "works in, or executes from, a directory of the host's that leaked")
@pytest.mark.parametrize("path", ["/proc/self/fd/{}", "/proc/1/fd/{}", "/proc/thread-self/fd/{}"])
def test_cve_2024_21626_descriptors_are_no_way_out(
    state_root: str, bundle: BundleMaker, tmp_path: Path, path: str
) -> None:
    program = host_only_program(tmp_path)
    host = os.stat("/")
    look = "stat -c %d:%i . /; ls -d ../../../../../../bin/busybox; ls " + str(program)
    one = bundle(FOREVER, private_rootfs=True)
    before = tree(one.rootfs / "tmp")
    # Directories that the caller forgot to close, too.
    forgotten = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(5)]
    for fd in forgotten:
        os.set_inheritable(fd, True)
    texts = []
    try:
        with lc.Factory(root=state_root, warm=True) as factory:
            with create(factory, one) as container:
                container.start()
                for number in range(40):
                    texts.append(attempt(container, sh(look), path.format(number)))
                    name = f"{path.format(number)}{program}"
                    texts.append(attempt(container, [name], "/"))
            for number in range(3, 15):
                one.process.update(args=sh(look), cwd=path.format(number))
                texts.append(text_or_refusal(factory, one))
                one.process.update(args=[f"{path.format(number)}{program}"], cwd="/")
                texts.append(text_or_refusal(factory, one))
    finally:
        for fd in forgotten:
            os.close(fd)
    for text in texts:
        assert "ESCAPED" not in text
        assert f"{host.st_dev}:{host.st_ino}\n" not in text
        assert f"\n{program}" not in text
    assert any("working directory" in text for text in texts)
    # Nor does the runtime make a directory by the name that such a link has.
    assert tree(one.rootfs / "tmp") == before


def attempt(container: lc.Container, args: list[str], cwd: str) -> str:
    try:
        return exec_inside(container, args, cwd=cwd).text
    except lc.ContainerError as error:
        return f"refused: {error}"


@attack("CVE-2024-21626", "works in, or executes from, a directory of the host's that leaked")
def test_cve_2024_21626_by_the_command(pyrunc: Pyrunc, bundle: BundleMaker, tmp_path: Path) -> None:
    program = host_only_program(tmp_path)
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    # The caller's shell left a directory of the host's open, wherever it happens to be.
    kept = [os.dup2(directory, number) for number in (17, 18)]
    try:
        one = bundle(sh("sleep 1000"))
        pyrunc("run", "--detach", "--bundle", one, "one", pass_fds=kept, check=True)
        for number in (3, 7, 17, 18):
            cwd = f"/proc/self/fd/{number}"
            for arguments in (
                ("--cwd", cwd, "one", "ls", str(program)),
                ("one", cwd + str(program)),
            ):
                done = pyrunc("exec", *arguments, pass_fds=kept)
                assert done.returncode != 0
                assert str(program) not in done.stdout
                assert "ESCAPED" not in done.stdout
        pyrunc("delete", "--force", "one", check=True)
        one.process.update(args=["ls", str(program)], cwd="/proc/self/fd/17")
        one.save()
        done = pyrunc("run", "--bundle", one, "two", pass_fds=kept)
        assert done.returncode != 0
        assert str(program) not in done.stdout
    finally:
        for fd in (directory, *kept):
            os.close(fd)


@attack("CVE-2024-21626", "works in, or executes from, a directory of the host's that leaked")
def test_cve_2024_21626_directory_that_was_passed_on_purpose(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        one = bundle(["pwd"], edit=lambda c: c["process"].update(cwd="/proc/self/fd/3"))
        refused = pytest.raises(lc.StepError, match="working directory")
        with create(factory, one, pass_fds=[directory]) as container, refused:
            container.start()
    finally:
        os.close(directory)
