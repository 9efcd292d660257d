"""The control socket, over both transports: what clients get, and what bad ones cannot do to others."""

import json
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from agent.errors import DiskError, NotRunning, RemoteProtocolError, UsageError
from agent.system.control_socket import (
    MAX_LINE_BYTES,
    PROTOCOL,
    ControlClient,
    check_protocol,
)
from agent.system.control_socket.door import is_same_user
from agent.system.control_socket.server import CAPS, Caps, ControlServer
from tests.conftest import SCRATCH
from tests.system.privileges import NOBODY, needs_posix, needs_root, open_folder
from tests.waiting import wait_for

PATIENCE_S = 10.0


def echo(params: Mapping[str, Any]) -> Any:
    return dict(params)


def refuse(params: Mapping[str, Any]) -> Any:
    raise UsageError("no session begins with 'x'", hint="transcriptd sessions list")


def defect(params: Mapping[str, Any]) -> Any:
    return 1 // len(params)


def unspeakable(params: Mapping[str, Any]) -> Any:
    return {"value": object()}


METHODS = {"echo": echo, "refuse": refuse, "defect": defect, "unspeakable": unspeakable}


@pytest.fixture(params=[False, True], ids=["unix", "tcp"])
def tcp(request: pytest.FixtureRequest) -> bool:
    if not request.param and os.name == "nt":
        pytest.skip("no Unix sockets from Python here")
    return bool(request.param)


@pytest.fixture
def address(home: Path) -> Path:
    """In the scratch folder: its name is short enough for a socket."""
    assert home.is_relative_to(SCRATCH)
    return home / "control.sock"


@contextmanager
def serving(
    address: Path, *, tcp: bool, methods: Mapping[str, Any] = METHODS, caps: Caps = CAPS
) -> Iterator[ControlServer]:
    server = ControlServer(address, methods, tcp=tcp, caps=caps)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server(address: Path, tcp: bool) -> Iterator[ControlServer]:
    with serving(address, tcp=tcp) as made:
        yield made


class Raw:
    """A client that may say anything."""

    def __init__(self, address: Path, *, tcp: bool, greets: bool = True) -> None:
        if tcp:
            port, token = address.read_text(encoding="ascii").split()
            self.socket = socket.create_connection(("127.0.0.1", int(port)), PATIENCE_S)
            if greets:
                self.socket.sendall(f"{token}\n".encode())
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(str(address))
            self.socket.settimeout(PATIENCE_S)
        self.lines = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.lines.close()
        self.socket.close()

    def ask(self, data: bytes) -> dict[str, Any]:
        self.socket.sendall(data)
        answer = json.loads(self.lines.readline())
        assert isinstance(answer, dict)
        assert answer["jsonrpc"] == "2.0"
        return answer

    def is_let_go(self) -> bool:
        try:
            return self.lines.readline() == b""
        except ConnectionError:
            return True


def request(method: object = "echo", **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, **more}).encode() + b"\n"


# --- what clients get -----------------------------------------------------------------------------------------------


def test_a_method_is_called_with_its_params_and_its_result_comes_back(server: ControlServer, address: Path) -> None:
    with ControlClient(address) as client:
        assert client.call("echo") == {}
        assert client.call("echo", text="ü\u2028\n\x00", number=1.5, nested={"a": [None, True]}) == {
            "text": "ü\u2028\n\x00",
            "number": 1.5,
            "nested": {"a": [None, True]},
        }


def test_a_refusal_arrives_in_its_own_words(server: ControlServer, address: Path) -> None:
    with ControlClient(address) as client:
        with pytest.raises(UsageError, match="no session begins with 'x'") as caught:
            client.call("refuse")
        assert caught.value.hint == "transcriptd sessions list"
        with pytest.raises(UsageError, match="method 'nothing' is not one of defect, echo, refuse, unspeakable"):
            client.call("nothing")
        assert client.call("echo", still="there") == {"still": "there"}


