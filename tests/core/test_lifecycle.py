"""The tables: complete, without a dead end, and with the promises in them."""

import ast
import inspect
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, TypeVar

import pytest

from agent.core.delivery import lifecycle
from agent.core.delivery.lifecycle import (
    BUSY,
    CONDITIONS,
    TRANSITIONS,
    UNSENT,
    Action,
    Condition,
    Event,
    Signal,
    State,
    Step,
    next_condition,
    next_state,
)
from agent.errors import LocalProtocolError

E = TypeVar("E", bound=StrEnum)

EVERY = [pytest.param(state, event, id=f"{state}-{event}") for state, row in TRANSITIONS.items() for event in row]
ABSENT = [
    pytest.param(state, event, id=f"{state}-{event}")
    for state in State
    for event in Event
    if event not in TRANSITIONS[state]
]
ANYTIME = (Event.GREW, Event.VANISHED, Event.RETRY)
"""These come from the disk or from people, who do not ask how a stream is."""

OUTCOMES = {
    Event.SENT_ALL, Event.SENT_SOME, Event.CONFLICT, Event.REALIGNED, Event.HELD, Event.FAILED, Event.DELETED,
    Event.WITHHELD,
}  # fmt: skip
"""These come from a worker that has the stream."""

CLOSED = (Condition.OFFLINE, Condition.NEEDS_LOGIN, Condition.WAITING_FOR_KEYRING, Condition.MISCONFIGURED)


def reach(start: E, step: Callable[[E], Iterable[E]]) -> set[E]:
    seen, pending = {start}, [start]
    while pending:
        for one in step(pending.pop()):
            if one not in seen:
                seen.add(one)
                pending.append(one)
    return seen


def targets(state: State, without: frozenset[Event] = frozenset()) -> list[State]:
    return [after for event, (after, _) in TRANSITIONS[state].items() if event not in without]


# --- streams ------------------------------------------------------------------------------------------------------


def test_every_state_has_a_row_and_nothing_else_has_one() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(("state", "event"), EVERY)
def test_every_transition_leads_to_a_state_by_known_actions(state: State, event: Event) -> None:
    after, actions = next_state(state, event)
    assert isinstance(after, State)
    assert all(isinstance(one, Action) for one in actions)
    assert len(set(actions)) == len(actions)


@pytest.mark.parametrize(("state", "event"), ABSENT)
def test_what_a_row_does_not_name_is_a_defect_that_says_so(state: State, event: Event) -> None:
    with pytest.raises(LocalProtocolError, match=f"event {event} can't happen to a stream that is {state}"):
        next_state(state, event)


def test_every_event_and_every_action_has_a_use() -> None:
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)
    assert {action for row in TRANSITIONS.values() for _, actions in row.values() for action in actions} == set(Action)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", ANYTIME)
def test_disk_and_people_are_heard_in_every_state(state: State, event: Event) -> None:
    next_state(state, event)


@pytest.mark.parametrize("state", State)
def test_outcomes_come_from_workers_and_only_they_end_a_push(state: State) -> None:
    if state in BUSY:
        assert set(TRANSITIONS[state]) >= OUTCOMES
        for event in set(TRANSITIONS[state]) - OUTCOMES - {Event.VANISHED, Event.REFUSED}:
            assert next_state(state, event)[0] in BUSY, f"{event} would leave a request in flight that nobody awaits"
    else:
        assert not set(TRANSITIONS[state]) & OUTCOMES


def test_only_a_due_stream_is_taken_so_that_two_workers_never_have_one() -> None:
    assert [state for state in State if Event.TAKEN in TRANSITIONS[state]] == [State.DUE]


@pytest.mark.parametrize(("state", "event"), EVERY)
def test_who_becomes_due_is_queued_exactly_when_it_was_not_due_before(state: State, event: Event) -> None:
    after, actions = next_state(state, event)
    assert (Action.QUEUE in actions) == (after is State.DUE and state is not State.DUE)


@pytest.mark.parametrize(("state", "event"), EVERY)
def test_who_waits_has_a_time_and_who_rests_has_an_end(state: State, event: Event) -> None:
    after, actions = next_state(state, event)
    assert (Action.BACK_OFF in actions) == (after is State.WAITING and state is not State.WAITING)
    rests = {Action.REST, Action.HOLD} & set(actions)
    assert bool(rests) == (after is State.SETTLING and state is not State.SETTLING)


@pytest.mark.parametrize(("state", "event"), EVERY)
def test_failures_are_forgiven_for_progress_or_by_a_person(state: State, event: Event) -> None:
    _, actions = next_state(state, event)
    if Action.FORGIVE in actions:
        assert event in {Event.SENT_ALL, Event.SENT_SOME, Event.RETRY, Event.RESTORED, Event.OUTGREW}
    if event in {Event.SENT_ALL, Event.SENT_SOME}:
        assert Action.FORGIVE in actions


def test_a_file_that_grew_during_its_push_is_never_taken_for_synced() -> None:
    assert next_state(State.PUSHING, Event.GREW)[0] is State.PUSHING_STALE
    for event in TRANSITIONS[State.PUSHING_STALE]:
        assert next_state(State.PUSHING_STALE, event)[0] is not State.SYNCED


@pytest.mark.parametrize("state", State)
def test_growth_is_never_forgotten(state: State) -> None:
    """After it, the stream is on its way to the server, or it waits for a decision that a person took or takes."""
    after, _ = next_state(state, Event.GREW)
    assert after in UNSENT | {State.PRIVATE, State.REFUSED, State.DELETED_ON_SERVER}


