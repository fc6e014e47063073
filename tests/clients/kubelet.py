"""What a kubelet asks of its engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cri_api.v1 import api_pb2 as api

from tests.clients.battery import Battery
from tests.clients.confinement import STATUS
from tests.clients.cri import POD, Cri, Pod, refused
from tests.clients.engine import contains, same
from tests.clients.mistakes import readable

BATTERY: Battery[Cri] = Battery()
operation = BATTERY.operation
TRAPPING = "echo ready; trap 'exit 7' TERM; while :; do sleep 0.1; done"
LIMITS = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares"


def limits(**fields: int) -> api.LinuxContainerResources:
    return api.LinuxContainerResources(cpu_period=100_000, **fields)


@operation("a pod: run, status, stop, remove")
def pod(cri: Cri) -> None:
    one = Pod(cri)
    status = cri.call("PodSandboxStatus", pod_sandbox_id=one.id).status
    same(status.state, api.SANDBOX_READY)
    cri.call("StopPodSandbox", pod_sandbox_id=one.id)
    status = cri.call("PodSandboxStatus", pod_sandbox_id=one.id).status
    same(status.state, api.SANDBOX_NOTREADY)
    cri.call("RemovePodSandbox", pod_sandbox_id=one.id)
    same(len(cri.call("ListPodSandbox").items), 0)


@operation("a container: create, start, status, stop, remove")
def container(cri: Cri) -> None:
    one = Pod(cri)
    name = one.create(TRAPPING)
    same(cri.container_status(name).state, api.CONTAINER_CREATED)
    cri.call("StartContainer", container_id=name)
    same(cri.container_status(name).state, api.CONTAINER_RUNNING)
    cri.wait_until("it is ready", lambda: "ready" in cri.log(name))
    cri.call("StopContainer", container_id=name, timeout=20)
    same(cri.ended(name).exit_code, 7)
    cri.call("RemoveContainer", container_id=name)
    same(len(cri.call("ListContainers").containers), 0)


@operation("a container that does not listen to SIGTERM: 137")
def stubborn(cri: Cri) -> None:
    name = Pod(cri).start("trap '' TERM; echo ready; while :; do sleep 1; done")
    cri.wait_until("it is ready", lambda: "ready" in cri.log(name))
    cri.call("StopContainer", container_id=name, timeout=1)
    same(cri.ended(name).exit_code, 137)


@operation("environment, working directory, logs of both streams")
def process(cri: Cri) -> None:
    fields = {"envs": [api.KeyValue(key="A", value="b")], "working_dir": "/tmp"}
    out = Pod(cri).output("echo $A; pwd >&2; exit 3", status=3, **fields)
    same(sorted(out.split()), ["/tmp", "b"])


@operation("ExecSync: output, exit code, a missing program")
def execute(cri: Cri) -> None:
    name = Pod(cri).start("sleep 100", envs=[api.KeyValue(key="OF", value="container")])
    same(cri.exec_sync(name, "sh", "-c", "echo $OF"), "container\n")
    cri.exec_sync(name, "sh", "-c", "exit 9", status=9)
    contains(refused(lambda: cri.exec_sync(name, "no-such-command")), "no-such-command")


@operation("ten ExecSync at once")
def execute_at_once(cri: Cri) -> None:
    name = Pod(cri).start("sleep 100")
    with ThreadPoolExecutor(10) as threads:
        outs = threads.map(lambda i: cri.exec_sync(name, "echo", str(i)), range(10))
    same([*outs], [f"{i}\n" for i in range(10)])


@operation("limits, read back inside; UpdateContainerResources")
def resources(cri: Cri) -> None:
    given = limits(memory_limit_in_bytes=64 << 20, cpu_quota=50_000, cpu_shares=512)
    name = Pod(cri).start("sleep 100", resources=given)
    same(cri.exec_sync(name, "sh", "-c", LIMITS).split(), [str(64 << 20), "50000", "512"])
    changed = limits(memory_limit_in_bytes=96 << 20, cpu_quota=70_000)
    cri.call("UpdateContainerResources", container_id=name, linux=changed)
    same(cri.exec_sync(name, "sh", "-c", LIMITS).split(), [str(96 << 20), "70000", "512"])


@operation("ContainerStats, PodSandboxStats")
def stats(cri: Cri) -> None:
    one = Pod(cri)
    name = one.start("while :; do :; done")
    seen = cri.call("ContainerStats", container_id=name).stats
    same(seen.memory.working_set_bytes.value > 0, True)
    same(seen.cpu.usage_core_nano_seconds.value > 0, True)
    seen = cri.call("PodSandboxStats", pod_sandbox_id=one.id).stats
    same([each.attributes.id for each in seen.linux.containers], [name])


@operation("user, read-only root, no new privileges, default seccomp profile")
def restrained(cri: Cri) -> str:
    security = {
        "run_as_user": api.Int64Value(value=1000),
        "run_as_group": api.Int64Value(value=1000),
        "readonly_rootfs": True,
        "no_new_privs": True,
        "seccomp": api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault),
    }
    out = Pod(cri).output(f"id -u; id -g; touch /x 2>&1; {STATUS}", security=security)
    contains(out, "1000\n1000\n", "Read-only file system", "Seccomp:\t2", "NoNewPrivs:\t1")
    return out


@operation("capabilities")
def capabilities(cri: Cri) -> str:
    one = Pod(cri)
    change = api.Capability(add_capabilities=["NET_ADMIN"], drop_capabilities=["CHOWN", "KILL"])
    return one.output(STATUS, security={"capabilities": change})


@operation("masked and read-only paths")
def masked(cri: Cri) -> str:
    script = "wc -c < /proc/kcore; ls /sys/firmware | wc -l; echo 1 2>&1 > /proc/sys/vm/drop_caches"
    security = {"masked_paths": ["/proc/kcore", "/sys/firmware"], "readonly_paths": ["/proc/sys"]}
    out = Pod(cri).output(script, status=1, security=security)
    contains(out, "Read-only file system")
    return out


@operation("volumes, also read-only")
def volumes(cri: Cri) -> None:
    place = cri.scratch()
    mounts = [
        api.Mount(container_path="/rw", host_path=str(place)),
        api.Mount(container_path="/ro", host_path=str(place), readonly=True),
    ]
    out = Pod(cri).output("echo x > /rw/f; touch /ro/g 2>&1; cat /ro/f", mounts=mounts)
    contains(out, "Read-only file system", "x\n")
    same((place / "f").read_text(), "x\n")


@operation("out of memory: OOMKilled, 137")
def out_of_memory(cri: Cri) -> None:
    given = limits(memory_limit_in_bytes=16 << 20)
    ended = cri.ended(Pod(cri).start(["tail", "/dev/zero"], resources=given))
    same((ended.exit_code, ended.reason), (137, "OOMKilled"))


@operation("a terminal")
def terminal(cri: Cri) -> None:
    name = Pod(cri).start("tty; sleep 100", tty=True)
    cri.wait_until("it has one", lambda: "/dev/pts/0" in cri.log(name))


@operation("ReopenContainerLog")
def logs(cri: Cri) -> None:
    name = Pod(cri).start("echo first; while [ ! -e /go ]; do sleep 0.1; done; echo second")
    cri.wait_until("it prints", lambda: "first" in cri.log(name))
    path = Path(cri.container_status(name).log_path)
    path.rename(f"{path}.old")
    cri.call("ReopenContainerLog", container_id=name)
    cri.exec_sync(name, "touch", "/go")
    cri.ended(name)
    same(cri.log(name), "second\n")


@operation("one pid namespace for a pod")
def shared_processes(cri: Cri) -> None:
    one = Pod(cri, pid=POD)
    one.start("sleep 777")
    contains(one.output("ps"), "sleep 777")


@operation("a pod with a network of its own, by CNI")
def network(cri: Cri) -> None:
    one, other = Pod(cri, network=POD), Pod(cri, network=POD)
    address = cri.call("PodSandboxStatus", pod_sandbox_id=one.id).status.network.ip
    contains(address, "10.89.77.")
    same(one.output("hostname"), f"{one.name}\n")
    one.start("echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp")
    fetch = f"until wget -qO- http://{address}/; do sleep 0.1; done"
    contains(other.output(fetch), "page\n")


@operation("a pod is stopped with what runs in it")
def stopped_with_all(cri: Cri) -> None:
    one = Pod(cri)
    names = [one.start("sleep 100") for _ in "ab"]
    cri.call("StopPodSandbox", pod_sandbox_id=one.id)
    same([cri.ended(name).exit_code for name in names], [137, 137])


@operation("10 pods at once leave nothing")
def ten_at_once(cri: Cri) -> None:
    with ThreadPoolExecutor(10) as threads:
        outs = threads.map(lambda i: Pod(cri).output(f"echo {i}"), range(10))
    same([*outs], [f"{i}\n" for i in range(10)])


@operation("mistake: no such command", shown=True)
def missing_command(cri: Cri) -> str:
    one = Pod(cri)
    return readable(cri, refused(lambda: one.start(["/no/such"])), "/no/such")


@operation("mistake: a volume on what is no directory", shown=True)
def bad_mount(cri: Cri) -> str:
    one = Pod(cri)
    mounts = [api.Mount(container_path="/etc/passwd", host_path=str(cri.scratch()))]
    return readable(cri, refused(lambda: one.start("true", mounts=mounts)), "/etc/passwd")
