"""What `status` shows for given values, in narrow and wide terminals, against texts that somebody looked at.

After a change that is meant: `UPDATE_SCREENS=1 python -m pytest tests/cli/test_screens.py`, and look at the difference.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.layout import STYLES, Row, Span, cells, crop, lay_out, paint, wrap
from agent.cli.screens import status_rows
from agent.cli.watching import picture
from agent.core.status import SCHEMA, Counts, DestinationLine, Status

STORED = Path(__file__).with_name("screens")
NOW_S = 1_795_253_100.0
URL = "https://transcripts.example.com"

HEALTHY = Status(
    SCHEMA,
    "0.1.0",
    running=True,
    destinations=[DestinationLine("default", URL, "running", "bulk", token="keyring", acknowledged_s=NOW_S - 3)],
    counts=Counts(
        sessions=48, streams=61, files=7, states={"synced": 67, "private": 1}, bytes=17_200_000, sent_bytes=17_200_000,
        entries=12_035,
    ),
    pid=4711,
    since_s=NOW_S - 86_400,
    watching=["/home/ada/.claude/projects"],
)  # fmt: skip
TROUBLED = Status(
    SCHEMA,
    "0.1.0",
    running=True,
    destinations=[
        DestinationLine(
            "home", "http://127.0.0.1:8787", "offline", why="127.0.0.1:8787 can't be reached: no connection",
            retry_at_s=NOW_S + 42, token="keyring", acknowledged_s=NOW_S - 7200,
        ),
        DestinationLine(
            "company", "https://transcripts.example.com/a/rather/long/path/of/a/tenant/0123456789", "needs_login",
            why="the token is missing or not accepted", retry_at_s=NOW_S + 600, token="file",
        ),
    ],
    counts=Counts(
        sessions=1_200, streams=1_300, files=44, held=9, bytes=1_170_000_000, sent_bytes=570_000_000, entries=300_000,
        states={"synced": 1_000, "due": 150, "waiting": 12, "refused": 5, "private": 130, "gone": 47},
        refused={"the server answers 413": 3, "this server takes no subagents": 2},
        waiting={"the server answers 500": 12}, next_try_s=NOW_S + 65, kept_bytes=9_400_000, redactions=14,
        not_addressable=3, generations=2,
    ),
    pid=4711,
    since_s=NOW_S - 3600,
    watching=["/home/ada/.claude/projects"],
    polling=["/mnt/share/a folder with blanks/Gezeiten 潮/projects"],
    held_back=5,
    unread=1,
    oldest_unsent_s=NOW_S - 300_000,
    problems=[
        ("3 not sent: the server answers 413", "transcriptd retry"),
        ("home: 127.0.0.1:8787 can't be reached: no connection", ""),
        ("company: the token is missing or not accepted", "transcriptd login https://transcripts.example.com"),
    ],
    withheld={"the private list": 129, "its project is not shared": 1},
    to_delete=1,
    paused="low battery",
    restarts=2,
)  # fmt: skip
STOPPED = Status(
    SCHEMA,
    "0.1.0",
    running=False,
    destinations=[DestinationLine("default", URL, "not_running", token="environment", acknowledged_s=NOW_S - 90_000)],
    counts=Counts(
        sessions=1, streams=1, bytes=100, sent_bytes=60, entries=1, states={"due": 1}, held=1, kept_bytes=100
    ),
    oldest_unsent_s=NOW_S - 90_000,
)
PAUSED = Status(
    SCHEMA,
    "0.1.0",
    running=True,
    destinations=[DestinationLine("default", URL, "running", "ingress")],
    counts=Counts(),
    pid=4711,
    since_s=NOW_S - 60,
    paused="by you",
    paused_until_s=NOW_S + 3600,
)
SCREENS = {"healthy": HEALTHY, "troubled": TROUBLED, "stopped": STOPPED, "paused": PAUSED}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    if hasattr(time, "tzset"):
        time.tzset()
    yield
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()


def shown(found: Status, width: int, *, colour: bool = False) -> str:
    return "".join(paint(line, colour=colour) + "\n" for line in lay_out(status_rows(found, NOW_S), width))


@pytest.mark.parametrize("width", [0, 40, 80, 200])
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_looks_as_it_was_looked_at(name: str, width: int) -> None:
    file = STORED / f"{name}-{width}.txt"
    text = shown(SCREENS[name], width)
    if os.environ.get("UPDATE_SCREENS"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCREENS)
def test_colours_change_nothing_but_colours(name: str) -> None:
    painted = shown(SCREENS[name], 80, colour=True)
    assert "\x1b[" in painted
    plain = "".join(line.rstrip() + "\n" for line in re.sub(r"\x1b\[[0-9;]*m", "", painted).splitlines())
    assert plain == shown(SCREENS[name], 80)


def test_a_healthy_screen_is_short_and_warns_of_nothing() -> None:
    text = shown(HEALTHY, 80)
    assert text.count("\n") <= 8
    assert "! " not in text


def test_folders_are_told_apart_by_their_agent_where_there_are_several() -> None:
    folders = {"/h/.claude/projects": "Claude Code", "/h/.codex/sessions": "Codex \x1b[2JCLI"}
    several = msgspec.structs.replace(HEALTHY, watching=list(folders), agents=folders)
    text = shown(several, 80)
    assert "Claude Code: /h/.claude/projects" in text
    assert "CLI: /h/.codex/sessions" in text
    assert "\x1b" not in text
    one = msgspec.structs.replace(several, agents=dict.fromkeys(folders, "Claude Code"))
    assert "Claude Code" not in shown(one, 80)


def test_nothing_is_told_twice() -> None:
    text = shown(TROUBLED, 0)
    for words in ("can't be reached", "not accepted", "413", "500", "subagents"):
        assert text.count(words) == 1, words


@pytest.mark.parametrize("width", [40, 60, 80, 140])
@pytest.mark.parametrize("name", SCREENS)
def test_no_line_is_wider_than_the_terminal_but_for_commands(name: str, width: int) -> None:
    for line in shown(SCREENS[name], width).splitlines():
        assert cells(line) <= width or "→ " in line


WORDS = st.text(alphabet="ab潮 \u0301", max_size=60)


@given(WORDS, WORDS, st.integers(4, 40))
def test_lines_are_broken_between_words_and_never_inside_one(one: str, two: str, width: int) -> None:
    lines = wrap((Span(one), Span(two, "bold")), width)
    assert all(cells("".join(span.text for span in line)) <= width for line in lines)
    words = " ".join("".join(span.text for span in line) for line in lines).split()
    if all(cells(word) <= width for word in (one + two).split(" ")):
        assert "".join(words) == (one + two).replace(" ", "")


def test_a_long_word_keeps_its_ends_and_no_word_of_a_command_is_cut() -> None:
    long = "/home/ada/" + "x" * 90 + "/projects"
    lines = lay_out([Row("watching", (Span(long),)), Row(None, (Span("! no"),), f"transcriptd login {long}")], 40)
    texts = ["".join(span.text for span in line) for line in lines]
    assert texts[1].startswith("  /home/ada/")
    assert "…" in texts[1]
    assert texts[1].endswith("projects")
    assert texts[-2:] == ["  → transcriptd login", f"    {long}"]


# --- the live screen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(40, 10), (80, 24), (140, 50), (80, 3), (1, 1)])
def test_a_picture_fits_its_terminal_and_clears_what_stood_there(width: int, height: int) -> None:
    text = picture(status_rows(TROUBLED, NOW_S), width, height, colour=False)
    assert text.startswith("\x1b[?2026h\x1b[H")
    assert text.endswith("\x1b[J\x1b[?2026l")
    assert "\x1b[2J" not in text, "nothing is blank in between"
    lines = text.removeprefix("\x1b[?2026h\x1b[H").removesuffix("\x1b[J\x1b[?2026l").split("\r\n")
    assert len(lines) <= height
    for line in lines:
        text = line.removesuffix("\x1b[K")
        assert cells(text) <= width
        assert line.endswith("\x1b[K") is (cells(text) < width), "what fills its line would lose its last cell"


def test_a_picture_tells_what_it_has_no_room_for() -> None:
    assert re.search(r"\d+ more lines · Ctrl-C ends", picture(status_rows(TROUBLED, NOW_S), 80, 10, colour=False))
    assert "more lines" not in picture(status_rows(HEALTHY, NOW_S), 80, 24, colour=True)


def test_where_there_is_little_room_warnings_come_before_numbers() -> None:
    lines = picture(status_rows(TROUBLED, NOW_S), 100, 12, colour=False).split("\r\n")
    rows = status_rows(TROUBLED, NOW_S)
    assert "transcriptd is paused" in lines[0]
    assert sum(line.startswith("! ") for line in lines) == sum(bool(row.hint) for row in rows) > 1
    assert "transcripts" not in "".join(line.split()[0] for line in lines[:2])
    everything = picture(rows, 100, 99, colour=False)
    assert everything.index("transcripts") < everything.index("! "), "with room, they end the screen"


def test_what_is_synced_is_told_first() -> None:
    states = {"waiting": 1, "synced": 2, "due": 3}
    found = msgspec.structs.replace(HEALTHY, counts=msgspec.structs.replace(HEALTHY.counts, states=states))
    (row,) = [row for row in status_rows(found, NOW_S) if row.label == "transcripts"]
    assert "".join(span.text for span in row.spans).replace("\xa0", " ").startswith("2 synced")


def test_a_cropped_line_ends_where_the_terminal_does() -> None:
    line = [Span("ab", "bold"), Span("潮潮潮")]
    assert crop(line, 5) == [Span("ab", "bold"), Span("潮")]
    assert crop(line, 99) == line


def test_every_style_that_is_used_has_its_sequence() -> None:
    for found in SCREENS.values():
        for row in status_rows(found, NOW_S):
            assert all(word in STYLES for span in row.spans for word in span.style.split())