@pytest.mark.parametrize("state", [state for state in State if state not in (State.PRIVATE, State.DELETED_ON_SERVER)])
def test_from_every_state_there_is_a_way_to_synced(state: State) -> None:
    decisions = frozenset({Event.MARKED_PRIVATE, Event.MARKED_SHARED, Event.DELETED, Event.RESTORED})
    assert State.SYNCED in reach(state, lambda one: targets(one, decisions))


@pytest.mark.parametrize("state", sorted(UNSENT))
def test_what_is_unsent_needs_nobody_to_be_sent(state: State) -> None:
    people = frozenset({Event.RETRY, Event.RESTORED, Event.MARKED_SHARED, Event.MARKED_PRIVATE})
    assert State.SYNCED in reach(state, lambda one: targets(one, people))


def test_private_is_left_by_its_owners_word_only() -> None:
    leaving = {event: after for event, (after, _) in TRANSITIONS[State.PRIVATE].items() if after is not State.PRIVATE}
    stays = {Event.STAYS_DELETED: State.DELETED_ON_SERVER}
    assert leaving == {Event.MARKED_SHARED: State.DUE, Event.VANISHED: State.GONE, **stays}


def test_deleted_on_the_server_is_undone_by_restore_only() -> None:
    row = TRANSITIONS[State.DELETED_ON_SERVER]
    assert {event for event, (after, _) in row.items() if after in UNSENT} == {Event.RESTORED}


def test_refused_is_tried_again_when_a_person_says_so_or_the_file_is_another_one() -> None:
    row = TRANSITIONS[State.REFUSED]
    assert {event for event, (after, _) in row.items() if after in UNSENT} == {Event.RETRY, Event.OUTGREW}


@pytest.mark.parametrize("state", State)
def test_a_mark_is_heard_wherever_no_worker_has_the_stream(state: State) -> None:
    if state in BUSY:
        assert Event.MARKED_PRIVATE not in TRANSITIONS[state]
    else:
        after, actions = next_state(state, Event.MARKED_PRIVATE)
        assert after is (State.GONE if state is State.GONE else State.PRIVATE)
        assert Action.DELETE in actions


def test_the_sets_speak_of_the_states_that_they_name() -> None:
    assert BUSY < UNSENT
    assert not UNSENT & {State.SYNCED, State.PRIVATE, State.REFUSED, State.DELETED_ON_SERVER, State.GONE}


def test_no_row_says_the_same_event_twice() -> None:
    """A dict takes the last of two equal keys without a word, so the source is read."""
    tree = ast.parse(inspect.getsource(lifecycle))
    shared = {name: {key.name for key in getattr(lifecycle, name)} for name in ("_LEAVES", "_ANSWERS")}
    tables = {
        node.target.id: node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    table = tables["TRANSITIONS"]
    assert isinstance(table, ast.Dict)
    for row in table.values:
        assert isinstance(row, ast.Dict)
        events: list[str] = []
        for key, value in zip(row.keys, row.values, strict=True):
            if isinstance(key, ast.Attribute):
                events.append(key.attr)
            else:
                assert isinstance(value, ast.Name)
                events += shared[value.id]
        assert len(events) == len(set(events)), f"line {row.lineno}"


# --- destinations -------------------------------------------------------------------------------------------------


def _conditions(condition: Condition, without: Signal | None = None) -> list[Condition]:
    return [after for signal, (after, _) in CONDITIONS[condition].items() if signal is not without]


@pytest.mark.parametrize("condition", Condition)
@pytest.mark.parametrize("signal", Signal)
def test_every_signal_means_something_in_every_condition(condition: Condition, signal: Signal) -> None:
    after, steps = next_condition(condition, signal)
    assert isinstance(after, Condition)
    assert all(isinstance(one, Step) for one in steps)


def test_every_step_has_a_use() -> None:
    used: set[Any] = {step for row in CONDITIONS.values() for _, steps in row.values() for step in steps}
    assert used == set(Step)


@pytest.mark.parametrize("condition", Condition)
def test_from_every_condition_there_is_a_way_to_running_without_a_person(condition: Condition) -> None:
    assert Condition.RUNNING in reach(condition, lambda one: _conditions(one, without=Signal.CHANGED))


@pytest.mark.parametrize("condition", Condition)
@pytest.mark.parametrize("signal", Signal)
def test_a_question_goes_out_exactly_when_probing_begins(condition: Condition, signal: Signal) -> None:
    after, steps = next_condition(condition, signal)
    begins = after is Condition.PROBING and condition is not Condition.PROBING
    assert (Step.PROBE in steps) == begins, "one question at a time, and none forgotten"


@pytest.mark.parametrize("condition", Condition)
@pytest.mark.parametrize("signal", Signal)
def test_a_door_that_closes_gets_a_time_to_knock_again(condition: Condition, signal: Signal) -> None:
    after, steps = next_condition(condition, signal)
    closes = after in CLOSED and condition not in CLOSED
    assert bool({Step.BACK_OFF, Step.WAIT_LONG, Step.WAIT_FOR_KEYRING} & set(steps)) == closes


@pytest.mark.parametrize("condition", CLOSED)
def test_stragglers_do_not_open_a_closed_door(condition: Condition) -> None:
    for signal in set(Signal) - {Signal.TIME_CAME, Signal.CHANGED}:
        assert next_condition(condition, signal) == (condition, ())


def test_only_the_answer_to_a_probe_lets_the_held_ones_go() -> None:
    releases = [
        (condition, signal)
        for condition, row in CONDITIONS.items()
        for signal, (_, steps) in row.items()
        if Step.RELEASE in steps
    ]
    assert releases == [(Condition.PROBING, Signal.ANSWERED)]
