"""Events as people read them: harmless, within the width, folded, and summed up."""

import json
import unicodedata
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.layout import Line, Span, cells
from agent.cli.sessions.rendering import Options, Rendering, gist, render_event, safe, safe_line
from agent.core.sessions.normalised import Completeness, Event, Kind, ToolKind, Usage
from agent.providers import PROVIDERS
from tests.providers.reading.corpus_counts import transcripts, whole_lines

_EVENT = Event(kind=Kind.USER_MESSAGE, seq=1, line=1, provider="claude", session_id="s", source="user/text")
_JOINERS = "\u200c\u200d"


def event(kind: Kind, **fields: object) -> Event:
    return msgspec.structs.replace(_EVENT, kind=kind, **fields)


def words(lines: list[Line]) -> str:
    return "\n".join("".join(span.text for span in line).rstrip() for line in lines)


def told(one: Event, width: int = 80, **options: bool) -> str:
    return words(render_event(one, Options(width, utc=True, **options)))


def is_harmless(text: str) -> bool:
    return all(ch.isprintable() or ch in _JOINERS for ch in text)


@given(st.text(st.characters(codec=None), max_size=60) | st.text("\x00\x07\x1b\x7f\x9b\x9d\u202e\u2066\u2028\r\n\t a"))
def test_whatever_a_text_holds_nothing_of_it_is_obeyed(text: str) -> None:
    shown = safe(text)
    assert all(is_harmless(line) for line in shown.split("\n"))
    assert is_harmless(safe_line(text))
    printable = [ch for ch in text if ch.isprintable() and ch != " "]
    rest = iter(shown)
    assert all(any(ch == one for one in rest) for ch in printable), "what can be shown is"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x1b[2J\x1b[H", "␛[2J␛[H"),
        ("\x9b31m", "\\x9b31m"),
        ("\x1b]52;c;aGk=\x1b\\", "␛]52;c;aGk=␛\\"),
        ("abc\u202edcba\u2066", "abc\\u202edcba\\u2066"),
        ("a\rb", "a␍b"),
        ("a\r\nb\u2028c", "a\nb\\u2028c"),
        ("\x7f\x00", "␡␀"),
        ("\ud83d", "\\ud83d"),
        ("\U000e0041", "\\U000e0041"),
        ("a\tb", "a   b"),
        ("\U0001f469\u200d\U0001f4bb zażółć 日本", "\U0001f469\u200d\U0001f4bb zażółć 日本"),
    ],
)
def test_what_terminals_obey_is_made_visible(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("options", [Options(46), Options(100, notes=True), Options(80, notes=True, full=True)])
def test_every_transcript_of_the_corpus_is_rendered_within_its_width(corpus: Path, name: str, options: Options) -> None:
    provider = PROVIDERS[name]
    for path, stream in transcripts(corpus, provider):
        reader, rendering = provider.reader(stream), Rendering(options)
        lines = [
            shown for line in whole_lines(path) for one in reader.read(line) for shown in rendering.lines(one)
        ] + list(rendering.closing())
        assert len(lines) >= 2, path
        for line in lines:
            text = "".join(span.text for span in line)
            assert is_harmless(text), path
            assert not any(unicodedata.category(ch) in ("Cc", "Cs") for ch in text)
            assert cells(text) <= options.width, path


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(45, 90))
def test_nothing_is_lost_where_a_text_is_broken(text: str, width: int) -> None:
    shown = told(event(Kind.USER_MESSAGE, text=text), width)
    assert all(cells(line) <= width for line in shown.split("\n"))
    assert "".join(shown.removeprefix(" " * 10 + "you").split()) == "".join(safe(text).split())


def test_who_speaks_when_stands_before_what_is_said() -> None:
    one = event(Kind.ASSISTANT_MESSAGE, text="one\n  two", at_s=1795217091.0)
    assert told(one).split("\n") == ["23:24:51  assistant  one", " " * 21 + "  two"]


def test_a_megabyte_without_a_blank_is_cut_and_says_so() -> None:
    shown = told(event(Kind.USER_MESSAGE, text="x" * 1_000_000))
    assert shown.endswith("… 934,464 more characters; --full shows them")
    assert shown.count("x") == 65536
    assert told(event(Kind.USER_MESSAGE, text="x" * 1_000_000), full=True).count("x") == 1_000_000


def test_a_result_is_folded_and_says_how_much_is_left_out() -> None:
    text = "\n".join(f"line {number}" for number in range(100))
    one = event(Kind.TOOL_RESULT, text=text, tool="Bash", tool_kind=ToolKind.SHELL)
    assert told(one).split("\n")[4:] == [" " * 21 + "line 4", " " * 21 + "… 95 more lines"]
    assert "line 99" in told(one, full=True)


def test_a_result_that_stands_elsewhere_says_so() -> None:
    one = event(Kind.TOOL_RESULT, text="x", completeness=Completeness.PARTIAL)
    assert "not all of it stands in the transcript" in told(one)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"command":"ls -l","description":"List"}', "ls -l"),
        ('{"description":"d","file_path":"/a/b.py"}', "/a/b.py"),
        ('{"pattern":"def ","path":"src"}', "def   src"),
        ('{"cmd":["bash","-lc","ls"]}', "bash -lc ls"),
        ('{"todos":[{"content":"a"}]}', '{"todos":[{"content":"a"}]}'),
        ('"*** Begin Patch"', "*** Begin Patch"),
        ("{}", ""),
        ("", ""),
        ("not json", "not json"),
        ("[" * 100_000, "[" * 4000),
    ],
)
def test_a_call_is_told_by_what_it_is_about(arguments: str, words: str) -> None:
    assert gist(arguments) == words


