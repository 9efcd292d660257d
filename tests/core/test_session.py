"""Facts of a session, added up."""

from hypothesis import given
from hypothesis import strategies as st

from agent.core.session import Facts, StreamId

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
