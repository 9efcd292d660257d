"""Whose turn it is to be looked at."""

from agent.delivery.discovery.hints import FLOOD, FLOOD_S, Hints


def test_known_files_pass_any_number_of_new_ones() -> None:
    hints = Hints({"a", "b"}.__contains__)
    for path in ("n1", "n2", "a", "n3", "b", "a"):
        hints.add(path)
    assert len(hints) == 5
    assert hints.pop(3) == ["a", "b", "n1"]
    hints.add("a")
    assert hints.pop(1) == ["a"]
    assert hints.pop(9) == ["n2", "n3"]
    assert not hints
    assert hints.pop(9) == []


def test_known_ones_are_never_kept_back_by_the_number() -> None:
    hints = Hints(lambda _: True)
    for number in range(50):
        hints.add(str(number))
    assert len(hints.pop(1)) == 50


def test_a_flood_is_answered_by_a_full_look_when_it_is_over_and_while_it_lasts() -> None:
    hints = Hints(lambda path: path == "known")
    for number in range(FLOOD - 1):
        hints.add(f"{number}")
    assert not hints.want_full_look(0.0)
    hints.add("known")
    assert hints.pop(10_000) == ["known"], "the full look finds the others"
    assert hints.want_full_look(1.0)
    assert not hints.want_full_look(2.0)
    for number in range(2 * FLOOD):
        hints.add(f"{number}")
    assert len(hints) == 0
    assert not hints.want_full_look(3.0), "it rises still"
    assert hints.want_full_look(3.1), "it is over"
    for _ in range(FLOOD):
        hints.add("known")
    assert not hints.want_full_look(3.2), "notices of known files are as easily lost"
    hints.add("another")
    assert hints.want_full_look(3.1 + FLOOD_S), "it has lasted"
    assert hints.pop(1) == ["known"]
    hints.add("new")
    assert hints.pop(1) == ["new"]
