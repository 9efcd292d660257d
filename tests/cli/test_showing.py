"""`sessions show`, `get` and `preview`, as a person meets them: in a pipe, in a terminal, over hostile transcripts."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.system.files.reading import TranscriptFile
from tests.cli.running import run
from tests.conftest import CORPUS, REPOSITORY

SID = "6513270e-269e-4d37-b2a7-4de452e6b438"
OTHER = "7403e430-ec66-4787-95e7-61d17731af10"

HOSTILE = (
    "\x1b]0;owned\x07 \x1b]52;c;b3duZWQ=\x07 \x1b]8;;http://x.invalid\x1b\\link\x1b]8;;\x1b\\ "
    "\x1b[2J\x1b[H\x1b[?1049h \x9b2J \x9d0;x\x9c \x1bP+q\x1b\\ \u202eevil\u2066 \r over \b\b\x7f\x00"
)
_COLOUR = re.compile(rb"\x1b\[(?:0|1|2|3[0-7])(?:;\d+)?m")

Write = Callable[..., Path]


def user(text: str, **more: Any) -> dict[str, Any]:
    line = {"type": "user", "message": {"role": "user", "content": text}, "timestamp": "2026-11-20T23:24:51Z"}
    return {**line, "cwd": "/home/ada/tide", "version": "2.1.329", **more}


def answer(text: str) -> dict[str, Any]:
    return {
        "type": "assistant",
        "message": {"id": text[:20], "model": "m", "content": [{"type": "text", "text": text}]},
    }


@pytest.fixture
def write() -> Write:
    """Writes a transcript of Claude Code into the home of the test."""

    def made(*lines: dict[str, Any] | bytes, session: str = SID, subpath: str = "") -> Path:
        folder = Path(os.environ["CLAUDE_CONFIG_DIR"], "projects", "-home-ada-tide")
        path = folder.joinpath(session, *subpath.split("/")).with_suffix(".jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = [one if isinstance(one, bytes) else json.dumps(one, ensure_ascii=False).encode() for one in lines]
        path.write_bytes(b"".join(one + b"\n" for one in data))
        return path

    def transcript(*lines: dict[str, Any] | bytes, session: str = SID, subpath: str = "") -> Path:
        return made(*lines, session=session if subpath else "", subpath=subpath or session)

    return transcript


# ---- show ----


def test_a_session_is_shown_as_a_conversation(write: Write) -> None:
    write(user("hello"), answer("Hi there."))
    done = run("sessions", "show", SID[:8])
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith(SID)
    assert any(line.endswith("you        hello") for line in lines)
    assert any(line.endswith("assistant  Hi there.") for line in lines)
    assert "\x1b" not in done.out, "no colour without a terminal"


def test_raw_is_the_file_byte_for_byte(write: Write) -> None:
    path = write(user(HOSTILE), b"torn \xff\xfe\x00", b"")
    path.write_bytes(path.read_bytes() + b"not a line yet")
    assert run("sessions", "show", SID, "--raw").raw == path.read_bytes()


def test_raw_of_a_subagent_is_its_file(write: Write) -> None:
    write(user("main"))
    path = write(user("sub", isSidechain=True, sessionId=SID), subpath="subagents/agent-1")
    assert run("sessions", "show", SID, "--raw", "--stream", "subagents/agent-1").raw == path.read_bytes()
    missing = run("sessions", "show", SID, "--stream", "subagents/agent-2")
    assert (missing.status, "subagents/agent-1" in missing.err) == (2, True)


def test_subagents_are_shown_when_they_are_asked_for(write: Write) -> None:
    write(user("main"))
    write(user("from below", isSidechain=True, sessionId=SID), subpath="subagents/agent-1")
    assert "from below" not in run("sessions", "show", SID).out
    assert "from below" in run("sessions", "show", SID, "--subagents").out


# ---- of other agents ----


def install(name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case of `tests/corpus/cases` in the place of the home of a coding agent."""
    monkeypatch.setenv(variable, str(next((CORPUS.with_name("cases") / name).iterdir())))


