"""The control socket, over both transports: what clients get, and what bad ones cannot do to others."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from agent.errors import DiskError, NotRunning, RemoteProtocolError, UsageError
from agent.system import control_socket
from agent.system.control_socket import MAX_CLIENTS, MAX_LINE_BYTES, ControlClient, ControlServer
from tests.conftest import SCRATCH
from tests.system.privileges import NOBODY, needs_posix, needs_root, open_folder

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
def serving(address: Path, *, tcp: bool, methods: Mapping[str, Any] = METHODS) -> Iterator[ControlServer]:
    server = ControlServer(address, methods, tcp=tcp)
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
    ],
    ids=range(23),
)
def test_what_is_no_request_is_told_and_the_next_one_is_answered(
    server: ControlServer, address: Path, tcp: bool, line: bytes, code: int
) -> None:
    with Raw(address, tcp=tcp) as client:
        assert client.ask(line)["error"]["code"] == code
        assert client.ask(request(params={"a": 1}))["result"] == {"a": 1}


@pytest.mark.parametrize("request_id", [7, "seven", None, 1.5, [1], {"a": 1}])
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
    real = ControlServer._accept

    def late(self: ControlServer) -> None:
        held.set()
        let_go.wait(PATIENCE_S)
        real(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ControlServer, "_accept", late)
        server = ControlServer(address, METHODS, tcp=tcp)
    assert held.wait(PATIENCE_S)
    clients = [ControlClient(address) for _ in range(MAX_CLIENTS)]
    let_go.set()
    for number, client in enumerate(clients):
        with client:
            assert client.call("echo", n=number) == {"n": number}
    server.close()


def test_a_client_that_goes_in_the_middle_leaves_nothing(server: ControlServer, address: Path, tcp: bool) -> None:
    for _ in range(2 * MAX_CLIENTS):
        with Raw(address, tcp=tcp) as client:
            client.socket.sendall(request()[:-3])
    wait_for_a_slot(address, tcp=tcp)


def wait_for_a_slot(address: Path, *, tcp: bool) -> None:
    """Threads of clients that are gone see it a moment later."""
    for _ in range(1_000):
        with Raw(address, tcp=tcp) as client:
            try:
                client.socket.sendall(request())
            except ConnectionError:
                continue
            if not client.is_let_go():
                return
    pytest.fail("no slot was given back")


def test_too_many_clients_are_let_go_until_others_end(server: ControlServer, address: Path, tcp: bool) -> None:
    there: list[Raw] = []
    for _ in range(MAX_CLIENTS):
        there.append(Raw(address, tcp=tcp))
        assert there[-1].ask(request())["result"] == {}
    with Raw(address, tcp=tcp) as one_more:
        assert one_more.is_let_go()
    with pytest.raises(NotRunning), ControlClient(address) as ours:
        ours.call("echo")
    for one in there:
        one.__exit__()
    wait_for_a_slot(address, tcp=tcp)


def test_an_idle_client_is_let_go(address: Path, tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "IDLE_S", 0.05)
    with serving(address, tcp=tcp), Raw(address, tcp=tcp) as client:
        assert client.is_let_go()


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
    assert caught.value.hint == "transcriptd run"


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
def test_an_answer_of_another_protocol_is_told_as_that(address: Path, answer: bytes) -> None:
    with impostor(address, answer), ControlClient(address) as client, pytest.raises(RemoteProtocolError):
        client.call("echo")


def test_a_daemon_that_goes_away_is_told(address: Path) -> None:
    with impostor(address, b""), ControlClient(address) as client, pytest.raises(NotRunning, match="went away"):
        client.call("echo")


def test_a_daemon_that_hangs_is_told(address: Path) -> None:
    hangs = pytest.raises(NotRunning, match="does not answer")
    with impostor(address, None), ControlClient(address, timeout_s=0.1) as client, hangs:
        client.call("echo")