def test_an_answer_may_be_longer_than_a_request(address: Path, tcp: bool) -> None:
    long = "x" * (3 * MAX_LINE_BYTES)
    with serving(address, tcp=tcp, methods={"long": lambda _: long}), ControlClient(address) as client:
        assert client.call("long") == long


@pytest.mark.parametrize("method", ["defect", "unspeakable"])
def test_a_defect_in_a_method_is_an_answer_and_costs_nobody_the_connection(
    server: ControlServer, address: Path, tcp: bool, method: str
) -> None:
    with Raw(address, tcp=tcp) as client:
        answer = client.ask(request(method))
        assert (answer["error"]["code"], answer["id"]) == (-32603, 7)
        assert client.ask(request(params={"a": 1})) == {"jsonrpc": "2.0", "id": 7, "result": {"a": 1}}
    with ControlClient(address) as ours, pytest.raises(UsageError, match="defect"):
        ours.call(method)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\n", -32700),
        (b"not json\n", -32700),
        (b"\xff\xfe\n", -32700),
        (b"\x00\n", -32700),
        (b"[" * 100_000 + b"\n", -32700),
        (b'{"jsonrpc":"2.0","id":7,"method":"echo"\n', -32700),
        (b"[]\n", -32600),
        (b"null\n", -32600),
        (b"7\n", -32600),
        (b"{}\n", -32600),
        (b'{"jsonrpc":"1.0","id":7,"method":"echo"}\n', -32600),
        (b'{"jsonrpc":2.0,"id":7,"method":"echo"}\n', -32600),
        (b'{"id":7,"method":"echo"}\n', -32600),
        (b'{"jsonrpc":"2.0","id":7}\n', -32600),
        (request(None), -32600),
        (request(["echo"]), -32600),
        (request("Echo"), -32601),
        (request(""), -32601),
        (request("__class__"), -32601),
        (request("\ud800"), -32601),
        (request(params=[1]), -32602),
        (request(params="x"), -32602),
        (request(params=None), -32602),
        (b'{"jsonrpc":"2.0","id":7,"method":"echo","params":{"x":NaN}}\n', -32700),
        (b"[" + request()[:-1] + b"]\n", -32600),
        (request(id=[1]), -32600),
        (request(id={"a": 1}), -32600),
        (request(id=True), -32600),
        (request(id="x" * 300), -32600),
        (request(id=1 << 64), -32600),
        (b'{"jsonrpc":"2.0","id":1e999,"method":"echo"}\n', -32600),
        (b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"echo"}\n', -32700),
        (b'{"a":' * 100_000 + b"\n", -32700),
        (b"\x00" * 10_000 + b"\n", -32700),
        (request("refuse"), -32602),
    ],
    ids=range(35),
)
def test_what_is_no_request_is_told_and_the_next_one_is_answered(
    server: ControlServer, address: Path, tcp: bool, line: bytes, code: int
) -> None:
    with Raw(address, tcp=tcp) as client:
        assert client.ask(line)["error"]["code"] == code
        assert client.ask(request(params={"a": 1}))["result"] == {"a": 1}


@pytest.mark.parametrize("request_id", [7, "seven", None, 1.5, -1, "", "\ud800"])
def test_an_answer_carries_the_id_of_its_request(
    server: ControlServer, address: Path, tcp: bool, request_id: object
) -> None:
    with Raw(address, tcp=tcp) as client:
        assert client.ask(request(id=request_id))["id"] == request_id


def test_requests_that_come_together_or_in_bits_are_answered_in_turn(
    server: ControlServer, address: Path, tcp: bool
) -> None:
    with Raw(address, tcp=tcp) as client:
        client.socket.sendall(request(id=1) + request(id=2) + request(id=3)[:5])
        assert [json.loads(client.lines.readline())["id"] for _ in range(2)] == [1, 2]
        assert client.ask(request(id=3)[5:])["id"] == 3


