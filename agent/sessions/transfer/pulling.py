"""The way back: a session from a server to this machine, so that its coding agent goes on with it.

Everything comes together beside the target first, is proven there, and is judged by the private list. Then the agent's
state is told that the server has it, then the files get their places, the main transcript last. So whoever looks sees
either nothing or a whole session, and a file that appears is no news to the scanner.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agent.core.delivery.lifecycle import State
from agent.core.redaction.redactor import Redactor
from agent.core.transcripts.identity import START, Cursor
from agent.core.transcripts.session import FILES, Facts, Head, Observation, Provider, StreamId, is_side_file
from agent.core.transcripts.sources import origin_of
from agent.core.transcripts.transcript import walk_entries
from agent.core.wire import SideFile, StreamHead
from agent.delivery.base.reading import marker_at
from agent.delivery.discovery.scanner import Root
from agent.delivery.privacy.permits import WHOLE, Guard
from agent.delivery.push.verifier import Outcome, Subject, Verdict, verify_base, verify_bulk, verify_file
from agent.errors import NotShared, RemoteProtocolError, UsageError
from agent.sessions.transfer.fetching import Fetched, Offer, Source, fetch_base, fetch_file, fetch_stream, peek
from agent.sessions.transfer.places import BY_PROJECT, choose_project, find_places, first_lines, read_folders
from agent.system.files import reading as files
from agent.system.files.landing import Arrival, Landing, Seen
from agent.system.state.state_db import TrackRow


class Pulled(NamedTuple):
    """One file of a session and what became of it: `outcome` is `placed`, `equal` or `would be placed`."""

    stream: StreamId
    path: str
    outcome: str
    entries: int
    size: int
    generation: str | None = None


class Report(NamedTuple):
    """`project`: the folder in which the session can be continued; empty where its agent does not ask for one."""

    session_id: str
    provider: str
    project: str
    files: tuple[Pulled, ...]
    notes: tuple[str, ...]


class Here(NamedTuple):
    """This machine. `files`: what lies here of the session. `known`: how far that was sent there. `tell(rows, facts)`
    lets the agent's state know what the server has, before the files are in their places; `untell` that they are
    not."""

    roots: Sequence[Root]
    files: Sequence[Observation]
    guard: Guard
    redactor: Redactor
    tell: Callable[[Sequence[TrackRow], Facts], None]
    untell: Callable[[Sequence[TrackRow]], None]
    known: Mapping[StreamId, Cursor] = {}
    tombstones: Mapping[StreamId, Mapping[int, int]] = {}


class Wish(NamedTuple):
    """`project`: the folder in which it shall be continued; empty for where it was."""

    destination: str
    project: str = ""
    dry_run: bool = False


class _Part(NamedTuple):
    """A stream or side file of the session, as the server tells of it; `row` of a base server's is None."""

    stream: StreamId
    row: StreamHead | SideFile | None

    @property
    def generation(self) -> str | None:
        return self.row.head.generation if isinstance(self.row, StreamHead) else None


class _Ready(NamedTuple):
    part: _Part
    fetched: Fetched
    arrival: Arrival
    seen: Seen


def pull(source: Source, offer: Offer, here: Here, wish: Wish) -> Report:
    """Raises UsageError where something here stands in its way or is private, RemoteError and ProtocolError for what
    the server does, DiskError."""
    return _Pull(source, offer, here, wish).run()


