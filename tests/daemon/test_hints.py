"""Whose turn it is to be looked at."""

from agent.daemon.hints import Hints


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