def test_a_request_of_the_limit_is_taken_and_a_longer_one_ends_its_connection(
    server: ControlServer, address: Path, tcp: bool
) -> None:
    def of_length(count: int) -> bytes:
        return request(params={"x": "x" * (count - len(request(params={"x": ""})))})

    with Raw(address, tcp=tcp) as client:
        assert len(client.ask(of_length(MAX_LINE_BYTES))["result"]["x"]) > MAX_LINE_BYTES - 100
    with Raw(address, tcp=tcp) as client:
        answer = client.ask(of_length(MAX_LINE_BYTES + 1))
        assert answer["error"]["code"] == -32600
        assert str(MAX_LINE_BYTES) in answer["error"]["message"]
        assert client.is_let_go()


def test_a_line_without_an_end_is_not_gathered(server: ControlServer, address: Path, tcp: bool) -> None:
    with Raw(address, tcp=tcp) as client:
        try:
            for _ in range(64):
                client.socket.sendall(b"x" * MAX_LINE_BYTES)
        except ConnectionError:
            return
        pytest.fail("64 MiB were taken")


# --- clients that are bad for others --------------------------------------------------------------------------------


def test_silent_dripping_and_deaf_clients_block_nobody(server: ControlServer, address: Path, tcp: bool) -> None:
    with Raw(address, tcp=tcp), Raw(address, tcp=tcp) as dripping, Raw(address, tcp=tcp) as deaf:
        dripping.socket.sendall(b'{"json')
        deaf.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            flood(deaf.socket)
        with ControlClient(address) as client:
            assert client.call("echo", a=1) == {"a": 1}


def flood(client: socket.socket) -> None:
    """Asks without reading a single answer."""
    question = request(params={"x": "x" * 60_000})
    while True:
        client.send(question)


def test_a_method_at_work_blocks_nobody_else(address: Path, tcp: bool) -> None:
    begun, let_go = threading.Event(), threading.Event()

    def slow(_: Mapping[str, Any]) -> Any:
        begun.set()
        return let_go.wait(PATIENCE_S)

    with serving(address, tcp=tcp, methods={"slow": slow, "echo": echo}), Raw(address, tcp=tcp) as waiting:
        waiting.socket.sendall(request("slow"))
        assert begun.wait(PATIENCE_S)
        with ControlClient(address) as client:
            assert client.call("echo", a=1) == {"a": 1}
        let_go.set()
        assert json.loads(waiting.lines.readline())["result"] is True


def test_many_who_knock_at_once_are_not_told_that_nobody_is_there(address: Path, tcp: bool) -> None:
    held, let_go = threading.Event(), threading.Event()
    real = ControlServer._run

    def late(self: ControlServer) -> None:
        held.set()
        let_go.wait(PATIENCE_S)
        real(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ControlServer, "_run", late)
        server = ControlServer(address, METHODS, tcp=tcp)
    assert held.wait(PATIENCE_S)
    clients = [ControlClient(address) for _ in range(CAPS.clients)]
    let_go.set()
    for number, client in enumerate(clients):
        with client:
            assert client.call("echo", n=number) == {"n": number}
    server.close()


def test_clients_that_go_in_the_middle_leave_nothing(server: ControlServer, address: Path, tcp: bool) -> None:
    before = threading.active_count()
    for _ in range(2 * CAPS.clients):
        with Raw(address, tcp=tcp) as client:
            client.socket.sendall(request() + request()[:-3])
    with Raw(address, tcp=tcp) as client:
        assert client.ask(request())["result"] == {}
        wait_for(lambda: len(server._clients) == 1)
    wait_for(lambda: threading.active_count() == before)


def test_whoever_opens_connections_without_end_keeps_nobody_out(
    server: ControlServer, address: Path, tcp: bool
) -> None:
    there: list[Raw] = []
    try:
        for _ in range(200):
            there.append(Raw(address, tcp=tcp, greets=False))
            if len(there) % 50 == 0:
                with ControlClient(address) as ours:
                    assert ours.call("echo", a=1) == {"a": 1}
        assert len(server._clients) <= CAPS.clients
    finally:
        for one in there:
            one.__exit__()


