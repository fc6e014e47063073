"""What the fields of a configuration take away is gone: the field's own demonstrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import read_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


def grant(config: dict[str, Any], *capabilities: str) -> None:
    sets = config["process"]["capabilities"]
    for name in ("bounding", "effective", "permitted"):
        sets[name] = list(capabilities)


@pytest.mark.attack("CAP_NET_RAW", "makes packets of its own without the capability")
@pytest.mark.parametrize("granted", [False, True])
def test_ping_takes_a_capability(factory: lc.Factory, bundle: BundleMaker, granted: bool) -> None:
    one = bundle(sh("ping -c 1 -W 5 127.0.0.1"))
    grant(one.config, *(["CAP_NET_RAW"] if granted else []))
    # Without it no group may make the harmless kind of ping socket either.
    one.linux["sysctl"] = {"net.ipv4.ping_group_range": "1 0"}
    result = read_inside(factory, one)
    if granted:
        assert result.code == 0, result.text
        assert "1 packets received" in result.text
    else:
        assert result.code != 0
        assert "ermission denied" in result.text or "not permitted" in result.text


@pytest.mark.attack("CAP_SYS_ADMIN", "renames its host without the capability")
@pytest.mark.parametrize("granted", [False, True])
def test_a_hostname_takes_a_capability(
    factory: lc.Factory, bundle: BundleMaker, granted: bool
) -> None:
    one = bundle(sh("hostname renamed; hostname"))
    one.config["hostname"] = "before"
    grant(one.config, *(["CAP_SYS_ADMIN"] if granted else []))
    lines = read_inside(factory, one).lines
    if granted:
        assert lines == ["renamed"]
    else:
        assert "not permitted" in lines[0]
        assert lines[-1] == "before"


@pytest.mark.attack("seccomp", "makes a call that its profile refuses")
@pytest.mark.parametrize("refused", [False, True])
def test_a_call_is_refused_by_a_profile(
    factory: lc.Factory, bundle: BundleMaker, refused: bool
) -> None:
    one = bundle(sh("mkdir /tmp/new && echo made"))
    one.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    if refused:
        one.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    result = read_inside(factory, one)
    assert ("made" in result.lines) is not refused
    assert ("not permitted" in result.text) is refused
