"""Packed transcripts: any row of frames that zstd may write, and what programs that know no zstd leave behind them."""

import io
import random

import pytest
import zstandard

from agent.core.transcripts.packed import PackedDamage, find_packed_end, unpack

LINE = b'{"type":"event_msg","payload":{"type":"user_message","message":"what was said"}}\n'


def skippable(data: bytes, number: int = 0) -> bytes:
    return bytes([0x50 + number]) + b"\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def frame(data: bytes, chance: random.Random) -> bytes:
    one = zstandard.ZstdCompressor(
        level=chance.choice((1, 3, 19)), write_checksum=chance.random() < 0.5, write_content_size=chance.random() < 0.5
    )
    return one.compress(data)


def unpacked(data: bytes) -> bytes:
    return b"".join(unpack(io.BytesIO(data)))


@pytest.mark.parametrize("seed", range(40))
def test_frames_of_every_kind_and_raw_lines_behind_them_are_the_lines_they_hold(seed: int) -> None:
    chance = random.Random(seed)
    packed, lines = b"", b""
    for _ in range(chance.randrange(1, 6)):
        if chance.random() < 0.4:
            packed += skippable(chance.randbytes(chance.randrange(40)), chance.randrange(16))
        else:
            part = LINE * chance.choice((0, 1, 5, 4000))
            packed, lines = packed + frame(part, chance), lines + part
    end = len(packed)
    if chance.random() < 0.5:
        rest = chance.choice((LINE, LINE * 3000, LINE + b'{"torn'))
        packed, lines = packed + rest, lines + rest
    assert find_packed_end(io.BytesIO(packed)) == end
    assert unpacked(packed) == lines


@pytest.mark.parametrize("seed", range(20))
def test_what_is_cut_or_followed_by_something_else_is_damage(seed: int) -> None:
    """A whole beginning must not pass for the whole."""
    chance = random.Random(seed)
    whole = frame(LINE * chance.choice((1, 4000)), chance) + skippable(b"abc") * chance.randrange(2)
    for damaged in (b"", whole[: chance.randrange(1, len(whole))], whole + b"\x00", whole + b"\n{}", b"{" + whole):
        if damaged == whole[: len(damaged)] and damaged and find_end_or_none(damaged) is not None:
            continue  # cut right between two frames
        with pytest.raises(PackedDamage):
            unpacked(damaged)


def find_end_or_none(data: bytes) -> int | None:
    try:
        return find_packed_end(io.BytesIO(data))
    except PackedDamage:
        return None
