"""The examples of docs/building.md and docs/testing.md do what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import libpycontainer as lc
from libpycontainer.seccomp import library

pytest_plugins = ["pytester"]

REPOSITORY = Path(lc.__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.privileged_caller("sets limits")
@pytest.mark.no_user_namespace("the default has none")
@pytest.mark.skipif(not library.installed(), reason="libseccomp is not installed")
def test_building(
    busybox_rootfs: Path,
    tmp_path: Path,
    state_root: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "rootfs").symlink_to(busybox_rootfs)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for source in blocks("building.md", "python"):
        # The page's containers belong under this test's own root.
        private = source.replace("lc.Factory()", f"lc.Factory({state_root!r})")
        exec(compile(private, "building.md", "exec"), names)
    out = capfd.readouterr().out
    assert "hello from box\n0\n" in out
    assert "mount proc on /proc" in out
    (mistakes,) = blocks("building.md", "text")
    assert mistakes in out


@pytest.mark.privileged_caller("sets limits")
def test_the_first_program_of_the_readme(capfd: pytest.CaptureFixture[str]) -> None:
    first, *_ = blocks("../README.md", "python")
    exec(compile(first, "README.md", "exec"), {})
    assert capfd.readouterr().out == "0 42\n\n"


@pytest.mark.privileged_caller("enters a network namespace, and comes back")
def test_testing(
    pytester: pytest.Pytester, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    source = "\n".join(["import pyroute2", *blocks("testing.md", "python")])
    pytester.makepyfile(source.replace("/srv/rootfs", str(busybox_rootfs)))
    result = pytester.runpytest_subprocess("-p", "libpycontainer.testing.plugin", "-ra")
    failed = result.parseoutcomes().get("failed", 0) + result.parseoutcomes().get("errors", 0)
    assert failed == 0, result.stdout.str()
    assert result.parseoutcomes()["passed"] == 6
