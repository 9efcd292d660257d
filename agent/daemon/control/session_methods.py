"""`sessions.*` on the control socket that are answered from the index. Each request has a thread of its own, which
opens the index for as long as it lasts; a search runs in a process of its own, so that neither memory nor Python's lock
of the daemon suffer."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agent
from agent.core.sessions.session_queries import Wanted
from agent.core.transcripts.session import Facts
from agent.errors import MachineError, UsageError

if TYPE_CHECKING:
    from agent.daemon.process.supervisor import Daemon
    from agent.sessions.search.session_rows import Look, Synced
    from agent.system.control_socket import Method

SEARCH_S = 120.0
"""Of 100 GB. Whoever has more narrows the search."""


def session_methods(daemon: "Daemon") -> "Mapping[str, Method]":
    here = _Here(daemon)
    return {
        "sessions.describe": here.describe,
        "sessions.resolve": here.resolve,
        "sessions.search": here.search,
        "sessions.stats": here.stats,
        "sessions.patch": here.patch,
        "sessions.cleanup": here.cleanup,
        "sessions.backfill": here.backfill,
        "sessions.list": here.list_,
    }


class _Here:
    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon

    def list_(self, params: Mapping[str, Any]) -> Any:
        """Without params, or with `sessions`, `streams` and `facts`, for whoever wants to know how far they are synced;
        else rows, as the command shows them."""
        if not params or "sessions" in params:
            return self._list_streams(params)
        from agent.sessions.search.session_rows import Asked, list_sessions

        archived = params.get("archived")
        asked = Asked(
            _wanted(params),
            params.get("state", ""),
            archived,
            params.get("sort") or "changed",
            params.get("limit", 50),
            params.get("flat", False),
        )
        with _Opened(self._daemon) as look:
            return list_sessions(look, asked)

    def _list_streams(self, params: Mapping[str, Any]) -> Any:
        from agent.daemon.status.report import list_streams, list_streams_of

        wanted = params.get("sessions")
        if wanted is None:

            def read_all(engine: Any) -> Any:
                return list_streams(engine), dict(engine.facts.known)

            lines, facts = self._daemon.ask(read_all)
            return _rendered(lines, facts)
        ids = params["sessions"]
        more: set[str] = set()
        if params.get("beyond_index"):
            more = self._daemon.ask(lambda engine: {key.session_id for key in engine.tracks})
            self._leave_out_indexed(more)

        def read(engine: Any) -> Any:
            named = [*ids, *sorted(more)]
            return list_streams_of(engine, named), {one: engine.facts.of(one) for one in named}

        return _rendered(*self._daemon.ask(read))

    def _leave_out_indexed(self, ids: set[str]) -> None:
        from agent.system.state.index_db import open_index_readonly

        db = open_index_readonly(self._daemon.paths.index)
        if db is not None:
            with db:
                ids.difference_update(db.each_session_id())

    def describe(self, params: Mapping[str, Any]) -> Any:
        from agent.sessions.search.session_rows import describe_session

        with _Opened(self._daemon) as look:
            return describe_session(look, params["session"])

    def resolve(self, params: Mapping[str, Any]) -> Any:
        """`words` as people say them; or `beginning` of an id, which is answered from memory, for completion."""
        from agent.daemon.status.report import resolve_sessions
        from agent.sessions.search.session_rows import resolve

        limit = params.get("limit", 100)
        words = params.get("words", "")
        if words:
            with _Opened(self._daemon) as look:
                return {"sessions": resolve(look, words, limit)}
        beginning = params.get("beginning", "")
        return {"sessions": self._daemon.ask(lambda engine: resolve_sessions(engine, beginning, limit))}

    def stats(self, params: Mapping[str, Any]) -> Any:
        from agent.sessions.search.session_rows import sum_up

        with _Opened(self._daemon) as look:
            return sum_up(look, _wanted(params), params.get("by") or "day")

    def patch(self, params: Mapping[str, Any]) -> Any:
        """Privacy is the private list's, which is edited by `transcriptd private` and read again before each send."""
        from agent.sessions.index.session_patch import patch_session

        session = params["session"]
        with _Opened(self._daemon) as look:
            from agent.sessions.search.session_rows import describe_session

            describe_session(look, session)  # raises for what nobody knows
        return patch_session(
            self._daemon.paths,
            session,
            label=params.get("label"),
            archived=params.get("archived"),
            values=params.get("set", {}),
            without=params.get("unset", []),
        )

    def cleanup(self, params: Mapping[str, Any]) -> Any:
        from agent.sessions.index.session_cleanup import clean_up

        with _Opened(self._daemon) as look:
            if look.db is None:
                raise UsageError("there is no index of sessions", hint="transcriptd sessions backfill")
            return clean_up(self._daemon.paths, look.db, look.find_synced, dry_run=params.get("dry_run", False))

    def backfill(self, params: Mapping[str, Any]) -> Any:
        """Starts it, unless `start` is False; how far it is."""
        keeper = self._daemon.index
        if keeper is None:
            raise UsageError("the settings switch the index off", hint="enabled = true below [index]")
        if params.get("start", True):
            keeper.ask_all(params.get("force", []))
        return keeper.progress()._asdict()

    def search(self, params: Mapping[str, Any]) -> Any:
        """As `transcriptd sessions search --json` does, in a process of its own."""
        words = params["words"]
        names = ("project", "provider", "model", "since", "role")
        options = [f"--{name}={params[name]}" for name in names if params.get(name)]
        options += [f"--{name}={params.get(name, default)}" for name, default in _SEARCH_COUNTS.items()]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "agent", "sessions", "search", "--json", *options, "--", *words],
                cwd=Path(agent.__file__).resolve().parent.parent,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SEARCH_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MachineError(f"the search took longer than {SEARCH_S:.0f} s", hint="narrow it by since") from None
        except OSError as exc:
            raise MachineError(f"no process can be started to search: {exc.strerror}") from exc
        if done.returncode != 0:
            first = done.stderr.decode(errors="replace").partition("\n")[0].removeprefix("transcriptd: ")
            raise UsageError(first or f"the search ended with {done.returncode}")
        return json.loads(done.stdout)


