"""What a shell offers when somebody presses Tab inside an argument. Asks whoever runs and starts nothing: a moment's
wait is too long, and an error has no place to be shown.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

PATIENCE_S = 0.5
MOST = 50


def complete_session(
    ctx: "click.Context",  # noqa: ARG001 - the shape that click wants
    param: "click.Parameter",  # noqa: ARG001 - as above
    incomplete: str,
) -> "list[CompletionItem]":
    """Sessions whose ids begin so, with their project, as the running agent knows them."""
    from click.shell_completion import CompletionItem

    from agent.cli.config import environment
    from agent.errors import AgentError
    from agent.system.control_socket import ControlClient
    from agent.system.paths import default_paths

    try:
        with ControlClient(default_paths(environment()).socket, timeout_s=PATIENCE_S) as client:
            found = client.call("sessions.resolve", beginning=incomplete, limit=MOST)["sessions"]
    except AgentError:
        return []
    return [CompletionItem(one["session_id"], help=_clean(one["project"])) for one in found if _fits(one["session_id"])]


def complete_destination(
    ctx: "click.Context",  # noqa: ARG001 - the shape that click wants
    param: "click.Parameter",  # noqa: ARG001 - as above
    incomplete: str,
) -> "list[CompletionItem]":
    """Servers that the settings name."""
    from click.shell_completion import CompletionItem

    from agent.cli.config import environment, load_settings
    from agent.errors import AgentError
    from agent.system.paths import default_paths

    try:
        settings = load_settings(default_paths(environment()))
    except AgentError:
        return []
    return [
        CompletionItem(one.name, help=_clean(one.url))
        for one in settings.destinations
        if one.name.startswith(incomplete) and _fits(one.name)
    ]


def _fits(text: str) -> bool:
    """Whether it is something that people type: shells read lines, and know some signs by other names."""
    return text.isprintable()


def _clean(text: str) -> str:
    """One word of one line: shells read lines."""
    return "".join(ch if ch.isprintable() else " " for ch in text)
