"""What the control socket tells of sessions while they happen: changes of the list, what is added to one, its last
events, and which runs are on. Transcripts are read here by the thread of the request or by that of the runs, in pieces.

All of it is for this machine's user: private sessions are there too, marked. `events.subscribe` has none of it.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.core.transcripts.session import StreamId, is_conversation, is_side_file
from agent.daemon.status.report import resolve_sessions
from agent.delivery.state.tracks import streams_of
from agent.errors import DiskError, UsageError
from agent.providers import PROVIDERS
from agent.sessions.live.message_feed import Followed, Since, run_json
from agent.system.control_socket import Method, Subscribed
from agent.system.files import reading as files

if TYPE_CHECKING:
    from agent.core.sessions.normalised import Event
    from agent.daemon.process.supervisor import Daemon
    from agent.delivery.engine.engine import Engine

MOST_ANSWER_CHARACTERS = 4 << 20
"""Of all texts of one answer; the oldest events are left out beyond it."""

_LINES_AN_ITEM = 12
"""Lines that are looked at for one message of a preview: results of tools stand between."""

_PREVIEW_BYTES = 1 << 20


class _Found(NamedTuple):
    """`paths`: subpath → file, without side files."""

    session_id: str
    provider: str
    paths: Mapping[str, str]
    is_private: bool
    project: str
    title: str


def following_methods(daemon: "Daemon") -> Mapping[str, Method]:
    """Method → function from params to result."""

    def list_runs(_: Mapping[str, Any]) -> Any:
        return {"runs": [run_json(one) for one in daemon.live.list_runs()]}

    def subscribe_list(params: Mapping[str, Any]) -> Any:
        return Subscribed(*daemon.live.follow_list(*_place(params)))

    def subscribe_messages(params: Mapping[str, Any]) -> Any:
        from agent.sessions.read.tailing import Place

        found = _find(daemon, params["session"])
        subagents = params.get("subagents", False)
        places = {
            subpath: Place(path) for subpath, path in found.paths.items() if subagents or is_conversation(subpath)
        }
        since = Since(*_place(params), params.get("run", ""))
        result, feed = daemon.live.follow(Followed(found.session_id, found.provider, places, subagents), since)
        return Subscribed({**result, "provider": found.provider, "private": found.is_private}, feed)

    def get(params: Mapping[str, Any]) -> Any:
        found = _find(daemon, params["session"])
        last = params.get("last", 20)
        run = daemon.live.run_of(found.session_id)
        return {**_describe(found), "run": None if run is None else run_json(run), "events": _last_events(found, last)}

    def preview(params: Mapping[str, Any]) -> Any:
        items, characters = params.get("items", 3), params.get("characters", 200)
        return {"sessions": [_preview(daemon, one, items, characters) for one in dict.fromkeys(params["sessions"])]}

    return {
        "runs.list": list_runs,
        "sessions.get": get,
        "sessions.preview": preview,
        "sessions.subscribe": subscribe_list,
        "messages.subscribe": subscribe_messages,
    }


def _place(params: Mapping[str, Any]) -> tuple[int | None, str]:
    return params.get("after_seq"), params.get("epoch", "")


def _find(daemon: "Daemon", words: str) -> _Found:
    """The session with that id, or the one whose id begins so."""

    def ask(engine: "Engine") -> tuple[list[str], _Found | None]:
        ids = [words] if engine.telling.knows(words) else _beginning(engine, words)
        return ids, _look_up(engine, ids[0]) if len(ids) == 1 else None

    ids, found = daemon.ask(ask)
    if found is None:
        what = f"no session here is called {words[:64]!r}" if not ids else f"several sessions begin with {words[:64]!r}"
        raise UsageError(what, hint="transcriptd sessions list")
    return found


def _beginning(engine: "Engine", words: str) -> list[str]:
    return [one["session_id"] for one in resolve_sessions(engine, words, 2)] if words else []


def _look_up(engine: "Engine", session_id: str) -> _Found | None:
    streams = list(streams_of(session_id, engine.gates, engine.subpaths, engine.tracks))
    paths: dict[str, str] = {}
    for key, track in streams:
        if not is_side_file(key.subpath):
            paths.setdefault(key.subpath, track.path)
    if not streams:
        return None
    facts = engine.facts.of(session_id)
    is_private = session_id in engine.private.why
    return _Found(session_id, streams[0][1].provider, paths, is_private, facts.project, facts.shown_title())


def _describe(found: _Found) -> dict[str, Any]:
    return {
        "session_id": found.session_id,
        "provider": found.provider,
        "project": found.project,
        "title": found.title,
        "private": found.is_private,
    }


def _last_events(found: _Found, last: int) -> list[dict[str, Any]]:
    from agent.sessions.read.tailing import event_json

    events: list[dict[str, Any]] = []
    left = MOST_ANSWER_CHARACTERS
    for event, offset in reversed(list(_read(found, last))):
        value = event_json(event)
        left -= sum(len(one) for one in value.values() if isinstance(one, str))
        if left < 0 and events:
            break
        events.append({**value, "offset": offset})
    return events[::-1]


def _preview(daemon: "Daemon", words: str, items: int, characters: int) -> dict[str, Any]:
    """What was said last, without tools and their results. One that can't be found or read says why."""
    from agent.core.sessions.normalised import Kind
    from agent.sessions.read.tailing import event_json

    try:
        found = _find(daemon, words)
        said = [
            event
            for event, _ in _read(found, items * _LINES_AN_ITEM, _PREVIEW_BYTES)
            if event.kind in (Kind.USER_MESSAGE, Kind.ASSISTANT_MESSAGE) and event.text
        ]
    except (UsageError, DiskError) as exc:
        return {"session_id": words, "error": exc.message}
    shown = [event_json(event, characters) for event in said[-items:]]
    kept = ("kind", "at_s", "text", "cut")
    return {**_describe(found), "events": [{key: one[key] for key in kept if key in one} for one in shown]}


def _read(found: _Found, lines: int, most_bytes: int = 8 << 20) -> "Iterable[tuple[Event, int]]":
    from agent.sessions.read.tailing import read_last_events

    events: list[tuple[Event, int]] = []
    for subpath in sorted(filter(is_conversation, found.paths), reverse=True):
        reader = PROVIDERS[found.provider].reader(StreamId(found.session_id, subpath))
        with files.open_file(found.paths[subpath]) as file:
            events = [*read_last_events(reader, file, lines - len(events), most_bytes), *events]
        if len(events) >= lines:
            break
    return events
