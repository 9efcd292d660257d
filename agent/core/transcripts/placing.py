"""Where files of another machine's session belong on this one, as names: what may be a name here, and what not. Names
come from servers, and a server may be anybody's."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 2048
MOST_PARTS = 32

_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u2028\u2029\u202a-\u202e\u2066-\u2069]')
"""What separates, or names drives, streams and patterns on one system or another; and what turns text around when it is
shown."""

_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
"""Names that lead to a device in any folder of Windows."""


def unfit_parts(parts: Sequence[str]) -> str:
    """Why a file may not be called so below a folder, on any system; empty when it may. The names themselves are not in
    the answer: they may be a megabyte, or steer a terminal."""
    if not 1 <= len(parts) <= MOST_PARTS:
        return f"{len(parts)} names deep, at most {MOST_PARTS} are allowed"
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "no text"
    if max(sizes) > LONGEST_NAME_BYTES or sum(sizes) > LONGEST_PATH_BYTES:
        return f"a name of {max(sizes)} bytes, at most {LONGEST_NAME_BYTES} are allowed"
    return next((why for part in parts if (why := _unfit(part))), "")


def _unfit(part: str) -> str:
    if part in ("", ".", ".."):
        return "a name that leads elsewhere"
    if _NOT_IN_NAMES.search(part):
        return "a name with a character that separates or steers"
    if part[-1] in ". " or part[0] == " ":
        return "a name that ends with a dot or a blank"
    return "a name of a device" if _DEVICES.fullmatch(part) else ""


def find_twins(paths: Iterable[Sequence[str]]) -> tuple[str, ...] | None:
    """The first path that is the same file or folder as another one where case or the form of accents does not count;
    None when there is none. Also a file that another one needs as a folder."""
    files: dict[tuple[str, ...], tuple[str, ...]] = {}
    folders: dict[tuple[str, ...], tuple[str, ...]] = {}
    for path in map(tuple, paths):
        folded = tuple(map(fold, path))
        if folded in files or folded in folders:
            return path
        files[folded] = path
        for depth in range(1, len(path)):
            above = folded[:depth]
            if above in files or folders.setdefault(above, path[:depth]) != path[:depth]:
                return path
    return None


def fold(name: str) -> str:
    """The same for all spellings that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
