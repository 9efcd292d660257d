"""`transcriptd sessions`: look at sessions, follow them, and prove that servers have them. Each command is imported
when it is asked for."""

import importlib
from collections.abc import Mapping

import click
from click.shell_completion import CompletionItem

COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "list": ("agent.cli.sessions.listing", "list_", "Sessions, the one that changed last first."),
    "show": ("agent.cli.sessions.showing", "show", "A session as a conversation."),
    "get": ("agent.cli.sessions.showing", "get", "The last messages of a session."),
    "preview": ("agent.cli.sessions.showing", "preview", "A glance at sessions, many at once."),
    "describe": ("agent.cli.sessions.describing", "describe", "All that is known of a session."),
    "resolve": ("agent.cli.sessions.resolving", "resolve", "Which session is meant: an id, a label, a title, latest."),
    "search": ("agent.cli.sessions.searching", "search", "Find words in all transcripts of this machine."),
    "stats": ("agent.cli.sessions.stats", "stats", "Tokens and tools, by day, project, model or agent."),
    "patch": ("agent.cli.sessions.patching", "patch", "Label or archive a session, make it private, note values."),
    "cleanup": ("agent.cli.sessions.upkeep", "cleanup", "Forget sessions whose files are gone and that servers have."),
    "backfill": ("agent.cli.sessions.upkeep", "backfill", "Read all transcripts into the index of sessions."),
    "tail": ("agent.cli.sessions.tailing", "tail", "The end of a session, and what is added to it."),
    "delete": ("agent.cli.sessions.changing", "delete", "Delete one on its servers."),
    "compaction": ("agent.cli.sessions.changing", "compaction", "Branch from a compaction, or go back before it."),
    "compact": ("agent.cli.sessions.changing", "compact", "Keep the last lines of one."),
    "reset": ("agent.cli.sessions.changing", "reset", "Empty the conversation of one."),
    "verify": ("agent.cli.sessions.verifying", "verify", "Compare every transcript with the server's copy."),
}
"""Command → module, name and summary, in the order of the help page."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """From the table: click would import every command for it."""
        found = [CompletionItem(name, help=row[2]) for name, row in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in COMMANDS.items()])


@click.group(cls=_LazyGroup)
def sessions() -> None:
    """Look at sessions, follow them, and prove that servers have them."""
