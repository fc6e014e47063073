"""A process inside against those who run others beside it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, TIMEOUT, create, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

HOLD = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    printf("%ld\n", ptrace(PTRACE_SEIZE, argc > 1 ? atoi(argv[1]) : 0, 0, 0));
    fflush(stdout);
    return sleep(1000);
}
"""


@pytest.mark.attack("a traced zombie", "holds whoever waits for a process beyond his timeout")
def test_a_tracer_inside_holds_nobody_outside(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    """What is traced ends for its tracer first, who may never take note."""
    (tmp_path / "hold.c").write_text(HOLD)
    done = subprocess.run(["gcc", "-static", "hold.c", "-o", "hold"], cwd=tmp_path, check=False)
    if done.returncode:
        pytest.skip("gcc cannot link statically here")
    one = bundle(FOREVER, private_rootfs=True)
    shutil.copy(tmp_path / "hold", one.rootfs / "hold")
    with create(factory, one) as container:
        container.start()
        victim = lc.Process(["sh", "-c", "read line; exit 7"], stdin=lc.PIPE, stdout=lc.DEVNULL)
        find = "/hold $(ps -o pid,args | grep '[r]ead line' | awk '{print $1}')"
        tracer = lc.Process(sh(f"exec {find}"), stdin=lc.DEVNULL, stdout=lc.PIPE)
        with container.exec(victim), container.exec(tracer):
            assert tracer.stdout is not None
            assert tracer.stdout.readline() == b"0\n"
            assert victim.stdin is not None
            victim.stdin.write(b"\n")
            victim.stdin.close()
            began = time.monotonic()
            with pytest.raises(lc.TimeoutExpired):
                victim.wait(timeout=0.3)
            assert victim.poll() is None
            assert container.status == "running"
            assert time.monotonic() - began < TIMEOUT / 2
            tracer.kill()
            assert victim.wait(TIMEOUT) == 7
            tracer.wait(TIMEOUT)
