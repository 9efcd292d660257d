"""Deletion over a real server: what it answers, and that nothing of a deleted session is left on its disk."""

import io
import random
import socket
from contextlib import closing
from pathlib import Path

import pytest

from agent.core.transcripts.session import StreamId
from agent.core.wire import (
    CODE_SESSIONS,
    Accepted,
    Deleted,
    Meta,
    capabilities_request,
    decide_append_reply,
    decide_delete_reply,
    decide_file_reply,
    decide_put_reply,
    decide_restore_reply,
    delete_request,
    generation_request,
    meta_request,
    parse_capabilities,
    put_entry_request,
    restore_request,
    session_path,
)
from agent.errors import DiskError
from agent.receiver import database
from agent.receiver.sqlite import SqliteStore
from agent.receiver.store import Content, Guard, Stored
from tests.fakes import receiver_without_network
from tests.receiver.harness import READER, WRITER, Client, Receiver, fresh_head, fresh_stream, head_of, line_of
from tests.receiver.test_app import assert_problem, raw
from tests.receiver.test_files import file_path, get, head, put, send_part, waited
from tests.reliability import MakeTally, Tally

CANARY = b"canary-7d1f"


def found_on_disk(folder: Path, words: bytes) -> list[str]:
    """Files with these words in them, or in their names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path.name for path in files if words in path.read_bytes() or words in bytes(path)]


def delete(client: Client, session: str) -> None:
    answer = client.send(delete_request(session))
    assert (answer.status, answer.body) == (204, b"")
    assert decide_delete_reply(raw(answer), 0) == Accepted()


def restore(client: Client, session: str) -> None:
    answer = client.send(restore_request(session))
    assert answer.status == 204
    assert decide_restore_reply(raw(answer), 0) == Accepted()


# ---- answers ----


def test_the_server_says_that_it_deletes(client: Client) -> None:
    offer = parse_capabilities(raw(client.send(capabilities_request())))
    assert offer is not None
    assert offer.delete


@pytest.mark.parametrize("known", [True, False])
def test_every_request_for_a_deleted_session_is_answered_410(client: Client, known: bool) -> None:
    stream = fresh_stream()
    session = stream.session_id
    if known:
        assert client.append(stream, fresh_head(), line_of(uuid="a")).status == 200
        assert put(client, session, "x", b"1").status == 201
    delete(client, session)
    entry = put_entry_request(session, None, b'{"uuid":"b"}')
    assert decide_put_reply(raw(client.send(entry)), 0) == Deleted()
    batch = client.append(stream, fresh_head(), line_of(uuid="b"))
    assert_problem(batch, 410, "restore")
    assert decide_append_reply(raw(batch), 0) == Deleted()
    assert decide_file_reply(raw(put(client, session, "x", b"2")), 0) == Deleted()
    assert_problem(client.send(generation_request(stream, fresh_head().generation or "", None, 0)), 410)
    assert_problem(client.send(meta_request(session, Meta(title="t"))), 410)
    for tail in ("", "/entries", "/head", "/streams", "/meta", "/files", "/files/x"):
        assert_problem(client.ask("GET", session_path(session, tail)), 410)
    assert_problem(client.ask("GET", f"{CODE_SESSIONS}/{session}/teleport-events"), 410)
    assert head(client, session, "x", b"1").status == 410
    delete(client, session)


def test_a_restored_session_is_sent_from_its_beginning(client: Client) -> None:
    stream = fresh_stream()
    first = client.append(stream, fresh_head(), line_of(uuid="a"))
    delete(client, stream.session_id)
    restore(client, stream.session_id)
    restore(client, stream.session_id)
    assert client.ask("GET", session_path(stream.session_id)).status == 404
    behind = client.append(stream, head_of(first), line_of(uuid="b"))
    assert (behind.status, head_of(behind).entry_count) == (409, 0)
    assert client.append(stream, fresh_head(), line_of(uuid="a")).status == 200
    assert client.entries(stream).body == line_of(uuid="a")


def test_readers_neither_delete_nor_restore(client: Client, receiver: Receiver) -> None:
    stream = fresh_stream()
    client.append(stream, fresh_head(), line_of(uuid="a"))
    with receiver.client(READER) as reader:
        assert_problem(reader.send(delete_request(stream.session_id)), 403)
        assert_problem(reader.send(restore_request(stream.session_id)), 403)
    with receiver.client(None) as stranger:
        assert_problem(stranger.send(delete_request(stream.session_id)), 401)
    assert client.entries(stream).status == 200


def test_a_list_does_not_show_it(client: Client) -> None:
    stream = fresh_stream()
    client.append(stream, fresh_head(), line_of(uuid="a"))
    delete(client, stream.session_id)
    listing = client.ask("GET", "/v1/session_ingress/sessions?limit=1000").json()["sessions"]
    assert stream.session_id not in {row["session_id"] for row in listing}


# ---- side files ----


def test_an_upload_under_way_ends_with_its_session(receiver: Receiver, client: Client) -> None:
    """What came of it is not kept, and does not come back with a restore."""
    session, data = fresh_stream().session_id, b"%s" % random.Random(1).randbytes(1 << 20)
    with send_part(receiver, file_path(session, "x"), data, 600_000) as connection:
        waited(lambda: int(head(client, session, "x", data).headers["upload-offset"]) > 0, "nothing came")
        delete(client, session)
        connection.sendall(data[600_000:])
        assert connection.recv(4096).split()[1] in (b"409", b"410")
    restore(client, session)
    answer = head(client, session, "x", data)
    assert (answer.status, answer.headers["upload-offset"]) == (404, "0")


def test_an_upload_that_broke_off_is_dropped_and_that_of_others_kept(receiver: Receiver, client: Client) -> None:
    session, other = fresh_stream().session_id, fresh_stream().session_id
    data, theirs = (random.Random(seed).randbytes(1 << 20) for seed in (2, 3))
    for place, sent in ((session, data), (other, theirs)):
        send_part(receiver, file_path(place, "x"), sent, 600_000).close()
        waited(
            lambda place=place, sent=sent: int(head(client, place, "x", sent).headers["upload-offset"]) > 0,  # type: ignore[misc]
            "nothing was kept",
        )
    delete(client, session)
    restore(client, session)
    assert head(client, session, "x", data).headers["upload-offset"] == "0"
    assert int(head(client, other, "x", theirs).headers["upload-offset"]) > 0


def test_a_content_of_another_session_stays(client: Client) -> None:
    session, other, data = fresh_stream().session_id, fresh_stream().session_id, b"both have it"
    for place in (session, other):
        assert put(client, place, "x", data).status in (201, 204)
    delete(client, session)
    assert get(client, other, "x").body == data
    delete(client, other)
    restore(client, other)
    assert put(client, other, "x", data).status == 201, "nobody has it any more"


# ---- what is left on the disk ----


def test_nothing_of_a_deleted_session_is_on_the_disk(data: Path, tally: MakeTally) -> None:
    """In the database, its log, the folder of side files: searched while the receiver runs, and after its end."""
    gone = tally("private means private", "the receiver's disk searched after a deletion")
    stream = fresh_stream("subagents/" + CANARY.decode())
    session = stream.session_id
    with Receiver(data) as receiver, receiver.client() as client:
        last = fresh_head()
        for size in (10, 3000, 50_000, 3 << 20):
            last = head_of(client.append(stream, last, line_of(uuid=f"{CANARY.decode()}{size}", x="y" * size)))
            client.append(fresh_stream(), fresh_head(), line_of(uuid="another", x="z" * size))
        begun = generation_request(stream, fresh_head().generation or "", last.generation, 2)
        assert client.send(begun).status == 201
        client.send(meta_request(session, Meta(title=CANARY.decode() * 30)))
        client.send(meta_request(session, Meta(title="no " + CANARY.decode())))
        assert put(client, session, "tool-results/" + CANARY.decode(), CANARY * 99).status == 201
        send_part(receiver, file_path(session, "part"), CANARY * 60_000, 300_000).close()
        part = CANARY * 60_000
        waited(lambda: int(head(client, session, "part", part).headers["upload-offset"]) > 0, "nothing was kept")
        assert len(found_on_disk(data, CANARY)) >= 3
        delete(client, session)
        assert note(gone, found_on_disk(data, CANARY)) == []
    assert note(gone, found_on_disk(data, CANARY)) == []
    assert "canary" not in receiver.log


def note(tally: Tally, found: list[str]) -> list[str]:
    tally.note(lost=len(found))
    return found


@pytest.mark.parametrize("seed", [12, 23, 32, 44, 57])  # found by leaving VACUUM out; others leave no copies
def test_copies_that_the_database_made_by_itself_are_gone_too(tmp_path: Path, seed: int) -> None:
    """Rows of all sizes come and go until pages are laid out anew, which leaves copies of rows between others."""
    rng = random.Random(seed)
    alive: dict[str, bytes] = {}
    gone: list[bytes] = []
    with closing(SqliteStore(tmp_path / "db")) as store:
        for step in range(150):
            session = rng.choice([*alive, f"s{step}"])
            mark = alive.setdefault(session, b"canary-%016x" % rng.getrandbits(64))
            match rng.randrange(7):
                case 0:
                    store.delete_session("o", session)
                    gone.append(alive.pop(session))
                case 1:
                    store.write_meta("o", session, Meta(title=mark.decode() + "t" * rng.randrange(3000)))
                case 2:
                    path = f"{mark.decode()}/{rng.randrange(99)}" + "p" * rng.randrange(300)
                    store.name_file("o", session, path, Content(rng.randbytes(32), 5), lambda: True)
                case _:
                    grow(store, session, mark, rng)
        store.clear_remains()
        assert [mark for mark in gone if found_on_disk(tmp_path, mark)] == []
        assert all(found_on_disk(tmp_path, mark) for mark in alive.values())


def grow(store: SqliteStore, session: str, mark: bytes, rng: random.Random) -> None:
    stream = StreamId(session, rng.choice(["", "sub/" + mark.decode()]))
    at = store.head("o", stream)
    guard = Guard(at.last_uuid, at.entry_count, at.generation or fresh_head().generation or "")
    lines = (mark + b"x" * rng.choice([5, 500, 3000, 9000, 50_000]) for _ in range(rng.choice([1, 1, 3, 20])))
    body = b"".join(b'{"uuid":"u-%s"}\n' % line for line in lines)
    assert isinstance(store.append("o", stream, guard, fresh_head().generation or "", io.BytesIO(body)), Stored)


def test_a_deletion_that_died_half_way_is_finished_at_the_next_start(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db")
    grow(store, "s", CANARY, random.Random(0))
    store.delete_session("o", "s")
    for name in ("db", "db-wal"):  # as a process leaves them that dies here
        (tmp_path / "left").mkdir(exist_ok=True)
        (tmp_path / "left" / name).write_bytes((tmp_path / name).read_bytes())
    store.close()
    assert found_on_disk(tmp_path / "left", CANARY)
    with closing(SqliteStore(tmp_path / "left" / "db")):
        assert found_on_disk(tmp_path / "left", CANARY) == []


def test_somebody_who_reads_the_log_puts_the_end_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted it is at once; that it is gone from the disk is said only when it is."""
    monkeypatch.setattr(database, "_LOG_WAIT_MS", 1)
    with closing(SqliteStore(tmp_path / "db")) as store:
        grow(store, "s", CANARY, random.Random(0))
        with store.reader() as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM sessions").fetchone()
            store.delete_session("o", "s")
            with pytest.raises(DiskError, match="log"):
                store.clear_remains()
            other.execute("ROLLBACK")
        store.clear_remains()
        assert found_on_disk(tmp_path, CANARY) == []