def test_a_thread_that_goes_on_in_another_file_is_one_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    install("codex-segments", "CODEX_HOME", monkeypatch)
    session = "01a03d4c-831d-7490-bd4b-755dff239291"
    shown = run("sessions", "show", session).out
    said = ["before the revert", "this was reverted", "is taken back", "after the resume", "and more of it"]
    assert [shown.index(one) for one in said] == sorted(shown.index(one) for one in said)
    assert "what was said in the main transcript from ordinal 2 on is taken back" in shown
    for count, expected in ((2, said[-2:]), (3, ["this was reverted", *said[-2:]])):
        texts = [one["text"] for one in run("sessions", "get", session, "-n", str(count), "--json").json()["messages"]]
        assert all(text.startswith(words) for text, words in zip(texts, expected, strict=True))
    assert "and more of it" in run("sessions", "preview", session).out
    tail = run("sessions", "tail", session, "-n", "3").out
    assert [words in tail for words in said] == [False, False, True, True, True]
    hits = run("sessions", "search", "after the resume", "--json").json()["hits"]
    assert [(one["session"], one["subpath"][:9]) for one in hits] == [(session, "rollouts/")]
    run("sessions", "backfill")
    hits = run("sessions", "search", "after the resume", "--json").json()["hits"]
    assert [one["session"] for one in hits] == [session]
    (row,) = run("sessions", "list", "--json").json()["sessions"]
    assert (row["session"], row["messages"], row["title"]) == (session, 4, "before the revert")


def test_what_gemini_took_back_is_marked(home: Path) -> None:
    shutil.copytree(CORPUS.with_name("cases") / "gemini-same-id-twice" / "gemini", home / ".gemini")
    shown = run("sessions", "show", "a9000000").out
    mark = shown.index("what was said from line 4 on is taken back")
    assert shown.index("wrong answer") < mark < shown.index("right way")


def test_a_line_behind_a_torn_one_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    install("copilot-raw-newlines", "COPILOT_HOME", monkeypatch)
    shown = run("sessions", "show", "90000000").out
    assert "the whole answer" in shown
    assert "4 lines could not be read" in shown