def test_a_call_is_one_line_with_its_kind() -> None:
    call = event(
        Kind.TOOL_CALL,
        tool="Bash\x1b[2J",
        tool_kind=ToolKind.SHELL,
        arguments=json.dumps({"command": "echo \x1b[31m\n" + "x" * 500}),
    )
    shown = told(call, 60)
    assert shown.startswith(" " * 10 + "shell      Bash␛[2J  echo ␛[31m")
    assert (shown.count("\n"), cells(shown)) == (0, 60)


def test_what_the_agent_notes_of_itself_is_shown_on_demand() -> None:
    note = event(Kind.STATUS, text="turn")
    used = event(Kind.USAGE, usage=Usage(1, 2, 3, 4))
    assert (told(note), told(used)) == ("", "")
    assert "turn" in told(note, notes=True)
    assert "1 in, 2 out, 3 from cache, 4 to cache" in told(used, notes=True)
    assert "refused" in told(event(Kind.STATUS, text="refused", is_error=True)), "an error is no mere note"


def test_a_line_that_cant_be_read_is_named() -> None:
    warning = event(Kind.PARSE_WARNING, text="broken", raw=b"\x1b[2J\xff", line=7)
    assert "line 7 can't be read: broken" in told(warning)
    assert "␛[2J\ufffd" in told(warning, notes=True)


def test_what_was_used_is_summed_up_at_the_end() -> None:
    rendering = Rendering(Options(80, utc=True))
    for one in (
        event(Kind.USAGE, usage=Usage(1000, 2, 3, 0), model="opus"),
        event(Kind.USAGE, usage=Usage(1, 1, 1, 0), model="<synthetic>"),
        event(Kind.USAGE, usage=Usage(cost_usd=0.5)),
        event(Kind.TOOL_CALL, tool="Bash", tool_kind=ToolKind.SHELL),
        event(Kind.PARSE_WARNING, text="broken"),
    ):
        list(rendering.lines(one))
    assert words(list(rendering.closing())).split("\n") == [
        "",
        "tokens    1,001 in, 3 out, 4 from cache, $0.50",
        "tools     1 shell",
        "models    opus",
        "unread    1 line could not be read as an event; --raw shows it",
    ]


def test_a_new_day_is_named() -> None:
    rendering = Rendering(Options(80, utc=True))
    lines = [list(rendering.lines(event(Kind.USER_MESSAGE, text="x", at_s=at_s))) for at_s in (0.0, 1.0, 86400.0)]
    assert [one[0] for one in lines if len(one) > 1] == [[Span("1970-01-01", "bold")], [Span("1970-01-02", "bold")]]


def test_a_year_that_no_calendar_has_is_no_time() -> None:
    assert told(event(Kind.USER_MESSAGE, text="x", at_s=1e18)).startswith(" " * 10 + "you")
