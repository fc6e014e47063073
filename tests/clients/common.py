"""What every engine with docker's command line is asked."""

from __future__ import annotations

from tests.clients import confinement, lifecycle, mistakes, networks
from tests.clients.battery import together

BATTERY = together(lifecycle.BATTERY, confinement.BATTERY, networks.BATTERY, mistakes.BATTERY)
