"""Completion in real shells: the script is sourced, Tab is pressed, and what is offered is looked at."""

import json
import os
import re
import select
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import pytest

from agent.cli.completion import SHELLS
from agent.cli.group import cli
from agent.cli.main import COMMANDS
from agent.system.control_socket.server import ControlServer
from agent.system.paths import default_paths, make_private_folder
from tests.cli.running import run, spawn
from tests.conftest import REPOSITORY, require_tool
from tests.waiting import wait_for


@pytest.fixture
def program(home: Path) -> Path:
    """`transcriptd` as it is found on PATH."""
    folder = home / "bin"
    folder.mkdir()
    path = folder / "transcriptd"
    path.write_text(f'#!/bin/sh\ncd "{REPOSITORY}" && exec "{sys.executable}" -m agent "$@"\n', encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def shell(program: Path, *command: str) -> list[str]:
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


BASH = """
source <(transcriptd completion bash)
COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
_transcriptd_completion transcriptd
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete_in_bash(program: Path, line: str) -> list[str]:
    words = line + ('""' if line.endswith(" ") else "")
    script = BASH.replace("($1)", f"({words})")
    return shell(program, require_tool("bash"), "--norc", "-c", script)


def test_bash_completes_commands_options_sessions_and_servers(program: Path) -> None:
    paths = default_paths(os.environ)
    make_private_folder(paths.config.parent)
    paths.config.write_text('[[destination]]\nurl = "https://example.com"\nname = "work"\n', encoding="utf-8")
    make_private_folder(paths.socket.parent)
    asked: list[Any] = []

    def resolve(params: Any) -> Any:
        asked.append(dict(params))
        return {"sessions": [{"session_id": "0f3c2b1e-90ab", "project": "/home/dev/a\nb"}]}

    server = ControlServer(paths.socket, {"sessions.resolve": resolve})
    try:
        assert complete_in_bash(program, "transcriptd ev") == ["events"]
        assert complete_in_bash(program, "transcriptd audit --si") == ["--since"]
        assert complete_in_bash(program, "transcriptd retry 0f") == ["0f3c2b1e-90ab"]
        assert asked == [{"beginning": "0f", "limit": 50}]
        assert complete_in_bash(program, "transcriptd logout w") == ["work"]
    finally:
        server.close()


def test_bash_offers_nothing_where_nobody_runs(program: Path) -> None:
    assert complete_in_bash(program, "transcriptd retry 0f") == [""]
    assert complete_in_bash(program, "transcriptd logout w") == [""]
    assert not default_paths(os.environ).state.exists(), "a look makes nothing"


HOSTILE = """ev; touch P1 $(touch P2) `touch P3` * ? ~ 'q' "d" \\ & | >P4 #, !! a:b ${HOME} {x,y}"""
"""A name that settings may hold, and what a shell would make of it."""


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
@pytest.mark.parametrize("typed", ["ev", "'ev", '"ev'])
@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_what_is_completed_is_one_word_and_nothing_is_run(program: Path, tmp_path: Path, name: str, typed: str) -> None:
    """On a terminal: the beginning of a hostile name, Tab, Enter."""
    found = require_tool(name)
    paths = default_paths(os.environ)
    make_private_folder(paths.config.parent)
    text = f'[[destination]]\nurl = "https://example.com"\nname = {json.dumps(HOSTILE)}\n'
    paths.config.write_text(text, encoding="utf-8")
    work, got = tmp_path / "work", tmp_path / "got"
    work.mkdir()
    real = program.read_text(encoding="utf-8").partition("\n")[2]
    asked = (
        f'if [ -z "$_TRANSCRIPTD_COMPLETE" ] && [ "$1" != completion ]; then printf "%s\\0" "$@" > "{got}"; exit; fi'
    )
    program.write_text(f"#!/bin/sh\n{asked}\n{real}", encoding="utf-8")
    begin = {
        "bash": ((found, "--norc", "--noprofile", "-i"), "source <(transcriptd completion bash)"),
        "zsh": ((found, "-f", "-i"), 'autoload -Uz compinit; compinit -u -D; eval "$(transcriptd completion zsh)"'),
        "fish": ((found, "--no-config", "-i"), "transcriptd completion fish | source"),
    }
    command, script = begin[name]
    with Terminal(command, work, program) as terminal:
        terminal.type(f"{script}; echo rea''dy\n", until=b"ready")
        terminal.type(f"transcriptd logout {typed}\t", until=b"P3")
        terminal.type("\n")
        wait_for(lambda: got.exists() and got.read_bytes().endswith(b"\0"), "the command", 60)
    assert got.read_bytes().decode().split("\0")[:-1] == ["logout", HOSTILE]
    assert os.listdir(work) == []


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, command: tuple[str, ...], folder: Path, program: Path) -> None:
        import pty

        take = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self._master, other = pty.openpty()
        self._process = subprocess.Popen(
            (sys.executable, "-c", take, *command),
            cwd=folder,
            env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "TERM": "dumb", "COLUMNS": "400"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self._seen = b""

    def type(self, keys: str, *, until: bytes = b"") -> None:
        self._seen = b""
        os.write(self._master, keys.encode())
        deadline = time.monotonic() + 60
        while until not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the shell says no {until!r}, but {self._seen[-2000:]!r}"
            self._seen += os.read(self._master, 65536)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(60)
        os.close(self._master)


FISH = 'transcriptd completion fish | source; complete --do-complete "transcriptd ev"'
ZSH = """
autoload -Uz compinit; compinit -u -d {dump}
eval "$(transcriptd completion zsh)"
words=(transcriptd ev); CURRENT=2
_describe() {{ print -l -- "${{(@P)@[-1]:-}}" "${{(@P)3:-}}" }}
compadd() {{ print -l -- "$@" }}
compdef() {{ : }}
_transcriptd_completion
"""


def test_fish_completes_commands(program: Path) -> None:
    (found,) = shell(program, require_tool("fish"), "--no-config", "-c", FISH)
    assert found.startswith("events\tWhat happens")


def test_zsh_completes_commands(program: Path, tmp_path: Path) -> None:
    found = shell(program, require_tool("zsh"), "-f", "-c", ZSH.format(dump=tmp_path / "dump"))
    assert any(one.startswith("events:") for one in found)


@pytest.mark.parametrize("name", SHELLS)
def test_each_shell_has_a_script(name: str) -> None:
    done = run("completion", name)
    assert done.status == 0
    assert re.search(f"_TRANSCRIPTD_COMPLETE ?= ?'?{name}_complete", done.out)


def test_the_shell_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "fish_complete" in run("completion").out
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    refused = run("completion")
    assert (refused.status, "tcsh is not one of bash, zsh, fish, powershell" in refused.err) == (2, True)


def test_completing_a_command_imports_none() -> None:
    code = "import sys; from agent.cli.main import main; sys.argv = ['transcriptd']\n"
    code += "try: main()\nfinally: print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "_TRANSCRIPTD_COMPLETE": "bash_complete", "COMP_WORDS": "transcriptd s", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    offered, _, modules = done.stdout.rstrip().rpartition("\n")
    assert offered.split() == [f"plain,{name}" for name in COMMANDS if name.startswith("s")]
    loaded = {one for one in modules.split() if one.startswith("agent.cli.")}
    assert loaded == {"agent.cli.main", "agent.cli.group", "agent.cli.shells"}


def test_what_the_table_says_of_commands_is_what_they_are_called() -> None:
    import click

    context = click.Context(cli)
    assert cli.list_commands(context) == list(COMMANDS)
    assert [one.value for one in cli.shell_complete(context, "")] == list(COMMANDS)
    assert "--version" in [one.value for one in cli.shell_complete(context, "--v")]


def test_powershell_is_offered_what_it_may_run_as_it_stands(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none to try it in: its words are those of its documentation."""
    paths = default_paths(os.environ)
    make_private_folder(paths.config.parent)
    name = "a \u2019; $(rm)"
    paths.config.write_text(f'[[destination]]\nurl = "https://example.com"\nname = "{name}"\n', encoding="utf-8")
    monkeypatch.setenv("_TRANSCRIPTD_COMPLETE", "powershell_complete")
    monkeypatch.setenv("PYTHONUTF8", "1")
    assert offered(monkeypatch, "transcriptd", word="ev") == [["events", "events", "What happens, as it happens."]]
    assert offered(monkeypatch, "transcriptd\naudit", word="--si")[0][:2] == ["--since", "--since"]
    (found,) = offered(monkeypatch, "'C:\\a b\\transcriptd.exe'\nlogout", word="'a ")
    assert found == ["'a \u2019\u2019; $(rm)'", name, "https://example.com"]
    assert len(offered(monkeypatch, "transcriptd", word="")) >= len(COMMANDS)


def offered(monkeypatch: pytest.MonkeyPatch, words: str, *, word: str) -> list[list[str]]:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.delenv("COMP_CWORD", raising=False)
    if word:  # PowerShell removes a variable that is set to nothing
        monkeypatch.setenv("COMP_CWORD", word)
    return [line.split("\t") for line in spawn().out.splitlines()]


def test_help_shows_how_to_switch_it_on() -> None:
    assert "~/.bashrc" in spawn("completion", "--help").out
