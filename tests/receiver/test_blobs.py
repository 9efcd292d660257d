"""The folder of side files by itself, and what it does when the disk does not do its part."""

import hashlib
import os
from collections.abc import Callable
from errno import EDQUOT, EIO, ENOSPC
from pathlib import Path

import pytest

from agent.core.wire import LongBody, append_request, file_head_request, file_request, session_path
from agent.core.wire import Request as WireRequest
from agent.receiver import blobs as module
from agent.receiver.blobs import Blobs, Elsewhere, Upload, Uploader
from tests.fakes import receiver_without_network
from tests.receiver.harness import fresh_head, fresh_stream

DATA = b"0123456789" * 1000
WHO = Uploader("ada", hashlib.sha256(DATA).digest())


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "files")


def begun(blobs: Blobs, data: bytes, offset: int | None = None, who: Uploader = WHO) -> Upload:
    upload = blobs.begin(who, offset)
    assert isinstance(upload, Upload)
    assert upload.feed(data)
    return upload


def read(blobs: Blobs, content: bytes) -> bytes:
    file = blobs.open(content)
    assert file is not None
    with file:
        return file.read()


def incoming(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "files" / "incoming").iterdir())


def test_a_whole_upload_is_put_in_its_place(blobs: Blobs, tmp_path: Path) -> None:
    upload = begun(blobs, DATA)
    assert not blobs.has(WHO.sha256)
    assert upload.digest() == WHO.sha256
    upload.sync()
    assert blobs.place(WHO, upload)
    assert read(blobs, WHO.sha256) == DATA
    assert incoming(tmp_path) == []
    blobs.remove(WHO.sha256)
    blobs.remove(WHO.sha256)
    assert blobs.open(WHO.sha256) is None


def test_the_digest_covers_what_came_before_a_break(blobs: Blobs) -> None:
    blobs.leave(WHO, begun(blobs, DATA[:4000]))
    assert blobs.begin(WHO, 3999) == Elsewhere(4000)
    upload = begun(blobs, DATA[4000:], 4000)
    assert (upload.size, upload.digest()) == (len(DATA), WHO.sha256)


def test_the_most_that_came_is_kept(blobs: Blobs, tmp_path: Path) -> None:
    uploads = [begun(blobs, DATA[:size]) for size in (10, 30, 20, 0)]
    assert blobs.kept(WHO) == 30
    for upload in uploads:
        blobs.leave(WHO, upload)
    assert blobs.kept(WHO) == 30
    assert len(incoming(tmp_path)) == 1


def test_what_is_kept_belongs_to_who_sent_it(blobs: Blobs) -> None:
    blobs.leave(WHO, begun(blobs, DATA[:10]))
    assert blobs.kept(WHO._replace(owner="bob")) == 0
    assert blobs.kept(WHO._replace(sha256=bytes(32))) == 0
    assert blobs.begin(WHO._replace(owner="bob"), 10) == Elsewhere(0)


def test_only_one_goes_on(blobs: Blobs) -> None:
    blobs.leave(WHO, begun(blobs, DATA[:5000]))
    first = begun(blobs, DATA[:10])
    second = begun(blobs, DATA[10:20], 10)
    assert not first.feed(b"late")
    assert first.digest() is None
    assert not blobs.place(WHO, first)
    blobs.leave(WHO, first)  # ends the first, and leaves alone what the second one has
    blobs.drop(first)
    assert second.feed(DATA[20:])
    assert second.digest() == WHO.sha256
    assert blobs.begin(WHO, len(DATA)) == Elsewhere(len(DATA))  # it is about to be put in its place
    assert blobs.place(WHO, second)
    assert read(blobs, WHO.sha256) == DATA


def test_another_process_keeps_its_hands_off(blobs: Blobs, tmp_path: Path) -> None:
    other = Blobs(tmp_path / "files")
    upload = begun(blobs, DATA[:10])
    assert other.kept(WHO) == 0
    assert other.begin(WHO, 10) == Elsewhere(0)
    assert other.sweep(set()) == []
    blobs.leave(WHO, upload)
    assert other.kept(WHO) == 10
    taken = begun(other, DATA[10:], 10)
    assert blobs.begin(WHO, 10) == Elsewhere(0)
    assert taken.digest() == WHO.sha256
    assert other.place(WHO, taken)
    assert read(blobs, WHO.sha256) == DATA


