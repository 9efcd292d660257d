"""Both servers, as processes: the one in C that costs next to nothing, and our own with SQLite."""

import http.client
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec

from tests.bench.children import PYTHON, Child, ChildFailed

TOKEN = "tsd_for-the-bench-only"
SOURCE = Path(__file__).with_name("receiver.c")
_READY = "receiver ready at "


class NoCompiler(Exception):
    """The message says what to install."""


def compile_receiver(folder: Path) -> Path:
    """The program of receiver.c, made in `folder` at the first call."""
    program = folder / "receiver"
    if program.exists():
        return program
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("the bench needs a C compiler; on Debian and Ubuntu: apt install gcc libc6-dev")
    made = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        hint = "; on Debian and Ubuntu: apt install libc6-dev" if "stdio.h" in made.stderr else ""
        raise NoCompiler(f"receiver.c does not compile{hint}\n{made.stderr}")
    return program


class Server:
    """A server process. `url` is everything before /v1."""

    def __init__(self, child: Child, url: str) -> None:
        self.child = child
        self.url = url

    def ask(self, method: str, path: str) -> bytes:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise ChildFailed(f"{method} {path} is answered with {answer.status}")
        return body

    def stats(self) -> Mapping[str, int]:
        """Of the server in C: what came so far."""
        found: Mapping[str, int] = msgspec.json.decode(self.ask("GET", "/stats"), type=dict[str, int])
        return found

    def marks(self) -> dict[int, int]:
        """Of the server in C: number of a mark → monotonic ns at which it was here first."""
        found: dict[int, int] = {}
        for line in self.ask("GET", "/marks").decode().splitlines():
            number, at_ns = line.split()
            found.setdefault(int(number), int(at_ns))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.end()


def start_fast(program: Path) -> Server:
    child = Child([str(program)], os.environ)
    word, _, port = child.hear().partition(" ")
    if word != "ready":
        raise ChildFailed("the server in C did not start")
    return Server(child, f"http://127.0.0.1:{port}")


def start_ours(data: Path, environment: Mapping[str, str]) -> Server:
    command = [PYTHON, "-m", "agent", "receiver", "serve", "--port", "0", "--data", str(data)]
    child = Child([*command, "--token-stdin", "--until-eof"], environment)
    child.tell(TOKEN)
    line = child.hear()
    if not line.startswith(_READY):
        raise ChildFailed(f"our receiver did not start: {line}")
    return Server(child, line.removeprefix(_READY))


def expect_entries(server: Server, before: int, entries: int) -> None:
    """Raises ChildFailed unless the server in C took exactly so many entries since it had `before`: a client that
    loses or repeats some is not fast."""
    taken = server.stats()["entries"] - before
    if taken != entries:
        raise ChildFailed(f"the server took {taken} entries, expected {entries}")


def free(data: Path) -> None:
    shutil.rmtree(data, ignore_errors=True)
