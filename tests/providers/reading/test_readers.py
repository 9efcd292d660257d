"""What every reader keeps to, whatever stands in a line; and what the corpus has no example of."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.sessions import normalised
from agent.core.sessions.normalised import RAW_BYTES, Completeness, Event, Kind, LineReader, ToolKind, Usage
from agent.core.transcripts.session import StreamId
from agent.providers import PROVIDERS
from agent.sessions.read.readout import read_events, read_lines

STREAM = StreamId("0b1f7b3c-6c53-4f6d-9a3c-1f4a0f3f7a55", "")
AGENTS = pytest.mark.parametrize("name", PROVIDERS)

# ---- hostile lines ----

_WORDS = st.sampled_from(
    """user assistant system event_msg response_item session_meta gemini message $set text tool_use tool_result
    compact_boundary cost-state reasoning function_call token_count assistant.message tool.execution_complete
    session.start session.usage_record attachment""".split()  # noqa: SIM905 - a paragraph of names
)
_KEYS = st.sampled_from(
    """type subtype uuid timestamp sessionId cwd version message content model usage input_tokens id name input payload
    role data toolRequests arguments text messages $set tokens thoughts toolCalls result output call_id error
    attachment forkedFrom totalCostUSD info rate_limits last_token_usage item isMeta tool_use_id""".split()  # noqa: SIM905
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | _WORDS
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6))
_OBJECTS = st.dictionaries(_KEYS, _VALUES, max_size=8).map(lambda one: json.dumps(one).encode())
_LINES = st.lists(st.binary(max_size=60).map(lambda one: one.replace(b"\n", b"")) | _OBJECTS, max_size=8)


@settings(max_examples=60)
@given(lines=_LINES)
def test_any_line_says_something_and_nothing_is_raised(lines: list[bytes]) -> None:
    for provider in PROVIDERS.values():
        reader = provider.reader(STREAM)
        seq = 0
        for ordinal, line in enumerate(lines, 1):
            events = reader.read(line)
            assert events
            for event in events:
                seq += 1
                assert (event.seq, event.line) == (seq, ordinal)
                assert event.at_s is None or event.at_s >= 0
                assert len(event.raw) <= RAW_BYTES
                msgspec.json.encode(event)  # what it says can be shown


_HOSTILE = {
    b"": "broken",
    b"{": "broken",
    b'{"type":"us{"type":"user"}': "broken",
    b'{"type":"user"}{"type":"user"}': "broken",
    bytes(60): "broken",
    b'{"type":"\xff\xfe"}': "broken",
    b"5": "unknown",
    b"[]": "unknown",
    b"{}": "unknown",
    b'{"type":"from-a-newer-version","content":"x"}': "unknown",
    b'{"type":7,"message":7,"payload":7,"data":7,"content":7}': "unknown",
    b'{"type":"user","message":{"content":[7]},"payload":{"content":[7]},"data":[7],"content":[7]}': "unknown",
    b'{"x":' + b"[" * 10**6 + b"]" * 10**6 + b"}": "too_deep",
    b"[" * 10**6: "too_deep",
}


@AGENTS
@pytest.mark.parametrize("line", _HOSTILE, ids=range(len(_HOSTILE)))
def test_what_nobody_knows_becomes_a_warning_with_the_line(name: str, line: bytes) -> None:
    (event,) = PROVIDERS[name].reader(STREAM).read(line)
    assert event.kind is Kind.PARSE_WARNING
    assert event.text == _HOSTILE[line] or (event.text == "unknown" and line[:1] == b"[")
    assert event.raw == line[:RAW_BYTES]


@AGENTS
def test_a_line_that_is_too_long_is_not_taken_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.providers.reading.lines.LONGEST_LINE_BYTES", 100)
    (event,) = PROVIDERS[name].reader(STREAM).read(b" " * 101)
    assert (event.kind, event.text) == (Kind.PARSE_WARNING, "too_long")


_USER_LINES = {
    "claude": {"type": "user", "message": {"role": "user", "content": "@"}, "timestamp": "T"},
    "codex": {
        "timestamp": "T",
        "type": "response_item",
        "payload": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "@"}]},
    },
    "gemini": {"id": "0b1f7b3c-6c53-4f6d-9a3c-1f4a0f3f7a55", "timestamp": "T", "type": "user", "content": "@"},
    "copilot": {"type": "user.message", "data": {"content": "@"}, "id": "1", "timestamp": "T", "parentId": None},
}


def _user_line(name: str, text: str, time: object = "2026-11-20T23:24:51.500Z") -> bytes:
    line = json.dumps(_USER_LINES[name], ensure_ascii=False).replace('"T"', json.dumps(time))
    return line.replace('"@"', text if text.startswith('"') else json.dumps(text, ensure_ascii=False)).encode()


@AGENTS
def test_a_message_keeps_its_text_its_time_and_its_place(name: str) -> None:
    text = "a\u2028b \x1b]0;title\x07 \u202e"
    (event,) = PROVIDERS[name].reader(STREAM).read(_user_line(name, text))
    assert (event.kind, event.text, event.at_s) == (Kind.USER_MESSAGE, text, 1795217091.5)


@AGENTS
@pytest.mark.parametrize(
    "time", ["", "soon", "2026-13-45T99:00:00Z", "0001-01-01T00:00:00+14:00", "-5", None, True, [], 1e300, -(10**300)]
)
def test_a_time_that_can_be_none_is_none(name: str, time: object) -> None:
    events = PROVIDERS[name].reader(STREAM).read(_user_line(name, "x", time))
    assert [event.at_s for event in events] == [None]


@AGENTS
def test_times_of_one_minute_are_told_apart_and_zones_are_kept(name: str) -> None:
    reader = PROVIDERS[name].reader(STREAM)
    said = ["24:51.223Z", "24:51+0200", "24:51.223Z", "24:59.999Z", "24:60.000Z", "24:5١.223Z", "25:00.000Z"]
    times = [reader.read(_user_line(name, "x", f"2026-11-20T23:{one}"))[0].at_s for one in said]
    first = 1795217091.223
    assert times[:4] == [first, 1795209891.0, first, 1795217099.999]
    assert times[4] is None
    assert times[6] == 1795217100.0


@AGENTS
def test_the_half_of_a_sign_that_was_cut_in_two_is_no_reason_to_lose_the_line(name: str) -> None:
    (event,) = PROVIDERS[name].reader(STREAM).read(_user_line(name, r'"cut \ud83d here \ud83c\udf89 \\ud83d"'))
    assert (event.kind, event.text) == (Kind.USER_MESSAGE, "cut \ufffd here \U0001f389 \\ud83d")


# ---- files ----


class _Bytes:
    """A file that gives at most so many bytes at once."""

    def __init__(self, data: bytes, at_once: int) -> None:
        self._data, self._at_once = data, at_once

    def read_at(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + min(count, self._at_once)]


@given(parts=st.lists(st.binary(max_size=30), max_size=12), at_once=st.integers(1, 40), longest=st.integers(1, 60))
def test_lines_are_the_same_wherever_reads_end(parts: list[bytes], at_once: int, longest: int) -> None:
    data = b"\n".join(parts)
    expected, at = [], 0
    for line in data.split(b"\n")[:-1]:
        too_long = len(line) > longest
        expected.append((b"" if too_long else line, at, at + len(line) + 1, too_long))
        at += len(line) + 1
    found = list(read_lines(_Bytes(data, at_once), longest=longest))
    assert [(b"" if one.too_long else one.data, one.start, one.end, one.too_long) for one in found] == expected
    assert all(line.startswith(one.data[:RAW_BYTES]) for one, line in zip(found, data.split(b"\n"), strict=False))
    if found:
        middle = found[len(found) // 2].start
        again = [*read_lines(_Bytes(data, at_once), 0, middle, longest=longest)]
        again += read_lines(_Bytes(data, at_once), middle, longest=longest)
        assert [one[1:] for one in again] == [one[1:] for one in found]


@AGENTS
@given(at_once=st.integers(1, 400))
@settings(max_examples=20)
def test_events_are_the_same_wherever_reads_end(name: str, at_once: int) -> None:
    lines = [_user_line(name, f"hello {number}") for number in range(5)] + [b"torn", b""]
    data = b"\n".join(lines) + b"\nnot a line yet"
    provider = PROVIDERS[name]
    whole = list(read_events(provider, _Bytes(data, 1 << 20), STREAM))
    assert list(read_events(provider, _Bytes(data, at_once), STREAM)) == whole
    reader = provider.reader(STREAM)
    middle = len(lines[0]) + 1
    first = list(read_events(provider, _Bytes(data, at_once), STREAM, to_offset=middle, reader=reader))
    assert first + list(read_events(provider, _Bytes(data, 9), STREAM, from_offset=middle, reader=reader)) == whole
    assert [event.line for event in whole] == [1, 2, 3, 4, 5, 6, 7]


@AGENTS
def test_of_a_line_that_is_too_long_a_file_gives_a_warning_and_goes_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_lines, "__kwdefaults__", {"longest": 1000})
    data = b"\n".join([_user_line(name, "one"), b"x" * 5000, _user_line(name, "three"), b""])
    events = list(read_events(PROVIDERS[name], _Bytes(data, 64), STREAM))
    assert [(event.line, event.text) for event in events] == [(1, "one"), (2, "too_long"), (3, "three")]
    assert set(events[1].raw) == {ord("x")}


# ---- what is told once ----


def _read(name: str, *lines: dict[str, Any]) -> Iterator[Event]:
    reader = PROVIDERS[name].reader(STREAM)
    for line in lines:
        yield from reader.read(json.dumps(line).encode())


def _kinds(events: Sequence[Event] | Iterator[Event], *kinds: Kind) -> list[Event]:
    return [event for event in events if event.kind in kinds]


def _answer(message_id: str, output: int, block: dict[str, Any]) -> dict[str, Any]:
    usage: Any = {"input_tokens": 3, "output_tokens": output, "cache_read_input_tokens": 7}
    return {"type": "assistant", "message": {"id": message_id, "model": "m", "content": [block], "usage": usage}}


def test_usage_that_stands_on_each_line_of_a_message_is_counted_once() -> None:
    text = {"type": "text", "text": "x"}
    events = _read("claude", _answer("a", 1, text), _answer("a", 9, text), _answer("a", 9, text), _answer("b", 2, text))
    used = [event.usage for event in _kinds(events, Kind.USAGE)]
    assert used == [Usage(3, 1, 7), Usage(0, 8, 0), Usage(3, 2, 7)]


def test_tokens_from_a_cache_are_taken_out_of_codex_input() -> None:
    count = {"input_tokens": 100, "cached_input_tokens": 60, "output_tokens": 5, "total_tokens": 105}
    info = {"total_token_usage": count, "last_token_usage": count}
    line = {"type": "event_msg", "payload": {"type": "token_count", "info": info}}
    events = list(_read("codex", line, line))
    assert [event.usage for event in _kinds(events, Kind.USAGE)] == [Usage(40, 5, 60)]
    assert len(events) == 2


def test_codex_limits_are_told_when_they_begin_and_end() -> None:
    def line(percent: float) -> dict[str, Any]:
        limits = {"primary": {"used_percent": percent}}
        return {"type": "event_msg", "payload": {"type": "token_count", "info": None, "rate_limits": limits}}

    events = _read("codex", line(50.0), line(100.0), line(100.0), line(2.0))
    assert [event.kind for event in _kinds(events, Kind.LIMIT_HIT, Kind.LIMIT_RESUMED)] == [
        Kind.LIMIT_HIT,
        Kind.LIMIT_RESUMED,
    ]


def test_the_same_words_typed_twice_are_two_messages() -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "yes"}]}
    as_item = {"type": "response_item", "payload": item}
    as_note = {"type": "event_msg", "payload": {"type": "user_message", "message": "yes"}}
    events = list(_read("codex", as_item, as_note, as_note, as_item, as_item))
    assert len(_kinds(events, Kind.USER_MESSAGE)) == 3
    assert len(events) == 5


def test_gemini_tells_of_a_message_that_recurs_what_is_new() -> None:
    first: dict[str, Any] = {
        "id": "m",
        "type": "gemini",
        "content": "",
        "thoughts": [{"subject": "s", "description": "d"}],
    }
    first["tokens"] = {"input": 10, "output": 2, "cached": 4, "thoughts": 1}
    call = {"id": "c", "name": "run_shell_command", "args": {"command": "ls"}, "status": "error"}
    called = {**first, "toolCalls": [call]}
    response = {"functionResponse": {"id": "c", "response": {"output": "no"}}}
    answered = {**called, "content": "done", "toolCalls": [{**call, "result": [response]}]}
    answer = {"id": "u", "type": "user", "content": [response]}
    events = list(_read("gemini", first, called, answered, answer, {"$set": {"messages": [answered, answer]}}))
    assert [event.kind for event in events] == [
        Kind.REASONING,
        Kind.USAGE,
        Kind.TOOL_CALL,
        Kind.ASSISTANT_MESSAGE,
        Kind.TOOL_RESULT,
        Kind.STATUS,
        Kind.STATUS,
    ]
    assert events[1].usage == Usage(6, 3, 4)
    assert (events[4].tool, events[4].tool_kind, events[4].is_error) == ("run_shell_command", ToolKind.SHELL, True)
    assert [event.text for event in events[5:]] == ["repeat", "repeat"]


def test_copilot_calls_a_tool_once() -> None:
    request = {"toolCallId": "c", "name": "bash", "arguments": {"command": "ls"}}
    asked = {"type": "assistant.message", "data": {"content": "", "toolRequests": [request]}}
    begun = {"type": "tool.execution_start", "data": {"toolCallId": "c", "toolName": "bash", "arguments": {}}}
    lonely = {"type": "tool.execution_start", "data": {"toolCallId": "d", "toolName": "x-tool", "arguments": {}}}
    calls = _kinds(_read("copilot", asked, begun, lonely), Kind.TOOL_CALL)
    assert [(one.call_id, one.tool_kind, one.arguments) for one in calls] == [
        ("c", ToolKind.SHELL, '{"command": "ls"}'),
        ("d", ToolKind.OTHER, "{}"),
    ]


def test_copilot_reasons_as_often_as_it_says() -> None:
    alone = {"type": "assistant.reasoning", "data": {"content": "hm"}}
    said = {"type": "assistant.message", "data": {"content": "x", "reasoningText": "hm"}}
    assert len(_kinds(_read("copilot", alone, said, alone, said, said), Kind.REASONING)) == 3
    assert len(_kinds(_read("copilot", alone, said), Kind.ASSISTANT_MESSAGE)) == 1


def test_calls_without_an_id_are_not_taken_for_one_another() -> None:
    call = {"name": "glob", "args": {}, "result": []}
    line = {"id": "m", "type": "gemini", "content": "", "toolCalls": [call, {**call, "name": "edit"}]}
    events = list(_read("gemini", line))
    assert [event.tool for event in _kinds(events, Kind.TOOL_CALL)] == ["glob", "edit"]
    assert [event.tool for event in _kinds(events, Kind.TOOL_RESULT)] == ["", ""]


def test_what_codex_writes_in_the_users_name_is_no_message() -> None:
    def said(text: str) -> Event:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        (event,) = _read("codex", {"type": "response_item", "payload": item})
        return event

    assert said("<environment_context>\n<cwd>/w</cwd>").kind is Kind.STATUS
    assert said("# AGENTS.md instructions for /w").kind is Kind.STATUS
    assert said("<div> is what I see").kind is Kind.USER_MESSAGE


def test_what_is_remembered_is_bounded() -> None:
    reader: LineReader = PROVIDERS["claude"].reader(STREAM)
    block: dict[str, Any] = {"type": "tool_use", "name": "Bash", "input": {}}
    for number in range(5000):
        reader.read(json.dumps(_answer(f"m{number}", 1, {**block, "id": f"c{number}"})).encode())
    result = {"type": "tool_result", "content": "x"}
    for call_id, tool in (("c4999", "Bash"), ("c0", "")):
        line: dict[str, Any] = {"type": "user", "message": {"content": [{**result, "tool_use_id": call_id}]}}
        (event,) = reader.read(json.dumps(line).encode())
        assert event.tool == tool


# ---- Claude Code's markup ----


def _said(text: str, **more: object) -> list[Event]:
    return list(_read("claude", {"type": "user", "message": {"role": "user", "content": text}, **more}))


def test_a_command_of_the_user_is_told_with_its_words() -> None:
    text = "<command-name>/review</command-name>\n<command-message>x</command-message>\n<command-args>it</command-args>"
    (event,) = _said(text)
    assert (event.kind, event.text, event.command) == (Kind.USER_MESSAGE, "/review it", "/review")
    assert _said("<command-name>/clear</command-name>")[0].kind is Kind.SESSION_CLEARED


def test_a_shell_command_of_the_user_is_a_call_and_its_output_a_result() -> None:
    (call,) = _said("<bash-input>ls -l</bash-input>")
    assert (call.kind, call.tool_kind, call.arguments) == (Kind.TOOL_CALL, ToolKind.SHELL, '{"command":"ls -l"}')
    result, error = _said("<bash-stdout>a</bash-stdout><bash-stderr>b</bash-stderr>")
    assert [(result.kind, result.text), (error.kind, error.text)] == [(Kind.TOOL_RESULT, "a"), (Kind.STDERR, "b")]


def test_words_that_look_like_other_markup_are_the_users() -> None:
    (event,) = _said("<div>why is this red?</div>")
    assert event.kind is Kind.USER_MESSAGE


def test_a_limit_is_hit_and_over_with_the_next_answer() -> None:
    block = {"type": "text", "text": "Claude AI usage limit reached|1755806400"}
    hit = _answer("e", 0, block) | {"isApiErrorMessage": True}
    hit["message"]["model"] = "<synthetic>"
    events = list(_read("claude", hit, _answer("a", 1, {"type": "text", "text": "on"})))
    assert [event.kind for event in events][:2] == [Kind.LIMIT_HIT, Kind.LIMIT_RESUMED]


def test_an_unknown_block_is_a_warning_and_its_neighbours_are_told() -> None:
    line = _answer("a", 1, {"type": "text", "text": "x"})
    line["message"]["content"].append({"type": "hologram"})
    events = list(_read("claude", line))
    (warning,) = _kinds(events, Kind.PARSE_WARNING)
    assert (warning.text, warning.source) == ("unknown", "assistant/hologram")
    assert json.loads(warning.raw) == line
    assert _kinds(events, Kind.ASSISTANT_MESSAGE)


def test_reasoning_that_is_left_out_is_known_to_have_been() -> None:
    (event,) = _kinds(_read("claude", _answer("a", 1, {"type": "redacted_thinking", "data": "x"})), Kind.REASONING)
    assert event.completeness is Completeness.METADATA_ONLY


def test_a_fork_names_where_it_comes_from() -> None:
    line = {"type": "user", "cwd": "/w", "version": "2.1.9", "message": {"content": "x"}}
    line["forkedFrom"] = {"sessionId": "other"}
    (event,) = _kinds(_read("claude", line), Kind.SESSION_STARTED)
    assert (event.command, event.cwd, event.resumed, event.parent_session_id) == ("claude 2.1.9", "/w", True, "other")


ROLLOUT = StreamId(STREAM.session_id, "rollouts/01a2308f-90bc-7801-af6f-2ad6332e9c25")
_BEFORE = "01a23081-25a0-7312-89b2-de0a3de85a73"


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"thread_id": STREAM.session_id, "end_ordinal_exclusive": 2}, "in the main transcript from ordinal 2 on"),
        ({"rollout_id": STREAM.session_id, "ordinal_exclusive": 2}, "in the main transcript from ordinal 2 on"),
        ({"thread_id": _BEFORE, "end_ordinal_exclusive": 29}, f"in rollouts/{_BEFORE} from ordinal 29 on"),
        ({"thread_id": STREAM.session_id, "end_ordinal_exclusive": "x"}, "in the main transcript"),
    ],
)
def test_a_thread_that_goes_on_elsewhere_says_what_is_taken_back(base: dict[str, Any], said: str) -> None:
    line = {"type": "session_meta", "payload": {"id": STREAM.session_id, "history_base": base}}
    events = PROVIDERS["codex"].reader(ROLLOUT).read(json.dumps(line).encode())
    assert [(one.kind, one.text) for one in events][1:] == [(Kind.SESSION_REWOUND, said)]
    forked = PROVIDERS["codex"].reader(STREAM).read(json.dumps(line).encode())
    assert [one.kind for one in forked] == [Kind.SESSION_STARTED], "a fork takes nothing back"


@pytest.mark.parametrize(("turns", "said"), [(1, "in the last turn"), (3, "in the last 3 turns"), (None, "")])
def test_turns_that_were_rolled_back_are_marked(turns: int | None, said: str) -> None:
    payload = {"type": "thread_rolled_back"} | ({} if turns is None else {"num_turns": turns})
    (event,) = _read("codex", {"type": "event_msg", "payload": payload})
    assert (event.kind, event.text) == (Kind.SESSION_REWOUND, said)


@pytest.mark.parametrize("seed", range(30))
def test_a_line_that_was_glued_to_a_torn_one_is_told(seed: int) -> None:
    """Whatever was torn, and wherever."""
    chance = random.Random(seed)
    name = chance.choice(("codex", "gemini", "copilot", "claude"))
    torn, whole = (
        json.dumps(one).encode() for one in (_SAID[name]("x" * 40 + ' {"a": [1, {}]} '), _SAID[name]("whole"))
    )
    cut = chance.randrange(2, len(torn))
    events = list(_read_lines(name, torn[:cut] + whole))
    assert events[0].kind is Kind.PARSE_WARNING
    assert "whole" in [one.text for one in events if one.kind is Kind.USER_MESSAGE]
    assert not [one for one in _read_lines(name, torn[:cut]) if one.kind is Kind.USER_MESSAGE]


_SAID: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "claude": lambda text: {"type": "user", "cwd": "/w", "uuid": "u", "message": {"role": "user", "content": text}},
    "codex": lambda text: {"type": "event_msg", "payload": {"type": "user_message", "message": text}},
    "gemini": lambda text: {"id": "0b1f7b3c", "type": "user", "content": text},
    "copilot": lambda text: {"type": "user.message", "data": {"content": text}, "id": "e"},
}


def _read_lines(name: str, *lines: bytes) -> Iterator[Event]:
    reader = PROVIDERS[name].reader(STREAM)
    for line in lines:
        yield from reader.read(line)


def test_a_hostile_torn_line_costs_bounded_work() -> None:
    line = b'{"type":"user","a":' + b'{"b":[' * 200_000
    (event,) = _read_lines("copilot", line)
    assert event.kind is Kind.PARSE_WARNING


def test_tool_servers_are_other_tools() -> None:
    block = {"type": "tool_use", "id": "1", "name": "mcp__git__log", "input": {"a": 1}}
    (event,) = _kinds(_read("claude", _answer("a", 1, block)), Kind.TOOL_CALL)
    assert (event.tool_kind, event.arguments) == (ToolKind.OTHER, '{"a": 1}')


def test_events_have_the_schema_that_they_say() -> None:
    assert normalised.SCHEMA == 1
