"""What lies around a container: the caller's terminal, sockets, hooks, the kernel's settings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    Program,
    create,
    exec_inside,
    read_inside,
    sh,
)
from tests.security.support import CORE_PATTERN, text_or_refusal, tree

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

attack = pytest.mark.attack


# ---- the caller's terminal ----------------------------------------------------------------------


TYPIST = r"""
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static int type(void)
{
    int typed = 0;
    for (int fd = 0; fd < 3; fd++) {
        ioctl(fd, TIOCSCTTY, 0);
        for (const char *c = "touch /evil\n"; *c; c++)
            typed += ioctl(fd, TIOCSTI, c) == 0;
    }
    return typed;
}

int main(void)
{
    int typed = type();
    setsid();
    return typed + type() ? 7 : 8;
}
"""

CALLER = """
import fcntl, pty, struct, termios
master, slave = pty.openpty()
# It is the terminal of the caller's own session, as it is in a shell.
os.setsid()
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
def queued():
    return struct.unpack("i", fcntl.ioctl(slave, termios.FIONREAD, b"0000"))[0]
try:
    fcntl.ioctl(slave, termios.TIOCSTI, b"\\n")
except OSError:
    say("forbidden")
else:
    say("possible" if queued() else "lost")
termios.tcflush(slave, termios.TCIFLUSH)
streams = dict(stdin=slave, stdout=slave, stderr=slave)
with factory.create("one", f"{bundle}/config.json", bundle=bundle, **streams) as container:
    container.start()
    say(container.wait(20))
say(queued())
document = json.load(open(f"{bundle}/config.json"))
document["process"]["args"] = ["sleep", "1000"]
with factory.create("two", document, bundle=bundle, **streams) as container:
    container.start()
    process = lc.Process(["/typist"], **streams)
    container.exec(process)
    say(process.wait(20))