class _Pull:
    def __init__(self, source: Source, offer: Offer, here: Here, wish: Wish) -> None:
        self._source, self._offer, self._here, self._wish = source, offer, here, wish
        self._provider = _provider_of(offer, here)
        self._root = _root_for(here, self._provider)
        self._done: list[Pulled] = []
        self._lying: dict[StreamId, str] = {}
        """What lies here already, and somebody wants elsewhere."""
        self._notes: list[str] = []

    def run(self) -> Report:
        self._refuse_private((), Facts())
        missing = self._compare(_parts_of(self._offer))
        if self._offer.older:
            self._notes.append(f"the server keeps {self._offer.older} more generations of it: --generation UUID")
        project = ""
        if missing:
            missing = self._with_places(missing)
            project = self._rehearse(missing) if self._wish.dry_run else self._bring(missing)
        return Report(self._offer.session_id, self._provider.name, project, tuple(self._done), tuple(self._notes))

    def _bring(self, missing: list[_Part]) -> str:
        with Landing(self._root.path) as landing:
            ready = self._fetch_all(landing, missing)
            facts = self._facts(ready)
            project = choose_project(self._provider, self._wish.project, facts.project)
            self._refuse_private(ready, facts)
            first = {one.part.stream: self._first_lines(one) for one in ready}
            places = find_places(self._provider, project, self._folders(project), first)
            ready, places = self._take_out_lying(ready, places)
            for parts in places:
                landing.check(parts)
            rows = [self._row(one, parts) for one, parts in zip(ready, places, strict=True)]
            self._here.tell(rows, facts.recalled())
            self._put_all(landing, ready, places, rows, project)
        self._note(ready)
        return project

    # --- what is here already -----------------------------------------------------------------------------------

    def _compare(self, parts: list[_Part]) -> list[_Part]:
        """What is missing. Raises UsageError for what is here and differs: nothing of this machine is written over."""
        paths: dict[StreamId, str] = {}
        for one in self._here.files:
            paths.setdefault(one.stream, one.path)
        missing = []
        for part in parts:
            path = paths.get(part.stream)
            if path is None:
                missing.append(part)
                continue
            self._take_equal(part, path)
        return parts if self._goes_elsewhere(missing) else missing

    def _take_equal(self, part: _Part, path: str) -> None:
        """Raises UsageError where what is here is not what the server has."""
        verdict = self._judge(part, path)
        if verdict.outcome is not Outcome.EQUAL:
            raise _differs(path, verdict)
        self._done.append(Pulled(part.stream, path, "equal", verdict.entries, verdict.entry_bytes, part.generation))

    def _goes_elsewhere(self, missing: list[_Part]) -> bool:
        """Whether its coding agent looks for all of it in the folder of a project that was asked for, while a part of
        it without its main transcript may lie in another one."""
        is_wanted = self._wish.project and self._provider.name in BY_PROJECT
        if not is_wanted or not self._done or all(part.stream.subpath for part in missing):
            return False
        self._lying = {one.stream: one.path for one in self._done}
        self._done.clear()
        return True

    def _judge(self, part: _Part, path: str) -> Verdict:
        subject = Subject(part.stream, path, part.generation, self._here.known.get(part.stream))
        if part.row is None:
            return verify_base(self._source, path, part.stream)
        if isinstance(part.row, StreamHead):
            stones = self._here.tombstones.get(part.stream, {})
            return verify_bulk(subject, list(self._offer.streams), stones, self._here.redactor)
        return verify_file(self._source, subject, self._here.redactor, self._offer.owner)

    def _refuse_private(self, ready: Sequence[_Ready], facts: Facts) -> None:
        """A session that is private here would be deleted on the server as soon as it is found."""
        permit = self._here.guard.permit(self._offer.session_id, facts, self._provider.name)
        for one in ready:
            if not is_side_file(one.part.stream.subpath):
                permit.look(one.arrival.path, 0, WHOLE)
        try:
            permit.check()
        except NotShared as exc:
            if exc.certain or exc.blind:
                raise UsageError(f"it is private here: {exc.message}", hint="transcriptd private list") from exc
            if ready:
                self._notes.append(f"what is added to it here stays here: {exc.message}")

    # --- from the server ----------------------------------------------------------------------------------------

    def _with_places(self, missing: list[_Part]) -> list[_Part]:
        """Without copies of what stands beside the session: not every coding agent has a place for those."""
        placed = [
            part
            for part in missing
            if origin_of(part.stream.subpath) == part.stream.subpath
            or self._provider.place(part.stream, self._wish.project or "/", (), {}) is not None
        ]
        if left := len(missing) - len(placed):
            what = "1 copy stays" if left == 1 else f"{left:,} copies stay"
            self._notes.append(f"{what} on the server only: {self._provider.title} has no place for it here")
        return placed

    def _fetch_all(self, landing: Landing, missing: list[_Part]) -> list[_Ready]:
        known = sum(max(0, one.row.size) for one in missing if isinstance(one.row, SideFile))
        room = landing.room_bytes()
        if known > room:
            raise UsageError(f"its side files have {known:,} bytes, and {room:,} are free on this disk")
        found = []
        for part in missing:
            arrival = landing.begin()
            fetched = self._fetch(part, arrival)
            found.append(_Ready(part, fetched, arrival, arrival.end()))
        return found

    def _fetch(self, part: _Part, arrival: Arrival) -> Fetched:
        session_id, owner = self._offer.session_id, self._offer.owner
        if isinstance(part.row, StreamHead):
            return fetch_stream(self._source, session_id, part.row, owner, arrival)
        if isinstance(part.row, SideFile):
            return fetch_file(self._source, session_id, part.row, owner, arrival)
        return fetch_base(self._source, session_id, arrival)

    def _facts(self, ready: Sequence[_Ready]) -> Facts:
        """What its own lines say, else what the server was told."""
        paths = [one.arrival.path for one in ready if not one.part.stream.subpath]
        paths += [one.path for one in self._done if not one.stream.subpath]
        facts = Facts()
        for path in paths:
            data = b"".join(line + b"\n" for line in first_lines(path))
            facts = self._provider.read_facts(data, (), facts)
        return facts if facts.project else facts._replace(project=self._offer.meta.project)

    def _note(self, ready: Sequence[_Ready]) -> None:
        self._notes += [one.fetched.note for one in ready if one.fetched.note]
        secrets, stones = sum(one.fetched.secrets for one in ready), sum(one.fetched.stones for one in ready)
        if secrets:
            what = "1 secret was" if secrets == 1 else f"{secrets:,} secrets were"
            self._notes.append(f"{what} replaced before it left for the server; the file here has the marks as well")
        if stones:
            what = "1 entry was" if stones == 1 else f"{stones:,} entries were"
            self._notes.append(f"{what} refused by the server; a note stands in the place of each")
        if not self._offer.bulk:
            self._notes.append("this server proves nothing, and has no entries without a uuid and no subagents")

    # --- into its place -----------------------------------------------------------------------------------------

    def _take_out_lying(
        self, ready: list[_Ready], places: list[tuple[str, ...]]
    ) -> tuple[list[_Ready], list[tuple[str, ...]]]:
        """Without what lies in its place already."""
        left = []
        for one, parts in zip(ready, places, strict=True):
            path = os.path.join(self._root.path, *parts)
            if any((file.stream, file.path) == (one.part.stream, path) for file in self._here.files):
                self._take_equal(one.part, path)
            else:
                left.append((one, parts))
        other = sorted({path for path in self._lying.values() if path not in {one.path for one in self._done}})
        if other:
            self._notes.append(f"what was here of it stays where it is, as {other[0]}")
        return [one for one, _ in left], [parts for _, parts in left]

    def _put_marker(self, landing: Landing, parts: tuple[str, ...], project: str) -> None:
        """What says of a folder that it is the project's, where its coding agent would not look into it otherwise."""
        content, beside = self._provider.render_beside(project), self._provider.beside(parts)
        if content is None or beside is None or files.look_at(os.path.join(self._root.path, *beside)) is not None:
            return
        arrival = landing.begin()
        arrival.write(content)
        arrival.end()
        landing.put(arrival, beside)

    def _folders(self, project: str) -> Mapping[str, str]:
        """Where a part of it lies, the rest belongs, too."""
        beside = {self._root.parts(one.path)[0]: project for one in self._done if self._root.holds(one.path)}
        return beside or read_folders(self._root, project)

    @staticmethod
    def _first_lines(one: _Ready) -> list[bytes]:
        return [] if is_side_file(one.part.stream.subpath) else first_lines(one.arrival.path)

    def _rehearse(self, missing: list[_Part]) -> str:
        """Where it would go; no more of it is asked for than the first lines."""
        project = choose_project(self._provider, self._wish.project, self._offer.meta.project)
        first = {part.stream: self._peek(part) for part in missing}
        places = find_places(self._provider, project, self._folders(project), first)
        for part, parts in zip(missing, places, strict=True):
            head = part.row.head if isinstance(part.row, StreamHead) else Head()
            size = part.row.size if isinstance(part.row, SideFile) else 0
            path = os.path.join(self._root.path, *parts)
            self._done.append(Pulled(part.stream, path, "would be placed", head.entry_count, size, head.generation))
        return project

    def _peek(self, part: _Part) -> list[bytes]:
        if not isinstance(part.row, StreamHead):
            return []
        return peek(self._source, self._offer.session_id, part.row, self._offer.owner)

    def _row(self, one: _Ready, parts: tuple[str, ...]) -> TrackRow:
        """What the agent's state has to know so that nothing of it is sent again."""
        return TrackRow(
            self._wish.destination,
            one.part.stream,
            self._provider.name,
            os.path.join(self._root.path, *parts),
            one.seen.size,
            one.seen.mtime_ns,
            State.SYNCED,
            "",
            0,
            _cursor_of(one),
            one.seen.inode,
        )

    def _put_all(
        self,
        landing: Landing,
        ready: list[_Ready],
        places: list[tuple[str, ...]],
        rows: list[TrackRow],
        project: str,
    ) -> None:
        try:
            for one, parts in zip(ready, places, strict=True):
                self._put_marker(landing, parts, project)
                path = landing.put(one.arrival, parts)
                fetched, part = one.fetched, one.part
                self._done.append(Pulled(part.stream, path, "placed", fetched.entries, fetched.size, part.generation))
        except BaseException:
            landing.take_back()
            self._here.untell(rows)
            raise


