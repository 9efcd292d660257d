"""Long output to whoever reads it: through a pager on a terminal, else as it is. That somebody has read enough is no
error."""

import contextlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, cast

_LESS = ("less", "-R")
"""`-R`: colours are obeyed, and nothing else that looks like a command to the terminal."""


def page(lines: Iterable[str], environment: Mapping[str, str], *, pager: bool) -> None:
    """Shows lines (without their ends). `pager`: whether one may be used, which takes a terminal and more lines than
    it has."""
    command = _find_pager(environment) if pager and sys.stdout.isatty() and sys.stdin.isatty() else None
    if command is None:
        _print(lines)
        return
    rest = iter(lines)
    screen = list(itertools.islice(rest, shutil.get_terminal_size().lines - 1))
    if len(screen) < shutil.get_terminal_size().lines - 1:
        _print(screen)
    else:
        _pipe(itertools.chain(screen, rest), command, environment)


def _find_pager(environment: Mapping[str, str]) -> list[str] | None:
    if "PAGER" not in environment:
        return list(_LESS) if shutil.which(_LESS[0]) else None
    try:
        words = shlex.split(environment["PAGER"])
    except ValueError:
        return None
    return words if words and shutil.which(words[0]) else None


def _pipe(lines: Iterable[str], command: list[str], environment: Mapping[str, str]) -> None:
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={"LESS": "-R", **environment}) as process:
        pipe = cast("IO[bytes]", process.stdin)
        with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # it was left before the end
            for line in lines:
                pipe.write(f"{line}\n".encode(errors="backslashreplace"))
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
        while True:
            try:
                process.wait()
            except KeyboardInterrupt:  # it is the pager's: less ends what it was doing
                continue
            return


def _print(lines: Iterable[str]) -> None:
    with reader_may_leave():
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def print_bytes(pieces: Iterable[bytes]) -> None:
    """Exactly these, to whatever stdout is."""
    with reader_may_leave():
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