say(queued())
"""


@pytest.fixture
def typist(tmp_path: Path) -> Path:
    (tmp_path / "typist.c").write_text(TYPIST)
    command = ["cc", "-w", "-static", "typist.c", "-o", "typist"]
    if shutil.which("cc") is None or subprocess.run(command, cwd=tmp_path).returncode:
        pytest.skip("cc cannot link statically here")
    return tmp_path / "typist"


@pytest.mark.parametrize(
    "fresh_session",
    [
        pytest.param(
            False, marks=attack("CVE-2016-10124", "types into the caller's terminal from inside")
        ),
        pytest.param(
            True, marks=attack("CVE-2017-5226", "types into the caller's terminal from inside")
        ),
    ],
)
def test_cve_2017_5226_and_2016_10124_the_terminal_takes_no_input_from_inside(
    state_root: str, bundle: BundleMaker, typist: Path, fresh_session: bool
) -> None:
    args = ["/bin/busybox", "setsid", "/typist"] if fresh_session else ["/typist"]
    one = bundle(args, private_rootfs=True)
    shutil.copy(typist, one.rootfs / "typist")
    one.save()
    with Program(state_root, one, CALLER) as caller:
        words = [caller.hear() for _ in range(5)]
    # Where the kernel forbids it to everybody, nothing is learnt here.
    if words[0] == "forbidden":
        pytest.skip("this kernel lets nobody type (dev.tty.legacy_tiocsti)")
    assert words == ["possible", "8" if not fresh_session else words[1], "0", "8", "0"]


# ---- sockets ------------------------------------------------------------------------------------


def abstract_sockets(text: str) -> set[str]:
    return {line.split()[-1] for line in text.splitlines() if line.split()[-1].startswith("@")}


@attack("CVE-2020-15257", "reaches the runtime's sockets from the host's network namespace")
@pytest.mark.parametrize("warm", [False, True])
def test_cve_2020_15257_no_socket_has_an_abstract_name(
    state_root: str, bundle: BundleMaker, warm: bool
) -> None:
    before = abstract_sockets(Path("/proc/net/unix").read_text())
    one = bundle(FOREVER)
    spaces = one.linux["namespaces"]
    one.linux["namespaces"] = [each for each in spaces if each["type"] != "network"]
    # Of another network namespace no sysfs can be mounted as an ordinary user.
    one.config["mounts"] = [m for m in one.config["mounts"] if m["destination"] != "/sys"]
    look = ["cat", "/proc/net/unix"]
    with lc.Factory(root=state_root, warm=warm) as factory, create(factory, one) as container:
        created = Path(f"/proc/{container.pid}/net/unix").read_text()
        container.start()
        inside = exec_inside(container, look).text
    for text in (created, inside):
        assert text.startswith("Num")
        new = abstract_sockets(text) - before
        assert not [name for name in new if "pycontainer" in name or "lpc" in name]
        # Nor is the directory known in which the others lie.
        assert not [name for name in text.split() if name.startswith(f"{state_root}/")]


# ---- hooks --------------------------------------------------------------------------------------


HOOKS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)


@attack("CVE-2025-23266", "has a hook of the host's load a library of the root filesystem")
@pytest.mark.parametrize("kind", HOOKS)
def test_cve_2025_23266_hooks_have_no_variable_of_the_programs(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, kind: str
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    seen.chmod(0o777)
    # Its own shell would add some; what the kernel was given for it is in /proc.
    script = f"tr '\\0' '\\n' </proc/self/environ >{seen}/{kind}"
    one = bundle(["true"], private_rootfs=True)
    one.process["env"] += [
        "LD_PRELOAD=./planted.so",
        "LD_LIBRARY_PATH=.",
        "LD_AUDIT=./planted.so",
        "BASH_ENV=./planted",
        "ENV=./planted",
    ]
    (one.rootfs / "planted.so").write_bytes(b"\x7fELF" + bytes(100))
    (one.rootfs / "planted").write_text(f"touch {seen}/planted\n")
    one.config["hooks"] = {kind: [{"path": "/bin/sh", "args": sh(script)}]}
    if kind == "startContainer":
        one.config["mounts"].append(
            {"destination": str(seen), "type": "bind", "source": str(seen), "options": ["bind"]}
        )
    assert read_inside(factory, one).code == 0
    assert tree(seen) == {kind: ""}


# ---- the kernel's settings ----------------------------------------------------------------------


SYSCTLS = (
    {"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/evil"},
    {"kernel.shm_rmid_forced": "1\nkernel.core_pattern=|/evil"},
    {"kernel.shm_rmid_forced+kernel.core_pattern": "|/evil"},
    {"kernel.core_pattern": "|/evil"},
    {"kernel/core_pattern": "|/evil"},
    {"kernel.msgmax/../core_pattern": "|/evil"},
    {"kernel/msgmax/../core_pattern": "|/evil"},
    {"net/../kernel/core_pattern": "|/evil"},
    {"net.ipv4/../../kernel/core_pattern": "|/evil"},
    {"net/../../sys/kernel/core_pattern": "|/evil"},
    {"fs.mqueue/../../kernel/core_pattern": "|/evil"},
    {"/proc/sys/kernel/core_pattern": "|/evil"},
    {"net": "|/evil"},
    {"vm.swappiness": "1"},
)


@attack("CVE-2022-0811", "sets what is the whole machine's by a container's sysctl")
@pytest.mark.parametrize("values", SYSCTLS, ids=range(len(SYSCTLS)))
def test_cve_2022_0811_sysctls_are_the_containers_alone(
    factory: lc.Factory, bundle: BundleMaker, values: dict[str, str]
) -> None:
    pattern, swappiness = CORE_PATTERN, Path("/proc/sys/vm/swappiness")
    before = (pattern.read_text(), swappiness.read_text())
    one = bundle(["true"])
    one.linux["sysctl"] = values
    # A value's second line is nobody's: the kernel reads the first, of that one setting.
    refusal = text_or_refusal(factory, one)
    assert "sysctl" in refusal or "\n" in values.popitem()[1]
    assert (pattern.read_text(), swappiness.read_text()) == before


OPEN_TO_ALL = ("/proc/pressure/", "/proc/mtrr")
"""The kernel lets root open these; to write there it asks for more, or gives only a notice."""


@attack("CVE-2015-3630", "writes to a file of /proc or /sys that is the whole machine's")
def test_cve_2015_3630_nothing_of_the_machines_is_writable(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    processes = "-path '/proc/[0-9]*' -o -path /proc/self -o -path /proc/thread-self"
    script = rf"""
find /proc /sys \( {processes} \) -prune -o -type f -print 2>/dev/null | while read file; do
    (: >>"$file") 2>/dev/null && echo "$file"
done
(: >>/proc/self/oom_score_adj) && echo end
"""
    *found, last = read_inside(factory, bundle(sh(script))).lines
    assert last == "end"
    assert [file for file in found if not file.startswith(OPEN_TO_ALL)] == []
