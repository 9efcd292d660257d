"""`transcriptd logs`: what the agent said, wherever it said it."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import click

from agent.cli.config import environment
from agent.errors import NotRunning, UsageError
from agent.services import Ran, run_command
from agent.system.logs import Sink, find_log_files, follow, read_last
from agent.system.paths import Paths, default_paths
from agent.system.state.lives import Lives

_LOOK_S = 0.3
_JOURNAL_S = 20.0

Run = Callable[[Sequence[str]], int]
"""Starts a command whose output goes to ours; gives its exit status."""


@click.command()
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 1_000_000), default=100, help="How many lines; 100 without it.")
def logs(is_followed: bool, lines: int) -> None:
    """What the agent said: from systemd's journal when it runs there, else from its log files."""
    show_logs(default_paths(environment()), lines, is_followed=is_followed)


def show_logs(paths: Paths, lines: int, *, is_followed: bool, run: Run | None = None) -> None:
    life = Lives(paths.lives).read()
    if life.log == Sink.JOURNAL:
        command = journal_command(life.unit, lines, is_followed=is_followed)
        status = (run or _run)(command)
        if status:
            sys.exit(status)
        return
    if not is_followed and not find_log_files(paths.logs):
        if life.log == Sink.STREAM:
            raise UsageError(
                "the agent was started by hand, and wrote its log to that terminal or pipe",
                hint=f'to have it in {paths.logs} as well, write file = "always" below [log] in {paths.config}',
            )
        raise NotRunning(f"there is no log in {paths.logs}: no agent has run in the background")
    for line in read_last(paths.logs, lines):
        click.echo(line)
    if is_followed:
        _follow(paths)


def journal_command(unit: str, lines: int, *, is_followed: bool) -> list[str]:
    """`unit`: as `logs.find_unit` gives it."""
    chosen = unit or "--user-unit=transcriptd.service"
    scope = ["--user"] if chosen.startswith("--user-unit=") else []
    return ["journalctl", *scope, chosen, "--no-pager", f"--lines={lines}", *(["--follow"] if is_followed else [])]


def read_journal(unit: str, lines: int, run: Callable[[Sequence[str]], Ran] | None = None) -> str:
    """The journal's newest lines, without the name of the machine; why there are none where it can't be read."""
    command = [*journal_command(unit, lines, is_followed=False), "--output=short-iso", "--no-hostname"]
    ran = run(command) if run else run_command(command, _JOURNAL_S)
    return f"the journal can't be read: {ran.words or ran.status}" if ran.status else ran.out


def _run(command: Sequence[str]) -> int:
    program = shutil.which(command[0])
    if program is None:
        raise UsageError(
            f"the log is in systemd's journal, and {command[0]} is not installed",
            hint='install it, or have log files as well: file = "always" below [log] in the settings',
        )
    sys.stdout.flush()
    try:
        return subprocess.run([program, *command[1:]], check=False).returncode
    except KeyboardInterrupt:
        return 0


def _follow(paths: Paths) -> None:
    def wait() -> bool:
        time.sleep(_LOOK_S)
        return True

    try:
        for line in follow(paths.logs, wait):
            click.echo(line)
    except KeyboardInterrupt:
        return
