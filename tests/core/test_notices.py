"""Few notices and useful ones: what is told, after how long, how often, over restarts and whatever the clock does."""

import pytest

from agent.core.notices import (
    AGAIN_S,
    AWAKE_S,
    DAY_S,
    RULES,
    Concern,
    Memory,
    Remembered,
    decide_notices,
    decode_memory,
    encode_memory,
    not_shown,
)

NOW_S = 1_767_600_000.0
LOGIN = Concern("needs_login", "work")


class Desk:
    """Looks every two minutes, and remembers as the store does."""

    def __init__(self) -> None:
        self.now_s = NOW_S
        self.awake_since_s = NOW_S
        self.memory: Memory = {}
        self.told: list[str] = []

    def look(self, *concerns: Concern, unknown: tuple[str, ...] = ()) -> None:
        found = decide_notices(concerns, unknown, self.memory, self.now_s, self.now_s - self.awake_since_s)
        notices, self.memory = found[0], decode_memory(encode_memory(found[1]))
        self.told += [one.key for one in notices]

    def look_for(self, seconds: float, *concerns: Concern, unknown: tuple[str, ...] = ()) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 120.0
            self.look(*concerns, unknown=unknown)


@pytest.mark.parametrize("rule", RULES)
def test_each_is_told_after_its_time_and_once_a_day(rule: str) -> None:
    desk = Desk()
    concern = Concern(rule, "work", 5)
    desk.look_for(max(RULES[rule].after_s - 240.0, 0.0), concern)
    assert desk.told == []
    desk.look_for(600.0 + AWAKE_S, concern)
    assert desk.told == [concern.key]
    desk.look_for(DAY_S - 1_200.0, concern)
    assert len(desk.told) == 1
    desk.look_for(1_800.0, concern)
    assert len(desk.told) == 2


def test_what_passes_by_itself_is_not_told() -> None:
    desk = Desk()
    locked = Concern("keyring_locked", "work", 3)
    for _ in range(20):
        desk.look_for(600.0, locked)
        desk.look_for(120.0)
    assert desk.told == []
    assert desk.memory == {}


def test_one_that_comes_and_goes_is_told_once_a_day() -> None:
    desk = Desk()
    for _ in range(50):
        desk.look_for(600.0, LOGIN)
        desk.look_for(600.0)
    assert len(desk.told) == 1


def test_a_server_that_is_just_being_asked_is_as_it_was() -> None:
    desk = Desk()
    away = Concern("unreachable", "work", 1)
    for _ in range(25):
        desk.look_for(3_480.0, away)
        desk.look_for(120.0, unknown=("work",))
    assert desk.told == [away.key]


def test_a_restart_neither_repeats_nor_forgets() -> None:
    desk = Desk()
    away = Concern("unreachable", "work", 1)
    for _ in range(30):
        desk.look_for(3_600.0, away)
        desk.awake_since_s = desk.now_s
    assert desk.told == [away.key]


def test_nothing_is_told_right_after_a_wake_up() -> None:
    desk = Desk()
    away = Concern("unreachable", "work", 1)
    desk.look(away)
    desk.now_s += 3 * DAY_S
    desk.awake_since_s = desk.now_s
    desk.look(away)
    assert desk.told == []
    desk.look_for(AWAKE_S, away)
    assert desk.told == [away.key]


@pytest.mark.parametrize("jump_s", [-365 * DAY_S, 365 * DAY_S])
def test_a_clock_that_is_set_silences_nothing(jump_s: float) -> None:
    desk = Desk()
    desk.look_for(600.0, LOGIN)
    desk.now_s += jump_s
    desk.awake_since_s = desk.now_s
    desk.look_for(2 * DAY_S, LOGIN)
    assert 2 <= len(desk.told) <= 4


def test_servers_are_told_apart() -> None:
    desk = Desk()
    desk.look_for(600.0, LOGIN, Concern("needs_login", "home"))
    assert desk.told == ["needs_login work", "needs_login home"]


def test_what_could_not_be_shown_is_tried_again_in_an_hour() -> None:
    memory: Memory = {LOGIN.key: Remembered(NOW_S - 600.0)}
    (notice,), memory = decide_notices([LOGIN], (), memory, NOW_S, AWAKE_S)
    memory = not_shown(memory, notice, NOW_S)
    assert not decide_notices([LOGIN], (), memory, NOW_S + AGAIN_S - 1, AWAKE_S)[0]
    assert decide_notices([LOGIN], (), memory, NOW_S + AGAIN_S + 1, AWAKE_S)[0] == [notice]


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"needs_login work": 5}', '{"an older rule": {}}'])
def test_a_memory_that_can_not_be_read_is_none(text: str) -> None:
    assert decode_memory(text) == {}


def test_the_words_say_what_and_what_to_do() -> None:
    _, memory = decide_notices([Concern("about_to_be_lost", number=1_200)], (), {}, NOW_S, AWAKE_S)
    (notice,), _ = decide_notices([Concern("about_to_be_lost", number=1_200)], (), memory, NOW_S + 700.0, AWAKE_S)
    assert notice.title == "transcripts may be lost"
    assert notice.body == (
        "1,200 transcripts not sent yet may be deleted by their coding agent within 3 days; try: transcriptd status"
    )
