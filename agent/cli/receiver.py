"""`transcriptd receiver`: the reference server and its tokens."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agent.receiver.sqlite import SqliteStore
    from agent.receiver.store import Scope

_DATABASE = "receiver.sqlite3"
_BLOBS = "files"
_DATA = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of the database and of side files."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def receiver() -> None:
    """The reference server: keeps transcripts, and shows them."""


@receiver.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@_DATA
@click.option("--token-stdin", is_flag=True, help="Accept the token on stdin's first line, for this run only.")
@click.option(
    "--max-file-mib",
    default=8192,
    show_default=True,
    type=click.IntRange(1, 1 << 30),
    help="Largest side file that is taken.",
)
@click.option(
    "--max-connections",
    default=1000,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Connections that have shown a token; more are answered 503.",
)
@click.option(
    "--head-timeout",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="How long the head of a request may take.",
)
@click.option("--until-eof", is_flag=True, help="Stop when stdin closes.")
@click.option(
    "--log-level",
    default="warning",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
)
def serve(
    *,
    host: str,
    port: int,
    data: Path | None,
    token_stdin: bool,
    max_file_mib: int,
    max_connections: int,
    head_timeout: float,
    until_eof: bool,
    log_level: str,
) -> None:
    """Serve until told to stop. Says `receiver ready at URL` on stdout once it answers.

    With --token-stdin a second line, if there is one, is a token that may only read.
    """
    from agent.cli.defects import set_up_log
    from agent.errors import MachineError, UsageError
    from agent.receiver.app import build_app
    from agent.receiver.auth import Auth
    from agent.receiver.blobs import Blobs
    from agent.receiver.bodies import Limits
    from agent.receiver.connections import Bounds
    from agent.receiver.server import Server, address_of, bind

    set_up_log(log_level, "%(levelname)s %(name)s: %(message)s", sys.stderr)
    _warn_of_open_host(host)
    with _store(data) as store:
        auth = Auth(store)
        lines = _InputLines(sys.stdin.fileno()) if token_stdin or until_eof else None
        if token_stdin and lines is not None:
            token = lines.first()
            if not token:
                raise UsageError(
                    "no token on stdin", hint="printf '%s\\n' TOKEN | transcriptd receiver serve --token-stdin"
                )
            auth.accept(token, "write")
        try:
            sock = bind(host, port)
        except OSError as exc:
            raise MachineError(f"can't listen on {host} port {port}: {exc.strerror}", hint="--port 0") from exc
        server = Server(
            build_app(
                store,
                auth=auth,
                blobs=Blobs((data or _default_folder()) / _BLOBS),
                limits=Limits(max_file_bytes=max_file_mib << 20),
            ),
            sock,
            on_ready=lambda: click.echo(f"receiver ready at {address_of(sock)}"),
            bounds=Bounds(_room(max_connections), head_timeout),
        )
        if lines is not None:
            lines.follow(
                (lambda line: auth.accept(line, "read")) if token_stdin else None, server.stop if until_eof else None
            )
        server.run_until_stopped()


def _room(connections: int) -> int:
    from agent.receiver.server import make_room

    room = make_room(connections)
    if room < connections:
        click.echo(f"warning: {room} connections instead of {connections}: the system allows no more files", err=True)
    return room


def _warn_of_open_host(host: str) -> None:
    import ipaddress

    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        click.echo(f"warning: {host} is reachable by others, and without TLS they can read tokens", err=True)


class _InputLines:
    """Lines of stdin, read past Python's buffers: the second line counts whenever it comes, and the end of input
    has to be seen while the server runs."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._ended = False

    def first(self) -> str:
        while b"\n" not in self._rest and not self._ended:
            self._take()
        return self._pop()

    def follow(self, on_line: Callable[[str], None] | None, on_end: Callable[[], None] | None) -> None:
        """Gives one more line to `on_line`, at once when it is there already, then waits for the end in a thread."""

        def offer() -> Callable[[str], None] | None:
            if on_line is None or not (b"\n" in self._rest or self._ended):
                return on_line
            if line := self._pop():
                on_line(line)
            return None

        def wait() -> None:
            nonlocal on_line
            while not self._ended:
                self._take()
                on_line = offer()
                if on_line is None:
                    self._rest = b""
            if on_end is not None:
                on_end()

        on_line = offer()
        threading.Thread(target=wait, name="stdin", daemon=True).start()

    def _take(self) -> None:
        data = os.read(self._descriptor, 4096)
        self._rest += data
        self._ended = not data

    def _pop(self) -> str:
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("ascii", "replace").strip()