def test_the_sweep_ends_what_is_older_than_a_day(tmp_path: Path) -> None:
    now_s = 0.0
    blobs = Blobs(tmp_path / "files", now_s=lambda: now_s)
    blobs.leave(WHO, begun(blobs, DATA[:10]))
    under_way = begun(blobs, b"x", who=Uploader("bob", bytes(32)))
    for path in incoming(tmp_path):
        os.utime(path, (1000.0, 1000.0))
    now_s = 1000.0 + 86_399
    blobs.sweep(set())
    assert blobs.kept(WHO) == 10
    now_s += 2
    blobs.sweep(set())
    assert blobs.kept(WHO) == 0
    assert under_way.feed(b"y")
    assert len(incoming(tmp_path)) == 1


def test_the_sweep_tells_what_nothing_names(blobs: Blobs, tmp_path: Path) -> None:
    upload = begun(blobs, DATA)
    blobs.place(WHO, upload)
    (tmp_path / "files" / WHO.sha256.hex()[:2] / "README").touch()
    (tmp_path / "files" / "README").touch()
    assert blobs.sweep({WHO.sha256}) == []
    assert blobs.sweep(set()) == [WHO.sha256]
    assert blobs.has(WHO.sha256)


# ---- a disk that refuses ----


def request(data: bytes) -> WireRequest:
    return file_request("s", "x", hashlib.sha256(data).digest(), 0, LongBody(len(data), lambda: iter([data])))


@pytest.mark.parametrize("number", [ENOSPC, EDQUOT])
def test_a_full_disk_takes_entries_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What came of the file makes room again: entries need it more."""
    with receiver_without_network(tmp_path) as server:
        real, left = os.write, [5000]

        def write(descriptor: int, data: bytes) -> int:
            if left[0] <= 0:
                raise OSError(number, os.strerror(number))
            written = real(descriptor, data[: left[0]])
            left[0] -= written
            return written

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write)
            answer = server.send(request(DATA))
            assert answer.status == 507
            assert answer.headers["content-type"] == "application/problem+json"
            assert "retry-after" in answer.headers
            assert incoming(tmp_path) == []
            assert server.send(append_request(fresh_stream(), fresh_head(), b"x\n", chain_after=b"")).status == 200
        assert server.send(request(DATA)).status == 201
        assert server.send(WireRequest("GET", session_path("s", "/files/x"))).body == DATA


def test_a_file_that_can_not_fit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver_without_network(tmp_path) as server:
        monkeypatch.setattr(Blobs, "room_bytes", lambda self: len(DATA) - 1)
        assert server.send(request(DATA)).status == 507
        assert server.send(request(DATA[1:])).status == 201


@pytest.mark.parametrize("place", ["sync", "name"])
def test_what_did_not_become_durable_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    sha256 = hashlib.sha256(DATA).digest()

    def fail(*_: object) -> None:
        raise OSError(EIO, os.strerror(EIO))

    with receiver_without_network(tmp_path) as server:
        with monkeypatch.context() as patched:
            if place == "sync":
                patched.setattr(module, "_sync", fail)
            else:
                patched.setattr(Path, "replace", fail)
            assert server.send(request(DATA)).status == 503
        answer = server.send(file_head_request("s", "x", sha256))
        assert (answer.status, answer.headers["upload-offset"]) == (404, str(len(DATA)))
        rest = file_request("s", "x", sha256, len(DATA), LongBody(0, lambda: iter([])))
        assert server.send(rest).status == 201
        assert server.send(WireRequest("GET", session_path("s", "/files/x"))).body == DATA


def test_the_bytes_are_synced_before_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, then its name, then the folders that hold it, then the row: in any other order a power cut could
    leave a name without bytes."""
    done: list[str] = []

    def noting(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            done.append(name)
            return real(*arguments)

        return call

    with receiver_without_network(tmp_path) as server:
        monkeypatch.setattr(module, "_sync", noting("sync", module._sync))
        monkeypatch.setattr(Path, "replace", noting("name", Path.replace))
        assert server.send(request(DATA)).status == 201
    assert done == ["sync", "name", "sync", "sync"]
