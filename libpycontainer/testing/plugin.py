"""What pytest sees: three fixtures, one marker, and the hooks that carry it out."""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from libpycontainer.testing.boxes import Box, BoxFactory
    from libpycontainer.testing.netns import NetworkNamespace

MARKER = "container"
DESCRIPTION = (
    "container(*, network=True, mount=True, pid=True, ipc=True, uts=True, cgroup=False, user=None, "
    "hostname=None, memory=None, cpus=None, pids=None, timeout=None): run the test inside fresh "
    "namespaces of these kinds, and limits (libpycontainer)"
)
REPORT = pytest.StashKey[str]()
INSIDE = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", DESCRIPTION)


@pytest.fixture
def container_factory() -> Iterator[BoxFactory]:
    """Makes running containers: ``container_factory(rootfs=..., memory="64M")``.

    The keywords are those of ``Spec.evolve``; without a ``rootfs`` the host's files are shown,
    read-only. All of them are deleted after the test.
    """
    from libpycontainer.testing import boxes

    with boxes.BoxFactory() as made:
        yield made


@pytest.fixture
def container(container_factory: BoxFactory) -> Box:
    """A running container that shows the host's files, read-only: ``container.run(["ls"])``."""
    from libpycontainer.errors import ContainerError

    try:
        return container_factory()
    except ContainerError as error:
        # It asks for nothing special: then this is no host for containers.
        pytest.skip(f"no container can be made here: {error}")


@pytest.fixture
def netns() -> Iterator[NetworkNamespace]:
    """A fresh network namespace whose loopback is up, for as long as the test lasts."""
    from libpycontainer.testing import netns as room

    try:
        made = room.NetworkNamespace()
    except room.CannotHere as reason:
        pytest.skip(str(reason))
    with made:
        yield made


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a marked test comes what has the last word about its report."""
    manager, name = config.pluginmanager, "libpycontainer-reports"
    if any(item.get_closest_marker(MARKER) for item in items) and not manager.has_plugin(name):
        from libpycontainer.testing import remote

        manager.register(remote.Outermost(), name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: a test that cannot run here needs none."""
    if item.get_closest_marker(MARKER) is None:
        return
    from libpycontainer.testing import isolation

    isolation.prepare(item)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    if pyfuncitem.get_closest_marker(MARKER) is None or pyfuncitem.stash.get(INSIDE, False):
        return None
    from libpycontainer.testing import remote

    remote.call(pyfuncitem)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> pytest.TestReport | None:
    """The report that was made inside, instead of one about a call that only passed it on."""
    if call.when != "call" or item.stash.get(REPORT, None) is None:
        return None
    from libpycontainer.testing import remote

    return remote.report(item, call)
