"""Generated configurations, run by runc and by pyrunc: a program finds the same inside.

``LPC_DIFFERENTIAL_EXAMPLES`` sets how many are run; with ``LPC_DIFFERENTIAL_RANDOM=1`` they are
other ones each time. Where the two differ on purpose, :data:`REFUSALS` and :data:`REPORTS` say
when, and docs/differences.md says why: every entry's title is a row there.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, note, settings

from tests import leaks
from tests.conformance import configs, probe
from tests.conformance.configs import DEFAULT_DEVICES, Case
from tests.conformance.mount_configs import ATTRIBUTES, RECURSIVE
from tests.conformance.workbench import Outcome, Workbench

if TYPE_CHECKING:
    from tests.conftest import Pyrunc

RUNC = shutil.which("runc")
EXAMPLES = int(os.environ.get("LPC_DIFFERENTIAL_EXAMPLES", "100"))
RANDOM = os.environ.get("LPC_DIFFERENTIAL_RANDOM", "0") != "0"
DOCUMENT = Path(__file__).parents[2] / "docs/differences.md"

Config = dict[str, Any]

RECURSIVE_ATIME = frozenset({"ratime", "rnostrictatime"})
CLEARING = frozenset(
    {"rw", "suid", "dev", "exec", "atime", "norelatime", "nostrictatime", "diratime"}
)


# ---- where one of the two refuses --------------------------------------------------------------


class Refusal(NamedTuple):
    """A configuration that only ``by`` refuses, with these words on its standard error."""

    title: str
    by: str
    words: str
    when: Callable[[Config], bool]


def _maps_users(config: Config) -> bool:
    return any(each["type"] == "user" for each in config["linux"]["namespaces"])


def _options(mount: Config) -> list[str]:
    options: list[str] = mount.get("options", [])
    return options


def _is_bind(mount: Config) -> bool:
    return "bind" in _options(mount) or "rbind" in _options(mount)


def _binds(config: Config) -> list[Config]:
    return [mount for mount in config["mounts"] if _is_bind(mount)]


REFUSALS = (
    Refusal(
        "Capabilities that cannot be granted",
        "runc",
        "unable to apply caps: operation not permitted",
        lambda config: "capabilities" in config["process"],
    ),
    Refusal(
        "A container that may not use /dev/null",
        "runc",
        "error reopening /dev/null inside container",
        lambda config: "devices" in config["linux"] or "devices" in config["linux"]["resources"],
    ),
    Refusal(
        "A working directory behind a dangling symlink",
        "runc",
        "file exists",
        lambda config: config["process"]["cwd"].startswith("/to-nothing/"),
    ),
    Refusal(
        "Unbindable root propagation",
        "runc",
        "error preparing rootfs",
        lambda config: config["linux"].get("rootfsPropagation", "").endswith("unbindable"),
    ),
    Refusal(
        "Options of a bind mount in a user namespace",
        "runc",
        "operation not permitted",
        lambda config: _maps_users(config) and any(map(_names_attributes, _binds(config))),
    ),
    Refusal(
        "A bind mount of part of a tree in a user namespace",
        "runc",
        "invalid argument",
        lambda config: _maps_users(config) and any("bind" in _options(m) for m in _binds(config)),
    ),
    Refusal(
        "Recursive options that take access times back",
        "runc",
        "invalid argument",
        lambda config: any(word in RECURSIVE_ATIME for m in _binds(config) for word in _options(m)),
    ),
    Refusal(
        "The option defaults",
        "runc",
        "defaults",
        lambda config: any("defaults" in _options(mount) for mount in config["mounts"]),
    ),
    Refusal(
        "A device of a user namespace that the host has under another name",
        "pyrunc",
        "is another device",
        lambda config: _maps_users(config) and "devices" in config["linux"],
    ),
    Refusal(
        "A resource limit that is given twice",
        "pyrunc",
        "is given twice",
        lambda config: "rlimits" in config["process"],
    ),
    Refusal(
        "A mount of type bind without the option bind",
        "runc",
        "no such device",
        lambda config: any(m["type"] == "bind" and not _is_bind(m) for m in config["mounts"]),
    ),
    Refusal(
        "An empty word",
        "pyrunc",
        "$.linux.rootfsPropagation: invalid value ''",
        lambda config: config["linux"].get("rootfsPropagation") == "",
    ),
    Refusal(
        "A bind mount with options for a file system",
        "pyrunc",
        "is for a file system, a bind mount has none",
        lambda config: any("size=1m" in _options(mount) for mount in _binds(config)),
    ),
)


def _names_attributes(mount: Config) -> bool:
    return any(word in (*ATTRIBUTES, *RECURSIVE) for word in _options(mount))


def _sets_attributes(mount: Config) -> bool:
    return any(word in ATTRIBUTES and word not in CLEARING for word in _options(mount))


# ---- where both run the program, and it finds something else -----------------------------------


class Adjustment(NamedTuple):
    """Takes a difference that is there on purpose out of both reports."""

    title: str
    when: Callable[[Config], bool]
    adjust: Callable[[probe.Report], None]


def _each(title: str, pattern: str, replacement: str = "") -> Callable[[probe.Report], None]:
    """Replace in every line of a section, and drop lines that become empty."""

    def adjust(report: probe.Report) -> None:
        lines = [re.sub(pattern, replacement, line) for line in report.get(title, [])]
        report[title] = [line for line in lines if line]

    return adjust


def _sorted_environment(report: probe.Report) -> None:
    report["environment"].sort()


def _modes_of_tmpfs(report: probe.Report) -> None:
    """What a tmpfs that covers a directory looks like from above."""
    points = set()
    for line in report["mountinfo"]:
        place, _, rest = line.partition(" 0:#")
        if " - tmpfs " in rest:
            points.add(place.rpartition(" > ")[2])
    report["nodes"] = sorted(
        f"directory {line.partition(' ')[2]}"
        if line.startswith("4") and line.rpartition(" ")[2] in points
        else line
        for line in report["nodes"]
    )


def _has_recursive_option(mount: Config) -> bool:
    return not _is_bind(mount) and any(word in RECURSIVE for word in _options(mount))


def _access_times_contradict(mount: Config) -> bool:
    modes = {word for word in _options(mount) if word.endswith("atime") and "diratime" not in word}
    return len(modes) > 1


def _recursive_flags_contradict(mount: Config) -> bool:
    words = set(_options(mount))
    return {"rro", "rrw"} <= words or any(f"rno{word[1:]}" in words for word in words)


def _clears(mount: Config) -> bool:
    """Is there a flag that only its name takes away? The others go when any attribute is set."""
    named = [word for word in _options(mount) if word in ATTRIBUTES]
    return any("atime" in word and word in CLEARING for word in named) or (
        bool(named) and not _sets_attributes(mount)
    )


# A line of "mountinfo": place, device, root, attributes, propagation, "-", type, source, options.
_ATTRIBUTES = r" r[wo](,\w+)*(?= (\w+:#\d+ |unbindable )*- "

REPORTS = (
    Adjustment(
        "The order of the environment",
        lambda config: True,
        _sorted_environment,
    ),
    Adjustment(
        "The mode of a tmpfs over a directory",
        lambda config: True,
        _each("mountinfo", r"(?<= - tmpfs )(.*),mode=\d+", r"\1"),
    ),
    Adjustment(
        "The mode of a tmpfs over a directory",
        lambda config: any("mode=" in word for m in config["mounts"] for word in _options(m)),
        _modes_of_tmpfs,
    ),
    Adjustment(
        "The mode of a mount point that is a file",
        lambda config: True,
        _each("root file system", r"^-[rwx-]{9} (.*\(made\))$", r"file \1"),
    ),
    Adjustment(
        "The root's propagation",
        lambda config: not config["linux"].get("rootfsPropagation", "rprivate").endswith("private"),
        _each("mountinfo", r"( (shared|master|propagate_from):#\d+| unbindable)+(?= )"),
    ),
    Adjustment(
        "The root's propagation",
        lambda config: config["linux"].get("rootfsPropagation", "").endswith("shared"),
        lambda report: report.pop("mountinfo", []).clear(),
    ),
    Adjustment(
        "A read-only path that is the root",
        lambda config: "/" in config["linux"].get("readonlyPaths", []),
        lambda report: report.pop("mountinfo", []).clear(),
    ),
    Adjustment(
        "A read-only tmpfs that is mounted over",
        lambda config: any(m["type"] == "tmpfs" and "ro" in _options(m) for m in config["mounts"]),
        _each("mountinfo", r"^((?:.* > )?(\S+) > \2 \S+ \S+) r[wo][a-z,]*", r"\1"),
    ),
    Adjustment(
        "Recursive options of a new file system",
        lambda config: any(map(_has_recursive_option, config["mounts"])),
        _each("mountinfo", _ATTRIBUTES + r"(tmpfs|ramfs) )"),
    ),
    Adjustment(
        "Recursive options that contradict each other",
        lambda config: any(map(_recursive_flags_contradict, config["mounts"])),
        _each("mountinfo", _ATTRIBUTES + ")"),
    ),
    Adjustment(
        "Access time options that contradict each other",
        lambda config: any(map(_access_times_contradict, config["mounts"])),
        _each("mountinfo", ",(noatime|relatime)"),
    ),
    Adjustment(
        "A bind mount that takes flags away",
        lambda config: any(map(_clears, _binds(config))),
        _each("mountinfo", _ATTRIBUTES + "tmpfs source )"),
    ),
    Adjustment(
        "A default device that the configuration lists itself",
        lambda config: any(
            d["path"] in DEFAULT_DEVICES for d in config["linux"].get("devices", [])
        ),
        lambda report: [report.pop(title, None) for title in ("groups", "opens")].clear(),
    ),
    Adjustment(
        "The owner of the message queues' directory",
        _maps_users,
        _each("nodes", r"^43ff \d+:\d+ 0:0 /dev/mqueue$"),
    ),
)


def unlike(case: Case, theirs: Outcome, ours: Outcome) -> list[str]:
    """Every difference between the two that is not there on purpose."""
    config = case.config
    if theirs.ran != ours.ran or theirs.code != ours.code:
        if any(_explains(refusal, config, theirs, ours) for refusal in REFUSALS):
            return []
        return [f"exit code {o.code}: {o.error[-500:]}" for o in (theirs, ours)]
    if not theirs.ran:
        return []
    for adjustment in REPORTS:
        if adjustment.when(config):
            adjustment.adjust(theirs.report)
            adjustment.adjust(ours.report)
    if {"type": "pid"} not in config["linux"]["namespaces"]:
        for outcome in (theirs, ours):
            outcome.report.pop("processes", None)
    return probe.differences(theirs.report, ours.report)


def _explains(refusal: Refusal, config: Config, theirs: Outcome, ours: Outcome) -> bool:
    refused, other = (theirs, ours) if refusal.by == "runc" else (ours, theirs)
    refused_only = refused.code == 1 and not refused.ran and not other.error.count("level=error")
    return refused_only and refusal.words in refused.error and refusal.when(config)


# ---- the tests ---------------------------------------------------------------------------------


@pytest.fixture
def workbench(workspace: Path, pyrunc: Pyrunc) -> Iterator[Workbench]:
    busybox = shutil.which("busybox")
    if RUNC is None or busybox is None:
        pytest.skip("needs runc and busybox")
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=workspace))
    directory.chmod(0o755)
    commands = {"runc": [RUNC, "--root", str(directory / "runc")], "pyrunc": pyrunc.argv()}
    bench = Workbench(directory, busybox, commands, f"/{workspace.name}-differential")
    yield bench
    bench.close()
    leaks.remove_tree(directory)


# Longer than a test may take otherwise: a failure is also made smaller.
@pytest.mark.timeout(0 if RANDOM or EXAMPLES > 100 else 600)
@given(case=configs.cases())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not RANDOM,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
def test_runc_and_pyrunc_make_the_same_of_a_configuration(case: Case, workbench: Workbench) -> None:
    theirs, ours = workbench.run("runc", case), workbench.run("pyrunc", case)
    found = unlike(case, theirs, ours)
    note("\n".join(found))
    assert not found


@pytest.mark.parametrize("title", sorted({entry.title for entry in (*REFUSALS, *REPORTS)}))
def test_a_difference_on_purpose_is_in_the_documentation(title: str) -> None:
    assert f"| {title} |" in DOCUMENT.read_text(encoding="utf-8")