def _provider_of(offer: Offer, here: Here) -> Provider:
    known = {root.provider.name: root.provider for root in here.roots}
    name = offer.meta.provider or (here.files[0].provider if here.files else "claude")
    if name not in known:
        raise UsageError(f"no coding agent called {name[:40]!a} is followed here", hint="transcriptd doctor")
    return known[name]


def _root_for(here: Here, provider: Provider) -> Root:
    """Where its files lie already, else the first folder of that coding agent."""
    roots = [root for root in here.roots if root.provider.name == provider.name]
    holding = (root for root in roots if any(root.holds(one.path) for one in here.files))
    return next(holding, roots[0])


def _parts_of(offer: Offer) -> list[_Part]:
    """Side files first, the main transcript last: whoever sees that finds the rest."""
    if not offer.bulk:
        return [_Part(StreamId(offer.session_id, ""), None)]
    found = [_Part(StreamId(offer.session_id, FILES + one.path), one) for one in offer.files]
    found += [_Part(StreamId(offer.session_id, row.subpath), row) for row in offer.streams]
    if not found:
        raise UsageError("the server has nothing of this session but its name", hint="transcriptd pull --list")
    if any(isinstance(one.row, StreamHead) and is_side_file(one.stream.subpath) for one in found):
        raise RemoteProtocolError("the server calls a transcript as a side file is called")
    if len({one.stream for one in found}) < len(found):
        raise RemoteProtocolError("the server tells of one file twice")
    return sorted(found, key=lambda one: (one.stream.subpath == "", not is_side_file(one.stream.subpath)))


