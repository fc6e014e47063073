"""``features``: what this runtime and this host can do, as OCI's features document."""

from __future__ import annotations

from libpycontainer.cli.command import Command, Invocation
from libpycontainer.cli.output import dump, put


def action(_invocation: Invocation) -> int:
    from libpycontainer.abilities import features

    put(f"{dump(features(), indent='    ')}\n")
    return 0


COMMAND = Command(
    "features",
    action,
    usage="show the enabled features",
    description="""The features command shows, as JSON, which versions of the specification, hooks,
mount options, namespaces, capabilities and Linux features are supported. See
https://github.com/opencontainers/runtime-spec/blob/main/features.md for what it means.""",
    least=0,
    most=0,
)
