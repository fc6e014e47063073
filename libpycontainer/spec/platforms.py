"""The sections for other platforms: carried and checked, never acted upon.

Source: runtime-spec config-windows.md, config-solaris.md, config-vm.md, config-zos.md,
config-freebsd.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from libpycontainer.spec.base import (
    Model,
    NonEmptyStrings,
    Opaque,
    Strings,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    model,
)

ImageFormat = Annotated[str, "vm image format"]
SharingMode = Annotated[str, "freebsd sharing"]
SharingModeNoDisable = Annotated[str, "freebsd sharing, not disabled"]
WindowsDeviceIDType = Annotated[str, "windows device id type"]
ZOSNamespaceType = Annotated[str, "zos namespace type"]


@model
class SolarisCappedCPU(Model):
    ncpus: str | None = None


@model
class SolarisCappedMemory(Model):
    physical: str | None = None
    swap: str | None = None


@model
class SolarisAnet(Model):
    linkname: str | None = None
    lower_link: str | None = None
    allowed_address: str | None = None
    configure_allowed_address: str | None = None
    defrouter: str | None = None
    link_protection: str | None = None
    mac_address: str | None = None


@model
class Solaris(Model):
    milestone: str | None = None
    limitpriv: str | None = None
    max_shm_memory: str | None = None
    anet: Sequence[SolarisAnet] | None = None
    capped_cpu: SolarisCappedCPU | None = None
    capped_memory: SolarisCappedMemory | None = None


@model
class WindowsDevice(Model):
    id: str
    id_type: WindowsDeviceIDType


@model
class WindowsMemoryResources(Model):
    limit: Uint64 | None = None


@model
class WindowsCPUGroupAffinity(Model):
    mask: Uint64 | None = None
    group: Uint32 | None = None


@model
class WindowsCPUResources(Model):
    count: Uint64 | None = None
    shares: Uint16 | None = None
    maximum: Uint16 | None = None
    affinity: WindowsCPUGroupAffinity | None = None


@model
class WindowsStorageResources(Model):
    iops: Uint64 | None = None
    bps: Uint64 | None = None
    sandbox_size: Uint64 | None = None


@model
class WindowsResources(Model):
    memory: WindowsMemoryResources | None = None
    cpu: WindowsCPUResources | None = None
    storage: WindowsStorageResources | None = None


@model
class WindowsNetwork(Model):
    endpoint_list: Strings | None = None
    allow_unqualified_dns_query: bool | None = None
    dns_search_list: Strings | None = None
    network_shared_container_name: str | None = None
    network_namespace: str | None = None


@model
class WindowsHyperV(Model):
    utility_vm_path: str | None = None


@model
class Windows(Model):
    layer_folders: NonEmptyStrings
    devices: Sequence[WindowsDevice] | None = None
    resources: WindowsResources | None = None
    credential_spec: Opaque | None = None
    servicing: bool | None = None
    ignore_flushes_during_boot: bool | None = None
    hyperv: WindowsHyperV | None = None
    network: WindowsNetwork | None = None


@model
class VMHypervisor(Model):
    path: str
    parameters: Strings | None = None


@model
class VMKernel(Model):
    path: str
    parameters: Strings | None = None
    initrd: str | None = None


@model
class VMImage(Model):
    path: str
    format: ImageFormat


@model
class VMIOMem(Model):
    first_gfn: Uint64 | None = None
    first_mfn: Uint64
    nr_mfns: Uint64


@model
class VMHWConfig(Model):
    device_tree: str | None = None
    vcpus: Uint32 | None = None
    memory: Uint64 | None = None
    dtdevs: Strings | None = None
    iomems: Sequence[VMIOMem] | None = None
    irqs: Sequence[Uint32] | None = None


@model
class VM(Model):
    hypervisor: VMHypervisor | None = None
    kernel: VMKernel
    image: VMImage | None = None
    hw_config: VMHWConfig | None = None


@model
class ZOSNamespace(Model):
    type: ZOSNamespaceType
    path: str | None = None


@model
class ZOS(Model):
    namespaces: Sequence[ZOSNamespace] | None = None


@model
class FreeBSDDevice(Model):
    path: str | None = None
    mode: Uint32 | None = None


@model
class FreeBSDJailAllow(Model):
    set_hostname: bool | None = None
    raw_sockets: bool | None = None
    chflags: bool | None = None
    mount: Strings | None = None
    quotas: bool | None = None
    socket_af: bool | None = None
    mlock: bool | None = None
    reserved_ports: bool | None = None
    suser: bool | None = None


@model
class FreeBSDJail(Model):
    parent: str | None = None
    host: SharingModeNoDisable | None = None
    ip4: SharingMode | None = None
    ip4_addr: Strings | None = None
    ip6: SharingMode | None = None
    ip6_addr: Strings | None = None
    vnet: SharingModeNoDisable | None = None
    interface: str | None = None
    vnet_interfaces: Strings | None = None
    sysvmsg: SharingMode | None = None
    sysvsem: SharingMode | None = None
    sysvshm: SharingMode | None = None
    enforce_statfs: Uint8 | None = None
    allow: FreeBSDJailAllow | None = None


@model
class FreeBSD(Model):
    devices: Sequence[FreeBSDDevice] | None = None
    jail: FreeBSDJail | None = None
