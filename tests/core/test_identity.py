"""Is it still the same file, and where in it does a server's head stand?"""

import io
import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from agent.core.transcripts.identity import (
    BEGINNING,
    MARKER_WINDOW_BYTES,
    START,
    BasePlaces,
    Cursor,
    Place,
    Survey,
    find_base_places,
    marker_of,
    stored_prefix,
)
from agent.core.transcripts.session import Head
from agent.core.transcripts.transcript import EMPTY_CHAIN, EntryMark, walk_entries


def marks_of(*uuids: str | None) -> list[EntryMark]:
    """The entries of a file whose lines have these uuids."""
    lines = [json.dumps({"n": number} | ({"uuid": one} if one else {})) for number, one in enumerate(uuids)]
    return list(walk_entries(io.BytesIO("".join(f"{line}\n" for line in lines).encode()), "session", ""))


def place_of(mark: EntryMark) -> Place:
    return Place(mark.ordinal, mark.end, mark.chain)


def find_head(marks: list[EntryMark], head: Head) -> EntryMark | None:
    """The entry at which a survey finds one head."""
    best = Survey(marks, [head]).best
    return None if best is None else next(mark for mark in marks if place_of(mark) == best[1])


def chosen(places: BasePlaces, offset: int, stored: int | None) -> EntryMark:
    return places.choose(offset, stored)[1]


# --- markers ------------------------------------------------------------------------------------------------------


def test_nothing_before_the_cursor_has_the_empty_marker() -> None:
    assert marker_of(b"") == START.marker == b""


