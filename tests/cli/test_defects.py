"""What nobody expected, told without a word of what may be a transcript's."""

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from unittest import mock

import pytest

from agent.cli import defects
from agent.core.status import Status
from tests.cli.running import run

CANARY = "canary-77aa"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a process logs at its most talkative."""
    stream, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level, threading.excepthook, sys.unraisablehook
    defects.set_up_log("debug", "%(levelname)s %(message)s", stream)
    yield stream
    root.handlers[:], threading.excepthook, sys.unraisablehook = before[0], before[2], before[3]
    root.setLevel(before[1])


def stumble() -> None:
    try:
        int(CANARY)
    except ValueError as exc:
        raise RuntimeError(f"could not take {CANARY}") from exc


def log_it() -> None:
    try:
        stumble()
    except RuntimeError:
        logging.getLogger("some.library").exception("it stumbled")


def let_a_thread_die() -> None:
    thread = threading.Thread(target=stumble, name="walker")
    thread.start()
    thread.join()


class Clumsy:
    def __del__(self) -> None:
        stumble()


def let_a_cleanup_fail() -> None:
    Clumsy()


@pytest.mark.parametrize("way", [log_it, let_a_thread_die, let_a_cleanup_fail])
def test_a_log_tells_kind_and_place_and_no_words(way: Callable[[], None], log: io.StringIO) -> None:
    way()
    told = log.getvalue()
    assert "builtins.RuntimeError" in told
    assert "which came of:\nbuiltins.ValueError" in told
    assert "test_defects.py" in told
    assert "in stumble" in told
    assert CANARY not in told


def test_a_command_with_a_defect_ends_with_70_and_no_words() -> None:
    def fail(_: object) -> Status:
        stumble()
        raise AssertionError

    with mock.patch("agent.cli.status.read_status", fail):
        done = run("status")
    assert done.status == 70
    assert "transcriptd: a defect in transcriptd" in done.err
    assert "in stumble" in done.err
    assert CANARY not in done.out + done.err
