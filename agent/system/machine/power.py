"""Whether this machine runs on its battery, and what is left in it.

Sources: Documentation/ABI/testing/sysfs-class-power of Linux, pmset(1), GetSystemPowerStatus of the Windows API.
"""

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

SUPPLIES = Path("/sys/class/power_supply")

_ASK_S = 5.0


class Power(NamedTuple):
    """`percent` None where the system does not say."""

    on_battery: bool
    percent: float | None


def read_power(platform: str = sys.platform, supplies: Path = SUPPLIES) -> Power | None:
    """None where there is no battery, or nobody who knows."""
    if platform == "linux":
        return read_supplies(supplies)
    if platform == "darwin":
        return parse_pmset(_run(["/usr/bin/pmset", "-g", "batt"]))
    if platform == "win32":
        return _ask_windows()
    return None


# --- Linux ----------------------------------------------------------------------------------------------------------


class _Supply(NamedTuple):
    kind: str
    online: bool
    discharging: bool
    now: float | None
    full: float | None


def read_supplies(folder: Path) -> Power | None:
    """Of the machine itself: batteries of mice and headsets have the scope Device."""
    found: list[_Supply] = []
    with contextlib.suppress(OSError):
        found = [_read_supply(one) for one in sorted(folder.iterdir()) if _word(one, "scope") != "Device"]
    batteries = [one for one in found if one.kind in ("Battery", "UPS")]
    if not batteries:
        return None
    plugged_in = any(one.online for one in found if one.kind not in ("Battery", "UPS"))
    on_battery = not plugged_in and any(one.discharging for one in batteries)
    known = [(one.now, one.full) for one in batteries if one.now is not None and one.full]
    full = sum(full for _, full in known if full)
    return Power(on_battery, 100.0 * sum(now for now, _ in known if now) / full if full else None)


def _read_supply(one: Path) -> _Supply:
    now = full = None
    for kind in ("energy", "charge"):
        now, full = _number(one, f"{kind}_now"), _number(one, f"{kind}_full")
        if now is not None and full:
            break
    else:
        now, full = _number(one, "capacity"), 100.0
    return _Supply(
        _word(one, "type"), _word(one, "online") not in ("", "0"), _word(one, "status") == "Discharging", now, full
    )


def _word(supply: Path, name: str) -> str:
    try:
        return (supply / name).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(supply: Path, name: str) -> float | None:
    try:
        return float(_word(supply, name))
    except ValueError:
        return None


# --- macOS ----------------------------------------------------------------------------------------------------------


def parse_pmset(text: str) -> Power | None:
    """Of `pmset -g batt`."""
    shares = [float(share) for share in re.findall(r"InternalBattery-\d+.*?(\d+)%", text)]
    if not shares:
        return None
    return Power("drawing from 'Battery Power'" in text, sum(shares) / len(shares))


def _run(command: Sequence[str], run: Callable[..., "subprocess.CompletedProcess[str]"] = subprocess.run) -> str:
    try:
        done = run(command, capture_output=True, text=True, errors="replace", timeout=_ASK_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


# --- Windows --------------------------------------------------------------------------------------------------------

_ON_BATTERY, _NO_BATTERY, _UNKNOWN = 0, 128, 255


def decide_windows(line: int, flag: int, percent: int) -> Power | None:
    """ACLineStatus, BatteryFlag and BatteryLifePercent of SYSTEM_POWER_STATUS."""
    if flag == _UNKNOWN or flag & _NO_BATTERY:
        return None
    return Power(line == _ON_BATTERY, None if percent == _UNKNOWN else float(percent))


def _ask_windows() -> Power | None:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("line", ctypes.c_ubyte),
            ("flag", ctypes.c_ubyte),
            ("percent", ctypes.c_ubyte),
            ("saver", ctypes.c_ubyte),
            ("life_s", ctypes.c_ulong),
            ("full_s", ctypes.c_ulong),
        )

    status = Status()
    if not ctypes.CDLL("kernel32").GetSystemPowerStatus(ctypes.byref(status)):
        return None
    return decide_windows(status.line, status.flag, status.percent)
