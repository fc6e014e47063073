"""The ``linux`` section of a config, and what the process and mounts borrow from it.

Source: runtime-spec config-linux.md; the fields stand in the order of its Go bindings, which is the
order that ``runc spec`` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from libpycontainer.spec.base import (
    Int64,
    Model,
    NonEmptyStrings,
    StringMap,
    Strings,
    Uint16,
    Uint32,
    Uint64,
    model,
)

if TYPE_CHECKING:
    from typing import Self

DeviceType = Annotated[str, "device type"]
MemoryBandwidthSchema = Annotated[str, "memory bandwidth schema"]
MemoryPolicyFlag = Annotated[str, "memory policy flag"]
MemoryPolicyMode = Annotated[str, "memory policy mode"]
NamespaceType = Annotated[str, "namespace type"]
PageSize = Annotated[str, "page size"]
PersonalityDomain = Annotated[str, "personality domain"]
RootfsPropagation = Annotated[str, "rootfs propagation"]
SeccompAction = Annotated[str, "seccomp action"]
SeccompArch = Annotated[str, "seccomp architecture"]
SeccompFlag = Annotated[str, "seccomp flag"]
SeccompOperator = Annotated[str, "seccomp operator"]


@model
class LinuxIDMapping(Model):
    """A range of user or group ids (config-linux.md#user-namespace-mappings)."""

    container_id: Uint32
    host_id: Uint32
    size: Uint32


@model
class LinuxNamespace(Model):
    """A namespace to make, or with ``path`` to join (config-linux.md#namespaces)."""

    type: NamespaceType
    path: str | None = None


@model
class LinuxDevice(Model):
    """A device node inside the container (config-linux.md#devices)."""

    path: str
    type: DeviceType
    major: Int64 | None = None
    minor: Int64 | None = None
    file_mode: Uint32 | None = None
    uid: Uint32 | None = None
    gid: Uint32 | None = None


@model
class LinuxNetDevice(Model):
    """A network device to move into the container, maybe under another name."""

    name: str | None = None


@model
class LinuxDeviceCgroup(Model):
    """One rule of the device cgroup (config-linux.md#allowed-device-list)."""

    allow: bool
    type: str | None = None
    major: Int64 | None = None
    minor: Int64 | None = None
    access: str | None = None


@model
class LinuxMemory(Model):
    """Limits in bytes, -1 for none (config-linux.md#memory)."""

    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernel_tcp: Int64 | None = None
    swappiness: Uint64 | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


@model
class LinuxCPU(Model):
    """Shares, bandwidth in microseconds, and the CPUs and memory nodes to use."""

    shares: Uint64 | None = None
    quota: Int64 | None = None
    burst: Uint64 | None = None
    period: Uint64 | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: Uint64 | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: Int64 | None = None


@model
class LinuxPids(Model):
    """How many tasks (threads count) the container may have.

    -1 is any number; 0 is a limit like any other, and as init is one task it means no more than
    1 does (runtime-spec 1.3, config-linux.md#pids).
    """

    limit: Int64


@model
class LinuxWeightDevice(Model):
    """The share of one block device."""

    major: Int64
    minor: Int64
    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None


@model
class LinuxThrottleDevice(Model):
    """The rate of one block device, in bytes or operations per second."""

    major: Int64
    minor: Int64
    rate: Uint64 | None = None


@model
class LinuxBlockIO(Model):
    """Weights and rates of block devices (config-linux.md#block-io)."""

    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None
    weight_device: Sequence[LinuxWeightDevice] | None = None
    throttle_read_bps_device: Sequence[LinuxThrottleDevice] | None = None
    throttle_write_bps_device: Sequence[LinuxThrottleDevice] | None = None
    throttle_read_iops_device: Sequence[LinuxThrottleDevice] | None = None
    throttle_write_iops_device: Sequence[LinuxThrottleDevice] | None = None


@model
class LinuxHugepageLimit(Model):
    """How many bytes of huge pages of one size may be used."""

    page_size: PageSize
    limit: Uint64


@model
class LinuxInterfacePriority(Model):
    """The priority of the traffic that leaves through one interface."""

    name: str
    priority: Uint32


@model
class LinuxNetwork(Model):
    """What the net_cls and net_prio controllers of cgroup v1 are told."""

    class_id: Uint32 | None = None
    priorities: Sequence[LinuxInterfacePriority] | None = None


@model
class LinuxRdma(Model):
    """Limits of one RDMA device."""

    hca_handles: Uint32 | None = None
    hca_objects: Uint32 | None = None


@model
class LinuxResources(Model):
    """The container's cgroup limits (config-linux.md#control-groups)."""

    devices: Sequence[LinuxDeviceCgroup] | None = None
    memory: LinuxMemory | None = None
    cpu: LinuxCPU | None = None
    pids: LinuxPids | None = None
    block_io: LinuxBlockIO | None = None
    hugepage_limits: Sequence[LinuxHugepageLimit] | None = None
    network: LinuxNetwork | None = None
    rdma: Mapping[str, LinuxRdma] | None = None
    unified: StringMap | None = None


@model
class LinuxSeccompArg(Model):
    """A condition on one argument of a system call."""

    index: Uint32
    value: Uint64
    value_two: Uint64 | None = None
    op: SeccompOperator


@model
class LinuxSyscall(Model):
    """What happens to some system calls (config-linux.md#seccomp)."""

    names: NonEmptyStrings
    action: SeccompAction
    errno_ret: Uint32 | None = None
    args: Sequence[LinuxSeccompArg] | None = None


@model
class LinuxSeccomp(Model):
    """The container's system call filter."""

    default_action: SeccompAction
    default_errno_ret: Uint32 | None = None
    architectures: Sequence[SeccompArch] | None = None
    flags: Sequence[SeccompFlag] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: Sequence[LinuxSyscall] | None = None

    @classmethod
    def default(cls, capabilities: Iterable[str] = ()) -> Self:
        """The filter that Docker documents as its default, for this host's architecture.

        Each of ``capabilities`` brings the system calls that it is for. It is compiled by
        libseccomp when a container is made, and only once.
        """
        from libpycontainer.spec import converter, profile

        return converter.structure(cls, profile.section(capabilities))


@model
class LinuxIntelRdt(Model):
    """The container's class in the resctrl file system."""

    clos_id: str | None = None
    schemata: Strings | None = None
    l3_cache_schema: str | None = None
    mem_bw_schema: MemoryBandwidthSchema | None = None
    enable_monitoring: bool | None = None


@model
class LinuxMemoryPolicy(Model):
    """The NUMA policy of the process (``man 2 set_mempolicy``)."""

    mode: MemoryPolicyMode | None = None
    nodes: str | None = None
    flags: Sequence[MemoryPolicyFlag] | None = None


@model
class LinuxPersonality(Model):
    """The execution domain (``man 2 personality``)."""

    domain: PersonalityDomain | None = None
    flags: Strings | None = None


@model
class LinuxTimeOffset(Model):
    """How far a clock of the time namespace is shifted."""

    secs: Int64 | None = None
    nanosecs: Uint32 | None = None


@model
class LinuxTimeOffsets(Model):
    """The clocks that a time namespace has (config-linux.md#offset-for-time-namespace)."""

    boottime: LinuxTimeOffset | None = None
    monotonic: LinuxTimeOffset | None = None


@model
class Linux(Model):
    """What makes the container one on Linux."""

    uid_mappings: Sequence[LinuxIDMapping] | None = None
    gid_mappings: Sequence[LinuxIDMapping] | None = None
    sysctl: StringMap | None = None
    resources: LinuxResources | None = None
    cgroups_path: str | None = None
    namespaces: Sequence[LinuxNamespace] | None = None
    devices: Sequence[LinuxDevice] | None = None
    net_devices: Mapping[str, LinuxNetDevice] | None = None
    seccomp: LinuxSeccomp | None = None
    rootfs_propagation: RootfsPropagation | None = None
    masked_paths: Strings | None = None
    readonly_paths: Strings | None = None
    mount_label: str | None = None
    intel_rdt: LinuxIntelRdt | None = None
    memory_policy: LinuxMemoryPolicy | None = None
    personality: LinuxPersonality | None = None
    time_offsets: LinuxTimeOffsets | None = None
