"""``spec``: write a configuration to start from."""

from __future__ import annotations

import os

from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag

_CONFIG = "config.json"


def action(invocation: Invocation) -> int:
    from libpycontainer.spec import light

    options = invocation.options
    path = os.path.join(options.text("bundle"), _CONFIG)
    text = light.default(options.enabled("rootless")).dump()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise CommandError(f"File {_CONFIG} exists. Remove it first") from None
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return 0


COMMAND = Command(
    "spec",
    action,
    usage="create a new specification file",
    description="""The spec command creates the new specification file named "config.json" for
the bundle.

It is just a starter file: edit it to achieve what you want. Its "args", for
example, call "sh", which not every root filesystem has.

EXAMPLE:
To run a static busybox, make a bundle for it and run the bundle:

    mkdir -p hello/rootfs/bin
    cp /usr/bin/busybox hello/rootfs/bin/sh
    cd hello
    pyrunc spec
    pyrunc run container1

In the run command above, "container1" is the name for the instance of the
container that you are starting. The name you provide for the container instance
must be unique under the state root.

With --rootless the configuration is one that a user without privilege can run.""",
    flags=(
        Flag("bundle", "path to the root of the bundle directory", short="b"),
        Flag("rootless", "generate a configuration for a rootless container", kind="bool"),
    ),
    most=0,
)
