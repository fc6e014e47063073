"""Configurations made to break the runtime: an error that names its field, and nothing left."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import create, read_inside

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

ATTACK = pytest.mark.attack("hostile configuration", "crashes, hangs or litters by a field's value")
pytestmark = ATTACK


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every scalar of a document, with the way to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def changed(document: dict[str, Any], path: tuple[Any, ...], value: object) -> dict[str, Any]:
    copied = copy.deepcopy(document)
    where: Any = copied
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    return copied


def rich(bundle: BundleMaker) -> dict[str, Any]:
    one = bundle(["true"])
    config: dict[str, Any] = copy.deepcopy(one.config)
    config["linux"]["resources"]["memory"] = {"limit": 1 << 26, "swap": 1 << 26}
    config["linux"]["resources"]["cpu"] = {"shares": 100, "quota": 5000, "period": 10000}
    config["linux"]["resources"]["pids"] = {"limit": 10}
    config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]
    config["process"]["user"] = {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5]}
    config["hooks"] = {"poststop": [{"path": "/bin/true", "args": ["true"], "timeout": 5}]}
    return config


def refused_or_fine(factory: lc.Factory, config: dict[str, Any], bundle: Any) -> None:
    """Either it runs or it is refused by one of our errors; in both cases nothing stays."""
    try:
        factory.plan("one", config, bundle=bundle)
    except lc.ContainerError as error:
        text = str(error)
        assert text
        assert "Traceback" not in text
        assert len(text) < 20_000
    assert factory.list() == []


HOSTILE_STRINGS = ("\0", "a\0b", "\n", "\ud800", "x" * 70_000, "..", "/../..", "%s%n", "")
HOSTILE_NUMBERS: tuple[object, ...] = (
    -1,
    2**31,
    2**32,
    2**63,
    2**64,
    2**200,
    1.5,
    1e400,
    True,
    "1",
    None,
    [],
    {},
)


@pytest.mark.parametrize("value", HOSTILE_STRINGS, ids=range(len(HOSTILE_STRINGS)))
def test_every_string_of_a_configuration(
    factory: lc.Factory, bundle: BundleMaker, value: str
) -> None:
    config = rich(bundle)
    for path, before in list(leaves(config)):
        if isinstance(before, str):
            refused_or_fine(factory, changed(config, path, value), bundle())


@pytest.mark.parametrize("value", HOSTILE_NUMBERS, ids=map(str, range(len(HOSTILE_NUMBERS))))
def test_every_number_of_a_configuration(
    factory: lc.Factory, bundle: BundleMaker, value: object
) -> None:
    config = rich(bundle)
    for path, before in list(leaves(config)):
        if isinstance(before, int):
            refused_or_fine(factory, changed(config, path, value), bundle())


@pytest.mark.parametrize(
    "id",
    ["x" * 1024, "x" * 100_000, "a\0b", "../../etc", "/etc", "a/../../b", "\ud800", "a b", "-\n"],
)
def test_hostile_names(factory: lc.Factory, bundle: BundleMaker, id: str) -> None:
    with pytest.raises(lc.InvalidIDError) as caught:
        create(factory, bundle(), id)
    assert len(str(caught.value)) < 1000
    for verb in (factory.load, factory.group):
        with pytest.raises(lc.InvalidIDError):
            verb(id)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"ociVersion": "1.0.0", "x": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"ociVersion": "1.0.0", "annotations": {"k": "' + "v" * 10_000_000 + '"}}',
        '{"ociVersion": ' + "9" * 10_000 + "}",
        "\0",
        "{}" * 1000,
    ],
    ids=["arrays", "objects", "nested field", "ten megabytes", "long number", "null", "many"],
)
@pytest.mark.timeout(30)
def test_documents_that_are_no_configuration(
    text: str, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    one = bundle()
    (one.path / "config.json").write_text(text)
    done = pyrunc("run", "--bundle", one, "c")
    assert done.returncode == 1
    assert "level=error" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 20_000
    assert pyrunc("list", "-q").stdout == ""


@pytest.mark.timeout(60)
def test_ten_thousand_mounts(factory: lc.Factory, bundle: BundleMaker) -> None:
    """They work, or the one that does not is named."""
    one = bundle(["true"])
    one.config["mounts"] += [
        {"destination": f"/tmp/{n}", "type": "tmpfs", "source": "tmpfs"} for n in range(10_000)
    ]
    one.config["mounts"].insert(0, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    assert outcome(factory, one) in ("0", "mounts[")
    assert factory.list() == []


def outcome(factory: lc.Factory, one: Bundle) -> str:
    """The exit code; or what the error names, of these; or all that it says."""
    try:
        return str(read_inside(factory, one).code)
    except lc.ContainerError as error:
        named = [each for each in ("mounts[", "exec: ") if each in str(error)]
        return named[0] if named else str(error)


@pytest.mark.parametrize(
    "mount",
    [
        {"destination": "/", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "..", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/../../..", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/proc/self", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/proc/1/root", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/tmp", "type": "bind", "source": "/proc/self/fd", "options": ["bind"]},
        {"destination": "/tmp", "type": "bind", "source": "/proc/self/exe", "options": ["bind"]},
    ],
)
def test_mounts_in_odd_places(
    factory: lc.Factory, bundle: BundleMaker, mount: dict[str, Any]
) -> None:
    one = bundle(["true"])
    one.config["mounts"].append(mount)
    # Over "/" there is no program any more; the rest works, or is refused by its name.
    assert outcome(factory, one) in ("0", "mounts[", "exec: ")
    assert factory.list() == []


def test_a_document_with_a_field_twice_is_read_as_go_does(
    bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    """A checker and a runtime that disagree on which one counts see different things."""
    one = bundle(["echo", "last"])
    text = json.dumps(one.config)
    assert text.count('"process": {') == 1
    first = json.dumps({**one.process, "args": ["echo", "first"]})
    text = text.replace('"process": {', f'"process": {first}, "process": {{', 1)
    (one.path / "config.json").write_text(text)
    assert pyrunc("run", "--bundle", one, "c").stdout == "last\n"
