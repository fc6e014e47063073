"""What one more container costs, counted: system calls, processes, packets between the two sides.

Counts are the same on a slow machine, and with others at work, so a slowdown by design shows where
a time would not. The bounds are a little above what is needed; one that is met with much to spare
should be lowered. Times are measured by ``make bench``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests import ways
from tests.conftest import RUN_PREFIX

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

pytestmark = [
    pytest.mark.privileged_caller("strace cannot follow who has become untraceable"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.skipif(ways.WAY != "root", reason="counts the way that the bounds were taken in"),
]

PROGRAM = """
import json, os, sys
import libpycontainer as lc
mode, way, root, bundle, cgroup = sys.argv[1:]
config = json.load(open(f"{bundle}/config.json"))
config["linux"]["cgroupsPath"] = cgroup
null = dict.fromkeys(("stdin", "stdout", "stderr"), lc.DEVNULL)
def mark(name):
    try: os.stat(f"/lpc-mark-{name}")
    except OSError: pass
with lc.Factory(root, warm=mode == "warm") as factory:
    def once():
        if way == "run":
            container = factory.run("one", config, bundle=bundle, **null)
        else:
            container = factory.create("one", config, bundle=bundle, **null)
            if way == "exec":
                container.start()
                mark("begin")
                with container.exec(lc.Process(["true"], **null)) as process:
                    assert process.wait(20) == 0
                mark("end")
                container.signal(9)
            else:
                container.start()
        code = container.wait(20)
        assert code == (-9 if way == "exec" else 0), code
        container.delete()
    # The first one imports and finds out what the later ones know.
    once()
    if way != "exec": mark("begin")
    once()
    if way != "exec": mark("end")
"""
LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
CLONES = ("clone", "clone3", "fork", "vfork")


class Costs(NamedTuple):
    caller: int
    everybody: int
    processes: int
    packets: int


def count(trace: str) -> Costs:
    """The calls between the last pair of marks, in the order in which they were made."""
    lines = trace[trace.rindex("/lpc-mark-begin") :].splitlines()[1:]
    caller = trace.partition(" ")[0]
    calls: Counter[tuple[bool, str]] = Counter()
    for line in lines:
        if "/lpc-mark-end" in line:
            break
        # "<... resumed>" is the second half of one that was counted.
        if match := LINE.match(line):
            calls[match[1] == caller, match[2]] += 1
    return Costs(
        caller=sum(n for (mine, _), n in calls.items() if mine),
        everybody=sum(calls.values()),
        processes=sum(n for (_, name), n in calls.items() if name in CLONES),
        packets=sum(n for (_, name), n in calls.items() if name == "sendmsg"),
    )


@pytest.mark.parametrize(
    ("mode", "way", "most"),
    [
        # Of the caller's calls some 85 are for cgroups: ten groups, where v1 and v2 are mounted.
        ("warm", "run", Costs(caller=245, everybody=890, processes=1, packets=7)),
        ("warm", "start", Costs(caller=290, everybody=950, processes=1, packets=8)),
        ("warm", "exec", Costs(caller=135, everybody=415, processes=2, packets=6)),
        ("cold", "run", Costs(caller=260, everybody=1500, processes=2, packets=6)),
        ("cold", "exec", Costs(caller=140, everybody=1000, processes=2, packets=4)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_container_costs(
    bundle: BundleMaker, tmp_path: Path, mode: str, way: str, most: Costs
) -> None:
    one = bundle(["sleep", "1000"] if way == "exec" else ["true"])
    output = tmp_path / "trace"
    cgroup = ways.cgroup(f"{RUN_PREFIX}-costs-{mode}-{way}")
    arguments = [mode, way, str(tmp_path / "state"), str(one), cgroup]
    program = [sys.executable, "-c", PROGRAM, *arguments]
    subprocess.run(["strace", "-f", "-qq", "-o", str(output), *program], check=True, timeout=120)
    costs = count(output.read_text(errors="replace"))
    assert costs.processes == most.processes
    assert costs.packets <= most.packets
    assert costs.caller <= most.caller
    assert costs.everybody <= most.everybody
