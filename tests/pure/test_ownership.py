"""Whose a container's cgroup is: only where its user sees no more than it, and may write there."""

from __future__ import annotations

from typing import Any

import pytest

from libpycontainer.host import Facts
from libpycontainer.plan.ownership import cgroup_owner, host_id
from libpycontainer.spec import light

MAPPINGS = [
    {"containerID": 0, "hostID": 300_000, "size": 1000},
    {"containerID": 2000, "hostID": 1000, "size": 1},
]
MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}


def config(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "mounts": [MOUNT],
        "linux": {
            "namespaces": [{"type": "user"}, {"type": "cgroup"}],
            "uidMappings": MAPPINGS,
            "gidMappings": MAPPINGS,
        },
    }
    for path, value in changes.items():
        *sections, name = path.split("__")
        place = document
        for section in sections:
            place = place[section]
        place[name] = value
    return document


def owner(facts: Facts | None = None, **changes: Any) -> int | None:
    return cgroup_owner(light.load(config(**changes)), facts or Facts())


@pytest.mark.parametrize(("uid", "expected"), [(0, 300_000), (999, 300_999), (2000, 1000)])
def test_the_programs_user_as_the_host_knows_him(uid: int, expected: int) -> None:
    assert owner(process__user={"uid": uid, "gid": 0}) == expected


def test_a_user_who_is_not_mapped_gets_nothing() -> None:
    assert owner(process__user={"uid": 1500, "gid": 0}) is None
    assert host_id((), 0) is None


def test_without_a_user_namespace_ids_are_the_hosts() -> None:
    spaces = [{"type": "cgroup"}]
    assert owner(linux__namespaces=spaces, process__user={"uid": 33, "gid": 33}) == 33
    # Root's own already.
    assert owner(linux__namespaces=spaces) is None


@pytest.mark.parametrize(
    "mounts",
    [
        [],
        [{**MOUNT, "options": ["nosuid", "ro"]}],
        [{**MOUNT, "source": "/sys/fs/cgroup"}],
        [{**MOUNT, "destination": "/cgroup"}],
    ],
    ids=["none", "read-only", "another source", "elsewhere"],
)
def test_without_a_writable_mount_it_stays_its_makers(mounts: list[Any]) -> None:
    assert owner(mounts=mounts) is None


def test_a_destination_may_be_spelled_carelessly() -> None:
    assert owner(mounts=[{**MOUNT, "destination": "//sys/fs/cgroup/"}]) == 300_000


@pytest.mark.parametrize(
    "spaces",
    [[{"type": "user"}], [{"type": "user"}, {"type": "cgroup", "path": "/proc/1/ns/cgroup"}]],
    ids=["none", "joined"],
)
def test_without_a_cgroup_namespace_of_its_own_it_stays_its_makers(spaces: list[Any]) -> None:
    assert owner(linux__namespaces=spaces) is None


def test_of_a_user_namespace_that_is_joined_nothing_is_known() -> None:
    spaces = [{"type": "user", "path": "/proc/1/ns/user"}, {"type": "cgroup"}]
    document = config(linux__namespaces=spaces)
    del document["linux"]["uidMappings"]
    assert cgroup_owner(light.load(document), Facts()) is None


def test_who_has_no_privilege_cannot_give() -> None:
    assert owner(Facts(euid=1000, capabilities=0)) is None