def test_those_at_work_are_not_put_out_for_others(address: Path, tcp: bool) -> None:
    begun, let_go = threading.Semaphore(0), threading.Event()

    def slow(_: Mapping[str, Any]) -> Any:
        begun.release()
        return let_go.wait(PATIENCE_S)

    methods = {"slow": slow, "echo": echo}
    caps = CAPS._replace(clients=2)
    serves = serving(address, tcp=tcp, methods=methods, caps=caps)
    with serves, Raw(address, tcp=tcp) as one, Raw(address, tcp=tcp) as two:
        for busy in (one, two):
            busy.socket.sendall(request("slow"))
            assert begun.acquire(timeout=PATIENCE_S)
        with pytest.raises(NotRunning), ControlClient(address) as ours:
            ours.call("echo")
        let_go.set()
        assert [json.loads(busy.lines.readline())["result"] for busy in (one, two)] == [True, True]


def test_an_idle_client_is_let_go(address: Path, tcp: bool) -> None:
    with serving(address, tcp=tcp, caps=CAPS._replace(idle_s=0.05)), Raw(address, tcp=tcp) as client:
        assert client.is_let_go()


def test_a_client_that_drips_is_let_go(address: Path, tcp: bool) -> None:
    """A byte now and then is no request: the time counts for a whole line."""
    with serving(address, tcp=tcp, caps=CAPS._replace(idle_s=0.1)), Raw(address, tcp=tcp) as client:
        wait_for(lambda: not drip(client.socket))


def drip(client: socket.socket) -> bool:
    try:
        client.sendall(b"{")
    except ConnectionError:
        return False
    return True


def test_over_tcp_whoever_does_not_greet_is_let_go(address: Path) -> None:
    caps = CAPS._replace(greet_s=0.05)
    with serving(address, tcp=True, caps=caps), Raw(address, tcp=True, greets=False) as client:
        assert client.is_let_go()


def test_a_client_that_takes_no_answer_is_let_go(address: Path, tcp: bool) -> None:
    asked = threading.Event()

    def long(_: Mapping[str, Any]) -> Any:
        asked.set()
        return "x" * (16 << 20)

    serves = serving(address, tcp=tcp, methods={"long": long}, caps=CAPS._replace(stall_s=0.1))
    with serves as server, Raw(address, tcp=tcp) as deaf:
        deaf.socket.sendall(request("long"))
        assert asked.wait(PATIENCE_S)
        wait_for(lambda: not server._clients)
    assert server.dropped == 0, "it was no subscriber"


def test_answers_that_nobody_takes_do_not_add_up(address: Path, tcp: bool) -> None:
    long = "x" * (16 << 20)  # more than the system itself keeps for a connection
    caps = CAPS._replace(waiting_bytes=4 << 20)
    methods = {"long": lambda _: long, "echo": echo}
    with serving(address, tcp=tcp, methods=methods, caps=caps) as server, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(Raw(address, tcp=tcp)).socket.sendall(request("long"))
        wait_for(lambda: sum(bool(one.out) for one in list(server._clients)) == len(server._clients) == 1)
        with ControlClient(address) as ours:
            assert ours.call("echo", a=1) == {"a": 1}