@contextmanager
def _store(data: Path | None) -> "Iterator[SqliteStore]":
    from agent.errors import DiskError
    from agent.receiver.schema import make_folder
    from agent.receiver.sqlite import SqliteStore

    folder = data or _default_folder()
    try:
        make_folder(folder)
    except OSError as exc:
        raise DiskError(f"can't make the folder {folder}: {exc.strerror}", hint="--data DIR") from exc
    store = SqliteStore(folder / _DATABASE)
    try:
        yield store
    finally:
        store.close()


def _default_folder() -> Path:
    if home := os.environ.get("TRANSCRIPTD_HOME"):
        return Path(home) / "receiver"
    import platformdirs

    return Path(platformdirs.user_data_dir("transcriptd", appauthor=False)) / "receiver"


@receiver.group()
def token() -> None:
    """Tokens that open the receiver. Only their hashes are kept."""


@token.command()
@click.argument("name")
@click.option("--owner", default="local", show_default=True, help="Whose sessions it opens.")
@click.option("--read-only", is_flag=True, help="For the viewer and other readers.")
@click.option("--read", "reads", multiple=True, metavar="OWNER", help="Also opens OWNER's sessions, to be read; ALL.")
@click.option("--json", "as_json", is_flag=True)
@_DATA
def create(*, name: str, owner: str, read_only: bool, reads: tuple[str, ...], as_json: bool, data: Path | None) -> None:
    """Make a token and show it, this once.

    --read lets it read what belongs to others as well, one owner for each time it is given, or everybody's: ALL.
    """
    from agent.errors import UsageError
    from agent.receiver.auth import hash_token, make_token
    from agent.receiver.store import EVERYBODY

    secret = make_token()
    scope: Scope = "read" if read_only else "write"
    named = tuple(dict.fromkeys(EVERYBODY if one == "ALL" else one for one in reads))
    if "" in named:
        raise UsageError("an owner has a name", hint="--read OWNER, or --read ALL")
    with _store(data) as store:
        store.create_token(name, owner, scope, hash_token(secret), named)
    if as_json:
        _echo_json({"name": name, "owner": owner, "scope": scope, "reads": named, "token": secret})
    else:
        click.echo(secret)


@token.command("list")
@click.option("--json", "as_json", is_flag=True)
@_DATA
def list_(as_json: bool, data: Path | None) -> None:
    """Every token there ever was, without the token itself."""
    with _store(data) as store:
        rows = store.list_tokens()
    if as_json:
        import msgspec

        _echo_json({"tokens": msgspec.to_builtins(rows)})
        return
    for row in rows:
        state = f"revoked {_date(row.revoked_at_s)}" if row.revoked_at_s else f"last used {_date(row.last_used_at_s)}"
        reads = ", ".join("ALL" if one == "*" else one for one in row.reads)
        scope = f"{row.scope}, reads {reads}" if reads else row.scope
        click.echo(f"{row.name}\t{row.owner}\t{scope}\tmade {_date(row.created_at_s)}\t{state}")


@token.command()
@click.argument("name")
@_DATA
def revoke(name: str, data: Path | None) -> None:
    """End a token, from the next request on."""
    from agent.errors import UsageError

    with _store(data) as store:
        if not store.revoke_token(name):
            raise UsageError(f"no token named {name} is in use", hint="transcriptd receiver token list")
    click.echo(f"revoked {name}")


def _date(at_s: float | None) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d") if at_s else "never"


def _echo_json(fields: dict[str, object]) -> None:
    import json

    click.echo(json.dumps({"version": 1, **fields}))
