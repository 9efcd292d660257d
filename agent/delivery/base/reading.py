"""What a push reads of a file besides what it sends."""

from agent.core.redaction.redactor import Redactor
from agent.core.transcripts.identity import MARKER_WINDOW_BYTES, marker_of
from agent.core.transcripts.session import Facts, Provider
from agent.core.transcripts.transcript import whole_lines_bytes
from agent.delivery.base.world import OpenFile


def window_at(file: OpenFile, offset: int) -> bytes:
    """What a marker is made of: the bytes before `offset`."""
    window = min(offset, MARKER_WINDOW_BYTES)
    return file.read_at(offset - window, window)


def marker_at(file: OpenFile, offset: int) -> bytes:
    return marker_of(window_at(file, offset))


def marker_behind(before: bytes, sent: bytes) -> bytes:
    """The marker behind what was sent, from what was read for that: the file may be another one by now."""
    return marker_of(sent if len(sent) >= MARKER_WINDOW_BYTES else before + sent)


_FIRST_BYTES = 64 << 10
_MOST_LOOKS = 16
"""Of that many bytes each, at a transcript that does not name its project."""


def without_secrets(facts: Facts, redactor: Redactor) -> Facts:
    """What may be remembered and told of a session. Its folder decides where it goes, so that stays until
    it leaves."""
    return facts._replace(title=redactor.redact_text(facts.title), prompt=redactor.redact_text(facts.prompt))


def first_facts(provider: Provider, file: OpenFile, known: Facts) -> Facts:
    """`known`, and what the beginning of the file adds to it."""
    if known.project:
        return known
    facts, offset = known, 0
    for _ in range(_MOST_LOOKS):
        data = file.read_at(offset, _FIRST_BYTES)
        size = whole_lines_bytes(data)
        facts = provider.read_facts(data[:size], (), facts)
        if facts.project or len(data) < _FIRST_BYTES:
            break
        # Behind a line that is too long to tell of anything, as a first prompt may be, short ones do.
        offset = offset + size if size else file.find_newline(offset) + 1
        if not offset:
            break
    return facts
