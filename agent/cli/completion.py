"""`transcriptd completion`: the script with which a shell asks what could come next."""

import os

import click
from click.shell_completion import get_completion_class

from agent.cli.config import environment
from agent.errors import UsageError

SHELLS = ("bash", "zsh", "fish", "powershell")

VARIABLE = "_TRANSCRIPTD_COMPLETE"
"""Set by those scripts; `click` answers it."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the script that lets a shell complete commands, options, sessions and servers.

    \b
    bash:  eval "$(transcriptd completion bash)"       in ~/.bashrc
    zsh:   eval "$(transcriptd completion zsh)"        in ~/.zshrc
    fish:  transcriptd completion fish > ~/.config/fish/completions/transcriptd.fish
    PowerShell:  transcriptd completion powershell | Out-String | Invoke-Expression       in $PROFILE

    Without SHELL it is that of $SHELL; on Windows, where there is none, PowerShell.
    """
    import agent.cli.shells  # noqa: F401 - makes itself known to click
    from agent.cli.group import cli

    shell = shell or os.path.basename(environment().get("SHELL", "powershell" if os.name == "nt" else ""))
    made = get_completion_class(shell) if shell in SHELLS else None
    if made is None:
        raise UsageError(
            f"{shell or 'this shell'} is not one of {', '.join(SHELLS)}", hint="transcriptd completion bash"
        )
    click.echo(made(cli, {}, "transcriptd", VARIABLE).source())
