"""The command line: which command lives where, and how every failure ends. Imports next to nothing until it knows
the command."""

import os
import sys
from collections.abc import Mapping

from agent.errors import AgentError, NotRunning

COMMANDS: Mapping[str, tuple[str, str]] = {
    "try": ("agent.cli.trying", "try_"),
    "login": ("agent.cli.login", "login"),
    "logout": ("agent.cli.login", "logout"),
    "run": ("agent.cli.running", "run"),
    "service": ("agent.cli.service", "service"),
    "push": ("agent.cli.running", "push"),
    "pull": ("agent.cli.pulling", "pull"),
    "pause": ("agent.cli.pausing", "pause"),
    "resume": ("agent.cli.pausing", "resume"),
    "retry": ("agent.cli.running", "retry"),
    "restore": ("agent.cli.running", "restore"),
    "status": ("agent.cli.status", "status"),
    "logs": ("agent.cli.logs", "logs"),
    "sessions": ("agent.cli.sessions", "sessions"),
    "private": ("agent.cli.private", "private"),
    "doctor": ("agent.cli.doctor", "doctor"),
    "events": ("agent.cli.events", "events"),
    "audit": ("agent.cli.audit", "audit"),
    "receiver": ("agent.cli.receiver", "receiver"),
    "config": ("agent.cli.config", "config"),
    "hook": ("agent.cli.hook", "hook"),
    "capture": ("agent.cli.hook", "capture"),
    "completion": ("agent.cli.completion", "completion"),
}
"""Command → module and name, in the order of the help page."""

SUMMARIES: Mapping[str, str] = {
    "try": "See it work: your transcripts on a receiver of this machine.",
    "login": "Name a server, and give the agent its token.",
    "logout": "Take the token away again.",
    "run": "Run the agent in the foreground.",
    "service": "Have it started with your session, and kept running.",
    "push": "Send what waits, now.",
    "pull": "Bring a session from the server here, to continue it.",
    "pause": "Send nothing for a while.",
    "resume": "Send again.",
    "retry": "Try again what was refused.",
    "restore": "Send again what was deleted on the server.",
    "status": "Is it working?",
    "logs": "What the agent said.",
    "sessions": "List sessions, and prove that the server has them.",
    "private": "Say which sessions stay on this machine.",
    "doctor": "What is wrong, and what to do about it.",
    "events": "What happens, as it happens.",
    "audit": "What happened to which transcript, and when.",
    "receiver": "Run the reference server, and manage its tokens.",
    "config": "Find, show and check the settings.",
    "hook": "Let Claude Code tell which transcripts it writes.",
    "capture": "What such a hook runs.",
    "completion": "Let the shell complete commands, sessions and servers.",
}


def start() -> None:
    """`main`, for a process that does nothing else. Any command may hold a token, if only in its environment, so none
    leaves a picture of its memory on a disk. Looking for garbage among what was just imported takes a tenth of
    the time in which `status` has to answer, and so does tidying up what the system takes back anyway."""
    import gc

    gc.disable()
    if sys.argv[1:2] != ["capture"]:  # a hook holds no token, and has 50 ms
        from agent.system.machine.process import forbid_dumps

        forbid_dumps()
    try:
        main()
    except SystemExit as exc:
        if sys.argv[1:2] in (["status"], ["doctor"]) and isinstance(exc.code, int):
            _leave(exc.code)
        raise


def _leave(status: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever read it has gone; Python itself says so
        return
    os._exit(status)


def _next_step() -> str:
    from agent.cli.starting import next_step
    from agent.system.paths import default_paths

    return next_step(default_paths(os.environ), os.environ)


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["capture"] and not {"-h", "--help"}.intersection(arguments):
        from agent.cli.capture import capture  # a hook has 50 ms: importing click alone takes as long

        capture(arguments[1:])
        return
    _run_command()


def _run_command() -> None:
    import io

    import click

    from agent.cli.group import cli

    if os.environ.get("_TRANSCRIPTD_COMPLETE"):
        import agent.cli.shells  # noqa: F401 - makes itself known to click

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the locale can't spell must not end a command
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(prog_name="transcriptd")
    except AgentError as exc:
        click.echo(f"transcriptd: {exc.message}", err=True)
        hint = exc.hint or (_next_step() if isinstance(exc, NotRunning) else "")
        if hint:
            click.echo(f"  try: {hint}" if hint.startswith("transcriptd") else f"  {hint}", err=True)
        sys.exit(exc.exit_status)
    except Exception as exc:  # noqa: BLE001 - a defect: Python would repeat its words, which may be a transcript's
        from agent.cli.defects import EXIT_STATUS, render_defect

        click.echo(f"transcriptd: a defect in transcriptd\n{render_defect(exc)}", err=True)
        sys.exit(EXIT_STATUS)
