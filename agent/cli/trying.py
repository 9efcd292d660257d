"""`transcriptd try`: the main job on this machine alone, to see it work before trusting it with anything.

A receiver of its own on loopback, as another process, with tokens that live as long as this run; the agent beside it,
in this one. Both keep their state in a folder apart from a real installation's.
"""

import contextlib
import hashlib
import importlib.resources
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

import agent
from agent.cli.config import environment
from agent.core.transcripts.session import is_side_file
from agent.errors import MachineError, PrivacyListError, UsageError
from agent.system.paths import Paths, default_paths, make_private_folder, paths_below
from agent.system.tokens import VARIABLE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from agent.core.redaction.redactor import Redactor
    from agent.core.settings import Settings, Watch
    from agent.core.status import Status, StreamLine
    from agent.core.transcripts.session import Provider
    from agent.daemon.process.supervisor import Daemon

_LOOK_S = 0.1
_READY = "receiver ready at "
_NAME = "try"


class _Receiver(NamedTuple):
    url: str
    token: str
    viewer_url: str
    """With a token that may only read, in the part of the address that browsers keep to themselves."""
    ended: Callable[[], bool]


@click.command("try")
@click.option("--once", is_flag=True, help="End when everything is on the server and verified.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of Claude Code projects instead of this user's.",
)
@click.option("--json", "as_json", is_flag=True, help="With --once: end with one JSON object, for scripts.")
def try_(once: bool, folder: Path | None, as_json: bool) -> None:
    """See it work: the transcripts of this machine, pushed to a receiver that runs only here.

    Nothing leaves the machine. Ctrl-C ends it.
    """
    from agent.cli.live import show_live
    from agent.cli.output import console
    from agent.cli.running import running_daemon, set_up_log, stop_signals
    from agent.daemon.status.report import list_streams
    from agent.delivery.privacy.redacting import open_redactor
    from agent.system.tokens import FixedToken

    if as_json and not once:
        raise UsageError("--json goes with --once", hint="transcriptd try --once --json")
    base = _base_folder()
    watch, what = _choose_source(folder, base)
    set_up_log("error")
    err = console(stderr=True)
    with stop_signals() as stop, _receiver(base / "receiver") as server:
        settings = _settings(server.url, watch)
        for one in what:
            err.print(f"transcripts  {one}")
        err.print(f"receiver     {server.url}  (SQLite, {base / 'receiver'})")
        if not once:
            err.print(f"viewer       {server.viewer_url}", soft_wrap=True)
        paths = _paths_for(base, watch)
        with running_daemon(settings, paths, FixedToken(server.token), watch=not once) as daemon:
            began = time.monotonic()
            found = _show_backlog(daemon, err, lambda: stop.is_set() or server.ended())
            if server.ended():
                raise MachineError("the receiver ended; what it said stands above")
            if stop.is_set():
                click.echo("stopped before everything was sent", err=True)
                sys.exit(130)
            if once:
                redactor = open_redactor(settings.privacy, paths)
                _finish(server, found, daemon.ask(list_streams), redactor, time.monotonic() - began, as_json=as_json)
                return
            show_live(daemon, stop)
            click.echo(f"stopped; what was sent stays in {base / 'receiver'}")


def _base_folder() -> Path:
    """Below `TRANSCRIPTD_HOME` or the user's state, but apart from what a real installation keeps."""
    base = default_paths(environment()).state.parent / "transcriptd-try"
    make_private_folder(base)
    return base


def _paths_for(base: Path, watch: "Watch") -> Paths:
    """One state for what is tried, so that its counts are its own; but what is private stays private."""
    folders = "\n".join(folder for name in watch.agents for folder in watch.folders(name))
    own = paths_below(base / f"agent-{hashlib.sha256(os.fsencode(folders)).hexdigest()[:12]}")
    return replace(own, rules=_private_list())


def _private_list() -> Path:
    """That of the real installation. Raises PrivacyListError where it is not understood, or was there and is gone."""
    from agent.cli.private import had_list
    from agent.system.state.privacy_list import BRING_BACK, PrivacyList

    paths = default_paths(environment())
    PrivacyList(paths.private_list).rules()
    if not os.path.lexists(paths.private_list) and had_list(paths):
        raise PrivacyListError(f"the private list is gone: {paths.private_list}", hint=BRING_BACK)
    return paths.private_list