_SEARCH_COUNTS = {"limit": 20, "each": 3}


class _Opened:
    """A look at the index for one request."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon

    def __enter__(self) -> "Look":
        from agent.sessions.search.session_rows import Look
        from agent.system.state.annotations import Annotations
        from agent.system.state.index_db import open_index_readonly

        daemon = self._daemon
        self._db = open_index_readonly(daemon.paths.index) if daemon.index is not None else None
        annotations = Annotations(daemon.paths.annotations).read()
        return Look(self._db, annotations, self._find_synced, daemon.is_private, daemon.now_s())

    def __exit__(self, *exc: object) -> None:
        if self._db is not None:
            self._db.close()

    def _find_synced(self, sessions: Iterable[str] | None, not_among: "Callable[[], set[str]] | None") -> "Synced":
        from agent.daemon.status.report import list_streams, list_streams_of
        from agent.sessions.search.session_rows import Synced

        indexed = not_among() if not_among is not None else set()

        def read(engine: Any) -> Synced:
            if sessions is None:
                return Synced(list_streams(engine), dict(engine.facts.known))
            more = {key.session_id for key in engine.tracks} - indexed if not_among is not None else set()
            named = [*sessions, *sorted(more)]
            return Synced(list_streams_of(engine, named), {one: engine.facts.of(one) for one in named})

        return self._daemon.ask(read)


def _rendered(lines: Iterable[Any], facts: Mapping[str, Facts]) -> dict[str, Any]:
    import msgspec

    return {
        "streams": [msgspec.to_builtins(line) for line in lines],
        "facts": {session: list(one) for session, one in facts.items()},
    }


def _wanted(params: Mapping[str, Any]) -> Wanted:
    return Wanted(params.get("project", ""), params.get("provider", ""), params.get("model", ""), params.get("since_s"))
