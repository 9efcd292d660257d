"""Descent of sessions: made up, in circles, and of many alike. The corpus is in tests/providers/test_tracing.py."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.sessions.lineage import (
    FIRST_IDS,
    MOST_IDS,
    Link,
    LinkKind,
    Sampler,
    Trace,
    conversations,
    link,
)


def trace(name: str, ids: Sequence[object] = (), start: float | None = 0.0, **more: Any) -> Trace:
    sampler = Sampler()
    for one in ids:
        sampler.add(str(one))
    known = Trace(name, "claude", start, sampler.sample(), sampler.entry_count, sampler.last_hash)
    return known._replace(**more)


def test_a_copy_of_all_resumes_and_a_copy_of_a_part_is_a_fork() -> None:
    first = trace("first", range(10), 1.0)
    resumed = trace("resumed", range(14), 2.0)
    forked = trace("forked", [*range(5), "x"], 3.0)
    other = trace("other", ["y"], 4.0)

    assert link([forked, other, resumed, first]) == {
        "resumed": Link(LinkKind.RESUME, "first", 10),
        "forked": Link(LinkKind.FORK, "first", 5),
    }


def test_a_chain_of_copies_descends_link_by_link() -> None:
    traces = [trace(f"s{n}", range(10 * (n + 1)), float(n)) for n in range(5)]

    assert {child: one.parent for child, one in link(traces).items()} == {f"s{n}": f"s{n - 1}" for n in range(1, 5)}


def test_a_copy_that_begins_in_the_middle_is_found() -> None:
    """After a compaction a fork copies only what came behind it."""
    links = link([trace("parent", range(100), 1.0), trace("child", [*range(60, 80), "own"], 2.0)])

    assert links == {"child": Link(LinkKind.FORK, "parent", 20)}


def test_long_sessions_are_recognised_by_a_sample() -> None:
    ids = [f"entry {n}" for n in range(9_000)]
    parent = trace("parent", ids, 1.0)
    copied_late = trace("late", [*ids[4_000:8_000], "own"], 2.0)
    grown = trace("grown", [*ids, *(f"own {n}" for n in range(50))], 3.0)

    links = link([parent, copied_late, grown])

    assert links["late"].parent == links["grown"].parent == "parent"
    assert links["late"].kind is LinkKind.FORK
    assert abs(links["late"].shared_entries - 4_000) < 1_000
    assert len(parent.sample.hashes) <= MOST_IDS


def test_what_lines_name_comes_before_what_ids_show() -> None:
    named = trace("child", range(3), 2.0, parent_session_id="named", parent_kind=LinkKind.BRANCH)

    links = link([trace("first", range(3), 1.0), trace("named", [], 1.5), named])

    assert links == {"child": Link(LinkKind.BRANCH, "named", 0)}


def test_a_missing_parent_is_kept_and_joins_its_children() -> None:
    one = trace("one", ["a"], parent_session_id="gone", parent_kind=LinkKind.SUBAGENT, referred_entries=7)
    two = trace("two", ["b"], parent_session_id="gone")
    links = link([one, two])

    assert links["one"] == Link(LinkKind.SUBAGENT, "gone", 7, is_missing=True)
    assert links["two"].is_missing
    assert [(c.root, c.members) for c in conversations(["one", "two"], links)] == [("gone", ("one", "two"))]


def test_a_copy_that_runs_unseen_is_told_as_such() -> None:
    links = link([trace("seen", range(3), 1.0), trace("unseen", range(4), 1.0, is_background=True)])

    assert links == {"unseen": Link(LinkKind.BACKGROUND, "seen", 3)}


def test_other_agents_ids_link_nothing() -> None:
    other = trace("b", range(3), 2.0)._replace(provider="codex")

    assert link([trace("a", range(3), 1.0), other]) == {}


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_a_circle_of_names_has_its_earliest_as_root(length: int) -> None:
    traces = [
        trace(f"s{n}", start=float(n), parent_session_id=f"s{(n + 1) % length}", parent_kind=LinkKind.FORK)
        for n in range(length)
    ]
    tail = trace("tail", start=99.0, parent_session_id="s0", parent_kind=LinkKind.FORK)

    links = link([*traces, tail])

    assert "s0" not in links
    assert set(links) == {"tail", *(f"s{n}" for n in range(1, length))}
    assert len(conversations([one.session_id for one in [*traces, tail]], links)) == 1


def test_sessions_of_one_id_count_once_with_most_entries() -> None:
    assert link([trace("b", range(5), 2.0), trace("b", (), 2.0), trace("a", range(5), 1.0)])["b"].shared_entries == 5


def test_ten_thousand_of_one_beginning_are_linked_to_the_first() -> None:
    """Each id is looked at a fixed number of times: 10,000 pairs of sessions would be 100 million comparisons."""
    sample = trace("", range(FIRST_IDS))
    traces = [sample._replace(session_id=f"{n:05}", started_at_s=float(n)) for n in range(10_000)]

    links = link(traces)

    assert {one.parent for one in links.values()} == {"00000"}
    (found,) = conversations([one.session_id for one in traces], links)
    assert len(found.members) == 10_000


def test_a_chain_of_ten_thousand_does_not_nest() -> None:
    names = [f"{n:05}" for n in range(10_000)]
    traces = [trace(names[0])] + [trace(after, parent_session_id=before) for before, after in itertools.pairwise(names)]

    (found,) = conversations(names, link(traces))

    assert found.members == tuple(names)


_names = st.sampled_from([f"s{n}" for n in range(8)])
_traces = st.builds(
    trace,
    _names,
    st.lists(st.integers(0, 12), max_size=8),
    st.none() | st.sampled_from([0.0, 1.0, 2.0]),
    parent_session_id=st.just("") | _names | st.just("missing"),
    parent_kind=st.none() | st.sampled_from(LinkKind),
    is_background=st.booleans(),
)


@given(st.lists(_traces, max_size=12), st.randoms(use_true_random=False))
def test_every_session_is_in_one_conversation_whatever_is_claimed(traces: list[Trace], chance: random.Random) -> None:
    links = link(traces)
    shuffled = list(traces)
    chance.shuffle(shuffled)
    assert link(shuffled) == links

    names = {one.session_id for one in traces}
    for name in names:
        seen = set()
        at = name
        while at in links:
            assert at not in seen
            seen.add(at)
            at = links[at].parent
    members = [name for one in conversations(sorted(names), links) for name in one.members]
    assert sorted(members) == sorted(names)
