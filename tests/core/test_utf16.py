"""A side file in UTF-16 hides no secret, and comes back byte for byte but for them."""

import codecs
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.redaction.utf16 import Narrowed, utf16_of, widened
from tests.core.secret_samples import make_samples
from tests.redactors import REDACTOR

ORDERS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


def cut(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("encoding", ORDERS)
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("size", [7, 65_536])
def test_secrets_of_every_kind_go(encoding: str, marked: bool, size: int) -> None:
    samples = make_samples(1, seed=21)[:: 1 if size > 7 else 9]
    for one in samples:
        before, after = "Prüfung \U0001f511 erste\r\n", "\r\nletzte Zeile\r\n"
        data = ORDERS[encoding] * marked + f"{before}{one.text}{after}".encode(encoding)
        counts = Counter[str]()
        clean = b"".join(REDACTOR.redact_file(cut(data, size), counts))
        text = clean.removeprefix(ORDERS[encoding] * marked).decode(encoding)
        assert one.secret[-12:] not in text, one.kind
        assert text.startswith(before), one.kind
        assert text.endswith(after), one.kind
        assert counts.total() > 0


@given(st.binary(max_size=200), st.sampled_from(sorted(ORDERS)), st.integers(1, 9))
def test_any_bytes_come_back_as_they_were(data: bytes, encoding: str, size: int) -> None:
    narrowed = Narrowed(cut(data, size), encoding)
    assert b"".join(widened(narrowed, encoding)) + narrowed.odd == data


@given(st.binary(max_size=300))
def test_a_file_of_any_bytes_without_secrets_stays(data: bytes) -> None:
    whole = ORDERS["utf-16-le"] + data
    assert b"".join(REDACTOR.redact_file([whole])) == whole


@pytest.mark.parametrize(
    "data", [b"", b"ab", b"plain text, and more of it", bytes(range(256)) * 4, b"\0" * 64, "wide".encode("utf-32")]
)
def test_other_files_are_none(data: bytes) -> None:
    assert utf16_of(data) is None
