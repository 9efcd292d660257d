"""A process that has everything imported, and forks children that begin at once.

A child is a process of its own: what it does ends with it, also by SIGKILL. That costs some milliseconds instead of the
half second of a new interpreter, so a thousand deaths fit into minutes.

    with ForkServer(folder) as forks:
        child = forks.start("tests.faults.jobs:live", home="…")
        assert forks.wait(child) == 0
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

LONGEST_S = 45.0
"""A child that has not ended by then hangs."""

_MODULES = ("agent.cli.main", "agent.cli.receiver", "agent.cli.running", "tests.faults.jobs")


class Child(NamedTuple):
    """A process to wait for, and where its output goes."""

    pid: int
    log: Path

    def said(self) -> str:
        """Empty also when it died before it could open its log."""
        try:
            return self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""


class Hangs(AssertionError):
    """A child that had to end did not."""


class ForkServer:
    """`folder` takes the children's output."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
            text=True,
        )
        self._started = 0
        self._ask("hello")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Children that still run are killed by the server's end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(LONGEST_S)
        self._process.stdout.close()

    def start(self, job: str, *, hold: bool = False, **arguments: Any) -> Child:
        """`job` is module:function. With `hold` the child does nothing before `release`."""
        self._started += 1
        log = self._folder / f"child-{self._started}.log"
        pid = self._ask("start", job=job, arguments=arguments, log=str(log), hold=hold)
        return Child(int(pid), log)

    def release(self, child: Child) -> None:
        self._ask("release", pid=child.pid)

    def wait(self, child: Child, *, kill_after_s: float | None = None, within_s: float = LONGEST_S) -> int:
        """The exit status, negative for a signal's number. `kill_after_s`: SIGKILL it then. Without, it has to end
        `within_s`."""
        limit = within_s if kill_after_s is None else kill_after_s
        status, in_time = self._ask("wait", pid=child.pid, limit_s=limit)
        if not in_time and kill_after_s is None:
            raise Hangs(f"a child did not end within {limit:g} s: {child.said()}")
        return int(status)

    def kill(self, child: Child) -> int:
        return self.wait(child, kill_after_s=0.0)

    def _ask(self, what: str, **named: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **named}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


# --- inside the server ------------------------------------------------------------------------------------------------


class _Server:
    def __init__(self) -> None:
        self._children: dict[int, int] = {}
        """pid → descriptor that lets a held child go, or -1."""

    def serve(self) -> None:
        for line in sys.stdin:
            asked = json.loads(line)
            answer = getattr(self, asked.pop("what"))(**asked)
            os.write(1, json.dumps(answer).encode() + b"\n")
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def hello(self) -> str:
        return "hello"

    def start(self, *, job: str, arguments: dict[str, Any], log: str, hold: bool) -> int:
        waits, lets_go = os.pipe() if hold else (-1, -1)
        pid = os.fork()
        if pid == 0:
            for descriptor in (lets_go, *self._children.values()):
                if descriptor >= 0:
                    os.close(descriptor)
            _become(job, arguments, log, waits)
        if hold:
            os.close(waits)
        self._children[pid] = lets_go
        return pid

    def release(self, *, pid: int) -> None:
        os.write(self._children[pid], b"!")

    def wait(self, *, pid: int, limit_s: float) -> tuple[int, bool]:
        in_time = _ended_within(pid, limit_s)
        if not in_time:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        lets_go = self._children.pop(pid)
        if lets_go >= 0:
            os.close(lets_go)
        return os.waitstatus_to_exitcode(status), in_time


def _ended_within(pid: int, limit_s: float) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], limit_s)[0])
    finally:
        os.close(descriptor)


def _become(job: str, arguments: dict[str, Any], log: str, waits: int) -> NoReturn:
    """The child's life. It never returns into the server's code."""
    status = 70
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor, place in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(descriptor, place)
        os.close(nothing)
        os.close(output)
        if waits >= 0:
            _let_anybody_trace()
            os.read(waits, 1)
            os.close(waits)
        module, _, name = job.partition(":")
        status = getattr(import_module(module), name)(**arguments) or 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 - the place of a defect belongs into the log, and the child has to end
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _let_anybody_trace() -> None:
    """Where Yama lets only parents trace their children, this one says that it does not mind."""
    pr_set_ptracer, anybody = 0x59616D61, ctypes.c_ulong(-1)
    ctypes.CDLL(None).prctl(pr_set_ptracer, anybody, 0, 0, 0)


def main() -> None:
    for name in _MODULES:
        import_module(name)
    _Server().serve()


if __name__ == "__main__":
    main()