def test_events_are_json_lines_of_ascii(write: Write) -> None:
    write(user(f"żółć {HOSTILE}"), b"torn")
    done = run("sessions", "show", SID, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert done.out.isascii()
    assert [event["kind"] for event in events] == ["session.started", "user.message", "parse.warning"]
    assert {event["schema"] for event in events} == {1}
    assert events[1]["text"] == f"żółć {HOSTILE}"


def test_a_session_that_is_not_there_is_an_error_with_a_next_step() -> None:
    done = run("sessions", "show", "nobody")
    assert done.status == 2
    assert "transcriptd sessions list" in done.err


def test_whoever_has_read_enough_may_leave(write: Write) -> None:
    write(*[user(f"message {number} " + "x" * 500) for number in range(2000)])
    for arguments in (["show", SID], ["show", SID, "--json"], ["show", SID, "--raw"]):
        with subprocess.Popen(
            [sys.executable, "-m", "agent", "sessions", *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert (process.stderr.read(), process.wait(60)) == (b"", 0)


# ---- in a terminal ----


def in_terminal(*arguments: str, more: dict[str, str] | None = None) -> bytes:
    """What a terminal gets to see."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **(more or {})}
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "sessions", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        seen = b"".join(_until_closed(ours))
        assert process.wait(60) == 0, seen[-500:]
    os.close(ours)
    return seen


def _until_closed(descriptor: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # EIO: nobody has the other side any more
        while data := os.read(descriptor, 1 << 16):
            yield data


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize(
    "arguments",
    [("show", SID, "--all"), ("show", SID, "--full"), ("show", SID, "--raw"), ("get", SID), ("preview", SID)],
    ids=" ".join,
)
def test_a_hostile_transcript_reaches_the_terminal_harmless(write: Write, arguments: tuple[str, ...]) -> None:
    call = {"type": "tool_use", "id": "c", "name": HOSTILE, "input": {"command": HOSTILE}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": HOSTILE}
    write(
        user(HOSTILE, cwd=HOSTILE, version=HOSTILE),
        {"type": "custom-title", "customTitle": HOSTILE},
        {"type": "assistant", "message": {"id": "a", "model": HOSTILE, "content": [call]}},
        {"type": "user", "message": {"content": [result]}},
        {"type": HOSTILE, "uuid": HOSTILE},
        HOSTILE.encode(),
        answer(HOSTILE),
    )
    seen = in_terminal(*arguments, more={"PAGER": "cat"})
    assert "␛]0;owned␇".encode() in seen or b"\\u001b]0;owned" in seen
    rest = _COLOUR.sub(b"", seen).decode().replace("\r\n", "\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", rest)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_long_session_goes_through_the_pager_and_a_short_one_does_not(write: Write, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\nhead -n 2\n")
    pager.chmod(0o700)
    write(user("short"))
    write(*[user(f"message {number}") for number in range(5000)], session=OTHER)
    paged = {"PAGER": str(pager)}
    assert b"PAGED" not in in_terminal("show", SID, more=paged)
    seen = in_terminal("show", OTHER, more=paged)
    assert b"PAGED" in seen
    assert b"message 4999" not in seen
    assert b"PAGED" not in in_terminal("show", OTHER, "--no-pager", more=paged)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_colours_are_for_terminals_that_want_them(write: Write) -> None:
    write(user("hello"))
    assert b"\x1b[" in in_terminal("show", SID)
    assert b"\x1b[" not in in_terminal("show", SID, more={"NO_COLOR": "1"})


# ---- get and preview ----


def test_the_last_messages_are_given_oldest_first(write: Write) -> None:
    write(*[one for number in range(50) for one in (user(f"q{number}"), answer(f"a{number}"))])
    done = run("sessions", "get", SID, "-n", "3", "--json").json()
    assert [(one["kind"], one["text"]) for one in done["messages"]] == [
        ("assistant.message", "a48"),
        ("user.message", "q49"),
        ("assistant.message", "a49"),
    ]


def test_the_last_messages_of_a_big_file_are_read_from_its_end(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(*[user("x" * 1000) for _ in range(20_000)], user("the last one"))
    read: list[int] = []
    original = TranscriptFile.read_at

    def read_at(self: TranscriptFile, offset: int, count: int) -> bytes:
        data = original(self, offset, count)
        read.append(len(data))
        return data

    monkeypatch.setattr(TranscriptFile, "read_at", read_at)
    assert "the last one" in run("sessions", "get", SID, "-n", "2").out
    assert sum(read) < path.stat().st_size / 10


def test_messages_are_found_before_a_long_tail_of_other_lines(write: Write) -> None:
    note = {"type": "attachment", "attachment": {"type": "file", "content": "x" * 5000}}
    write(user("first"), answer("far away"), *[note for _ in range(500)])
    done = run("sessions", "get", SID, "-n", "2", "--json").json()
    assert [one["text"] for one in done["messages"]] == ["first", "far away"]


def test_many_sessions_are_previewed_at_once_and_a_missing_one_is_told(write: Write) -> None:
    write(user("one"), answer("long " * 100))
    write(user("other"), session=OTHER)
    done = run("sessions", "preview", SID, "nobody", OTHER, "--characters", "10", "--items", "1", "--json").json()
    first, missing, second = done["sessions"]
    assert [one["text"] for one in first["items"]] == ["long long…"]
    assert first["items"][0]["completeness"] == "partial"
    assert missing == {"key": "nobody", "error": "no session here is called 'nobody'"}
    assert [one["text"] for one in second["items"]] == ["other"]
    assert "nobody" in run("sessions", "preview", SID, "nobody").out
    assert run("sessions", "preview", *["x"] * 101).status == 2


# ---- size ----

_MEASURED = """
import sys
from pathlib import Path
from agent.cli.main import main
sys.argv = ["transcriptd", *sys.argv[1:]]
try:
    main()
except SystemExit as exc:
    assert not exc.code
print(Path("/proc/self/status").read_text(), file=sys.stderr)
"""
# What getrusage says would count what was before the program began: a copy of this process.


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "arguments", [("show", SID), ("show", SID, "--full"), ("show", SID, "--json"), ("get", SID), ("show", SID, "--raw")]
)
def test_a_line_of_100_mb_costs_no_such_memory(write: Write, arguments: tuple[str, ...]) -> None:
    path = write(user("before"))
    with path.open("ab") as file:  # a hole: takes no room on the disk
        file.truncate(path.stat().st_size + 100_000_000)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + json.dumps(user("behind")).encode() + b"\n")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, "sessions", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert b"behind" in done.stdout
    if "get" not in arguments:  # which does not look that far back
        assert b"before" in done.stdout
        assert b"too_long" in done.stdout or "--raw" in arguments
    peak_mib = int(re.findall(rb"VmHWM:\s+(\d+) kB", done.stderr)[0]) / 1024
    assert peak_mib < 150
