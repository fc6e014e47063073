"""``pyrunc features`` as containerd and docker read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import BundleMaker, Pyrunc

pytestmark = pytest.mark.conformance


def features(pyrunc: Pyrunc) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(pyrunc("features", check=True).stdout)
    return document


def test_it_needs_no_state_root_and_no_environment() -> None:
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "libpycontainer", "--root", "/nonexistent/root", "features"],
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", os.getcwd())},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.exists("/nonexistent")
    # containerd offers pods with user namespaces only where it finds this.
    assert json.loads(done.stdout)["linux"]["mountExtensions"]["idmap"]["enabled"] is True


def test_it_lists_what_the_kernel_has(pyrunc: Pyrunc) -> None:
    linux = features(pyrunc)["linux"]
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())

    assert len(linux["capabilities"]) == min(last, 40) + 1
    files = {"mount": "mnt", "network": "net"}
    for name in linux["namespaces"]:
        assert os.path.exists(f"/proc/self/ns/{files.get(name, name)}")


def test_runc_lists_the_same_or_less(pyrunc: Pyrunc) -> None:
    runc = shutil.which("runc")
    if runc is None:
        pytest.skip("runc is not installed")
    done = subprocess.run([runc, "features"], capture_output=True, text=True, timeout=30)
    theirs, ours = json.loads(done.stdout), features(pyrunc)

    assert ours["ociVersionMin"] == theirs["ociVersionMin"]
    assert ours["hooks"] == theirs["hooks"]
    assert ours["linux"]["capabilities"] == theirs["linux"]["capabilities"]
    for ours_, theirs_ in (
        (ours["mountOptions"], theirs["mountOptions"]),
        (ours["linux"]["namespaces"], theirs["linux"]["namespaces"]),
    ):
        assert set(theirs_) - set(ours_) == set()
        assert ours_ == sorted(ours_)
    assert set(theirs["linux"]) - set(ours["linux"]) == set()


def test_a_switch_that_is_off_is_an_error_of_create(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    fields: dict[str, Any] = {
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        "netDevices": {"eth0": {}},
    }
    linux = features(pyrunc)["linux"]
    for name, value in fields.items():
        if linux[name]["enabled"]:
            continue
        made = bundle(["true"])
        made.linux[name] = value
        made.save()
        done = pyrunc("create", "--bundle", made, "c")
        assert done.returncode == 1
        assert name in done.stderr
