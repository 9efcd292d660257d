"""What `doctor` makes of what it found: values in, one line each out. The probes that look are in `cli`."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

SCHEMA = 1
"""Version of the JSON that scripts read; grows when a field changes its meaning or goes."""

LOW_BYTES = 500_000_000
"""Less room than this for the state is worth a warning: copies of unsent files and the state itself have to fit."""

NO_BYTES = 10_000_000
"""With less than this a state can hardly be written."""

CLOCK_APART_S = 300.0
"""Certificates, and people who read times, begin to suffer beyond it."""

LOG_BYTES = 100_000_000

SOON_DAYS = 3.0

WATCHES_SHARE = 0.8
"""Of the system's limit of watches; other programs want some too."""


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One line. `words`: what is there, the measured against the allowed. `fix`: the next command; empty where nothing
    has to be done."""

    level: Level
    name: str
    words: str
    fix: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    order = list(Level)
    return max((one.level for one in findings), key=order.index, default=Level.OK)


def exit_status(findings: Iterable[Finding]) -> int:
    """0 when nothing failed, whatever was warned of; else 1."""
    return int(worst(findings) is Level.FAIL)


def judge_versions(own: str, python: str, system: str, running: str | None) -> Finding:
    """`running`: the version of the agent at work; None without one."""
    words = f"transcriptd {own}, Python {python}, {system}"
    if running is None or running == own:
        return Finding(Level.OK, "versions", words)
    return Finding(Level.WARN, "versions", f"{words}; the running agent is {running}", "transcriptd service restart")


def judge_disk(folder: str, free_bytes: int, words: str) -> Finding:
    """`words`: the free bytes, for people."""
    free = f"{words} free for {folder}"
    if free_bytes < NO_BYTES:
        return Finding(Level.FAIL, "disk", free, "free some disk space")
    if free_bytes < LOW_BYTES:
        return Finding(Level.WARN, "disk", f"{free}, at least 500 MB are well", "free some disk space")
    return Finding(Level.OK, "disk", free)


def judge_clock(name: str, apart_s: float) -> Finding:
    """`apart_s`: how far this machine's clock is ahead of the server's."""
    way = "ahead of" if apart_s > 0 else "behind"
    words = f"{abs(apart_s):.0f} s {way} the server's, at most {CLOCK_APART_S:.0f} s are well"
    if abs(apart_s) > CLOCK_APART_S:
        return Finding(Level.WARN, name, words, "set this machine's clock")
    words = "as the server's" if abs(apart_s) < 1 else f"{abs(apart_s):.0f} s {way} the server's"
    return Finding(Level.OK, name, words)


def judge_watches(folders: int, limit: int | None, polling: Iterable[str]) -> Finding:
    """`folders`: how many want a watch. `limit`: of the system, None where it knows none. `polling`: those for which
    the running agent got no change notices."""
    refused = list(polling)
    fix = f"sudo sysctl fs.inotify.max_user_watches={max(524_288, 4 * folders)}"
    if refused:
        words = f"no change notices for {', '.join(refused)}: looked at every few seconds instead"
        return Finding(Level.WARN, "watches", words, fix if limit is not None else "")
    if limit is None:
        return Finding(Level.OK, "watches", f"{folders:,} folders; this system has no limit of its own")
    words = f"{folders:,} folders, the system allows {limit:,} watches"
    if folders > WATCHES_SHARE * limit:
        return Finding(Level.WARN, "watches", words, fix)
    return Finding(Level.OK, "watches", words)


def judge_retention(
    name: str, days: float | None, oldest_unsent_s: float | None, now_s: float, settings_file: str
) -> Finding:
    """`days` until the coding agent deletes what nobody changes; None for never."""
    if days is None:
        return Finding(Level.OK, name, "deletes no transcripts")
    words = f"deletes transcripts after {days:g} days"
    if oldest_unsent_s is None:
        return Finding(Level.OK, name, f"{words}; nothing waits")
    age_days = max(0.0, now_s - oldest_unsent_s) / 86_400
    words += f"; the oldest unsent change is {age_days:.1f} days old"
    if age_days > days - SOON_DAYS:
        return Finding(Level.WARN, name, words, f"transcriptd push, or have them kept longer in {settings_file}")
    return Finding(Level.OK, name, words)


def judge_restarts(restarts: int) -> Finding:
    words = f"{restarts} unclean {'end' if restarts == 1 else 'ends'} within the last hour"
    if restarts == 0:
        return Finding(Level.OK, "restarts", "no unclean end within the last hour")
    return Finding(Level.FAIL if restarts > 2 else Level.WARN, "restarts", words, "transcriptd logs")


def judge_log(path: str, size_bytes: int | None, words: str) -> Finding:
    """`size_bytes` None: there is no file. `words`: the size, for people."""
    if size_bytes is None:
        return Finding(Level.OK, "log", f"no file at {path}; under systemd it is in the journal")
    if size_bytes > LOG_BYTES:
        return Finding(Level.WARN, "log", f"{path}, {words}", "remove it; a new one is begun")
    return Finding(Level.OK, "log", f"{path}, {words}")


class Service(NamedTuple):
    """What the service manager of this system says of us. `command`: what it starts. `why`: what is wrong, also that
    it starts another install than this one."""

    kind: str
    installed: bool
    enabled: bool
    active: bool
    command: tuple[str, ...]
    why: str = ""
    hint: str = ""


def judge_service(found: Service, *, running: bool) -> Finding:
    """`running`: an agent answers here."""
    if not found.kind:
        return Finding(Level.WARN, "service", found.why or "no service manager here", found.hint or "transcriptd run")
    if not found.installed:
        return Finding(Level.WARN, "service", f"not installed ({found.kind})", "transcriptd service install")
    if found.why:
        return Finding(Level.FAIL, "service", f"{found.kind}: {found.why}", found.hint or "transcriptd service install")
    if not found.enabled:
        return Finding(Level.WARN, "service", f"{found.kind}: not enabled", "transcriptd service install")
    if not found.active:
        words = f"{found.kind}: not at work" + (", an agent runs by hand" if running else "")
        return Finding(Level.WARN, "service", words, "transcriptd service start")
    return Finding(Level.OK, "service", f"{found.kind}: installed, enabled and at work")


def as_json(findings: Iterable[Finding], facts: Mapping[str, str]) -> dict[str, object]:
    """The document of `doctor --json`. `facts`: name → value of what does not change."""
    listed = list(findings)
    return {
        "schema": SCHEMA,
        **facts,
        "worst": str(worst(listed)),
        "findings": [one._asdict() | {"level": str(one.level)} for one in listed],
    }
