"""What only podman has: pods, Kubernetes' files, user namespaces on its command line."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from scripts import as_user
from tests.clients.battery import Battery
from tests.clients.engine import contains, needs_cgroups, same
from tests.clients.images import IMAGE
from tests.clients.podman import Podman

BATTERY: Battery[Podman] = Battery()
OF_ROOT: Battery[Podman] = Battery()
OF_USER: Battery[Podman] = Battery()
operation = BATTERY.operation
KUBE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "kube"},
    "spec": {
        "restartPolicy": "Never",
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "containers": [
            {
                "name": "writer",
                "image": IMAGE,
                "command": ["sh", "-c", "echo from $WHO > /shared/text; sleep 100"],
                "env": [{"name": "WHO", "value": "writer"}],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            },
            {
                "name": "reader",
                "image": IMAGE,
                "command": [
                    "sh",
                    "-c",
                    "until grep from /shared/text; do sleep 0.1; done; sleep 100",
                ],
                "securityContext": {
                    "runAsUser": 1000,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "shared", "mountPath": "/shared", "readOnly": True}],
            },
        ],
    },
}


@operation("pod: shared network and host name")
def pod(podman: Podman) -> None:
    podman("pod", "create", "--name", "pod", "--hostname", "podded", *podman.create_flags)
    words = ["run", "-d", "--pod", "pod", "--name", "server", IMAGE]
    podman(*words, "sh", "-c", "echo page > /tmp/index.html; httpd -f -p 80 -h /tmp")
    fetch = "hostname; until wget -qO- http://127.0.0.1/; do sleep 0.1; done"
    out = podman("run", "--rm", "--pod", "pod", IMAGE, "sh", "-c", fetch).out
    same(out, "podded\npage\n")


@operation("pod: stop, start, restart, kill, top, rm")
def pod_lifecycle(podman: Podman) -> None:
    podman("pod", "create", "--name", "pod", *podman.create_flags)
    words = ["run", "-d", "--pod", "pod", "--name", "inside", "--stop-timeout", "1", IMAGE]
    podman(*words, "sleep", "100")
    contains(podman("pod", "top", "pod").out, "sleep 100")
    podman("pod", "stop", "-t", "0", "pod")
    same(podman.status("inside"), "exited")
    podman("pod", "start", "pod")
    same(podman.status("inside"), "running")
    podman("pod", "restart", "pod")
    podman("pod", "kill", "pod")
    podman("pod", "rm", "-f", "pod")


@operation("pod: pause, unpause")
def pod_pause(podman: Podman) -> None:
    needs_cgroups(podman)
    podman("pod", "create", "--name", "pod", *podman.create_flags)
    podman("run", "-d", "--pod", "pod", "--name", "inside", IMAGE, "sleep", "100")
    podman("pod", "pause", "pod")
    same(podman.status("inside"), "paused")
    podman("pod", "unpause", "pod")
    same(podman.status("inside"), "running")


@operation("kube play, kube down")
def kube(podman: Podman) -> None:
    podman("kube", "play", "-", given=json.dumps(KUBE))
    podman.wait_for_output("kube-reader", "from writer")
    status = podman("exec", "kube-reader", "grep", "CapBnd", "/proc/self/status").out
    contains(status, "0000000000000000")
    same(podman("exec", "kube-reader", "id", "-u").out, "1000\n")
    podman("kube", "down", "-", given=json.dumps(KUBE))
    same(podman.lines("ps", "--all", "--quiet"), [])


@operation("user namespace: given maps")
def given_maps(podman: Podman) -> None:
    flags = ["--uidmap", "0:200000:65536", "--gidmap", "0:300000:65536"]
    if podman.title.endswith("user"):
        flags = ["--uidmap", "0:1:5000", "--gidmap", "0:1:5000"]
    out = podman.shell(flags, "cat /proc/self/uid_map; id -u; touch /mine && stat -c %u /mine")
    contains(out, "65536" if "200000" in flags[1] else "5000", "0\n0\n")


@OF_ROOT.operation("user namespace: --userns=auto, one for each")
def automatic(podman: Podman) -> None:
    """Out of the ids of the user ``containers``, and never the same twice."""
    names = [podman.start(["--userns", "auto:size=1024"], "sleep", "100") for _ in "ab"]
    maps = [podman("exec", name, "cat", "/proc/self/uid_map").out.split() for name in names]
    same([each[0] for each in maps] + [each[2] for each in maps], ["0", "0", "1024", "1024"])
    firsts = {int(each[1]) for each in maps}
    same(len(firsts) == 2 and min(firsts) >= 1_000_000, True)
    same(podman("exec", names[0], "stat", "-c", "%u", "/etc/passwd").out, "0\n")


@OF_USER.operation("user namespace: keep-id")
def keep_id(podman: Podman) -> str:
    out = podman.shell(["--userns", "keep-id"], "id -u; id -g; cat /proc/self/gid_map | wc -l")
    contains(out, f"{as_user.UID}\n")
    return out


@operation("user namespace: shared by two, with exec")
def shared_user_namespace(podman: Podman) -> None:
    maps = ["--uidmap", "0:1:5000", "--gidmap", "0:1:5000"]
    if not podman.title.endswith("user"):
        maps = ["--uidmap", "0:200000:65536", "--gidmap", "0:300000:65536"]
    name = podman.start([*maps, "-v", "mapped:/data"], "sleep", "100")
    other = podman.shell(["--userns", f"container:{name}"], "readlink /proc/self/ns/user")
    same(podman("exec", name, "readlink", "/proc/self/ns/user").out, other)
    same(podman("exec", name, "stat", "-c", "%u", "/data").out, "0\n")


@operation("cgroup namespace: the host's, one of its own")
def cgroup_modes(podman: Podman) -> None:
    same(podman.run(["--cgroupns", "host"], "echo", "on").out, "on\n")
    same(podman.run(["--cgroupns", "private"], "echo", "on").out, "on\n")


@OF_ROOT.operation("--rootfs without an image")
def rootfs(podman: Podman) -> None:
    name = podman.create([], "true")
    place = podman("mount", name).out.strip()
    words = ["run", "--rm", *podman.create_flags, "--rootfs", place, "cat", "/etc/passwd"]
    contains(podman(*words).out, "root:x:0:0")


@operation("podman init, then start")
def init(podman: Podman) -> None:
    name = podman.create([], "echo", "initialised")
    podman("init", name)
    same(podman.status(name), "initialized")
    same(podman("start", "-a", name).out, "initialised\n")


@operation("--preserve-fds")
def preserved(podman: Podman) -> None:
    """conmon passes it on, and so must the runtime."""
    script = f"exec 3<<E\nhanded over\nE\nexec \"$@\" --preserve-fds 1 {IMAGE} sh -c 'cat <&3'"
    words = [*podman.command, "run", "--rm", *podman.create_flags]
    with _shell(podman, script, words) as process:
        out, err = process.communicate(timeout=60)
    same((out, err), (b"handed over\n", b""))


def _shell(podman: Podman, script: str, words: list[str]) -> Any:
    return subprocess.Popen(
        ["sh", "-c", script, "sh", *words],
        env=podman.environment,
        close_fds=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
