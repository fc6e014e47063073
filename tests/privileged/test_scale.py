"""Many containers alive at once: none of them makes another one's verbs dearer.

What is counted is what Python opens, lists and executes (its audit events), not time: a cost by
design shows on any machine. benchmarks/crowds.py has the times.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import libpycontainer as lc
from tests import ways
from tests.conftest import RUN_PREFIX
from tests.privileged.support import FOREVER, Program, groups_left

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

PATH = ways.cgroup(f"{RUN_PREFIX}-scale")
MANY = 300

COUNT = """
counted = 0
def count(event, arguments):
    global counted
    counted += event in ("open", "os.listdir", "os.scandir", "os.mkdir", "socket.connect")
def cost(action):
    global counted
    before = counted
    action()
    return counted - before
many, path = int(os.environ["MANY"]), os.environ["CGROUP"]
with factory.group("crowd", cgroups_path=path) as crowd:
    alive = []
    def one_more():
        alive.append(create(f"crowd/c{len(alive)}"))
        alive[-1].start()
    def look():
        assert {each.status for each in crowd.children()} == {"running"}
        return {
            "create": cost(one_more),
            "list": cost(factory.list),
            "state": cost(alive[0].state),
            "stats": cost(alive[0].stats),
            "group's stats": cost(crowd.stats),
        }
    one_more()
    crowd.stats()
    sys.addaudithook(count)
    few = look()
    while len(alive) < many - 1:
        one_more()
    say(json.dumps([few, look(), len(crowd.processes())]))
"""


def test_three_hundred_alive_cost_each_other_nothing(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(FOREVER)
    del one.linux["cgroupsPath"]
    one.save()
    environment = {"MANY": str(MANY), "CGROUP": PATH}
    with Program(factory.root, one, COUNT, more_env=environment) as program:
        few, many, processes = json.loads(program.hear())
        assert program.rest() == ""
        assert program.popen.returncode == 0
    assert processes == MANY
    for verb in ("create", "state", "stats", "group's stats"):
        assert many[verb] == few[verb], verb
    # Two were alive at the first look (the crowd and two inside), and all of them at the last.
    each = (many["list"] - few["list"]) / (MANY - 2)
    assert each == int(each), "every further container costs the same"
    assert 1 <= each <= 6
    assert factory.list() == []
    assert groups_left(PATH) == []