def _settings(url: str, watch: "Watch") -> "Settings":
    from agent.core.settings import Destination, Notify, Settings

    return Settings((Destination(url, name=_NAME),), watch=watch, notify=Notify(enabled=False))


# --- which transcripts ---------------------------------------------------------------------------------------------


def _choose_source(folder: Path | None, base: Path) -> tuple["Watch", list[str]]:
    """The folders to push, and what to call them: DIR, else this user's transcripts, else the bundled sample."""
    if folder is not None:
        return _look_into(folder)
    from agent.providers import PROVIDERS

    found = {
        provider: [
            root
            for root in dict.fromkeys(map(os.path.realpath, provider.roots(environment(), str(Path.home()))))
            if _has_transcripts(provider, Path(root), whole=False)
        ]
        for provider in PROVIDERS.values()
    }
    if not any(found.values()):
        return _watch("claude", [str(_unpack_sample(base))]), [
            "a bundled sample (there are none of yours on this machine)"
        ]
    named = {provider.name: tuple(folders) for provider, folders in found.items() if folders}
    return _watch_all(named), [f"{one.title}: {folder}" for one, folders in found.items() for folder in folders]


def _look_into(folder: Path) -> tuple["Watch", list[str]]:
    """DIR, or the folders in it that are called like an agent's own."""
    from agent.providers import PROVIDERS

    place = folder.resolve()
    # Nearly every folder could be Claude Code's, so that comes last.
    for name, provider in reversed(list(PROVIDERS.items())):
        within = dict.fromkeys(place / Path(root).name for root in provider.roots({}, "/"))
        inside = [one for one in within if one.is_dir()]
        roots = [str(one) for one in inside or [place] if _has_transcripts(provider, one)]
        if roots or any(_has_transcripts(provider, one, whole=False) for one in inside):
            roots = [str(one) for one in inside if _has_transcripts(provider, one, whole=False)] or roots
            titled = "" if name == "claude" else f"{provider.title}: "
            return _watch(name, roots), [titled + one for one in roots]
    raise UsageError(
        f"{folder} holds no transcripts, expected PROJECT/SESSION.jsonl below it",
        hint="transcriptd try --dir ~/.claude/projects",
    )


def _watch(name: str, folders: list[str]) -> "Watch":
    return _watch_all({name: tuple(folders)})


def _watch_all(named: Mapping[str, tuple[str, ...]]) -> "Watch":
    from agent.core.settings import Watch

    def of(name: str) -> tuple[str, ...]:
        return named.get(name, ())

    agents = tuple(named)
    return Watch(agents=agents, claude=of("claude"), codex=of("codex"), gemini=of("gemini"), copilot=of("copilot"))


def _has_transcripts(provider: "Provider", source: Path, *, whole: bool = True) -> bool:
    """`whole` False: also where only such lie as can't be read, or are not followed."""
    from agent.delivery.discovery.scanner import Root
    from agent.delivery.inventory.survey import find_files

    found = find_files([Root(provider, str(source))])
    named = any(not is_side_file(one.stream.subpath) for files in found.files.values() for one in files)
    return named or (not whole and bool(found.unreadable or found.unfollowed))


def _unpack_sample(base: Path) -> Path:
    target = base / "sample"
    with importlib.resources.as_file(importlib.resources.files("agent.cli") / "sample") as packed:
        shutil.copytree(packed, target, dirs_exist_ok=True)
    return target / "projects"


