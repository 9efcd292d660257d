"""What `doctor` says of what it found: each judgement at its limits."""

import pytest

from agent.core.diagnosis import (
    CLOCK_APART_S,
    LOG_BYTES,
    LOW_BYTES,
    NO_BYTES,
    Finding,
    Level,
    Service,
    as_json,
    exit_status,
    judge_clock,
    judge_disk,
    judge_log,
    judge_restarts,
    judge_retention,
    judge_service,
    judge_versions,
    judge_watches,
    worst,
)

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL
INSTALLED = Service("systemd", installed=True, enabled=True, active=True, command=("/opt/pipx/bin/transcriptd", "run"))
DAY_S = 86_400.0


def one(level: Level) -> Finding:
    return Finding(level, "x", "y")


@pytest.mark.parametrize(
    ("levels", "of_all", "status"), [([], OK, 0), ([OK, WARN], WARN, 0), ([FAIL, OK], FAIL, 1), ([WARN, FAIL], FAIL, 1)]
)
def test_the_worst_decides_and_a_warning_is_no_failure(levels: list[Level], of_all: Level, status: int) -> None:
    findings = [one(level) for level in levels]
    assert (worst(findings), exit_status(findings)) == (of_all, status)


@pytest.mark.parametrize(("running", "level"), [(None, OK), ("0.1.0", OK), ("0.0.9", WARN)])
def test_another_version_at_work_wants_a_restart(running: str | None, level: Level) -> None:
    found = judge_versions("0.1.0", "3.11.7", "Linux 6", running)
    assert found.level is level
    assert (found.fix == "transcriptd service restart") is (level is WARN)


@pytest.mark.parametrize(("free", "level"), [(NO_BYTES - 1, FAIL), (LOW_BYTES - 1, WARN), (LOW_BYTES, OK)])
def test_room_on_the_disk(free: int, level: Level) -> None:
    assert judge_disk("/s", free, "some").level is level


@pytest.mark.parametrize(
    ("apart_s", "level", "words"),
    [
        (0.4, OK, "as the server's"),
        (CLOCK_APART_S, OK, "300 s ahead of"),
        (CLOCK_APART_S + 1, WARN, "301 s ahead of"),
        (-CLOCK_APART_S - 1, WARN, "301 s behind"),
    ],
)
def test_clocks_may_differ_a_little(apart_s: float, level: Level, words: str) -> None:
    found = judge_clock("clock", apart_s)
    assert found.level is level
    assert words in found.words


@pytest.mark.parametrize(
    ("folders", "limit", "polling", "level"),
    [(10, None, [], OK), (80, 100, [], OK), (81, 100, [], WARN), (1, 100, ["/p"], WARN), (0, 0, [], OK)],
)
def test_watches_against_the_limit_of_the_system(
    folders: int, limit: int | None, polling: list[str], level: Level
) -> None:
    found = judge_watches(folders, limit, polling)
    assert found.level is level
    assert ("sysctl" in found.fix) is (level is WARN)


@pytest.mark.parametrize(
    ("days", "age_days", "level"),
    [(None, 900, OK), (30.0, None, OK), (30.0, 26.9, OK), (30.0, 27.1, WARN), (0, 0, WARN)],
)
def test_a_backlog_that_will_be_deleted_soon(days: float | None, age_days: float | None, level: Level) -> None:
    oldest_s = None if age_days is None else 1e9 - age_days * DAY_S
    assert judge_retention("claude", days, oldest_s, 1e9, "/s.json").level is level


@pytest.mark.parametrize(("restarts", "level"), [(0, OK), (1, WARN), (2, WARN), (3, FAIL)])
def test_a_crash_loop_is_a_failure(restarts: int, level: Level) -> None:
    assert judge_restarts(restarts).level is level
    assert ("1 unclean end within" in judge_restarts(restarts).words) is (restarts == 1)


@pytest.mark.parametrize(("size", "level"), [(None, OK), (LOG_BYTES, OK), (LOG_BYTES + 1, WARN)])
def test_a_log_that_grew_beyond_all_turning_over(size: int | None, level: Level) -> None:
    assert judge_log("/l", size, "").level is level


@pytest.mark.parametrize(
    ("found", "level", "words", "fix"),
    [
        (INSTALLED, OK, "at work", ""),
        (INSTALLED._replace(kind="", installed=False), WARN, "no service manager", "transcriptd run"),
        (INSTALLED._replace(installed=False), WARN, "not installed", "transcriptd service install"),
        (INSTALLED._replace(enabled=False), WARN, "not enabled", "transcriptd service install"),
        (INSTALLED._replace(active=False), WARN, "not at work", "transcriptd service start"),
        (
            INSTALLED._replace(why="no linger", hint="loginctl x"),
            FAIL,
            "no linger",
            "loginctl x",
        ),
    ],
)
def test_what_the_service_manager_says(found: Service, level: Level, words: str, fix: str) -> None:
    judged = judge_service(found, running=False)
    assert (judged.level, judged.fix) == (level, fix)
    assert words in judged.words


def test_the_document_has_its_version_and_every_part_of_a_finding() -> None:
    assert as_json([Finding(WARN, "disk", "full", "rm")], {"version": "1"}) == {
        "schema": 1,
        "version": "1",
        "worst": "warn",
        "findings": [{"level": "warn", "name": "disk", "words": "full", "fix": "rm"}],
    }
