"""Limits, rights, mounts, devices and namespaces, with docker's command line."""

from __future__ import annotations

import json
import os

from tests.clients.battery import Battery
from tests.clients.engine import Engine, contains, needs_cgroups, same
from tests.clients.images import IMAGE

BATTERY: Battery[Engine] = Battery()
operation = BATTERY.operation
STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid|Umask)' /proc/self/status"


@operation("what a process sees of its rights")
def rights(engine: Engine) -> str:
    return engine.shell([], STATUS)


@operation("what a process sees of its mounts")
def mounts(engine: Engine) -> str:
    """The options that mean something; numbers and sources differ by themselves.

    So does the order: a client may take what it binds below /etc from an unordered table.
    """
    out = engine.shell([], "cat /proc/self/mountinfo")
    lines = []
    for line in out.splitlines():
        before, _, after = line.partition(" - ")
        target, options = before.split()[4:6]
        lines.append(f"{target} {options} {after.split()[0]}")
    return "\n".join(sorted(lines))


@operation("what a process sees in /dev")
def devices_seen(engine: Engine) -> str:
    return engine.shell([], "cd /dev && stat -c '%n %A %u:%g %t,%T' * | grep -v '^pts '")


@operation("what a process sees of its limits")
def rlimits(engine: Engine) -> str:
    return engine.shell([], "ulimit -a; cat /proc/self/oom_score_adj; umask")


@operation("what a process sees of its namespaces")
def namespaces(engine: Engine) -> str:
    """Which of them are not the host's."""
    script = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done"
    seen = engine.shell([], script).split()
    hosts = {os.readlink(f"/proc/self/ns/{each}") for each in os.listdir("/proc/self/ns")}
    return " ".join(each.partition(":")[0] for each in seen if each not in hosts)


@operation("memory limit read back")
def memory(engine: Engine) -> None:
    needs_cgroups(engine)
    flags = ["--memory", "64m", "--memory-reservation", "32m"]
    name = engine.start(flags, "sleep", "100")
    same(engine.limit(name, "memory", "memory.limit_in_bytes"), str(64 << 20))
    same(engine.limit(name, "memory", "memory.soft_limit_in_bytes"), str(32 << 20))


@operation("processor limits read back")
def processors(engine: Engine) -> None:
    needs_cgroups(engine)
    flags = ["--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0"]
    name = engine.start(flags, "sleep", "100")
    same(engine.limit(name, "cpu", "cpu.cfs_quota_us"), "50000")
    same(engine.limit(name, "cpu", "cpu.shares"), "512")
    same(engine.limit(name, "cpuset", "cpuset.cpus"), "0")


@operation("pids limit, read back and felt")
def pids(engine: Engine) -> None:
    needs_cgroups(engine)
    name = engine.start(["--pids-limit", "10"], "sleep", "100")
    same(engine.limit(name, "pids", "pids.max"), "10")
    script = "i=0; while [ $i -lt 20 ]; do sleep 9 & i=$((i+1)); done"
    contains(engine("exec", name, "sh", "-c", script, status=None).err, "can't fork")


@operation("out of memory: 137")
def out_of_memory(engine: Engine) -> None:
    needs_cgroups(engine)
    name = engine.create(["--memory", "16m"], "tail", "/dev/zero")
    engine("start", "-a", name, status=137)


@operation("out of memory: OOMKilled")
def out_of_memory_is_told(engine: Engine) -> None:
    needs_cgroups(engine)
    name = engine.create(["--memory", "16m"], "tail", "/dev/zero")
    engine("start", "-a", name, status=None)
    same(engine.inspect(name, "{{.State.OOMKilled}}"), "true")


@operation("update")
def update(engine: Engine) -> None:
    needs_cgroups(engine)
    name = engine.start(["--memory", "64m", "--memory-swap", "64m"], "sleep", "100")
    flags = ["--memory", "48m", "--memory-swap", "48m", "--cpu-shares", "256"]
    engine("update", *flags, name)
    same(engine.limit(name, "memory", "memory.limit_in_bytes"), str(48 << 20))
    same(engine.limit(name, "cpu", "cpu.shares"), "256")


@operation("ulimits")
def ulimits(engine: Engine) -> None:
    out = engine.shell(
        ["--ulimit", "nofile=100:200", "--ulimit", "nproc=90:900"], "ulimit -n; ulimit -Hn"
    )
    same(out.split(), ["100", "200"])


@operation("read-only root")
def read_only(engine: Engine) -> None:
    script = "touch /no 2>&1; touch /scratch/yes && echo done"
    out = engine.shell(["--read-only", "--tmpfs", "/scratch"], script)
    contains(out, "Read-only file system", "done")


@operation("tmpfs with options")
def tmpfs(engine: Engine) -> str:
    flags = ["--tmpfs", "/some:size=1m,mode=1700,noexec"]
    out = engine.shell(
        flags, "grep ' /some ' /proc/mounts; stat -c %a /some; df -k /some | tail -1"
    )
    contains(out, "size=1024k", "1700", "noexec")
    return out


@operation("shared memory's size")
def shared_memory(engine: Engine) -> None:
    contains(engine.shell(["--shm-size", "2m"], "df -k /dev/shm | tail -1"), " 2048 ")


@operation("bind mounts, ro and rw")
def binds(engine: Engine) -> None:
    place = engine.scratch()
    (place / "given").write_text("given\n")
    flags = ["-v", f"{place}:/rw", "-v", f"{place}:/ro:ro", "-v", f"{place}/given:/file:ro"]
    script = "cat /rw/given /file; echo back > /rw/back; touch /ro/no 2>&1"
    out = engine.shell(flags, script, status=1)
    contains(out, "given\ngiven\n", "Read-only file system")
    same((place / "back").read_text(), "back\n")