def test_a_marker_sees_every_byte_of_its_window_and_nothing_before() -> None:
    window = bytes(range(256)) * (MARKER_WINDOW_BYTES // 256)
    marker = marker_of(window)
    assert marker_of(b"whatever stood before" + window) == marker
    for at in (0, 1, MARKER_WINDOW_BYTES // 2, MARKER_WINDOW_BYTES - 1):
        flipped = bytearray(window)
        flipped[at] ^= 1
        assert marker_of(bytes(flipped)) != marker, at


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_short_beginnings_have_markers_of_their_own(one: bytes, other: bytes) -> None:
    assert (marker_of(one) == marker_of(other)) == (one == other)


def test_nul_bytes_after_a_power_cut_do_not_pass_for_what_was_there() -> None:
    before = b'{"uuid":"a"}\n' * 400
    assert marker_of(before) != marker_of(bytes(len(before)))


def test_a_cursor_claims_the_head_that_it_stands_for() -> None:
    cursor = Cursor(120, 3, "u3", bytes(range(32)), b"m", "g1", 2)
    assert cursor.head() == Head("u3", 3, "g1", bytes(range(32)).hex())
    assert START.head() == Head(None, 0, None, EMPTY_CHAIN.hex())


# --- a bulk server's head -------------------------------------------------------------------------------------


def test_a_head_is_found_where_both_chains_agree() -> None:
    marks = marks_of("a", "b", "c")
    for mark in marks:
        assert find_head(marks, Head(mark.entry_id, mark.ordinal, "g", mark.chain.hex())) == mark


def test_equal_count_and_uuid_with_another_chain_is_no_agreement() -> None:
    marks = marks_of("a", "b")
    assert find_head(marks, Head("b", 2, "g", marks[0].chain.hex())) is None


def test_without_a_chain_hash_the_id_decides_at_that_count_only() -> None:
    marks = marks_of("a", "b", "a")
    assert find_head(marks, Head("a", 3)) == marks[2]
    assert find_head(marks, Head("a", 1)) == marks[0]
    assert find_head(marks, Head("a", 2)) is None, "the same uuid elsewhere in the file is no position"


def test_a_head_without_uuids_is_found_by_the_derived_id() -> None:
    marks = marks_of(None, None)
    assert find_head(marks, Head(marks[1].entry_id, 2)) == marks[1]
    assert find_head(marks, Head(marks[0].entry_id, 2)) is None


def test_a_head_behind_the_end_of_the_file_stands_nowhere() -> None:
    marks = marks_of("a")
    assert find_head(marks, Head("b", 2, "g", marks[0].chain.hex())) is None
    assert find_head([], Head("a", 1)) is None


def test_an_upper_case_chain_hash_does_not_count_as_equal_by_chance() -> None:
    """Hex is lower case on this wire; a server that shouts is asked to start a generation instead of being guessed."""
    marks = marks_of("a")
    shouted = marks[0].chain.hex().upper()
    assert find_head(marks, Head("a", 1, "g", shouted)) is None


# --- a base server's last uuid ---------------------------------------------------------------------------------


def test_places_count_only_entries_with_a_uuid() -> None:
    marks = marks_of(None, "a", None, "b", "a")
    assert find_base_places(marks, "a").places == [(1, marks[1]), (3, marks[4])]
    assert find_base_places(marks, "b").places == [(2, marks[3])]


def test_a_derived_id_is_nothing_that_a_base_server_can_hold() -> None:
    marks = marks_of(None, "a")
    assert find_base_places(marks, marks[0].entry_id).places == []


def test_one_place_is_chosen_wherever_it_stands() -> None:
    marks = marks_of("a", "b", "c")
    places = find_base_places(marks, "b")
    for offset in (0, marks[1].start, marks[2].end):
        for stored in (None, 1, 2, 99):
            assert chosen(places, offset, stored) == marks[1]


def test_of_repeated_places_the_servers_count_decides() -> None:
    """A second compaction re-appends history: the uuid stands at ranks 1, 3 and 4."""
    marks = marks_of("a", "b", "a", "a")
    places = find_base_places(marks, "a")
    assert [chosen(places, 0, stored) for stored in (1, 3, 4)] == [marks[0], marks[2], marks[3]]


def test_of_repeated_places_the_first_at_or_after_the_cursor_is_taken_without_a_fitting_count() -> None:
    marks = marks_of("a", "b", "a", "a")
    places = find_base_places(marks, "a")
    for stored in (None, 2, 77):
        assert chosen(places, 0, stored) == marks[0]
        assert chosen(places, marks[0].end, stored) == marks[2]
        assert chosen(places, marks[2].start, stored) == marks[2]


def test_where_all_places_lie_before_the_cursor_the_nearest_is_taken() -> None:
    marks = marks_of("a", "a", "b")
    assert chosen(find_base_places(marks, "a"), marks[2].start, None) == marks[1]


# --- several heads, and what two histories share ---------------------------------------------------------------


def test_of_several_heads_that_of_most_entries_wins() -> None:
    marks = marks_of("a", "b", "c", "d")
    heads = [
        Head(None, 0, "empty", EMPTY_CHAIN.hex()),
        Head("b", 2, "shorter", marks[1].chain.hex()),
        Head("c", 3, "longer", marks[2].chain.hex()),
        Head("d", 4, "foreign", EMPTY_CHAIN.hex()),
    ]
    best = Survey(marks, heads).best
    assert best == (heads[2], place_of(marks[2]))
    assert Survey(marks, heads[3:]).best is None


def test_a_history_without_entries_stands_at_the_beginning_of_any_file() -> None:
    empty = Head(None, 0, "g", EMPTY_CHAIN.hex())
    assert Survey([], [empty]).best == (empty, BEGINNING)


def test_places_of_a_short_file_are_all_kept_and_those_of_a_long_one_spread() -> None:
    marks = [EntryMark(n, n - 1, n, "x", False, bytes(32)) for n in range(1, 200_001)]
    short = Survey(marks[:1000], [])
    assert [place.entry_count for place in short.places_up_to(700)] == list(range(1, 701))
    long = Survey(marks, [])
    kept = [place.entry_count for place in long.places_up_to(200_000)]
    assert len(kept) < Survey.MOST_PLACES
    steps = {after - before for before, after in itertools.pairwise(kept)}
    assert steps == {4}


def test_what_a_base_server_holds_in_order_counts_as_sent_whatever_stands_between() -> None:
    marks = marks_of("a", None, "b", None, "c")
    assert stored_prefix(marks, ["x", "a", "y", "b", "z"]) == (place_of(marks[3]), 2)
    assert stored_prefix(marks, ["b", "c"]) == (BEGINNING, 0)
    assert stored_prefix(marks, []) == (BEGINNING, 0)
    assert stored_prefix(marks, ["a", "b", "c"]) == (place_of(marks[4]), 3)


def test_a_uuid_that_comes_again_does_not_skip_what_stands_before_it() -> None:
    marks = marks_of("a", "b", "a")
    assert stored_prefix(marks, ["a"]) == (place_of(marks[0]), 1)
