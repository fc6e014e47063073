"""What a caller asks for becomes the specification's process object."""

from __future__ import annotations

import os
from typing import Any

import pytest

from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError
from libpycontainer.process import Process, user_pair
from libpycontainer.spec import light

BASE: dict[str, Any] = {
    "terminal": True,
    "consoleSize": {"height": 24, "width": 80},
    "args": ["sh"],
    "cwd": "/srv",
    "env": ["PATH=/bin", "HOME=/root"],
    "user": {"uid": 7, "gid": 8, "umask": 0o077, "additionalGids": [50]},
    "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]},
    "noNewPrivileges": True,
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
    "oomScoreAdj": 5,
    "apparmorProfile": "web",
}


def described(process: Process, base: dict[str, Any] | None = None) -> dict[str, Any]:
    record = light.record("Process", BASE if base is None else base)
    document: dict[str, Any] = light.dump(process.describe(record))
    return document


def test_what_is_not_said_is_the_containers_own() -> None:
    document = described(Process(["ps", "-e"]))
    changed = {"terminal": False, "args": ["ps", "-e"]}
    wanted = {**BASE, **changed}
    del wanted["consoleSize"]
    assert {k: v for k, v in document.items() if v is not None and v is not False} == {
        k: v for k, v in wanted.items() if v is not False
    }


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({"A": "1", "B": ""}, ["A=1", "B="]),
        (["A=1", "B="], ["A=1", "B="]),
        (("A=1",), ["A=1"]),
        ({}, []),
        ([], []),
        (None, BASE["env"]),
    ],
)
def test_an_environment_is_a_mapping_or_a_list(env: Any, wanted: list[str]) -> None:
    assert described(Process(["x"], env=env)).get("env") == wanted


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        (None, None),
        (0, (0, 0)),
        (1000, (1000, 0)),
        ("1000", (1000, 0)),
        ("1000:50", (1000, 50)),
        ("1000:", (1000, 0)),
        ((1000, 50), (1000, 50)),
    ],
)
def test_a_user_is_numbers(user: Any, wanted: tuple[int, int] | None) -> None:
    assert user_pair(user) == wanted


@pytest.mark.parametrize(
    "user", ["root", "root:root", "0:root", "", ":", ":0", "-1", -1, "0:0:0", " 0", "\u00b2", "1.5"]
)
def test_anything_else_is_refused_with_the_way_to_say_it(user: Any) -> None:
    with pytest.raises(ContainerError, match="give numbers") as caught:
        Process(["x"], user=user)
    assert repr(user) in str(caught.value)


def test_another_user_has_no_groups_and_no_home_of_the_containers_own() -> None:
    document = described(Process(["x"], user="1000:50"))
    assert document["user"] == {"uid": 1000, "gid": 50, "umask": 0o077}
    assert document["env"] == ["PATH=/bin"]


def test_another_user_keeps_the_environment_that_was_given() -> None:
    document = described(Process(["x"], user=1000, env={"HOME": "/h"}))
    assert document["env"] == ["HOME=/h"]


def test_additional_groups_are_added_to_whichever_user() -> None:
    same = described(Process(["x"], additional_gids=[5]))["user"]
    assert same == {"uid": 7, "gid": 8, "umask": 0o077, "additionalGids": [5]}
    other = described(Process(["x"], user=9, additional_gids=[5, 6]))["user"]
    assert other == {"uid": 9, "gid": 0, "umask": 0o077, "additionalGids": [5, 6]}
    assert described(Process(["x"], additional_gids=[3]), {"cwd": "/", "args": ["sh"]})["user"] == {
        "uid": 0,
        "gid": 0,
        "additionalGids": [3],
    }


def test_every_change_reaches_the_document() -> None:
    process = Process(
        ["x"],
        cwd="/elsewhere",
        no_new_privileges=False,
        oom_score_adj=0,
        apparmor_profile="other",
        selinux_label="a:b:c",
        rlimits={"RLIMIT_CORE": (0, 1), "RLIMIT_NOFILE": (3, 4)},
    )
    document = described(process)
    assert document["cwd"] == "/elsewhere"
    assert document["noNewPrivileges"] is False
    assert document["oomScoreAdj"] == 0
    assert (document["apparmorProfile"], document["selinuxLabel"]) == ("other", "a:b:c")
    assert document["rlimits"] == [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 1},
        {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 4},
    ]


@pytest.mark.parametrize("names", [[], ["CAP_KILL", "CAP_CHOWN"]])
def test_capabilities_are_never_inheritable(names: list[str]) -> None:
    # They would come back with every program that has them in its file (CVE-2022-24769).
    document = described(Process(["x"], capabilities=names))
    kinds = ("bounding", "effective", "permitted")
    assert document["capabilities"] == dict.fromkeys(kinds, names)


def test_a_description_can_be_used_over_several_bases() -> None:
    process = Process(["x"], user=3)
    first = described(process)
    second = described(process, {"cwd": "/", "args": ["sh"], "user": {"uid": 1, "gid": 1}})
    assert first["user"]["umask"] == 0o077
    assert second["user"] == {"uid": 3, "gid": 0}
    assert described(process) == first


def test_the_base_is_left_as_it_was() -> None:
    record = light.record("Process", BASE)
    before = light.dump(record)
    Process(["x"], user=3, env={}, additional_gids=[1], capabilities=[]).describe(record)
    assert light.dump(record) == before


def test_a_document_is_taken_as_it_is_complete() -> None:
    document = {"args": ["ps"], "cwd": "/", "terminal": True, "user": {"uid": 1, "gid": 2}}
    process = Process.from_document(document)
    assert (process.args, process.terminal) == (["ps"], True)
    assert {k: v for k, v in described(process).items() if v is not None} == document


def test_a_documents_terminal_may_be_overruled() -> None:
    process = Process.from_document({"args": ["ps"], "cwd": "/", "terminal": True}, terminal=False)
    assert process.terminal is False


def test_a_document_is_copied() -> None:
    document: dict[str, Any] = {"args": ["ps"], "cwd": "/"}
    process = Process.from_document(document)
    document["cwd"] = "/other"
    assert described(process)["cwd"] == "/"


def test_a_terminals_size_can_be_set_only_where_there_is_one() -> None:
    process = Process(["x"])
    with pytest.raises(ContainerError, match="no terminal"):
        process.resize(24, 80)
    master, slave = os.openpty()
    process.attach_console(sys_.Fd(master))
    process.resize(24, 80)
    assert os.get_terminal_size(slave) == (80, 24)
    assert process.console == master
    process.close()
    os.close(slave)


def test_a_process_prints_as_what_it_is() -> None:
    assert repr(Process(["ps"])) == "<Process ['ps'] pid=None returncode=None>"
