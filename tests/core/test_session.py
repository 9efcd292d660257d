"""Facts of a session, added up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.transcripts.session import UNSAID, Facts, StreamId

FACTS = st.builds(Facts, *[st.sampled_from(["", "a", "b"])] * 3)


def test_the_first_project_and_prompt_hold_and_the_last_title_does() -> None:
    old, new = Facts("/home/ada/tide", "old name", "first"), Facts("/elsewhere", "new name", "second")
    assert old.merged(new) == Facts("/home/ada/tide", "new name", "first")


def test_nothing_takes_nothing_away() -> None:
    known = Facts("/home/ada/tide", "name", "prompt")
    assert known.merged(Facts()) == known
    assert Facts().merged(known) == known


@given(FACTS, FACTS, FACTS)
def test_it_does_not_matter_in_what_portions_lines_are_read(one: Facts, two: Facts, three: Facts) -> None:
    assert one.merged(two).merged(three) == one.merged(two.merged(three))


def test_a_stream_is_its_session_and_place() -> None:
    assert StreamId("s", "") != StreamId("s", "subagents/agent-1")
    assert len({StreamId("s", "x"), StreamId("s", "x")}) == 1


# ---- facts ----

LEARNED = Facts("/p", "title", "prompt")


@pytest.mark.parametrize("facts", [LEARNED, Facts("/p", "title"), Facts("/p", prompt="prompt")])
def test_no_word_of_a_transcript_is_kept_but_that_there_was_one(facts: Facts) -> None:
    assert facts.to_keep() == Facts("/p", "", UNSAID)
    assert facts.to_keep().shown_title() == ""
    assert facts.to_keep().to_keep() == facts.to_keep()


def test_what_was_kept_takes_no_later_prompt_for_the_first() -> None:
    kept = LEARNED.to_keep()
    assert kept.before(100) == kept, "who reads on looks for no prompt where there is one already"
    assert kept.before(0) == Facts("/p"), "but the beginning tells it again"
    assert kept.merged(Facts("/p", prompt="prompt")).shown_title() == "prompt"
    assert LEARNED.merged(Facts(prompt="later")) == LEARNED
    assert LEARNED.before(0) == LEARNED
    assert Facts("/p").to_keep() == Facts("/p")
