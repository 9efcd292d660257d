"""Whether a SQLite file holds bytes that belong to nothing: in the unused parts of its pages, or on its free list.

`secure_delete` overwrites what is freed, but where SQLite lays out a page anew it leaves what it moved elsewhere in the
gap between the page's index and its cells: copies of rows, which stay when the rows are deleted. They can't be reached
through SQL, only seen in the file (format: https://www.sqlite.org/fileformat2.html).
"""

import re
from collections.abc import Iterator
from os import SEEK_END
from typing import BinaryIO

_FREE_LIST_AT = 32
_INTERIOR, _LEAF = (2, 5), (10, 13)
"""First bytes of the pages of trees. Other pages begin with a page number, whose first byte is 0 or 1 in any file below
275 GB."""


_PLACES = re.compile(rb"(?:[\x00-\x1f].)*.?", re.DOTALL)
"""Where cells of a page stood that went: two bytes each, below 8192. No two bytes of text look like that."""


def has_slack(file: BinaryIO, page_bytes: int) -> bool:
    """Reads all of the file once, and its free list again."""
    file.seek(page_bytes)  # the first one has the names of the tables
    while page := file.read(page_bytes):
        if any(_holds_text(page[begin:stop]) for begin, stop in _unused(page)):
            return True
    return _free_list_has_bytes(file, page_bytes)


def _unused(page: bytes) -> Iterator[tuple[int, int]]:
    """The parts of a tree's page that hold nothing: its gap, and its free blocks behind their headers."""
    kind = page[0]
    if kind not in _INTERIOR and kind not in _LEAF:
        return
    gap = (8 if kind in _LEAF else 12) + 2 * _number(page, 3)
    stop = _number(page, 5) or len(page)  # 0 stands for 65,536
    yield gap, max(gap, stop)
    block = _number(page, 1)
    for _ in range(len(page) // 4):
        if not block:
            return
        yield block + 4, block + _number(page, block + 2)
        block = _number(page, block)


def _holds_text(unused: bytes) -> bool:
    return unused != bytes(len(unused)) and _PLACES.fullmatch(unused) is None


def _free_list_has_bytes(file: BinaryIO, page_bytes: int) -> bool:
    last = file.seek(0, SEEK_END) // page_bytes
    file.seek(_FREE_LIST_AT)
    trunk, pages = (int.from_bytes(file.read(4)) for _ in range(2))
    for _ in range(pages):
        if not trunk:
            return False
        page = _read_page(file, trunk, page_bytes)
        trunk, count, *numbers = (int.from_bytes(page[at : at + 4]) for at in range(0, page_bytes, 4))
        if max(numbers) > last or any(_read_page(file, leaf, page_bytes).strip(b"\0") for leaf in numbers[:count]):
            return True  # numbers of pages that were free once may stand there, and never text
    return False


def _read_page(file: BinaryIO, number: int, page_bytes: int) -> bytes:
    file.seek((number - 1) * page_bytes)
    return file.read(page_bytes)


def _number(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 2])
