"""What is counted of events, and that parts sum up to the whole."""

from collections.abc import Callable
from typing import Any

from agent.core.sessions.normalised import Event, Kind, ToolKind, Usage
from agent.core.sessions.summary import OTHER, Calls, Spent, Summary, merged, messages


def event(kind: Kind, **fields: Any) -> Event:
    return Event(kind=kind, seq=1, line=1, provider="claude", session_id="s", source="", **fields)


def summed(*events: Event) -> Summary:
    found = Summary()
    for one in events:
        found.add(one)
    return found


def test_tokens_stand_at_their_hour_and_model() -> None:
    found = summed(
        event(Kind.SESSION_STARTED, at_s=10.0, cwd="/p", model="m1"),
        event(Kind.USER_MESSAGE, at_s=20.0),
        event(Kind.USAGE, at_s=30.0, usage=Usage(1, 2, 3, 4, 0.5)),
        event(Kind.ASSISTANT_MESSAGE, at_s=4000.0, model="m2"),
        event(Kind.USAGE, usage=Usage(10)),
        event(Kind.SESSION_ENDED, at_s=5000.0),
    )
    assert found.hours == {"0\tm1": Spent(1, 2, 3, 4, 0.5, 1, 0), "1\tm2": Spent(10, messages=1)}
    assert (found.started_at_s, found.last_at_s, found.cwd, found.model) == (10.0, 5000.0, "/p", "m2")
    assert (found.has_ended, found.costs_are_known, found.models, messages(found)) == (True, True, {"m2": 1}, 2)
    found.add(event(Kind.USER_MESSAGE, at_s=6000.0))
    assert not found.has_ended, "somebody went on with it"


def test_tools_are_counted_by_kind_and_name_and_their_failures() -> None:
    call: Callable[..., Event] = lambda kind, **more: event(kind, tool="Bash", tool_kind=ToolKind.SHELL, **more)  # noqa: E731
    found = summed(call(Kind.TOOL_CALL), call(Kind.TOOL_CALL), call(Kind.TOOL_RESULT, is_error=True))
    assert found.tools == {"shell\tBash": Calls(2, 1)}


def test_a_hostile_transcript_makes_no_endless_tables() -> None:
    found = Summary()
    for number in range(6000):
        found.add(event(Kind.TOOL_CALL, tool=f"t{number}\t{'x' * 500}", model=f"m{number}", at_s=number * 3600.0))
    assert len(found.tools) <= 257
    assert len(found.hours) <= 4097
    assert sum(one.calls for one in found.tools.values()) == 6000
    assert found.total().calls == 6000
    assert f"other\t{OTHER}" in found.tools
    assert max(map(len, found.tools)) < 200
    for at_s in (-1.0, 1e300, float("inf"), float("nan")):
        found.add(event(Kind.USER_MESSAGE, at_s=at_s))
    assert found.last_at_s == 5999 * 3600.0


def test_a_session_is_the_sum_of_its_streams() -> None:
    main = summed(event(Kind.USER_MESSAGE, at_s=5.0, model="a", cwd="/p"), event(Kind.SESSION_ENDED))
    agent = summed(event(Kind.ASSISTANT_MESSAGE, at_s=1.0, model="b", cwd="/q"))
    main.lines, agent.lines = 2, 1
    whole = merged([main, agent])
    assert (whole.lines, whole.cwd, whole.model, whole.started_at_s, whole.last_at_s) == (3, "/p", "a", 1.0, 5.0)
    assert whole.has_ended
    assert whole.total().messages == 2
    assert whole.kinds == {"user.message": 1, "session.ended": 1, "assistant.message": 1}
    assert main.lines == 2, "the parts stay as they are"