def test_who_ends_its_side_still_gets_its_answers(server: ControlServer, address: Path, tcp: bool) -> None:
    with Raw(address, tcp=tcp) as client:
        client.socket.sendall(request(id=1) + request(id=2) + request(id=3)[:-1])
        client.socket.shutdown(socket.SHUT_WR)
        assert [json.loads(client.lines.readline())["id"] for _ in range(2)] == [1, 2]
        assert client.is_let_go(), "a request ends with a newline"


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","method":"echo"}\n',
        b'{"jsonrpc":"2.0","method":"nothing"}\n',
        b'{"jsonrpc":"2.0","method":"defect"}\n',
        b'{"jsonrpc":"2.0","method":"refuse"}\n',
        b'{"jsonrpc":"2.0","method":"echo","params":[1]}\n',
    ],
    ids=range(5),
)
def test_nothing_is_said_to_what_asks_for_no_answer(
    server: ControlServer, address: Path, tcp: bool, line: bytes
) -> None:
    with Raw(address, tcp=tcp) as client:
        assert client.ask(line + request(id=8))["id"] == 8


# --- who may ask ----------------------------------------------------------------------------------------------------


@needs_posix
def test_what_leads_to_it_is_its_owners_alone(server: ControlServer, address: Path) -> None:
    assert stat.S_IMODE(address.stat().st_mode) == 0o600


@needs_posix
def test_a_file_with_the_token_is_narrow_whatever_lay_there(address: Path) -> None:
    address.write_text("1 old\n", encoding="ascii")
    address.chmod(0o666)
    before = os.umask(0)
    try:
        with serving(address, tcp=True):
            assert stat.S_IMODE(address.stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("greeting", [b"\n", b"wrong\n", b"0" * 64 + b"\n", b"\xff\n", b"x" * 5_000, request()])
def test_over_tcp_nothing_is_answered_without_the_token(address: Path, greeting: bytes) -> None:
    with serving(address, tcp=True):
        with Raw(address, tcp=True, greets=False) as client:
            client.socket.sendall(greeting + request())
            assert client.is_let_go()
        with ControlClient(address) as ours:
            assert ours.call("echo") == {}


def test_over_tcp_it_listens_on_loopback_with_a_token_of_256_bits(address: Path) -> None:
    with serving(address, tcp=True) as server:
        port, token = address.read_text(encoding="ascii").split()
        assert server._socket.getsockname() == ("127.0.0.1", int(port))
        assert len(bytes.fromhex(token)) == 32
    with serving(address, tcp=True):
        assert address.read_text(encoding="ascii").split()[1] != token, "each start has its own"


STRANGER = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
client = socket.socket(socket.AF_UNIX)
client.settimeout(10)
client.connect(sys.argv[1])
try:
    client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"echo"}\\n')
    print(client.recv(100))
except ConnectionError:
    print(b"")
