"""The document as a whole: version, root, names, hooks, annotations."""

from __future__ import annotations

from libpycontainer.errors import Problem
from libpycontainer.validate.strings import hooks_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from libpycontainer.host import Facts
    from libpycontainer.spec.models import Spec

HOST_NAME_MAX = 64
"""Bytes of ``struct new_utsname`` (``man 2 sethostname``)."""


def _numeric(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


def _identifiers(text: str) -> bool:
    return all(each.isascii() and each.replace("-", "a").isalnum() for each in text.split("."))


def is_semver(version: str) -> bool:
    """Is ``version`` one of semver.org's 2.0.0, such as ``1.0.2-dev``?"""
    rest, plus, build = version.partition("+")
    core, dash, release = rest.partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or not all(map(_numeric, numbers)):
        return False
    return (not plus or _identifiers(build)) and (not dash or _identifiers(release))


def version(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config.md#specification-version: SemVer, and compatible within a major version."""
    path = "$.ociVersion"
    if not spec.oci_version:
        yield Problem(path, "must not be empty")
    elif not is_semver(spec.oci_version):
        yield Problem(path, f"{spec.oci_version!r} is not a version such as 1.3.0")
    elif not spec.oci_version.startswith("1."):
        yield Problem(path, f"version {spec.oci_version} is not supported, only 1.x is")


def root(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config.md#root: required on Linux."""
    if spec.root is None:
        yield Problem("$.root", "required on Linux")
    elif not spec.root.path:
        yield Problem("$.root.path", "must not be empty")


def process_present(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config.md#process: required when start is called."""
    if spec.process is None:
        yield Problem("$.process", "required to start the container")


def names(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """What the kernel can hold as host and domain name."""
    for path, name in (("$.hostname", spec.hostname), ("$.domainname", spec.domainname)):
        if name and len(name.encode("utf-8", "surrogatepass")) > HOST_NAME_MAX:
            yield Problem(path, f"longer than {HOST_NAME_MAX} bytes")


def hooks(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config.md#posix-platform-hooks: absolute paths, and timeouts above zero."""
    for path, hook in hooks_of(spec):
        if not hook.path.startswith("/"):
            yield Problem(f"{path}.path", f"{hook.path!r} is not an absolute path")
        if hook.timeout is not None and hook.timeout <= 0:
            yield Problem(f"{path}.timeout", "must be more than 0 seconds")


def annotation_keys(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config.md#annotations: keys must not be empty."""
    if "" in (spec.annotations or {}):
        yield Problem("$.annotations", "an annotation's key must not be empty")


def other_platforms(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """config.md#platform-specific-configuration: one for another platform does nothing here."""
    for name in ("solaris", "windows", "vm", "zos", "freebsd"):
        if getattr(spec, name) is not None:
            yield Problem(f"$.{name}", "for another platform than Linux, ignored", warning=True)


CHECKS = (version, root, names, hooks, annotation_keys, other_platforms)
