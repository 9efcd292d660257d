"""Looks every so often at network and battery, where the settings ask for it, and tells the engine what they say."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from agent.core.settings import Push
from agent.delivery.state.pausing import HeldOff, decide_hold_off
from agent.system.machine.network import read_metered
from agent.system.machine.power import Power, read_power

log = logging.getLogger(__name__)

LOOK_S = 45.0
"""Each look costs a few reads below /sys and 3 ms on the bus."""


class Readers(NamedTuple):
    """Each gives None for what nobody knows."""

    is_metered: Callable[[], bool | None] = read_metered
    power: Callable[[], Power | None] = read_power


class Thrift:
    """`tell(HeldOff)` whenever it changes."""

    def __init__(self, push: Push, readers: Readers, tell: Callable[[HeldOff], object]) -> None:
        self._push = push
        self._readers = readers
        self._tell = tell
        self._told = ""
        self.is_wanted = not push.on_metered or push.on_battery_below > 0

    def look(self) -> None:
        if not self.is_wanted:
            return
        is_metered = None if self._push.on_metered else self._readers.is_metered()
        power = self._readers.power() if self._push.on_battery_below else None
        why = decide_hold_off(self._push, is_metered, power)
        if why != self._told:
            self._told = why
            self._tell(HeldOff(why))
