"""The command line: which command lives where, and how every failure ends. Imports next to nothing until it knows
the command."""

import importlib
import io
import sys
from collections.abc import Mapping

import click

from agent import __version__
from agent.errors import AgentError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "try": ("agent.cli.trying", "try_"),
    "run": ("agent.cli.running", "run"),
    "push": ("agent.cli.running", "push"),
    "retry": ("agent.cli.running", "retry"),
    "status": ("agent.cli.status", "status"),
    "sessions": ("agent.cli.sessions", "sessions"),
    "receiver": ("agent.cli.receiver", "receiver"),
    "config": ("agent.cli.config", "config"),
}
"""Command → module and name, in the order of the help page."""

SUMMARIES: Mapping[str, str] = {
    "try": "See it work: your transcripts on a receiver of this machine.",
    "run": "Run the agent in the foreground.",
    "push": "Send what waits, now.",
    "retry": "Try again what was refused.",
    "status": "Is it working?",
    "sessions": "List sessions, and prove that the server has them.",
    "receiver": "Run the reference server, and manage its tokens.",
    "config": "Find, show and check the settings.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="transcriptd")
def cli() -> None:
    """Keeps a server's copy of your coding-agent transcripts complete, private and current."""


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the locale can't spell must not end a command
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(prog_name="transcriptd")
    except AgentError as exc:
        click.echo(f"transcriptd: {exc.message}", err=True)
        if exc.hint:
            click.echo(f"  try: {exc.hint}" if exc.hint.startswith("transcriptd") else f"  {exc.hint}", err=True)
        sys.exit(exc.exit_status)
