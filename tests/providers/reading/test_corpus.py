"""Every line of every transcript in the corpus says something; what, is pinned by numbers."""

import json
from collections import Counter
from pathlib import Path

import pytest

from agent.core.sessions.normalised import Event, Kind
from agent.providers import PROVIDERS
from tests.providers.reading.corpus_counts import PINNED, count_all, transcripts, whole_lines

_PINNED = json.loads(PINNED.read_text())


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_line_says_something_and_the_counts_are_the_pinned_ones(name: str) -> None:
    counted = count_all(PROVIDERS[name])
    assert counted == {path: row for path, row in _PINNED.items() if path.split("/")[1] == name}
    assert counted
    for path, row in counted.items():
        assert row["lines"] == row["telling"], path


def test_of_the_corpus_only_torn_lines_are_warned_of() -> None:
    warnings: Counter[str] = Counter()
    for row in _PINNED.values():
        warnings.update(row["warnings"])
    assert warnings == {"broken": 4}


@pytest.mark.parametrize("name", PROVIDERS)
def test_numbers_grow_by_one_and_lines_are_counted_from_one(corpus: Path, name: str) -> None:
    provider = PROVIDERS[name]
    for path, stream in transcripts(corpus, provider):
        reader, seq = provider.reader(stream), 0
        for ordinal, line in enumerate(whole_lines(path), 1):
            for event in reader.read(line):
                seq += 1
                assert (event.seq, event.line, event.provider) == (seq, ordinal, name)
                assert (event.session_id, event.subpath) == stream


def _usage(events: list[Event]) -> tuple[int, int, int, int]:
    used = [event.usage for event in events if event.usage]
    return (
        sum(one.input for one in used),
        sum(one.output for one in used),
        sum(one.cache_read for one in used),
        sum(one.cache_creation for one in used),
    )


def _events(corpus: Path, name: str, end: str) -> list[Event]:
    provider = PROVIDERS[name]
    path, stream = next(one for one in transcripts(corpus, provider) if one[0].name.endswith(end))
    reader = provider.reader(stream)
    return [event for line in whole_lines(path) for event in reader.read(line)]


@pytest.mark.parametrize("name", ["copilot", "claude"])
def test_what_was_used_adds_up_to_what_the_agent_says_itself(corpus: Path, name: str) -> None:
    """Copilot sums up when a session ends. So does Claude Code, but not of what it was killed in, and with what it
    refused or asked beside the conversation."""
    compared = equal = 0
    for path, stream in transcripts(corpus, PROVIDERS[name]):
        totals = None
        reader, events = PROVIDERS[name].reader(stream), list[Event]()
        for line in whole_lines(path):
            events += reader.read(line)
            if (found := _TOTALS[name](line)) is not None:
                totals = found
        if totals is None or stream.subpath or _is_shared(path, name):
            continue
        used = _usage(events)
        counted = (used[0] + used[2] + used[3], used[1])
        compared += 1
        equal += counted == totals
    assert (compared, equal) == {"copilot": (8, 8), "claude": (50, 45)}[name]


def _is_shared(path: Path, name: str) -> bool:
    """Whether what subagents used, or a session that this one was forked from, is in its sum too."""
    data = path.read_bytes()
    return name == "claude" and (path.with_suffix("").joinpath("subagents").is_dir() or b'"forkedFrom"' in data)


def _copilot_totals(line: bytes) -> tuple[int, int] | None:
    if not line.startswith(b'{"type":"session.shutdown"'):
        return None
    found = [one["usage"] for one in json.loads(line)["data"]["modelMetrics"].values()]
    return sum(one["inputTokens"] for one in found), sum(one["outputTokens"] for one in found)


def _claude_totals(line: bytes) -> tuple[int, int] | None:
    if not line.startswith(b'{"type":"cost-state"'):
        return None
    found = json.loads(line)["modelUsage"].values()
    kinds = ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    return sum(one[kind] for one in found for kind in kinds), sum(one["outputTokens"] for one in found)


_TOTALS = {"copilot": _copilot_totals, "claude": _claude_totals}


def test_costs_add_up_to_the_last_sum_of_a_session(corpus: Path) -> None:
    compared = 0
    for path, stream in transcripts(corpus, PROVIDERS["claude"]):
        sums = [json.loads(line)["totalCostUSD"] for line in whole_lines(path) if line.startswith(b'{"type":"cost-s')]
        if len(sums) < 2:
            continue
        reader = PROVIDERS["claude"].reader(stream)
        costs = [event.usage.cost_usd or 0 for line in whole_lines(path) for event in reader.read(line) if event.usage]
        assert sum(costs) == pytest.approx(sums[-1]), path
        compared += 1
    assert compared


def test_what_codex_says_in_two_ways_is_told_once(corpus: Path) -> None:
    events = _events(corpus, "codex", "01a1fb4c-7811-75f2-bde3-23be5af79560.jsonl")
    spoken = [event.kind for event in events if event.kind in (Kind.USER_MESSAGE, Kind.ASSISTANT_MESSAGE)]
    assert spoken == [Kind.USER_MESSAGE, Kind.ASSISTANT_MESSAGE] * 2


def test_results_know_the_tool_that_was_called(corpus: Path) -> None:
    for name, provider in PROVIDERS.items():
        results = calls = 0
        for path, stream in transcripts(corpus, provider):
            reader = provider.reader(stream)
            for event in (one for line in whole_lines(path) for one in reader.read(line)):
                calls += event.kind is Kind.TOOL_CALL
                if event.kind is Kind.TOOL_RESULT:
                    results += 1
                    assert event.tool, (path, event.line)
                    assert event.tool_kind is not None, (path, event.line)
        assert 0 < results <= calls, name
