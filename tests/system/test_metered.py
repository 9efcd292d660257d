"""Whether the network is metered: asked of a real bus, with somebody on it who answers as NetworkManager does."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from jeepney import HeaderFields, MessageType, new_error, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

from agent.system.machine.network import decide_metered, read_metered
from tests.conftest import require_tool

NAME = "org.freedesktop.NetworkManager"
READY_S = 30.0


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    program = [require_tool("dbus-daemon"), "--session", "--nofork", "--print-address=1"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def network_manager(bus: str, metered: int | None) -> Iterator[None]:
    """Answers one question for its property; None: it has none of that name."""
    with closing(open_dbus_connection(bus)) as connection:
        connection.send_and_get_reply(message_bus.RequestName(NAME), timeout=READY_S)

        def answer() -> None:
            while True:
                question = connection.receive(timeout=READY_S)
                if question.header.message_type is MessageType.method_call:
                    break
            assert question.header.fields[HeaderFields.path] == "/org/freedesktop/NetworkManager"
            assert question.body == (NAME, "Metered")
            if metered is None:
                connection.send(new_error(question, "org.freedesktop.DBus.Error.UnknownProperty"))
            else:
                connection.send(new_method_return(question, "v", (("u", metered),)))

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join(READY_S)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("metered", "known"), [(0, None), (1, True), (2, False), (3, True), (4, False), (9, None), (None, None)]
)
def test_network_manager_is_believed(bus: str, metered: int | None, known: bool | None) -> None:
    with network_manager(bus, metered):
        assert read_metered("linux", bus) is known


def test_where_nobody_answers_nobody_knows(bus: str, tmp_path: Any) -> None:
    assert read_metered("linux", bus) is None, "no such name on the bus"
    assert read_metered("linux", f"unix:path={tmp_path}/nobody") is None
    assert read_metered("linux", "nonsense") is None
    assert read_metered("darwin") is None
    assert read_metered("win32") is None


@pytest.mark.parametrize("body", [None, (), ("u",), (("u", "1"),), ((1, 2), (3, 4))])
def test_an_answer_that_is_none_is_nobodys_word(body: Any) -> None:
    assert decide_metered(body) is None
