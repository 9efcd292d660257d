"""The lines of the capture spool: which transcripts the hooks of a coding agent named since somebody looked last.

    <session id> TAB <path of the transcript> LF
    <session id> TAB TAB end <wall seconds> LF      the session ended then

An empty session id means that it is not known, an empty path that only the session is; a line without a tab is a path
(older hooks wrote such). Older readers leave out what has two tabs. A name on disk may hold any byte, so bytes that are
not UTF-8 pass through unchanged. A hook imports this, and has 50 ms for everything: what can be done without is not
imported here.
"""

from collections.abc import Mapping

_LONGEST_BYTES = 32 << 10
"""More than any system lets a path be."""

_END = "end "

_BREAKERS = frozenset("\0\t\n\r")


def render_line(session_id: str, path: str) -> bytes:
    """One line; empty where nothing is left to say. A path that would break the format is refused, not encoded: the
    line is a hint, and a full look finds such a transcript as well."""
    if _BREAKERS.intersection(path):
        return b""
    if not session_id.isprintable():
        session_id = ""
    try:
        line = f"{session_id}\t{path}\n".encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which no name on disk holds
        return b""
    return line if 2 < len(line) <= _LONGEST_BYTES else b""


def render_lines(hints: Mapping[str, str]) -> bytes:
    return b"".join(render_line(session_id, path) for path, session_id in hints.items())


def render_end(session_id: str, at_s: float) -> bytes:
    """Says that the session ended; empty where nobody knows which one."""
    if not session_id or not session_id.isprintable():
        return b""
    line = f"{session_id}\t\t{_END}{at_s:.3f}\n".encode("utf-8", "replace")
    return line if len(line) <= _LONGEST_BYTES else b""


def render_ends(ends: Mapping[str, float]) -> bytes:
    return b"".join(render_end(session_id, at_s) for session_id, at_s in ends.items())


def parse_ends(data: bytes) -> dict[str, float]:
    """Session id → when it ended last, as far as the lines say so."""
    ends: dict[str, float] = {}
    for line in data.split(b"\n"):
        parts = line.strip(b"\0").removesuffix(b"\r").decode("utf-8", "replace").split("\t")
        if len(parts) != 3 or not parts[0] or parts[1] or not parts[2].startswith(_END):
            continue
        said = parts[2][len(_END) :]
        if said.replace(".", "", 1).isdecimal() and len(said) < 20:
            ends[parts[0]] = max(float(said), ends.get(parts[0], 0.0))
    return ends


def parse_lines(data: bytes) -> dict[str, str]:
    """Path → session id, in the order of their first lines; duplicates are one. What is no line is left out: it costs
    the others nothing."""
    hints: dict[str, str] = {}
    for line in data.split(b"\n"):
        raw = line.strip(b"\0").removesuffix(b"\r")  # a power cut leaves blocks of NUL, an editor a CR
        first, tab, rest = raw.decode("utf-8", "surrogateescape").partition("\t")
        session_id, path = (first, rest) if tab else ("", first)
        if not (session_id or path) or _BREAKERS.intersection(session_id + path):
            continue
        hints[path] = session_id or hints.get(path, "")
    return hints
