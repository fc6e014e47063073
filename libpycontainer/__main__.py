"""``python -m libpycontainer``: the command, for where no ``pyrunc`` script is installed."""

from __future__ import annotations

from libpycontainer.cli.main import entry

entry()
