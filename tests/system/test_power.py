"""Batteries, as Linux, macOS and Windows tell of them."""

from pathlib import Path

import pytest

from agent.system.machine.power import Power, _run, decide_windows, parse_pmset, read_power, read_supplies

AC = {"type": "Mains", "online": "1"}
NO_AC = {"type": "Mains", "online": "0"}
BATTERY = {"type": "Battery", "status": "Discharging", "energy_now": "12000000", "energy_full": "48000000"}
MOUSE = {"type": "Battery", "scope": "Device", "status": "Discharging", "capacity": "3"}


def supplies(folder: Path, **found: dict[str, str]) -> Path:
    for name, values in found.items():
        (folder / name).mkdir()
        for key, value in values.items():
            (folder / name / key).write_text(f"{value}\n", encoding="ascii")
    return folder


@pytest.mark.parametrize(
    ("found", "power"),
    [
        ({}, None),
        ({"AC": AC}, None),
        ({"AC": AC, "hid-1": MOUSE}, None),
        ({"AC": NO_AC, "BAT0": BATTERY}, Power(True, 25.0)),
        ({"BAT0": BATTERY, "hid-1": MOUSE}, Power(True, 25.0)),
        ({"AC": AC, "BAT0": BATTERY | {"status": "Charging"}}, Power(False, 25.0)),
        ({"USBC": {"type": "USB", "online": "1"}, "BAT0": BATTERY}, Power(False, 25.0)),
        ({"BAT0": BATTERY | {"status": "Not charging"}}, Power(False, 25.0)),
        ({"BAT0": BATTERY, "BAT1": BATTERY | {"status": "Unknown", "energy_now": "48000000"}}, Power(True, 62.5)),
        ({"BAT0": {"type": "Battery", "status": "Discharging", "capacity": "7"}}, Power(True, 7.0)),
        (
            {"BAT0": {"type": "Battery", "status": "Discharging", "charge_now": "1", "charge_full": "4"}},
            Power(True, 25.0),
        ),
        ({"BAT0": {"type": "Battery", "status": "Discharging", "capacity": "half"}}, Power(True, None)),
        ({"BAT0": BATTERY | {"energy_full": "0"}}, Power(True, None)),
    ],
)
def test_linux_tells_by_files(found: dict[str, dict[str, str]], power: Power | None, tmp_path: Path) -> None:
    assert read_supplies(supplies(tmp_path, **found)) == power


def test_a_machine_without_that_folder_has_no_battery(tmp_path: Path) -> None:
    assert read_power("linux", tmp_path / "missing") is None
    assert read_power("plan9") is None


ON_BATTERY = """\
Now drawing from 'Battery Power'
 -InternalBattery-0 (id=4653155)\t85%; discharging; 5:12 remaining present: true
"""
PLUGGED_IN = """\
Now drawing from 'AC Power'
 -InternalBattery-0 (id=4653155)\t100%; charged; 0:00 remaining present: true
"""
DESKTOP = "Now drawing from 'AC Power'\n"


@pytest.mark.parametrize(
    ("text", "power"),
    [(ON_BATTERY, Power(True, 85.0)), (PLUGGED_IN, Power(False, 100.0)), (DESKTOP, None), ("", None)],
)
def test_macos_tells_by_pmset(text: str, power: Power | None) -> None:
    assert parse_pmset(text) == power


def test_a_program_that_is_not_there_says_nothing() -> None:
    assert _run(["/missing/pmset", "-g", "batt"]) == ""


@pytest.mark.parametrize(
    ("line", "flag", "percent", "power"),
    [
        (0, 2, 12, Power(True, 12.0)),
        (1, 8, 90, Power(False, 90.0)),
        (255, 1, 90, Power(False, 90.0)),
        (0, 0, 255, Power(True, None)),
        (1, 128, 255, None),
        (255, 255, 255, None),
    ],
)
def test_windows_tells_by_numbers(line: int, flag: int, percent: int, power: Power | None) -> None:
    assert decide_windows(line, flag, percent) == power