# --- the receiver ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _receiver(data: Path) -> Iterator[_Receiver]:
    """A receiver process on a free port. It ends with us, however we end: its stdin is our pipe."""
    write, read = f"tsd_{secrets.token_urlsafe(32)}", f"tsd_{secrets.token_urlsafe(32)}"
    command = [sys.executable, "-m", "agent", "receiver", "serve", "--port", "0", "--data", str(data)]
    # `-m` looks in the current folder first, and users have folders named agent: ours is the one beside this file.
    home_of_package = Path(agent.__file__).resolve().parent.parent
    process = subprocess.Popen(
        [*command, "--token-stdin", "--until-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=home_of_package,
        env={name: value for name, value in environment().items() if name != VARIABLE},
    )
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise MachineError("the receiver has no pipes")
    try:
        with contextlib.suppress(BrokenPipeError):  # it ended already; the missing line below says so
            stdin.write(f"{write}\n{read}\n")
            stdin.flush()
        line = stdout.readline()
        if not line.startswith(_READY):
            raise MachineError(
                "the receiver did not start; what it said stands above", hint="transcriptd receiver serve"
            )
        url = line.removeprefix(_READY).strip()
        yield _Receiver(url, write, f"{url}/#token={read}", lambda: process.poll() is not None)
    finally:
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        stdout.close()


# --- what people see ---------------------------------------------------------------------------------------------


def _status(daemon: "Daemon") -> "Status":
    from agent.daemon.status.report import report

    around = daemon.surroundings()
    return daemon.ask(lambda engine: report(engine, around))


def _show_backlog(daemon: "Daemon", err: "Console", is_stopped: Callable[[], bool]) -> "Status":
    """Progress until everything found is sent, or has no way to be."""
    from agent.core.delivery.lifecycle import UNSENT

    with _progress(err) as progress:
        sent = progress.add_task("sending", total=None, counts="")
        while True:
            found = _status(daemon)
            total = found.counts.bytes if daemon.full_scans else None
            progress.update(sent, total=total, completed=found.counts.sent_bytes, counts=_counts_words(found))
            waiting = sum(number for state, number in found.counts.states.items() if state in UNSENT)
            if daemon.full_scans and not waiting and not daemon.ask(lambda engine: engine.is_busy()):
                return found
            if is_stopped():
                return found
            time.sleep(_LOOK_S)


def _progress(err: "Console") -> "Progress":
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[counts]}"),
        console=err,
        disable=not err.is_terminal,
    )


def _counts_words(found: "Status") -> str:
    from agent.cli.output import plural

    synced = found.counts.states.get("synced", 0)
    return f"{synced:,} of {plural(found.counts.streams, 'transcript')}"


def _finish(
    server: _Receiver,
    found: "Status",
    lines: list["StreamLine"],
    redactor: "Redactor",
    took_s: float,
    *,
    as_json: bool,
) -> None:
    """Proves that both sides are equal, says so, and ends with 0 only then."""
    from agent.cli.output import clean, plural, print_json, size_words
    from agent.core.delivery.lifecycle import State
    from agent.core.transcripts.session import StreamId, is_side_file
    from agent.delivery.push.verifier import Outcome, Subject, verify_streams
    from agent.system.remote import Remote

    withheld = {line.session_id for line in lines if line.state == State.PRIVATE}
    subjects = sorted(
        Subject(StreamId(line.session_id, line.subpath), line.path, line.generation)
        for line in lines
        if line.state != State.PRIVATE
    )
    remote = Remote(server.url, lambda: server.token)
    try:
        verdicts, unread = verify_streams(remote, subjects, {}, redactor)
    finally:
        remote.close()
    equal = [one for one in verdicts if one.outcome is Outcome.EQUAL]
    problems = [what for what, _ in found.problems] + unread
    streams = [one for one in subjects if not is_side_file(one.stream.subpath)]
    files = len(subjects) - len(streams)
    synced = len(equal) == len(subjects) and not unread and found.synced
    entries = sum(one.entries for one in equal)
    count = sum(one.entry_bytes for one in equal if not is_side_file(one.stream.subpath))
    if as_json:
        print_json(
            {
                "schema": 1,
                "sessions": len({one.stream.session_id for one in subjects}),
                "streams": len(streams),
                "files": files,
                "entries": entries,
                "bytes": count,
                "private": len(withheld),
                "synced": synced,
                "verified": len(equal),
                "seconds": round(took_s, 3),
                "receiver": server.url,
                "problems": problems,
            }
        )
    else:
        sessions = plural(len({one.stream.session_id for one in subjects}), "session")
        beside = f", {plural(files, 'side file')}" if files else ""
        click.echo(f"sent      {sessions} in {plural(len(streams), 'transcript')}{beside}")
        click.echo(f"          {entries:,} entries, {size_words(count)}, {took_s:.1f} s")
        click.echo(f"verified  {len(equal):,} of {len(subjects):,} equal on both sides (entry counts and hashes)")
        if withheld:
            click.echo(f"private   {plural(len(withheld), 'session')} of your private list, not sent here either")
        for problem in problems:
            click.echo(f"! {clean(problem)}")
    if not synced:
        sys.exit(1)
