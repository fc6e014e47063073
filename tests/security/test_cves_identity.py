"""Whom a process runs as: users, groups, and what an engine's list of names was taken for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, TIMEOUT, create, exec_inside, read_inside, sh
from tests.security.support import EVERY_SET, capability_lines

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

attack = pytest.mark.attack

NUMBERS = ("1", "1000", "2147483648", "4294967296", "18446744073709551616", "-1", "0x0", "")
WHO = sh("echo $(id -u):$(id -g)")


def with_misleading_names(bundle: BundleMaker) -> Bundle:
    """Every number is somebody's name there, and that one is root."""
    one = bundle(FOREVER, private_rootfs=True)
    lines = [f"{number or 'nobody'}:x:0:0::/:/bin/sh\n" for number in NUMBERS]
    with open(one.rootfs / "etc/passwd", "a") as passwd:
        passwd.writelines(lines)
    return one


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(
            "1", marks=attack("CVE-2026-30892", "is root by a number that was read as another")
        ),
        pytest.param(
            "1000", marks=attack("CVE-2016-3697", "is root by a number that is a user's name")
        ),
    ],
)
def test_cve_2026_30892_and_2016_3697_a_number_is_that_number(
    pyrunc: Pyrunc, bundle: BundleMaker, user: str
) -> None:
    one = with_misleading_names(bundle)
    pyrunc("run", "--detach", "--bundle", one, "one", check=True)
    words = {}
    for option in (["--user", user], ["-u", user], [f"--user={user}"], [f"-u={user}"]):
        words[option[-1]] = pyrunc("exec", *option, "one", *WHO, check=True).stdout
    words["pair"] = pyrunc("exec", "--user", f"{user}:7", "one", *WHO, check=True).stdout
    pyrunc("delete", "--force", "one", check=True)
    assert words.pop("pair") == f"{user}:7\n"
    assert set(words.values()) == {f"{user}:0\n"}


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(
            number,
            marks=attack("CVE-2026-46680", "is root by a number that is too large to be one"),
        )
        for number in NUMBERS[3:]
    ]
    + [
        pytest.param(number, marks=attack("CVE-2024-40635", "is root by a number that overflows"))
        for number in ("4294967296:4294967296", "2147483648:2147483648", "4294967295")
    ],
)
def test_cve_2024_40635_and_2026_46680_numbers_that_are_too_large(
    pyrunc: Pyrunc, bundle: BundleMaker, user: str
) -> None:
    one = with_misleading_names(bundle)
    with lc.Factory(root=pyrunc.root) as factory, create(factory, one) as container:
        container.start()
        done = pyrunc("exec", f"--user={user}", container.id, *WHO)
        # An empty one is none at all: the container's own process's.
        assert done.stdout in ("", "0:0\n" if not user else f"{user}\n")
        assert (done.returncode == 0) is bool(done.stdout)
        if user:
            try:
                text = exec_inside(container, WHO, user=user).text
            except lc.ContainerError as error:
                text = str(error)
            assert text.partition(":")[0] != "0"


@attack("CVE-2016-8867", "keeps capabilities as an ordinary user, by the ambient set")
def test_cve_2016_8867_an_ordinary_user_has_none(factory: lc.Factory, bundle: BundleMaker) -> None:
    status = ["grep", "^Cap", "/proc/self/status"]
    one = bundle(status)
    names = ["CAP_NET_RAW", "CAP_KILL", "CAP_CHOWN"]
    one.process["capabilities"] = dict.fromkeys(EVERY_SET[:4], names)
    one.process["user"] = {"uid": 1000, "gid": 1000}
    sets = capability_lines(read_inside(factory, one).text)
    assert sets["Eff"] == sets["Prm"] == sets["Amb"] == 0
    assert sets["Bnd"] != 0
    one.process.update(args=list(FOREVER), user={"uid": 0, "gid": 0})
    with create(factory, one) as container:
        container.start()
        for more in ({}, {"capabilities": names}):
            options: dict[str, Any] = {"user": (1000, 1000), **more}
            sets = capability_lines(exec_inside(container, status, **options).text)
            assert sets["Eff"] == sets["Prm"] == sets["Amb"] == 0


@attack("CVE-2023-25173", "has the caller's groups, or not those that exclude it")
@pytest.mark.privileged_caller("gives the caller groups")
def test_cve_2023_25173_groups_are_those_of_the_configuration(
    pyrunc: Pyrunc, bundle: BundleMaker
) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    caller = ["setpriv", "--groups", "5,6,7"]
    outputs = []
    for groups in (None, [], [50, 60]):
        one = bundle(["grep", "^Groups", "/proc/self/status"])
        if groups is not None:
            one.process["user"]["additionalGids"] = groups
        one.save()
        outputs.append(spoken([*caller, *pyrunc.argv("run", "--bundle", one, "one")]))
    assert outputs == [[], [], ["50", "60"]]
    one = bundle(FOREVER)
    one.process["user"]["additionalGids"] = [50]
    one.save()
    pyrunc("run", "--detach", "--bundle", one, "one", check=True)
    exec_ = [*caller, *pyrunc.argv("exec", "one", "grep", "^Groups", "/proc/self/status")]
    assert spoken(exec_) == ["50"]
    more = [*caller, *pyrunc.argv("exec", "--additional-gids", "60", "one")]
    assert spoken([*more, "grep", "^Groups", "/proc/self/status"]) == ["50", "60"]
    pyrunc("delete", "--force", "one", check=True)


def spoken(command: list[str]) -> list[str]:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1:]


@attack("CVE-2024-9676", "has a file of the host's read as the container's /etc/passwd")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("climbing", [False, True])
@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_cve_2024_9676_passwd_is_a_link(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, climbing: bool, kind: str
) -> None:
    victim = tmp_path / "passwd"
    if kind == "file":
        victim.write_text("root:x:0:0::/stolen:/bin/sh\n")
    else:
        # Whoever opens it waits for somebody at the other end.
        subprocess.run(["mkfifo", victim], check=True)
    one = bundle(sh("echo $HOME; exec sleep 1000"), private_rootfs=True)
    one.process["env"] = [each for each in one.process["env"] if not each.startswith("HOME=")]
    path = one.rootfs / "etc/passwd"
    path.unlink()
    path.symlink_to("../" * 30 + str(victim)[1:] if climbing else victim)
    with create(factory, one, stdout=lc.PIPE) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"/\n"
        assert exec_inside(container, sh("echo $HOME"), user=0).text == "/\n"
