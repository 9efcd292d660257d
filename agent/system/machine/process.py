"""What the system is told about this process itself: what it makes is its user's alone, and no picture of its memory,
which holds tokens and transcripts, is ever written to a disk."""

import _thread
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes
    import threading

_PRIVATE_UMASK = 0o077
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_M_ARENA_MAX = -8


@contextmanager
def kept_private() -> Iterator[None]:
    """For as long as the block lasts."""
    with ExitStack() as undo:
        undo.callback(os.umask, os.umask(_PRIVATE_UMASK))
        if sys.platform != "win32":
            undo.callback(_forbid_core_files())
        if sys.platform == "linux":
            undo.callback(_forbid_pictures())
        yield


def setting(event: "threading.Event") -> Callable[..., object]:
    """A signal handler that sets `event`. A thread does it: handlers run in the main thread wherever that is, and where
    it is about to wait for the event it holds its lock, and would wait for itself for ever."""
    return lambda *_: _thread.start_new_thread(event.set, ())


def forbid_dumps() -> None:
    """From now on, for processes that hold a token or a transcript until they end."""
    if sys.platform != "win32":
        _forbid_core_files()
    if sys.platform == "linux":
        _forbid_pictures()


def share_memory() -> None:
    """All threads take memory from one place. glibc gives each one its own, which keeps what another could use; before
    the first thread begins."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """What is free of it goes back to the system."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> "ctypes.CDLL | None":
    if sys.platform != "linux":
        return None
    import ctypes

    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None  # musl has none


if sys.platform != "win32":
    import resource

    def _forbid_core_files() -> Callable[[], None]:
        """Gives what undoes it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        return lambda: resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def _forbid_pictures() -> Callable[[], None]:
    """Also for programs that collect core files through a pipe, which heed no limit, and for debuggers of other
    processes of this user. Gives what undoes it."""
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    before = prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return lambda: prctl(_PR_SET_DUMPABLE, int(before == 1), 0, 0, 0)
