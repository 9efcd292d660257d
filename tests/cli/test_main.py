"""The front door: help for everything, exit statuses that scripts can trust, and next to no imports."""

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from agent import __version__
from agent.cli.group import cli
from agent.cli.main import COMMANDS, SUMMARIES
from tests.cli.running import run, spawn
from tests.conftest import REPOSITORY


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


EVERY = [pytest.param(path, id=" ".join(path)) for path in commands(cli)]


@pytest.mark.parametrize("arguments", [("--help",), ("-h",)])
def test_help_lists_every_command_with_what_it_does(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.status, done.err) == (0, "")
    assert list(SUMMARIES) == list(COMMANDS)
    for name, summary in SUMMARIES.items():
        assert re.search(rf"^ +{name} +{re.escape(summary)}$", done.out, re.MULTILINE), name


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(path: tuple[str, ...], flag: str) -> None:
    done = run(*path, flag)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"Usage: transcriptd {' '.join(path)} [OPTIONS]")
    assert len(done.out.splitlines()[2].strip()) > 10, "what it does, in words"


def test_the_version_is_the_packages() -> None:
    assert run("--version").out == f"transcriptd, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("--nothing",),
        ("config", "nothing"),
        ("sessions", "nothing"),
        ("status", "--nothing"),
        ("status", "surplus"),
        ("sessions", "list", "--limit", "-1"),
        ("sessions", "list", "--limit", "many"),
        ("try", "--dir", "/nothing/of/the/kind"),
        ("receiver", "serve", "--port", "70000"),
    ],
    ids=" ".join,
)
def test_what_is_no_command_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "Usage: transcriptd" in done.err


def test_without_a_command_it_shows_what_there_is() -> None:
    done = run()
    assert "Commands:" in done.out + done.err
    assert done.status in (0, 2), "click before and after 8.2"


def test_the_module_is_the_command() -> None:
    done = spawn("--version")
    assert (done.status, done.out) == (0, f"transcriptd, version {__version__}\n")
    assert spawn("nothing").status == 2


HEAVY = (
    "requests",
    "urllib3",
    "keyring",
    "sqlite3",
    "rich",
    "watchdog",
    "apscheduler",
    "msgspec",
    "starlette",
    "uvicorn",
)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("nothing",)], ids=" ".join)
def test_before_it_knows_the_command_it_imports_next_to_nothing(arguments: tuple[str, ...]) -> None:
    imported = {
        line.rpartition("|")[2].strip() for line in spawn(*arguments, python=("-X", "importtime")).err.splitlines()
    }
    assert "agent.cli.main" in imported
    assert not {name for name in imported if name.partition(".")[0] in HEAVY}
    assert {name for name in imported if name.startswith("agent")} <= {
        "agent", "agent.cli", "agent.cli.main", "agent.cli.group", "agent.errors", "agent.__main__",
        "agent.system", "agent.system.machine", "agent.system.machine.process",  # no command leaves a core dump
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (("config", "path"), ("requests", "keyring", "sqlite3", "rich", "watchdog", "apscheduler")),
        (("status",), ("requests", "keyring", "watchdog", "apscheduler", "starlette", "rich")),
        (("sessions", "list"), ("requests", "keyring", "watchdog", "apscheduler", "starlette")),
        (("receiver", "-h"), ("requests", "keyring", "watchdog", "apscheduler", "starlette", "sqlite3")),
    ],
    ids=["config path", "status", "sessions list", "receiver -h"],
)
def test_a_command_imports_what_it_needs(arguments: tuple[str, ...], unneeded: tuple[str, ...]) -> None:
    done = spawn(*arguments, python=("-X", "importtime"))
    assert done.status in (0, 3)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.err.splitlines()}
    assert not imported & set(unneeded)


def test_a_reader_that_goes_away_is_no_defect() -> None:
    """`transcriptd config show | head -0`"""
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "config", "show"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.wait(30)
    assert "Traceback" not in err
