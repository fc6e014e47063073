"""containerd's CRI, asked what a kubelet asks; Debian has no package with the program crictl."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from cri_api.v1 import api_pb2 as api
from cri_api.v1.api_pb2_grpc import RuntimeServiceStub

from tests.clients import remains
from tests.clients.ctr import Containerd
from tests.clients.engine import PATIENCE, Runtime
from tests.clients.images import IMAGE

CONFIGURATION = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"

[grpc]
  address = "{directory}/sock"

[ttrpc]
  address = "{directory}/sock.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  # A sandbox asks for -998, below what a host without CAP_SYS_RESOURCE lets it have.
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runtime}"
"""
NETWORK = """\
{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [{"type": "bridge", "bridge": "pods0", "isGateway": true,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.89.77.0/24"}]]}}]
}
"""
NODE, POD, CONTAINER = api.NamespaceMode.NODE, api.NamespaceMode.POD, api.NamespaceMode.CONTAINER


class Pod:
    """One sandbox, and what it was made with: every container of it repeats that."""

    def __init__(self, cri: Cri, **namespaces: int) -> None:
        self.cri = cri
        modes = {"network": NODE, "pid": CONTAINER, "ipc": POD, **namespaces}
        self.namespaces = api.NamespaceOption(**modes)
        self.name = f"pod{next(cri.numbers)}"
        context = api.LinuxSandboxSecurityContext(namespace_options=self.namespaces)
        self.config = api.PodSandboxConfig(
            metadata=api.PodSandboxMetadata(name=self.name, uid=self.name, namespace="tried"),
            hostname="" if modes["network"] == NODE else self.name,
            log_directory=str(cri.logs / self.name),
            linux=api.LinuxPodSandboxConfig(cgroup_parent=remains.PARENT, security_context=context),
        )
        self.id = cri.call("RunPodSandbox", config=self.config).pod_sandbox_id

    def create(
        self,
        script: str | Sequence[str],
        *,
        resources: Any = None,
        security: dict[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """A container that is not started; its id."""
        name = f"c{next(self.cri.numbers)}"
        context = api.LinuxContainerSecurityContext(
            namespace_options=self.namespaces, **(security or {})
        )
        config = api.ContainerConfig(
            metadata=api.ContainerMetadata(name=name),
            image=api.ImageSpec(image=IMAGE),
            command=["sh", "-c", script] if isinstance(script, str) else script,
            log_path=f"{name}.log",
            linux=api.LinuxContainerConfig(resources=resources, security_context=context),
            **fields,
        )
        wanted = {"pod_sandbox_id": self.id, "config": config, "sandbox_config": self.config}
        return str(self.cri.call("CreateContainer", **wanted).container_id)

    def start(self, script: str | Sequence[str], **fields: Any) -> str:
        container = self.create(script, **fields)
        self.cri.call("StartContainer", container_id=container)
        return container

    def output(self, script: str, *, status: int = 0, **fields: Any) -> str:
        """What a container that runs to its end writes."""
        container = self.start(script, **fields)
        ended = self.cri.ended(container)
        if ended.exit_code != status:
            log = self.cri.log(container)
            raise AssertionError(f"exit {ended.exit_code}, not {status}: {log}")
        return self.cri.log(container)


class Cri(Containerd):
    namespace = "k8s.io"
    template = CONFIGURATION

    def __init__(self, runtime: Runtime, directory: Path, archive: Path) -> None:
        self.numbers = itertools.count(1)
        self.logs = directory / "logs"
        network = directory / "net.d"
        network.mkdir(parents=True)
        (network / "pods.conflist").write_text(NETWORK)
        self.channel = grpc.insecure_channel(f"unix://{directory}/sock")
        self.stub = RuntimeServiceStub(self.channel)
        super().__init__(runtime, directory, archive)
        self.title = f"the CRI of {self.title}"

    def warm_up(self) -> None:
        Pod(self).output("true")
        self.clear()

    def call(self, name: str, **fields: Any) -> Any:
        """One call of the runtime service; its answer. :exc:`CallError` with the message."""
        request = getattr(api, f"{name}Request")(**fields)
        try:
            return getattr(self.stub, name)(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise CallError(f"{name}: {error.details()}") from None

    def container_status(self, container: str) -> Any:
        return self.call("ContainerStatus", container_id=container).status

    def ended(self, container: str) -> Any:
        """The status of a container that comes to its end."""
        deadline = time.monotonic() + PATIENCE
        while (status := self.container_status(container)).state != api.CONTAINER_EXITED:
            if time.monotonic() > deadline:
                raise AssertionError(f"{container} does not end")
            time.sleep(0.05)
        return status

    def log(self, container: str) -> str:
        """What a container wrote: each line has a time, a stream and a mark before it."""
        path = Path(self.container_status(container).log_path)
        lines = path.read_text().splitlines()
        return "".join(f"{line.split(' ', 3)[3]}\n" for line in lines)

    def exec_sync(self, container: str, *command: str, status: int = 0) -> str:
        """Run a command in a container, its output."""
        wanted = {"container_id": container, "cmd": command, "timeout": int(PATIENCE)}
        answer = self.call("ExecSync", **wanted)
        if answer.exit_code != status:
            raise AssertionError(f"exit {answer.exit_code}, not {status}: {answer.stderr!r}")
        return str(answer.stdout.decode())

    def clear(self) -> None:
        for pod in self.call("ListPodSandbox").items:
            self.call("StopPodSandbox", pod_sandbox_id=pod.id)
            self.call("RemovePodSandbox", pod_sandbox_id=pod.id)

    def stop(self) -> None:
        super().stop()
        self.channel.close()


class CallError(Exception):
    """The message of a call that failed, as the kubelet's user reads it."""


def refused(call: Callable[[], object]) -> str:
    """The message of a call that must fail."""
    try:
        call()
    except CallError as error:
        return str(error)
    raise AssertionError("it was not refused")
