"""Finds where a server's copy of a stream stands in the file, by content. Where it stands nowhere, a bulk server is
asked to begin a new generation: the old one stays readable, and nothing is mixed."""

from collections.abc import Iterator

from agent.core.transcripts.identity import (
    BEGINNING,
    START,
    BasePlaces,
    Cursor,
    Place,
    Survey,
    find_base_places,
    place_behind,
    stored_prefix,
)
from agent.core.transcripts.session import Head
from agent.core.transcripts.transcript import Cleaner, EntryMark, PieceSource, walk_entries
from agent.core.wire import (
    Accepted,
    NeedsLogin,
    Reply,
    StreamHead,
    Unavailable,
    decide_generation_reply,
    generation_request,
    head_request,
    loglines_request,
    parse_loglines,
    parse_streams,
    streams_request,
)
from agent.delivery.base.reading import marker_at
from agent.delivery.base.world import Files
from agent.delivery.push.asking import Asker, read_head
from agent.delivery.state.tasks import How, Realigned, RealignFailed, RealignTask

LOGLINES_LIMIT_BYTES = 256 << 20
"""A base server tells its head only with the whole session around it."""


class Realigner:
    """`cleaner`: what each line goes through before it travels."""

    def __init__(self, asker: Asker, files: Files, cleaner: Cleaner) -> None:
        self._asker = asker
        self._files = files
        self._cleaner = cleaner

    def realign(self, task: RealignTask) -> Realigned | RealignFailed:
        """Raises DiskError."""
        found = self._realign_bulk(task) if task.bulk else self._realign_base(task)
        return found if isinstance(found, Realigned) else RealignFailed(task.key, found)

    # --- bulk servers: equal chain hashes prove equal content --------------------------------------------------

    def _realign_bulk(self, task: RealignTask) -> Realigned | Reply:
        if task.head is not None:
            survey = self._survey(task, [task.head])
            if survey.best is not None:
                return self._stand_at(task, *survey.best)
        asked = streams_request(task.key.session_id)
        streams = self._asker.fetch(task.key.destination, asked, parse_streams, task.leave.granted)
        if not isinstance(streams, list):
            return streams
        rows = [row for row in streams if row.subpath == task.key.subpath]
        if not rows:
            return Realigned(task.key, START, How.REALIGNED)
        survey = self._survey(task, [row.head for row in rows])
        if survey.best is not None and not (task.spare and _is_past(rows, survey.best[0])):
            return self._stand_at(task, *survey.best)
        if not task.spare:
            return Realigned(task.key, None, How.REFUSED)
        return self._begin_generation(task, rows, survey)

    def _survey(self, task: RealignTask, heads: list[Head]) -> Survey:
        with self._files.open_lines(task.path) as source:
            return Survey(self._walk(task, source), heads)

    def _stand_at(self, task: RealignTask, head: Head, place: Place, how: How = How.REALIGNED) -> Realigned:
        count, marker = place.entry_count, self._marker_at(task, place.offset)
        cursor = Cursor(
            place.offset, count, head.last_uuid, place.chain, marker, head.generation, count, place.raw_chain
        )
        return Realigned(task.key, cursor, how)

    def _begin_generation(self, task: RealignTask, rows: list[StreamHead], survey: Survey) -> Realigned | Reply:
        """Behind what the file has in common with a past history that it holds whole, or with the one that it was sent
        to, or else with the current one."""
        heads = [survey.best[0]] if survey.best is not None else []
        heads += [row.head for row in rows if row.head.generation == task.cursor.generation]
        heads += [row.head for row in rows if row.current]
        parent = next(iter(heads), rows[-1].head)
        shared = self._shared_place(task, parent, survey)
        if not isinstance(shared, Place):
            return shared
        stream = task.key.stream
        request = generation_request(stream, task.spare, parent.generation, shared.entry_count)
        reply = self._asker.ask(task.key.destination, request, decide_generation_reply, task.leave.granted)
        if not isinstance(reply, Accepted):
            return reply
        head = reply.head or Head()
        if (head.generation, head.entry_count, head.chain_hash) != (task.spare, *_proof(shared)):
            return Unavailable("the server's answers contradict each other")
        return self._stand_at(task, head, shared, How.NEW_GENERATION)

    def _shared_place(self, task: RealignTask, parent: Head, survey: Survey) -> Place | Reply:
        """The last place up to which file and `parent` are the same, by halving: a server tells the chain hash behind
        any number of entries. One that does not is believed to share nothing."""
        places = [BEGINNING, *survey.places_up_to(parent.entry_count)]
        low, high = 0, len(places)
        while high - low > 1:
            middle = (low + high) // 2
            asked = head_request(task.key.stream, parent.generation, places[middle].entry_count)
            head = self._asker.fetch(task.key.destination, asked, read_head, task.leave.granted)
            if not isinstance(head, Head):
                return head
            if (head.entry_count, head.chain_hash) == _proof(places[middle]):
                low = middle
            else:
                high = middle
        return places[low]

    # --- base servers: uuids in their order --------------------------------------------------------------------

    def _realign_base(self, task: RealignTask) -> Realigned | Reply:
        last = task.head.last_uuid if task.head else None
        places = self._base_places(task, last)
        if len(places.places) == 1:
            return self._go_on(task, places, None)
        asked = loglines_request(task.key.session_id, max_reply_bytes=LOGLINES_LIMIT_BYTES)
        answer = self._asker.fetch(task.key.destination, asked, parse_loglines, task.leave.granted)
        if not isinstance(answer, list) and (last is None or isinstance(answer, (Unavailable, NeedsLogin))):
            return answer
        lines = answer if isinstance(answer, list) else []
        stored = [one for one in lines if one is not None]
        if last is None and stored:
            last = stored[-1]
            places = self._base_places(task, last)
        if last is None:
            return Realigned(task.key, None if lines else START, How.REFUSED if lines else How.REALIGNED)
        if places.places:
            return self._go_on(task, places, len(stored) or None)
        return self._adopt(task, last, stored)

    def _base_places(self, task: RealignTask, last: str | None) -> BasePlaces:
        if last is None:
            return BasePlaces([])
        with self._files.open_lines(task.path) as source:
            return find_base_places(self._walk(task, source), last)

    def _walk(self, task: RealignTask, source: PieceSource) -> Iterator[EntryMark]:
        return walk_entries(
            source,
            *task.key.stream,
            tombstones=task.tombstones,
            with_tail=True,
            cleaner=self._cleaner,
            known=task.cursor,
        )

    def _go_on(self, task: RealignTask, places: BasePlaces, stored_count: int | None) -> Realigned:
        rank, mark = places.choose(task.cursor.offset, stored_count)
        return self._stand_base(task, place_behind(mark), rank, mark.entry_id, How.REALIGNED)

    def _adopt(self, task: RealignTask, last: str, stored: list[str]) -> Realigned:
        """The last entry is another writer's: go on behind it. What the server holds of the file is taken as sent;
        one that does not give a session back is believed to hold what was acknowledged."""
        if not stored and self._is_unchanged(task):
            return Realigned(task.key, task.cursor._replace(last_uuid=last), How.ADOPTED)
        with self._files.open_lines(task.path) as source:
            place, rank = stored_prefix(self._walk(task, source), stored)
        return self._stand_base(task, place, rank, last, How.ADOPTED)

    def _stand_base(self, task: RealignTask, place: Place, rank: int, last: str, how: How) -> Realigned:
        marker = self._marker_at(task, place.offset)
        cursor = Cursor(place.offset, place.entry_count, last, place.chain, marker, None, rank, place.raw_chain)
        return Realigned(task.key, cursor, how)

    def _is_unchanged(self, task: RealignTask) -> bool:
        """Whether what stands before the cursor is still what was sent."""
        with self._files.open_file(task.path) as file:
            return file.size() >= task.cursor.offset and marker_at(file, task.cursor.offset) == task.cursor.marker

    def _marker_at(self, task: RealignTask, offset: int) -> bytes:
        with self._files.open_file(task.path) as file:
            return marker_at(file, offset)


def _is_past(rows: list[StreamHead], head: Head) -> bool:
    """Whether another history was begun since: what is sent to this one does not make it the current one."""
    return any(row.current and row.head.generation != head.generation for row in rows)


def _proof(place: Place) -> tuple[int, str]:
    return place.entry_count, place.chain.hex()