"""


@needs_root
@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="the kernel does not say who is there")
def test_another_user_gets_no_word_even_where_modes_let_them_in() -> None:
    with open_folder() as folder, serving(folder / "control.sock", tcp=False):
        (folder / "control.sock").chmod(0o666)
        for user, expected in ((NOBODY, "b''"), (0, "result")):
            done = subprocess.run(
                [sys.executable, "-c", STRANGER, str(folder / "control.sock"), str(user)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert expected in done.stdout, user


# --- beginning and end ----------------------------------------------------------------------------------------------


@needs_posix
def test_what_a_killed_daemon_left_behind_does_not_block_the_next(address: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(address))
    with pytest.raises(NotRunning):
        ControlClient(address)
    with serving(address, tcp=False), ControlClient(address) as client:
        assert client.call("echo") == {}


def test_a_place_where_none_can_be_made_is_a_disk_error(address: Path, tcp: bool) -> None:
    with pytest.raises(DiskError, match="can't be made"):
        ControlServer(address / "missing" / "control.sock", METHODS, tcp=tcp)
    if not tcp:
        with pytest.raises(DiskError, match="too long"):
            ControlServer(address.with_name("x" * 200), METHODS, tcp=False)


def test_close_ends_its_thread_and_takes_the_address_away(address: Path, tcp: bool) -> None:
    before = set(threading.enumerate())
    server = ControlServer(address, METHODS, tcp=tcp)
    (accepting,) = set(threading.enumerate()) - before
    server.close()
    accepting.join(PATIENCE_S)
    assert not accepting.is_alive()
    assert not address.exists()
    with pytest.raises(NotRunning):
        ControlClient(address)


# --- the client against what is no daemon -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [None, b"", b"x", b"1", b"x y", b"1 2 3", b"\xff\xff", b"99999999 token", b"1 token\n"]
)
def test_an_address_that_leads_nowhere_means_that_none_runs(address: Path, content: bytes | None) -> None:
    if content is not None:
        address.write_bytes(content)
    with pytest.raises(NotRunning, match="no transcriptd is running") as caught:
        ControlClient(address)
    assert caught.value.exit_status == 3
    assert not caught.value.hint, "the command line tells what to do next"


class Swapper:
    """Puts something else at `address` before the n-th call that looks at it."""

    def __init__(self, address: Path, after: Path | None, at: int, patch: pytest.MonkeyPatch) -> None:
        self._address, self._after, self._at = address, after, at
        self._replace, self._unlink = os.replace, os.unlink
        self.calls = 0
        for owner, name in ((os, "lstat"), (os, "stat"), (os, "open"), (os, "fstat")):
            patch.setattr(owner, name, self._counting(getattr(owner, name)))
        real = socket.socket.connect
        counted = self._counting(lambda place, one: real(one, place))
        patch.setattr(socket.socket, "connect", lambda one, place: counted(place, one))

    def _counting(self, real: Any) -> Any:
        def call(where: Any, *given: Any, **named: Any) -> Any:
            if isinstance(where, int) or where in (self._address, str(self._address)):
                self.calls += 1
                if self.calls == self._at:
                    self._swap()
            return real(where, *given, **named)

        return call

    def _swap(self) -> None:
        if self._after is not None:
            self._replace(self._after, self._address)
        else:
            self._unlink(self._address)


KINDS = ("nothing", "a daemon's socket", "a dead daemon's socket", "a daemon's port", "a dead daemon's port")


@needs_posix
@pytest.mark.parametrize(("before", "after"), [(one, two) for one in KINDS for two in KINDS if one != two])
def test_a_daemon_that_begins_or_ends_between_two_looks_is_there_or_not(
    before: str, after: str, address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever look meets it: a client gets through, or hears that none runs. Never that something of somebody else
    lies there."""
    places = {"a daemon's socket": address.with_name("u"), "a daemon's port": address.with_name("t")}
    made = [0]

    def lay(kind: str) -> Path | None:
        """Something of that kind under a fresh name."""
        made[0] += 1
        place = address.with_name(f"n{made[0]}")
        if kind in places:
            os.link(places[kind], place)
        elif kind == "a dead daemon's socket":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(place))
        elif kind == "a dead daemon's port":
            with socket.create_server(("127.0.0.1", 0)) as dead:
                place.write_text(f"{dead.getsockname()[1]} token\n", encoding="ascii")
        else:
            return None
        return place

    with ExitStack() as stack:
        for kind, place in places.items():
            stack.enter_context(serving(place, tcp=kind == "a daemon's port"))
        at, answers = 0, []
        while True:
            at += 1
            address.unlink(missing_ok=True)
            if (first := lay(before)) is not None:
                os.replace(first, address)
            with monkeypatch.context() as patch:
                swapper = Swapper(address, lay(after) if after != "nothing" else None, at, patch)
                try:
                    with ControlClient(address) as client:
                        answers.append(client.call("echo", x=at))
                except NotRunning:
                    answers.append(None)
            if swapper.calls < at:
                break
        assert at > 1
        assert answers[-1] == ({"x": at} if before in places else None), "nothing was swapped"
        assert answers[0] == ({"x": 1} if after in places else None), "swapped before the first look"