def _differs(path: str, verdict: Verdict) -> UsageError:
    counts = f"{verdict.entries:,} entries here, {verdict.on_server:,} there"
    if verdict.outcome is Outcome.BEHIND:
        return UsageError(f"{path} goes on where the server's copy ends: {counts}", hint="transcriptd push")
    if is_side_file(verdict.stream.subpath):
        return UsageError(f"{path} is here, with other content", hint="move it away, then pull again")
    hint = "to take the server's copy, move the file away, then pull again"
    return UsageError(f"{path} is here, and is not the server's copy: {counts}", hint=hint)


def _cursor_of(one: _Ready) -> Cursor:
    """Where a push goes on behind what came."""
    row, fetched, path = one.part.row, one.fetched, one.arrival.path
    if isinstance(row, SideFile):
        return START._replace(offset=fetched.size, marker=fetched.chain[:16])
    with files.open_file(path) as file:
        marker = marker_at(file, fetched.size)
    count = fetched.entries
    if isinstance(row, StreamHead):
        return Cursor(fetched.size, count, row.head.last_uuid, fetched.chain, marker, row.head.generation, count)
    sent, last = 0, None
    with files.open_lines(path) as source:
        for mark in walk_entries(source, *one.part.stream):
            if mark.has_uuid:
                sent, last = sent + 1, mark.entry_id
    return Cursor(fetched.size, count, last, fetched.chain, marker, None, sent)
