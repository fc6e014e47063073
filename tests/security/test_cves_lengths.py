"""Values longer than whoever wrote the reader thought of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import add_user_namespace, bind, read_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

attack = pytest.mark.attack

LONG = "x" * 70_000


def long_destination(config: dict[str, Any]) -> None:
    config["mounts"].append({"destination": f"/{LONG}", "type": "tmpfs", "source": "tmpfs"})


def long_source(config: dict[str, Any]) -> None:
    bind(config, f"/{LONG}", "/tmp")


def long_mount_data(config: dict[str, Any]) -> None:
    config["mounts"].append(
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [f"mode={LONG}"]}
    )


def many_mappings(config: dict[str, Any]) -> None:
    rows = [{"containerID": 2 * n, "hostID": 700_000 + 2 * n, "size": 1} for n in range(6000)]
    add_user_namespace(config)
    config["linux"].update(uidMappings=rows, gidMappings=rows)


def long_namespace_path(config: dict[str, Any]) -> None:
    spaces = config["linux"]["namespaces"]
    spaces[:] = [each for each in spaces if each["type"] != "network"]
    spaces.append({"type": "network", "path": f"/{LONG}"})


def long_cgroups_path(config: dict[str, Any]) -> None:
    config["linux"]["cgroupsPath"] += f"/{LONG}"


def long_root(config: dict[str, Any]) -> None:
    config["root"]["path"] = f"/{LONG}"


def long_hostname(config: dict[str, Any]) -> None:
    config["hostname"] = LONG


def long_sysctl(config: dict[str, Any]) -> None:
    config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": LONG}


def long_cwd(config: dict[str, Any]) -> None:
    config["process"]["cwd"] = f"/{LONG}"


def many_groups(config: dict[str, Any]) -> None:
    config["process"]["user"]["additionalGids"] = list(range(1, 66_000))


def long_masked_path(config: dict[str, Any]) -> None:
    config["linux"]["maskedPaths"].append(f"/{LONG}")


@attack("CVE-2021-43784", "has an over-long value be read as other settings")
@pytest.mark.parametrize(
    "lengthen",
    [
        long_destination,
        long_source,
        long_mount_data,
        many_mappings,
        long_namespace_path,
        long_cgroups_path,
        long_root,
        long_hostname,
        long_sysctl,
        long_cwd,
        many_groups,
        long_masked_path,
    ],
)
def test_cve_2021_43784_over_long_value_is_refused(
    factory: lc.Factory, bundle: BundleMaker, lengthen: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(lc.ContainerError) as caught:
        read_inside(factory, bundle(["true"], edit=lengthen))
    assert not isinstance(caught.value, lc.ProtocolError)
    assert len(str(caught.value)) < 200_000


@attack("CVE-2021-43784", "has an over-long value be read as other settings")
def test_cve_2021_43784_long_values_that_fit_stay_what_they_are(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # The exploit: 64 KiB and a little more of one field, and in the little more another mapping.
    forged = "0 0 4294967295\n" * 5000
    one = bundle(sh("cat /proc/self/uid_map; echo ${#FORGED}; echo $(id -u)"))
    add_user_namespace(one.config)
    one.process["env"].append(f"FORGED={forged}")
    one.config["annotations"] = {"forged": forged, "x" * 70_000: "0 0 4294967295"}
    lines = read_inside(factory, one).lines
    expected = one.linux["uidMappings"]
    assert [line.split() for line in lines[:-2]] == [
        [str(row[key]) for key in ("containerID", "hostID", "size")] for row in expected
    ]
    assert lines[-2:] == [str(len(forged)), "0"]
