"""Side files over a real server: kept by digest, gone on with after a break, and never taken for a page."""

import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.core.wire import LongBody, file_head_request, file_request, parse_file_state, render_digest, session_path
from agent.receiver.sqlite import SqliteStore
from tests.receiver.harness import READER, WRITER, Answer, Client, Receiver, fresh_stream
from tests.receiver.test_app import assert_problem, raw
from tests.receiver.test_process import linux, peak_kib
from tests.reliability import MakeTally

WAIT_S = 20.0


def digest_of(data: bytes) -> str:
    return render_digest(hashlib.sha256(data).digest())


def file_path(session: str, path: str) -> str:
    return session_path(session, "/files/" + quote(path))


def put(client: Client, session: str, path: str, data: bytes, **headers: str | None) -> Answer:
    return client.ask("PUT", file_path(session, path), data, **{"Content_Digest": digest_of(data), **headers})


def head(client: Client, session: str, path: str, data: bytes | None = None) -> Answer:
    return client.ask("HEAD", file_path(session, path), Content_Digest=digest_of(data) if data is not None else None)


def get(client: Client, session: str, path: str) -> Answer:
    return client.ask("GET", file_path(session, path))


def waited(true: Callable[[], bool], why: str) -> None:
    """Asks again until it is so: a server hears of a broken connection when it does."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, why


def send_part(receiver: Receiver, place: str, data: bytes, sent: int, token: str = WRITER) -> socket.socket:
    """A PUT of `data` of which only `sent` bytes go out; the connection stays open."""
    connection = socket.create_connection(("127.0.0.1", receiver.port), timeout=WAIT_S)
    connection.sendall(
        f"PUT {place} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {len(data)}\r\nContent-Digest: {digest_of(data)}\r\n\r\n".encode()
        + data[:sent]
    )
    return connection


@pytest.fixture
def session() -> str:
    return fresh_stream().session_id


# ---- kept ----


def test_a_file_comes_back_as_it_was(client: Client, session: str) -> None:
    data = b"<script>alert(1)</script>\xff\x00\r\n" + os.urandom(9)
    assert put(client, session, "tool-results/ü b.txt", data).status == 201
    answer = get(client, session, "tool-results/ü b.txt")
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["content-digest"] == digest_of(data)
    assert answer.headers["content-length"] == str(len(data))
    known = head(client, session, "tool-results/ü b.txt", data)
    assert (known.status, known.body) == (200, b"")
    for name in ("content-digest", "content-length"):
        assert known.headers[name] == answer.headers[name]
    assert known.headers["upload-offset"] == "0"
    assert "upload-offset" not in head(client, session, "tool-results/ü b.txt").headers


def test_no_browser_takes_a_file_for_a_page(client: Client, session: str) -> None:
    put(client, session, 'x/"; filename=evil.html', b"<script>alert(1)</script>")
    answer = get(client, session, 'x/"; filename=evil.html')
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%22%3B%20filename%3Devil.html"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_an_unknown_file(client: Client, session: str) -> None:
    assert_problem(get(client, session, "x"), 404)
    assert head(client, session, "x").status == 404
    assert head(client, session, "x", b"data").headers["upload-offset"] == "0"
    assert_problem(client.ask("GET", session_path(session, "/files")), 404)
    client.ask("PUT", session_path(session, "/meta"), b"{}")
    assert client.ask("GET", session_path(session, "/files")).json() == {"files": []}


def test_the_last_write_wins(client: Client, session: str) -> None:
    before = time.time()
    for data in (os.urandom(9), os.urandom(10), b""):
        assert put(client, session, "x", data).status in (201, 204)
        assert get(client, session, "x").body == data
    put(client, session, "a/b", b"more")
    rows = client.ask("GET", session_path(session, "/files")).json()["files"]
    assert [(row["path"], row["size"], row["digest"]) for row in rows] == [
        ("a/b", 4, digest_of(b"more")),
        ("x", 0, digest_of(b"")),
    ]
    assert all(before - 1 <= row["changed_at_s"] <= time.time() + 1 for row in rows)


def test_a_session_can_begin_with_a_file(client: Client, session: str) -> None:
    put(client, session, "x", b"data")
    assert client.ask("GET", session_path(session)).json() == {"loglines": []}
    listed = client.ask("GET", "/v1/session_ingress/sessions").json()["sessions"]
    assert listed[0]["session_id"] == session


def test_what_is_there_is_not_read_again(receiver: Receiver, client: Client, session: str) -> None:
    data = os.urandom(200_000)
    assert put(client, session, "x", data).status == 201
    for path in ("x", "y"):  # also under another name: the content is this owner's
        with closing(send_part(receiver, file_path(session, path), data, 0)) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 204")
    assert get(client, session, "y").body == data


def test_a_client_may_wait_to_be_asked_for_the_body(receiver: Receiver, client: Client, session: str) -> None:
    data = os.urandom(8)
    request = (
        f"PUT {file_path(session, 'x')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRITER}\r\n"
        f"Content-Length: {len(data)}\r\nContent-Digest: {digest_of(data)}\r\nExpect: 100-continue\r\n\r\n"
    ).encode()
    for answers in (b"HTTP/1.1 100", b"HTTP/1.1 201"), (b"HTTP/1.1 204",):
        with closing(socket.create_connection(("127.0.0.1", receiver.port))) as connection:
            connection.settimeout(WAIT_S)
            connection.sendall(request)
            assert connection.recv(1000).startswith(answers[0])
            if len(answers) > 1:
                connection.sendall(data)
                assert connection.recv(1000).startswith(answers[1])


def test_the_agent_and_the_receiver_understand_each_other(client: Client, session: str) -> None:
    data = os.urandom(7000)
    sha256 = hashlib.sha256(data).digest()
    state = parse_file_state(raw(client.send(file_head_request(session, "a b/c", sha256))), sha256, len(data))
    assert state is not None
    assert tuple(state) == (False, 0)
    body = LongBody(len(data), lambda: iter([data]))
    request = file_request(session, "a b/c", sha256, 0, body)
    assert client.send(request, data).status == 201
    state = parse_file_state(raw(client.send(file_head_request(session, "a b/c", sha256))), sha256, len(data))
    assert state is not None
    assert state.there
    nothing_left = file_request(session, "a b/d", sha256, len(data), LongBody(0, lambda: iter([])))
    assert client.send(nothing_left, b"").status == 204


# ---- refused ----


@pytest.mark.parametrize(
    "path", ["/a", "a/", "a//b", "../a", "a/./b", "..", "%2e%2e/a", "a%2F..%2Fb", "a%00b", "%ff", ""]
)
def test_odd_paths_are_refused(client: Client, session: str, path: str) -> None:
    for method in ("GET", "PUT"):
        answer = client.ask(method, session_path(session, "/files/") + path, b"" if method == "PUT" else None)
        assert_problem(answer, 400, "file path")


def test_long_paths_are_refused(client: Client, session: str) -> None:
    assert put(client, session, "x" * 1024, os.urandom(9)).status == 201
    assert_problem(put(client, session, "x" * 1025, b""), 400, "1024 bytes")
    assert_problem(put(client, session, "ü" * 513, b""), 400, "1024 bytes")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Digest", None),
        ("Content-Digest", ""),
        ("Content-Digest", "sha-256=abc"),
        ("Content-Digest", "sha-512=:" + "A" * 86 + "==:"),
        ("Content-Digest", "sha-256=:" + "A" * 42 + "=:"),
        ("Content-Range", "bytes 0-3"),
        ("Content-Range", "bytes 0-3/3"),
        ("Content-Range", "bytes 3-2/10"),
        ("Content-Range", "bytes 0-9/10"),
        ("Content-Range", "items 0-3/4"),
        ("Content-Encoding", "gzip"),
    ],
)
def test_odd_headers_are_refused_by_name(client: Client, session: str, name: str, value: str | None) -> None:
    answer = put(client, session, "x", b"data", **{name.replace("-", "_"): value})
    assert_problem(answer, 400, name)
    assert get(client, session, "x").status == 404


def test_other_digests_may_stand_beside_it(client: Client, session: str) -> None:
    other = "sha-512=:" + "A" * 86 + "==:, "
    data = os.urandom(9)
    assert put(client, session, "x", data, Content_Digest=other + digest_of(data)).status == 201


def test_a_wrong_digest_keeps_nothing(client: Client, session: str) -> None:
    before, data, other = os.urandom(9), os.urandom(9), os.urandom(9)
    put(client, session, "x", before)
    answer = put(client, session, "x", data, Content_Digest=digest_of(other))
    assert_problem(answer, 422, "Content-Digest")
    assert get(client, session, "x").body == before
    assert kept(client, session, "x", other) == 0


def test_readers_and_strangers(receiver: Receiver, client: Client, session: str) -> None:
    put(client, session, "x", b"data")
    with receiver.client(READER) as reader:
        assert get(reader, session, "x").body == b"data"
        assert head(reader, session, "x").status == 200
        assert_problem(put(reader, session, "x", b"more"), 403)
    with receiver.client("wrong") as stranger:
        for answer in (get(stranger, session, "x"), put(stranger, session, "x", b"more")):
            assert answer.status == 401


def test_files_have_a_limit(data: Path, session: str) -> None:
    with Receiver(data, "--max-file-mib", "1") as receiver, receiver.client() as client:
        most = b"x" * (1 << 20)
        assert put(client, session, "x", most).status == 201
        assert_problem(put(client, session, "y", most + b"y"), 413, "1048576 bytes")
        ranged = put(client, session, "y", b"x", Content_Range=f"bytes 0-0/{(1 << 20) + 1}")
        assert_problem(ranged, 413)
        without_length = client.ask(
            "PUT", file_path(session, "y"), iter([most, b"y"]), Content_Digest=digest_of(most + b"y")
        )
        assert_problem(without_length, 413)
        assert head(client, session, "y", most + b"y").headers["upload-offset"] == "0"
        assert client.ask("PUT", file_path(session, "z"), iter([most]), Content_Digest=digest_of(most)).status == 204
    assert os.listdir(data / "files" / "incoming") == []


# ---- broken off ----


def send_beginning(client: Client, session: str, data: bytes, size: int) -> None:
    """An upload of which `size` bytes came."""
    answer = put(client, session, "x", data[:size], Content_Digest=digest_of(data), Content_Range=span(0, data, size))
    assert answer.status == 202
    assert kept(client, session, "x", data) == size


def send_rest(client: Client, session: str, data: bytes) -> int:
    """As an agent goes on after a break: it asks, and believes the answer. Gives what it went on behind last."""
    at = kept(client, session, "x", data)
    while True:
        answer = put(client, session, "x", data[at:], Content_Digest=digest_of(data), Content_Range=span(at, data))
        if answer.status != 409:
            assert answer.status == 201
            return at
        at = int(answer.headers["upload-offset"])


def test_a_connection_that_breaks_leaves_what_came(receiver: Receiver, client: Client, session: str) -> None:
    data = os.urandom(4 << 20)
    with closing(send_part(receiver, file_path(session, "x"), data, 3 << 20)):
        waited(lambda: kept(client, session, "x", data) >= 2 << 20, "most of it came")
    assert send_rest(client, session, data) >= 2 << 20
    assert get(client, session, "x").body == data
    assert kept(client, session, "x", data) == 0


def test_an_upload_goes_on_where_it_broke_off(receiver: Receiver, client: Client, session: str) -> None:
    data = os.urandom(300_000)
    send_beginning(client, session, data, 100_000)
    assert head(client, session, "x", data).status == 404
    assert head(client, session, "other path", data).headers["upload-offset"] == "100000"
    digest = digest_of(data)
    for first in (0, 99_999, 100_001):
        answer = put(client, session, "x", data[first:], Content_Digest=digest, Content_Range=span(first, data))
        assert_problem(answer, 409)
        assert answer.headers["upload-offset"] == "100000"
    answer = put(client, session, "x", data[100_000:], Content_Digest=digest, Content_Range=span(100_000, data))
    assert answer.status == 201
    assert get(client, session, "x").body == data
    assert head(client, session, "x", data).headers["upload-offset"] == "0"


def span(first: int, data: bytes, stop: int | None = None) -> str:
    return f"bytes {first}-{(stop or len(data)) - 1}/{len(data)}"


def test_an_upload_in_pieces(client: Client, session: str) -> None:
    data = os.urandom(10_000)
    for first in range(0, 10_000, 2_500):
        stop = first + 2_500
        part = data[first:stop]
        answer = put(client, session, "x", part, Content_Digest=digest_of(data), Content_Range=span(first, data, stop))
        assert answer.status == (201 if stop == 10_000 else 202)
        assert answer.headers.get("upload-offset") == (None if stop == 10_000 else str(stop))
    assert get(client, session, "x").body == data


@pytest.mark.parametrize("words", ["bytes */10000", "bytes 10000-9999/10000"])
def test_an_upload_of_which_no_byte_is_left(client: Client, session: str, words: str) -> None:
    """The server died after the last byte and before its answer."""
    data = os.urandom(10_000)
    longer = f"bytes 0-9999/{len(data) + 1}"
    assert put(client, session, "x", data, Content_Range=longer).status == 202
    assert kept(client, session, "x", data) == 10_000
    assert put(client, session, "x", b"", Content_Digest=digest_of(data), Content_Range=words).status == 201
    assert get(client, session, "x").body == data


def kept(client: Client, session: str, path: str, data: bytes) -> int:
    return int(head(client, session, path, data).headers["upload-offset"])


def test_what_was_kept_can_be_left_alone(receiver: Receiver, client: Client, session: str) -> None:
    data = os.urandom(300_000)
    send_beginning(client, session, data, 100_000)
    assert put(client, session, "x", data).status == 201
    assert kept(client, session, "x", data) == 0


def test_a_wrong_end_is_found(receiver: Receiver, client: Client, session: str) -> None:
    data = os.urandom(300_000)
    send_beginning(client, session, data, 100_000)
    answer = put(
        client, session, "x", b"?" * 200_000, Content_Digest=digest_of(data), Content_Range=span(100_000, data)
    )
    assert_problem(answer, 422)
    assert kept(client, session, "x", data) == 0
    assert put(client, session, "x", data).status == 201


def test_a_body_that_does_not_fit_its_range(client: Client, session: str) -> None:
    data = os.urandom(10)
    for sent, left in ((data + b"a", 0), (data[:5], 5)):
        answer = client.ask(
            "PUT",
            file_path(session, "x"),
            iter([sent]),  # in chunks, so no length is told before
            Content_Digest=digest_of(data),
            Content_Range="bytes 0-9/10",
        )
        assert_problem(answer, 400, "Content-Range")
        assert kept(client, session, "x", data) == left
    assert put(client, session, "x", data).status == 201


def test_a_connection_that_died_without_a_word_is_taken_over(receiver: Receiver, client: Client, session: str) -> None:
    """The server still waits for its bytes when the client is back."""
    data = os.urandom(3 << 20)
    with closing(send_part(receiver, file_path(session, "x"), data, 1 << 20)) as dead:
        waited(lambda: kept(client, session, "x", data) > 0, "some came")
        assert send_rest(client, session, data) > 0
        dead.sendall(data[1 << 20 :])
        assert dead.recv(100).startswith(b"HTTP/1.1 409")
    assert get(client, session, "x").body == data


def test_two_that_send_the_same_do_not_meet(receiver: Receiver, session: str, tally: MakeTally) -> None:
    data = os.urandom(3 << 20)
    wrong = bytes(len(data))
    gate = threading.Barrier(8)
    answers: list[int] = []

    def send(number: int) -> None:
        with receiver.client() as client:
            gate.wait()
            body = wrong if number == 0 else data
            answers.append(put(client, session, f"x{number}", body, Content_Digest=digest_of(data)).status)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(answers)) in ([201, 204, 422], [201, 422], [201, 204])
    lost = tally("nothing is lost", "eight uploads of one side file at once, one of them wrong")
    with receiver.client() as client:
        for number in range(1, 8):
            there = get(client, session, f"x{number}").body == data
            lost.note(lost=not there)
            assert there


# ---- on disk ----


@pytest.fixture
def own(data: Path) -> Iterator[Receiver]:
    with Receiver(data) as running:
        yield running


def blobs_in(data: Path) -> list[str]:
    return sorted(file.name for file in (data / "files").glob("??/*"))


def test_a_content_is_kept_once_and_as_long_as_it_is_named(own: Receiver, data: Path, session: str) -> None:
    one, two = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()
    with own.client() as client:
        for path in ("a", "b"):
            put(client, session, path, b"one")
        put(client, fresh_stream().session_id, "c", b"one")
        assert blobs_in(data) == [one]
        put(client, session, "a", b"two")
        put(client, session, "b", b"two")
        assert blobs_in(data) == sorted([one, two])
        put(client, session, "a", b"one")
        put(client, session, "b", b"one")
        assert blobs_in(data) == [one]


def test_owners_do_not_get_at_each_others_contents(data: Path, session: str) -> None:
    """Who only knows a digest gets nothing; who has the bytes shares the place on disk."""
    with closing(SqliteStore(make(data) / "receiver.sqlite3")) as store:
        for name in ("ada", "bob"):
            store.create_token(name, name, "write", hashlib.sha256(name.encode()).digest())
    secret = b"only ada has this"
    with Receiver(data) as receiver, receiver.client("ada") as ada, receiver.client("bob") as bob:
        put(ada, session, "x", secret)
        assert get(bob, session, "x").status == 404
        answer = put(bob, session, "x", b"", Content_Digest=digest_of(secret))
        assert_problem(answer, 422)
        assert get(bob, session, "x").status == 404
        assert put(bob, session, "x", secret).status == 201
        put(ada, session, "x", b"other")
        assert get(bob, session, "x").body == secret
        assert len(blobs_in(data)) == 2
        send_beginning(ada, session, b"0123456789", 5)
        assert kept(bob, session, "x", b"0123456789") == 0


def make(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_bytes_that_somebody_took_away_can_be_sent_again(own: Receiver, data: Path, session: str) -> None:
    with own.client() as client:
        put(client, session, "x", b"data")
        next((data / "files").glob("??/*")).unlink()
        assert head(client, session, "x").status == 404
        assert_problem(get(client, session, "x"), 503)
        assert put(client, session, "x", b"data").status == 201
        assert get(client, session, "x").body == b"data"


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_only_the_owner_may_read_the_folder(own: Receiver, data: Path, session: str) -> None:
    with own.client() as client:
        put(client, session, "x", b"data")
    for path in (data / "files").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@linux
def test_a_file_of_300_mb_passes_in_bounded_memory(own: Receiver, session: str) -> None:
    piece, count = os.urandom(1 << 20), 300
    whole = hashlib.sha256()
    for _ in range(count):
        whole.update(piece)
    digest = render_digest(whole.digest())
    with own.client() as client:
        put(client, session, "x", b"x" * (2 << 20))
        before = peak_kib(own.process.pid)
        length = str(count << 20)
        answer = client.ask(
            "PUT", file_path(session, "x"), (piece for _ in range(count)), Content_Digest=digest, Content_Length=length
        )
        assert answer.status == 201
        assert len(get(client, session, "x").body) == count << 20
        grown = peak_kib(own.process.pid) - before
    assert grown < 40 << 10, f"{grown} KiB more than before"


def test_a_broken_upload_survives_a_restart_and_a_day_ends_it(data: Path, session: str) -> None:
    content, named = os.urandom(50_000), os.urandom(1000)
    with Receiver(data) as receiver, receiver.client() as client:
        put(client, session, "named", named)
        send_beginning(client, session, content, 20_000)
    unnamed = data / "files" / "ab" / ("ab" * 32)
    unnamed.parent.mkdir(exist_ok=True)
    unnamed.write_bytes(b"a crash left this before it was named")
    with Receiver(data) as receiver, receiver.client() as client:
        assert kept(client, session, "x", content) == 20_000
        assert blobs_in(data) == [hashlib.sha256(named).hexdigest()]
    (left,) = (data / "files" / "incoming").iterdir()
    day_ago = time.time() - 90_000
    os.utime(left, (day_ago, day_ago))
    with Receiver(data) as receiver, receiver.client() as client:
        assert kept(client, session, "x", content) == 0
        assert get(client, session, "named").body == named