@operation("bind propagation")
def propagation(engine: Engine) -> str:
    place = engine.scratch()
    flags = [f for each in ("rslave", "rprivate") for f in ("-v", f"{place}:/{each}:{each}")]
    script = "grep -oE ' /(rslave|rprivate) .* - ' /proc/self/mountinfo | sed 's/:[0-9]*//' | sort"
    out = engine.shell(flags, script)
    contains(out, "/rprivate")
    return out


@operation("volumes")
def volumes(engine: Engine) -> None:
    engine("volume", "create", "kept")
    engine.shell(["-v", "kept:/data"], "cat /data/from-image; echo more > /data/more")
    same(engine.shell(["-v", "kept:/data:ro"], "cat /data/from-image /data/more"), "seen\nmore\n")
    first = engine.start(["-v", "/data"], "sleep", "100")
    engine("exec", first, "touch", "/data/mine")
    contains(engine.shell(["--volumes-from", first], "ls /data"), "mine", "from-image")


@operation("capabilities")
def capabilities(engine: Engine) -> str:
    none = engine.shell(["--cap-drop", "ALL"], STATUS)
    contains(none, "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000")
    one = engine.shell(["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], STATUS)
    contains(one, "CapEff:\t0000000000001000")
    return none + one + engine.shell(["-u", "app", "--cap-add", "NET_RAW"], STATUS)


@operation("privileged")
def privileged(engine: Engine) -> str:
    out = engine.shell(["--privileged"], STATUS + "; ls -d /dev/null /dev/full; mount | wc -l")
    contains(out, "Seccomp:\t0")
    return out


@operation("no new privileges")
def no_new_privileges(engine: Engine) -> None:
    flags = ["--security-opt", "no-new-privileges"]
    contains(engine.shell(flags, STATUS), "NoNewPrivs:\t1")


@operation("default seccomp profile, in force and felt")
def seccomp_default(engine: Engine) -> None:
    contains(engine.shell([], STATUS), "Seccomp:\t2")
    # personality(2) with ADDR_NO_RANDOMIZE takes no capability, and no default profile has it.
    same(engine.run([], "linux64", "-R", "true", status=None).status != 0, True)
    flags = ["--security-opt", "seccomp=unconfined"]
    contains(engine.shell(flags, STATUS), "Seccomp:\t0")
    engine.run(flags, "linux64", "-R", "true")


@operation("default seccomp profile, in config.json")
def seccomp_configured(engine: Engine) -> str:
    """What the runtime was given; how it is in force is another operation's matter."""
    profile = engine.configuration(engine.start([], "sleep", "100"))["linux"]["seccomp"]
    same(profile["defaultAction"], "SCMP_ACT_ERRNO")
    allowed = {name for rule in profile["syscalls"] for name in rule["names"]}
    same({"read", "execve"} <= allowed, True)
    return json.dumps(profile, sort_keys=True)


@operation("a seccomp profile of one's own")
def seccomp_own(engine: Engine) -> None:
    refused = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}
    file = engine.scratch() / "profile.json"
    file.write_text(json.dumps(profile))
    flags = ["--security-opt", f"seccomp={file}"]
    answer = engine.run(flags, "mkdir", "/tmp/x", status=1)
    contains(answer.err, "No space left on device")


@operation("masked and read-only paths")
def masked(engine: Engine) -> str:
    # An unmasked one would say something.
    script = "wc -c < /proc/kcore; ls /proc/acpi /sys/firmware | wc -l"
    script += "; echo 1 > /proc/sys/vm/drop_caches"
    answer = engine.run([], "sh", "-c", script, status=1)
    contains(answer.err, "Read-only file system")
    return answer.out


@operation("devices")
def devices(engine: Engine) -> None:
    with_one = engine.shell(["--device", "/dev/fuse:/dev/given:r"], "stat -c '%F %t,%T' /dev/given")
    same(with_one, "character special file a,e5\n")
    script = "mknod /tmp/k c 1 11 && cat /tmp/k"
    refused = engine.run([], "sh", "-c", script, status=1)
    contains(refused.err, "Operation not permitted")


@operation("sysctls")
def sysctls(engine: Engine) -> None:
    flags = ["--sysctl", "kernel.msgmax=1000", "--sysctl", "net.ipv4.ip_unprivileged_port_start=7"]
    script = "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start"
    same(engine.shell(flags, script), "1000\n7\n")


@operation("an init that reaps (--init)")
def init(engine: Engine) -> None:
    contains(engine.shell(["--init"], "cat /proc/1/cmdline | tr '\\0' ' '"), "sh -c")
    same(engine.shell(["--init"], "echo $PPID"), "1\n")


@operation("namespaces of the host and of another container")
def shared_namespaces(engine: Engine) -> None:
    link = "readlink /proc/self/ns/%s"
    for flag, kind in (("--ipc", "ipc"), ("--uts", "uts"), ("--pid", "pid"), ("--network", "net")):
        hosts = os.readlink(f"/proc/self/ns/{kind}")
        same(engine.shell([flag, "host"], link % kind).strip(), hosts)
    name = engine.start(["--ipc", "shareable"], "sleep", "100")
    for flag, kind in (("--ipc", "ipc"), ("--pid", "pid"), ("--network", "net")):
        others = engine("exec", name, "readlink", f"/proc/1/ns/{kind}").out
        same(engine.shell([flag, f"container:{name}"], link % kind), others)


@operation("an image's user, entry point and labels")
def image(engine: Engine) -> None:
    same(engine.run(["--entrypoint", "/bin/echo"], "as", "arguments").out, "as arguments\n")
    contains(engine("inspect", "--type", "image", IMAGE).out, "busybox")
