"""Real processes: a receiver, an agent, and one-off commands, each as a user would start it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

PROGRAM = (sys.executable, "-m", "agent")
READY_S = 60.0
TOKEN = "tsd_" + "e2e" * 12
"""Of a receiver on loopback that lives as long as one test."""


class Receiver:
    """A real receiver on a port of its own; the same data folder may be served again after a stop."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, port: int = 0) -> None:
        command = [*PROGRAM, "receiver", "serve", "--port", str(port), "--data", str(self.data)]
        self._process = subprocess.Popen(
            [*command, "--token-stdin", "--until-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(TOKEN + "\n")
        self._process.stdin.flush()
        self.url = read_until(self._process, "receiver ready at ").split()[-1]

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def get(self, path: str) -> bytes:
        answer = requests.get(self.url + path, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        answer.raise_for_status()
        return answer.content

    def entries(self, session: str, subpath: str = "") -> bytes:
        return self.get(f"/v1/session_ingress/session/{session}/entries?subpath={subpath}")


@contextmanager
def receiver(data: Path) -> Iterator[Receiver]:
    made = Receiver(data)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """The first line of stdout that holds the words; fails when the process ends or is silent for too long."""
    assert process.stdout is not None
    timer = threading.Timer(READY_S, process.kill)  # ends the pipe, and so the loop
    timer.start()
    try:
        for line in process.stdout:
            if words in line:
                return line
    finally:
        timer.cancel()
    raise AssertionError(f"process ended or stayed silent before {words!r}")


def end(process: subprocess.Popen[Any], number: int = signal.SIGTERM) -> int:
    """Ends a process that this test started, and gives its exit status."""
    if process.poll() is None:
        process.send_signal(number)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return process.wait(timeout=30)


def write_config(home: Path, url: str, projects: Path, more: str = "") -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = f'[[destination]]\nurl = "{url}"\n[watch]\nclaude = ["{projects}"]\n{more}'
    (home / "config.toml").write_text(text, encoding="utf-8")


def environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TRANSCRIPTD_HOME": str(home), "TRANSCRIPTD_TOKEN": TOKEN, **more}


@contextmanager
def agent(home: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """`transcriptd run`, its log on the pipe `stdout`; killed at the end of the block if it still runs. `more` goes
    into its environment."""
    made = subprocess.Popen(
        [*PROGRAM, "run"], env=environment(home, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield made
    finally:
        end(made, signal.SIGKILL)


def command(
    home: Path, *arguments: str, program: Sequence[str] = PROGRAM, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, *arguments], env=env or environment(home), capture_output=True, text=True, timeout=300, check=False
    )


def last_json(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found
