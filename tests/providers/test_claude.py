"""Claude Code: which files are transcripts of what, and what their lines say about a session."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.transcripts.session import Facts, Observation, StreamId, is_side_file
from agent.core.transcripts.transcript import EMPTY_CHAIN, measure_run, split_lines, whole_lines_bytes
from agent.delivery.discovery.scanner import Root, Scanner
from agent.providers import PROVIDERS, claude

PROJECT = "-home-ada-tide"
SID = "6513270e-269e-4d37-b2a7-4de452e6b438"
PARENT = "7403e430-ec66-4787-95e7-61d17731af10"


def unread() -> list[bytes]:
    raise AssertionError("the name tells it; the file must not be opened")


def lines(*values: Any) -> Callable[[], list[bytes]]:
    return lambda: [
        one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode() for one in values
    ]


def classify(path: str, first_lines: Callable[[], list[bytes]] = unread) -> StreamId | None:
    return claude.classify(tuple(path.split("/")), first_lines)


def test_it_is_a_known_provider_under_its_name() -> None:
    assert PROVIDERS["claude"] is claude


# --- where ----------------------------------------------------------------------------------------------------------


def test_its_own_variable_wins_over_the_home_folder() -> None:
    both = ["/home/ada/.claude/projects", "/home/ada/.config/claude/projects"]
    assert claude.roots({}, "/home/ada") == both
    assert claude.roots({"XDG_CONFIG_HOME": "/x"}, "/home/ada") == [both[0], "/x/claude/projects"]
    assert claude.roots({"CLAUDE_CONFIG_DIR": "/data/cc"}, "/home/ada") == ["/data/cc/projects"]
    assert claude.roots({"CLAUDE_CONFIG_DIR": ""}, "/home/ada") == both
    assert claude.roots({"CLAUDE_CONFIG_DIR": " /a, ,/b c,"}, "/home/ada") == ["/a/projects", "/b c/projects"]
    assert claude.settings_file({"CLAUDE_CONFIG_DIR": "/a,/b"}, "/home/ada") == "/a/settings.json"


# --- which ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        (f"{PROJECT}/{SID}.jsonl", StreamId(SID, "")),
        (f"{PROJECT}/{PARENT}/subagents/agent-a171.jsonl", StreamId(PARENT, "subagents/agent-a171")),
        (f"{PROJECT}/{PARENT}/subagents/..jsonl", StreamId(PARENT, "subagents/.")),
        (f"{PROJECT}/{PARENT}/deeper/and/deeper/x.jsonl", StreamId(PARENT, "deeper/and/deeper/x")),
        (f"{PROJECT}/{PARENT}/beside.jsonl", StreamId(PARENT, "beside")),
        (f"{PROJECT}/{PARENT}/agent-1.jsonl", StreamId(PARENT, "agent-1")),
        (f"{PROJECT}/not-a-uuid.jsonl", StreamId("not-a-uuid", "")),
        (f"{PROJECT}/with space.jsonl", StreamId("with space", "")),
        (f"{PROJECT}/with.dots.jsonl", StreamId("with.dots", "")),
        (f"{PROJECT}/twice.jsonl.jsonl", StreamId("twice.jsonl", "")),
        (f"{PROJECT}/ünïcode-名.jsonl", StreamId("ünïcode-名", "")),
        (f"{PROJECT}/.hidden.jsonl", StreamId(".hidden", "")),
        (f"{PROJECT}/agent.jsonl", StreamId("agent", "")),
        (f"{PROJECT}/Agent-1.jsonl", StreamId("Agent-1", "")),
        (f"{'x' * 255}/{SID}.jsonl", StreamId(SID, "")),
    ],
)  # fmt: skip
def test_a_transcript_is_known_by_its_place(path: str, stream: StreamId) -> None:
    assert classify(path) == stream


@pytest.mark.parametrize(
    "path",
    [
        f"{SID}.jsonl",  # straight below the root: no project
        f"{PROJECT}/{PARENT}/notes.txt",
        f"{PROJECT}/{PARENT}/tool-results",
        f"{PROJECT}/{PARENT}/memory/notes.json",
        f"{PROJECT}/tool-results/toolu_01.txt",
        f"{PROJECT}/{SID}.json",
        f"{PROJECT}/{SID}.jsonl.zst",
        f"{PROJECT}/{SID}.jsonl~",
        f"{PROJECT}/{SID}.jsonl.tmp",
        f"{PROJECT}/.jsonl",
        f"{PROJECT}/{PARENT}/subagents/.jsonl",
        f"{PROJECT}/jsonl",
        f"{PROJECT}/{SID}",
        f"{PROJECT}/memory/MEMORY.md",
    ],
)
def test_everything_else_is_left_alone(path: str) -> None:
    assert classify(path) is None


@pytest.mark.parametrize(
    "place",
    [
        "subagents/agent-a17108f66b48d9ce8.meta.json",
        "tool-results/toolu_01.txt",
        "tool-results/deeper/x.jsonl",
        "custom-title.json",
    ],
)
def test_a_side_file_is_told_by_its_place_in_the_session(place: str) -> None:
    stream = classify(f"{PROJECT}/{PARENT}/{place}")
    assert stream == StreamId(PARENT, f"files/{place}")
    assert stream is not None
    assert is_side_file(stream.subpath)


@pytest.mark.parametrize(
    ("settings", "days"),
    [
        (None, 30.0),
        ("{}", 30.0),
        ('{"cleanupPeriodDays": 7, "hooks": {}}', 7.0),
        ('{"cleanupPeriodDays": 0}', 0.0),
        ('{"cleanupPeriodDays": "a week"}', 30.0),
        ('{"cleanupPeriodDays": true}', 30.0),
        ("not JSON", 30.0),
    ],
)
def test_its_settings_say_when_transcripts_are_deleted(settings: str | None, days: float) -> None:
    assert claude.parse_retention_days(settings) == days
    assert claude.settings_file({"CLAUDE_CONFIG_DIR": "/data/cc"}, "/home/ada") == "/data/cc/settings.json"


@pytest.mark.parametrize("name", ["..jsonl", "...jsonl"])
def test_a_name_that_no_address_can_hold_is_no_session(name: str) -> None:
    """`.` and `..` as parts of an address mean its folder and the one above; proxies take them out."""
    assert classify(f"{PROJECT}/{name}") is None


def test_a_flat_subagent_belongs_to_the_session_that_its_lines_name() -> None:
    flat = f"{PROJECT}/agent-1a2b3c4d.jsonl"
    named = {"type": "user", "isSidechain": True, "sessionId": PARENT, "agentId": "1a2b3c4d"}
    assert classify(flat, lines(named)) == StreamId(PARENT, "agent-1a2b3c4d")
    assert classify(flat, lines({"type": "summary"}, b"{torn", b"", b"[1]", named)) == StreamId(
        PARENT, "agent-1a2b3c4d"
    )
    assert classify(flat, lines(named, {"sessionId": "another"})) == StreamId(PARENT, "agent-1a2b3c4d")


def test_a_flat_subagent_can_not_be_told_before_its_first_line_is_whole() -> None:
    assert classify(f"{PROJECT}/agent-1a2b3c4d.jsonl", list) is None


@pytest.mark.parametrize(
    "first",
    [
        b"not json", b"", b"[]", b"null", b"{}", b"\x00\x00", b'{"sessionId":null}', b'{"sessionId":5}',
        b'{"sessionId":""}', b'{"sessionId":{"id":"x"}}', b'{"sessionId":"\\ud800"}', b'{"sessionId":"\xff"}',
        b'{"message":{"sessionId":"inside"}}', b'{"sessionId":"."}', b'{"sessionId":".."}', b"[" * 100_000,
    ],
    ids=range(16),
)  # fmt: skip
def test_a_flat_subagent_that_names_nobody_stands_for_itself(first: bytes) -> None:
    """Its lines must reach the server all the same."""
    assert classify(f"{PROJECT}/agent-1a2b3c4d.jsonl", lambda: [first]) == StreamId("agent-1a2b3c4d", "")


# --- what lines say -----------------------------------------------------------------------------------------------


def user(content: Any, cwd: str | None = "/home/ada/tide", **more: Any) -> dict[str, Any]:
    return {"type": "user", "cwd": cwd, "message": {"role": "user", "content": content}, **more}


def read(*values: Any, known: Facts = Facts()) -> Facts:  # noqa: B008 - a value that never changes
    return read_lines(lines(*values)(), known)


def read_lines(values: Sequence[bytes], known: Facts) -> Facts:
    """As a pusher reads them: in one piece, with the lines marked that tell something wherever they stand."""
    data = b"".join(line + b"\n" for line in values)
    return claude.read_facts(data, measure_run(EMPTY_CHAIN, data, len(values), claude.telling).marked, known)


def test_the_first_folder_names_the_project() -> None:
    values = [{"type": "mode"}, {"type": "system", "cwd": "/home/ada/tide"}, {"type": "user", "cwd": "/elsewhere"}]
    assert read(*values).project == "/home/ada/tide"
    assert read(*values, known=Facts("/known")).project == "/known"
    assert read({"cwd": None}, {"cwd": 5}, {"cwd": ["/x"]}, {"cwd": "/y"}).project == "/y"


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ({"type": "custom-title", "customTitle": "Tide tables", "sessionId": SID}, "Tide tables"),
        ({"type": "summary", "summary": "Tide tables", "leafUuid": "x"}, "Tide tables"),
        ({"type": "ai-title", "aiTitle": "Tide tables", "sessionId": SID}, "Tide tables"),
        ({"type": "custom-title", "aiTitle": "Tide tables"}, ""),
        ({"type": "summary", "summary": ["Tide tables"]}, ""),
        ({"type": "custom-title", "customTitle": None}, ""),
        ({"type": "user", "summary": "Tide tables"}, ""),
        ({"type": ["summary"], "summary": "Tide tables"}, ""),
    ],
)
def test_titles_come_from_the_lines_that_give_them(line: dict[str, Any], title: str) -> None:
    assert read(line).title == title


def test_the_last_title_holds_also_when_everything_else_is_known() -> None:
    first, last = {"type": "summary", "summary": "old"}, {"type": "custom-title", "customTitle": "new"}
    assert read(first, last).title == "new"
    assert read(last, known=Facts("/p", "old", "prompt")) == Facts("/p", "new", "prompt")
    assert read(user("more"), known=Facts("/p", "old", "prompt")) == Facts("/p", "old", "prompt")


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        ("Plot the tides", "Plot the tides"),
        ("  Plot\n\n the\ttides ", "Plot the tides"),
        ([{"type": "text", "text": "Plot the tides"}], "Plot the tides"),
        ([{"type": "image", "source": {}}, {"type": "text", "text": "Plot the tides"}], "Plot the tides"),
        ([{"type": "tool_result", "content": "output"}], ""),
        ("<command-name>/clear</command-name>", ""),
        ("<local-command-stdout>x</local-command-stdout>", ""),
        ([{"type": "text", "text": "<ide_opened_file>x</ide_opened_file>"}], ""),
        ([], ""),
        ([None, 5, "text", {"type": "text"}, {"type": "text", "text": 5}], ""),
        ({"text": "x"}, ""),
        (None, ""),
        (5, ""),
        ("x" * 10_000, "x" * 120),
        ("x" * 119 + " yy", "x" * 119),
    ],
)
def test_the_prompt_is_what_the_user_wrote(content: Any, prompt: str) -> None:
    assert read(user(content)).prompt == prompt


def test_the_prompt_is_the_first_one_of_the_users_own() -> None:
    skipped = [
        user("meta", isMeta=True),
        user("from a subagent", isSidechain=True),
        user("<command-name>/model</command-name>"),
        {**user("said by the model"), "type": "assistant"},
        {"type": "user", "cwd": "/home/ada/tide"},
        {"type": "user", "cwd": "/home/ada/tide", "message": "no object"},
    ]
    assert read(*skipped).prompt == ""
    assert read(*skipped, user("Plot the tides"), user("and the moon")).prompt == "Plot the tides"
    assert read(user("later"), known=Facts(prompt="Plot the tides")).prompt == "Plot the tides"


BOMBS = [
    b"",
    b"\x00" * 512,
    b"\xff\xfe{}",
    b'{"type":"user","cwd":"/x","message":{"content":"to',  # torn
    b'{"cwd":"/torn"{"cwd":"/glued","type":"user"}',  # glued to a torn line
    b'{"cwd":"\xff\xfe"}',
    b'{"cwd":' + b"[" * 30_000,
    b'{"cwd":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    b'{"type":"user","message":' + b'{"content":' * 5_000 + b"1" + b"}" * 5_000 + b',"cwd":"/nested"}'[:0],
    b'{"type":"summary","summary":' + b"9" * 5_000 + b"}",
    b'{"type":"summary","summary":1e999}',
    b'{"type":"summary","summary":"\\ud800"}',
    b"[" * 60_000 + b'"cwd"',
    b'"cwd"',
    b"null",
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_a_broken_line_costs_nothing_but_itself(bomb: bytes) -> None:
    after = json.dumps(user("Plot the tides")).encode()
    found = read_lines([bomb, after], Facts())
    assert found == Facts("/home/ada/tide", "", "Plot the tides")


def test_a_line_nested_deep_in_its_message_gives_its_folder_only() -> None:
    deep = b'{"cwd":"/deep","type":"user","message":{"content":' + b"[" * 20_000 + b"]" * 20_000 + b"}}"
    assert read_lines([deep], Facts()).prompt == ""


@given(st.lists(st.binary(max_size=80) | st.sampled_from(BOMBS), max_size=6))
def test_no_bytes_break_it(values: list[bytes]) -> None:
    read_lines(values, Facts())
    claude.classify((PROJECT, "agent-1.jsonl"), lambda: values)


def test_it_does_not_matter_in_what_portions_lines_are_read() -> None:
    values = lines(
        {"type": "summary", "summary": "old"},
        user("meta", isMeta=True),
        user("Plot the tides"),
        {"type": "custom-title", "customTitle": "new"},
        user("and the moon", cwd="/elsewhere"),
    )()
    whole = read_lines(values, Facts())
    assert whole == Facts("/home/ada/tide", "new", "Plot the tides")
    for cut in range(len(values) + 1):
        assert read_lines(values[cut:], read_lines(values[:cut], Facts())) == whole


# --- what real versions wrote --------------------------------------------------------------------------------------

CORPORA = {
    "1.0.100-print": (26, 0, 26),
    "2.0.30-print": (83, 59, 24),
    "2.0.30-torn": (12, 8, 4),
    "2.1.197-print": (27, 7, 20),
    "2.1.329-print": (66, 7, 59),
    "2.1.329-tui-scripted": (5, 2, 3),
}
"""Files, those of subagents among them, sessions."""


def discover(projects: Path) -> list[Observation]:
    found: list[Observation] = []

    def observed(observations: Sequence[Observation], _: bool) -> None:
        found.extend(observations)

    scanner = Scanner([Root(claude, str(projects.resolve()))], observed, lambda _: None)
    scanner.scan()
    assert (scanner.unreadable, scanner.unfollowed) == ({}, {})
    return found


def test_every_corpus_is_pinned(corpus: Path) -> None:
    assert {one.name for one in (corpus / "claude").iterdir()} == set(CORPORA)


@pytest.mark.parametrize("version", CORPORA)
def test_every_real_transcript_is_found_once_under_an_id_of_its_own(corpus: Path, version: str) -> None:
    projects = corpus / "claude" / version / "projects"
    found = [one for one in discover(projects) if not is_side_file(one.stream.subpath)]
    assert sorted(one.path for one in found) == sorted(str(path.resolve()) for path in projects.rglob("*.jsonl"))
    assert max(Counter(one.stream for one in found).values()) == 1
    streams = [one.stream for one in found]
    subagents = sum(bool(one.subpath) for one in streams)
    assert (len(streams), subagents, len({one.session_id for one in streams})) == CORPORA[version]
    assert not {one.session_id for one in streams if one.subpath} - {
        one.session_id for one in streams if not one.subpath
    }


@pytest.mark.parametrize("version", CORPORA)
def test_every_real_session_says_where_it_began(corpus: Path, version: str) -> None:
    for one in discover(corpus / "claude" / version / "projects"):
        if is_side_file(one.stream.subpath):
            continue
        data = Path(one.path).read_bytes()
        content = split_lines(data[: whole_lines_bytes(data)])
        facts = read_lines(content, Facts())
        if any(b'"cwd"' in line and line.startswith(b"{") and line.endswith(b"}") for line in content):
            assert facts.project.startswith("/"), one.stream
        fits = len(facts.prompt) <= 120 and facts.prompt == " ".join(facts.prompt.split())
        assert fits, one.stream  # without its text: that is somebody's


# ---- where a session from elsewhere belongs ----


@pytest.mark.parametrize(
    ("project", "folder"),
    [
        ("/home/dev/src/a_b", "-home-dev-src-a-b"),
        ("/home/dev/src/with space & dots v1.2_under", "-home-dev-src-with-space---dots-v1-2-under"),
        ("/p/\u00e9", "-p--"),
        ("/p/\U0001f600x", "-p---x"),
        ("C:\\work\\x", "C--work-x"),
    ],
)
def test_a_project_has_the_folder_that_claude_code_makes(project: str, folder: str) -> None:
    assert claude.place(StreamId("s", ""), project, [], {}) == (folder, "s.jsonl")


def test_every_folder_of_the_corpus_is_found_again(corpus: Path) -> None:
    found = 0
    for path in sorted((corpus / "claude").glob("*/projects/*/*.jsonl")):
        project = claude.read_facts(path.read_bytes()[: 1 << 16], (), Facts()).project
        if project and len(path.parent.name) < 200 and not path.name.startswith("agent-"):
            placed = claude.place(StreamId(path.stem, ""), project, [], {})
            found += placed == (path.parent.name, path.name)
    assert found > 60


def test_a_folder_whose_transcripts_name_the_project_goes_before_a_made_up_one() -> None:
    long = "/" + "x" * 250
    there = {"-other": "/work", "-work": "/elsewhere", "cut-av9383": long}
    assert claude.place(StreamId("s", ""), "/work", [], there) == ("-other", "s.jsonl")
    assert claude.place(StreamId("s", ""), "/work", [], {**there, "-work": "/work"}) == ("-work", "s.jsonl")
    assert claude.place(StreamId("s", ""), long, [], there) == ("cut-av9383", "s.jsonl")
    assert claude.place(StreamId("s", ""), long, [], {}) is None
    assert claude.place(StreamId("s", ""), "", [], {}) is None


@pytest.mark.parametrize(
    "subpath", ["", "subagents/agent-x", "agent-1f", "files/tool-results/a.txt", "files/custom-title.json"]
)
def test_what_is_placed_is_found_there_as_what_it_is(subpath: str) -> None:
    lines = [b'{"sessionId":"s"}']
    parts = claude.place(StreamId("s", subpath), "/work", lines, {})
    assert parts is not None
    assert claude.classify(parts, lambda: lines) == StreamId("s", subpath)