def test_an_answer_waits_until_the_disk_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_LOG_WAIT_MS", 1)
    with receiver_without_network(tmp_path) as server, closing(SqliteStore(tmp_path / "receiver.sqlite3")) as store:
        server.send(put_entry_request("s", None, b'{"uuid":"%s"}' % CANARY))
        with store.reader() as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM sessions").fetchone()
            answer = server.send(delete_request("s"))
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
            assert server.send(put_entry_request("s", None, b'{"uuid":"a"}')).status == 410
            other.execute("ROLLBACK")
        assert server.send(delete_request("s")).status == 204
        assert found_on_disk(tmp_path, CANARY) == []


def test_a_session_deleted_while_it_is_read_does_not_end_like_a_whole_one(data: Path) -> None:
    stream = fresh_stream()
    with Receiver(data) as receiver, receiver.client() as client:
        body = b"".join(line_of(uuid=f"{CANARY.decode()}{n}", x="y" * 100_000) for n in range(70))
        assert client.append(stream, fresh_head(), body).status == 200
        for _ in range(20):
            last = head_of(client.ask("GET", session_path(stream.session_id, "/head")))
            assert client.append(stream, last, body).status == 200
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as connection:
            path = session_path(stream.session_id, "/entries")
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRITER}\r\n\r\n".encode())
            connection.recv(1000)
            delete(client, stream.session_id)
            whole = b""
            while piece := connection.recv(1 << 20):
                whole += piece
        assert not whole.endswith(b"0\r\n\r\n"), "the end of a chunked body"
    assert "canary" not in receiver.log
