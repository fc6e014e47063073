"""What every engine with docker's command line is asked."""

from __future__ import annotations

from tests.clients import confinement, lifecycle, mistakes, networks
from tests.clients.battery import Battery
from tests.clients.engine import Engine

BATTERY: Battery[Engine] = Battery(
    each
    for battery in (lifecycle.BATTERY, confinement.BATTERY, networks.BATTERY, mistakes.BATTERY)
    for each in battery.operations
)
