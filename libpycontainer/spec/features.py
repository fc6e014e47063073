"""What a runtime says it can do: ``features`` (runtime-spec features.md, features-linux.md).

An absent field means that nothing is known, not that nothing is supported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from libpycontainer.spec.base import Model, StringMap, Strings, model
from libpycontainer.spec.linux import (
    MemoryPolicyFlag,
    MemoryPolicyMode,
    NamespaceType,
    SeccompAction,
    SeccompArch,
    SeccompFlag,
    SeccompOperator,
)

Capability = Annotated[str, "capability"]


@model
class FeaturesCgroup(Model):
    v1: bool | None = None
    v2: bool | None = None
    systemd: bool | None = None
    systemd_user: bool | None = None
    rdma: bool | None = None


@model
class FeaturesSeccomp(Model):
    enabled: bool | None = None
    actions: Sequence[SeccompAction] | None = None
    operators: Sequence[SeccompOperator] | None = None
    archs: Sequence[SeccompArch] | None = None
    known_flags: Sequence[SeccompFlag] | None = None
    supported_flags: Sequence[SeccompFlag] | None = None


@model
class FeaturesSwitch(Model):
    """Something that is there or not: AppArmor, SELinux, id-mapped mounts, network devices."""

    enabled: bool | None = None


@model
class FeaturesIntelRdt(Model):
    enabled: bool | None = None
    schemata: bool | None = None
    monitoring: bool | None = None


@model
class FeaturesMemoryPolicy(Model):
    modes: Sequence[MemoryPolicyMode] | None = None
    flags: Sequence[MemoryPolicyFlag] | None = None


@model
class FeaturesMountExtensions(Model):
    idmap: FeaturesSwitch | None = None


@model
class FeaturesLinux(Model):
    namespaces: Sequence[NamespaceType] | None = None
    capabilities: Sequence[Capability] | None = None
    cgroup: FeaturesCgroup | None = None
    seccomp: FeaturesSeccomp | None = None
    apparmor: FeaturesSwitch | None = None
    selinux: FeaturesSwitch | None = None
    intel_rdt: FeaturesIntelRdt | None = None
    memory_policy: FeaturesMemoryPolicy | None = None
    mount_extensions: FeaturesMountExtensions | None = None
    net_devices: FeaturesSwitch | None = None


@model
class Features(Model):
    """The features document."""

    oci_version_min: str
    oci_version_max: str
    hooks: Strings | None = None
    mount_options: Strings | None = None
    linux: FeaturesLinux | None = None
    annotations: StringMap | None = None
    potentially_unsafe_config_annotations: Strings | None = None
