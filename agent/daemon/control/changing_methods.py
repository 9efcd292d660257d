"""`sessions.delete`, `sessions.compact`, `sessions.reset` and `sessions.compaction.*` on the socket. Each request is
worked on in a thread of its own, so a large transcript holds nobody up."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.core.delivery.lifecycle import UNSENT
from agent.core.transcripts.session import Observation, StreamId
from agent.daemon.process.supervisor import Daemon
from agent.delivery.state.inputs import DeletedThere
from agent.errors import UsageError
from agent.system.control_socket import Method

if TYPE_CHECKING:
    from agent.sessions.transfer.changing import Changed, Subject


def changing_methods(daemon: Daemon) -> dict[str, Method]:
    return {name: partial(answer, daemon) for name, answer in _ANSWERS.items()}


# What does it is imported when somebody asks: hardly anybody does.


def _list(daemon: Daemon, params: Mapping[str, Any]) -> Any:
    from agent.sessions.transfer.changing import list_checkpoints

    return {"checkpoints": [one._asdict() for one in list_checkpoints(_subject(daemon, params))]}


def _get(daemon: Daemon, params: Mapping[str, Any]) -> Any:
    from agent.sessions.transfer.changing import get_checkpoint

    found, summary = get_checkpoint(_subject(daemon, params), params["checkpoint"])
    return {"checkpoint": found._asdict(), "summary": summary}


def _branch(daemon: Daemon, params: Mapping[str, Any]) -> Any:
    from agent.sessions.transfer.changing import branch

    return _done(daemon, branch(_subject(daemon, params), params["checkpoint"]))


def _restore(daemon: Daemon, params: Mapping[str, Any]) -> Any:
    from agent.sessions.transfer.changing import restore

    return _done(daemon, restore(_subject(daemon, params), params["checkpoint"]))


def _compact(daemon: Daemon, params: Mapping[str, Any]) -> Any:
    from agent.sessions.transfer.changing import compact

    return _done(daemon, compact(_subject(daemon, params), params["keep"]))


def _reset(daemon: Daemon, params: Mapping[str, Any]) -> Any:
    from agent.sessions.transfer.changing import reset

    return _done(daemon, reset(_subject(daemon, params)))


def _delete(daemon: Daemon, params: Mapping[str, Any]) -> Any:
    from agent.sessions.transfer.changing import refuse_live, take_away
    from agent.sessions.transfer.deleting import DELETED, delete_there

    subject, transcript = _subject(daemon, params), params.get("transcript", False)
    if transcript:
        refuse_live(subject, None, unsent_too=False)
    told = delete_there(daemon.senders(), subject.session_id)
    gone = frozenset(one.destination for one in told if one.outcome == DELETED)
    daemon.take_in(DeletedThere(subject.session_id, gone))
    archives = [one.archive for one in take_away(subject)] if transcript else []
    daemon.request_scan()
    return {"session": subject.session_id, "servers": [one._asdict() for one in told], "archives": archives}


_ANSWERS: Mapping[str, Callable[[Daemon, Mapping[str, Any]], Any]] = {
    "sessions.delete": _delete,
    "sessions.compact": _compact,
    "sessions.reset": _reset,
    "sessions.compaction.list": _list,
    "sessions.compaction.get": _get,
    "sessions.compaction.branch": _branch,
    "sessions.compaction.restore": _restore,
}


def _done(daemon: Daemon, changed: "Changed") -> Any:
    daemon.request_scan()
    return changed._asdict()


def _subject(daemon: Daemon, params: Mapping[str, Any]) -> "Subject":
    """By its whole id, as the engine knows its files. Raises UsageError."""
    from agent.sessions.transfer.changing import Subject

    session_id: str = params["session"]

    def look(engine: Any) -> Any:
        files: dict[StreamId, Observation] = {}
        unsent = False
        for key, track in engine.tracks.items():
            if key.session_id == session_id and track.state != "gone":
                seen = (track.provider, track.path, track.size, track.mtime_ns, 0, track.inode)
                files.setdefault(key.stream, Observation(key.stream, *seen))
                unsent = unsent or track.state in UNSENT
        return files, unsent

    asked: Callable[[Any], Any] = look
    files, unsent = daemon.ask(asked)
    if not files:
        raise UsageError(f"no session here has the id {session_id[:80]!a}", hint="transcriptd sessions list")
    found = sorted(files.values(), key=lambda one: one.stream.subpath)
    return Subject(session_id, found[0].provider, found, unsent)