@contextmanager
def impostor(address: Path, answer: bytes | None) -> Iterator[None]:
    """Something else that took the port of a daemon that is gone. None: it never answers."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address.write_text(f"{listener.getsockname()[1]} token\n", encoding="ascii")

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                lines.readline()
                lines.readline()
                if answer is None:
                    ended.wait(PATIENCE_S)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\n", b"[" * 100_000 + b"\n", b"5\n", b"null\n", b"[]\n", b'"text"\n',
        b"{}\n", b'{"error":5}\n', b'{"error":{}}\n', b'{"error":{"message":"x","data":5}}\n',
    ],
    ids=range(11),
)  # fmt: skip
def test_somebody_else_on_the_port_of_a_dead_daemon_is_no_daemon(address: Path, answer: bytes) -> None:
    no_daemon = pytest.raises(NotRunning, match="something else has its old port")
    with impostor(address, answer), ControlClient(address) as client, no_daemon:
        client.call("echo")


@needs_posix
def test_an_answer_of_another_protocol_is_told_as_that(address: Path) -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with ControlClient(address) as client, pytest.raises(RemoteProtocolError):
            client.call("echo")
        thread.join()


def test_a_token_of_a_daemon_that_is_gone_opens_nothing(address: Path) -> None:
    with serving(address, tcp=True):
        stale = address.read_text(encoding="ascii")
    with serving(address, tcp=True):
        port = address.read_text(encoding="ascii").split()[0]
        address.write_text(f"{port} {stale.split()[1]}\n", encoding="ascii")
        with ControlClient(address) as client, pytest.raises(NotRunning):
            client.call("echo")


def test_what_a_daemon_refuses_with_arrives_as_what_it_is(address: Path, tcp: bool) -> None:
    def stopping(_: Mapping[str, Any]) -> Any:
        raise NotRunning("transcriptd is stopping", hint="transcriptd status")

    with serving(address, tcp=tcp, methods={"stopping": stopping}), ControlClient(address) as client:
        with pytest.raises(NotRunning, match="is stopping") as caught:
            client.call("stopping")
        assert caught.value.hint == "transcriptd status"
        with pytest.raises(UsageError) as older:
            client.call("newer")
        assert "another version" in older.value.hint


@pytest.mark.parametrize("theirs", [None, PROTOCOL])
def test_a_client_of_the_same_protocol_is_greeted(theirs: int | None) -> None:
    check_protocol(theirs)


@pytest.mark.parametrize(("theirs", "words"), [(0, "1 .* 0"), (2, "1 .* 2"), ("1", "whole number"), (True, "whole")])
def test_a_client_of_another_protocol_is_told_both(theirs: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_protocol(theirs)


def test_a_daemon_of_another_protocol_is_told_both(address: Path, tcp: bool) -> None:
    methods = {"agent.hello": lambda _: {"protocol": 2, "version": "9"}}
    refused = pytest.raises(UsageError, match=r"protocol 2 .* 1")
    with serving(address, tcp=tcp, methods=methods), ControlClient(address) as client, refused:
        client.hello()


class MacSocket:
    def __init__(self, version: int, uid: int) -> None:
        self._answer = struct.pack("IIh16I", version, uid, 1, *[0] * 16)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (0, 1, 76)
        return self._answer


@needs_posix
@pytest.mark.parametrize(("version", "other", "let_in"), [(0, 0, True), (0, 1, False), (1, 0, False)])
def test_on_a_mac_the_kernel_says_who_is_there(version: int, other: int, let_in: bool) -> None:
    """By the layout of struct xucred; not run on one."""
    client: Any = MacSocket(version, os.getuid() + other)
    assert is_same_user(client, "darwin") is let_in


def test_a_daemon_that_goes_away_is_told(address: Path) -> None:
    with impostor(address, b""), ControlClient(address) as client, pytest.raises(NotRunning, match="went away"):
        client.call("echo")


def test_a_daemon_that_hangs_is_told(address: Path) -> None:
    hangs = pytest.raises(NotRunning, match="does not answer")
    with impostor(address, None), ControlClient(address, timeout_s=0.1) as client, hangs:
        client.call("echo")
