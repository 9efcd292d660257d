"""What may happen in a story: a table with a row for each thing. To have something new happen, add a row."""

import random
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from agent.core.delivery.lifecycle import PauseReason
from agent.core.transcripts.session import StreamId
from agent.core.transcripts.transcript import split_lines
from agent.core.wire import delete_request
from agent.delivery.state.inputs import Restore, Retry, Woken
from agent.delivery.state.pausing import HeldOff, PauseAsked, ResumeAsked
from tests.simulation import badfiles
from tests.simulation.transcripts import PLACES, Place, beside, other_place
from tests.simulation.wire import Crash

if TYPE_CHECKING:
    from tests.simulation.story import Story

LONG_BYTES = 6000
YEAR_1970_S, YEAR_2100_S = 3600.0, 4_102_444_800.0


class Operation(NamedTuple):
    """`weight`: how often, beside the others; from 3 on it happens in every story. `sudden`: also in the middle of a
    look or a push. `rewrites`: only where files are not append-only."""

    name: str
    weight: float
    act: "Callable[[Story], object]"
    sudden: bool = False
    rewrites: bool = False


# --- coding agents, and whoever else touches their files -----------------------------------------------------------


def _any_place(story: "Story") -> tuple[str, Place] | None:
    """A file that somebody writes to; one that was deleted comes back only in stories with rewrites."""
    written = story.transcripts.versions
    paths = [(story.transcripts.path(place), place) for place in PLACES]
    if not story.rewrites:
        paths = [one for one in paths if one[0] in story.transcripts.files or one[1].stream not in written]
    return story.rng.choice(paths) if paths else None


def any_file(story: "Story") -> tuple[str, Place] | None:
    files = story.transcripts.files
    if not files:
        return None
    path = story.rng.choice(list(files))
    return path, files[path][0]


def lines_for(story: "Story", path: str, place: Place) -> bytes:
    session_id = place.stream.session_id
    if place.flat and path not in story.transcripts.files:
        return story.writer.entry(session_id)
    return story.writer.lines(session_id, story.rng.randrange(1, 6))


def append(story: "Story") -> None:
    if found := _any_place(story):
        story.transcripts.append(*found, lines_for(story, *found))


def append_part(story: "Story") -> None:
    found = _any_place(story)
    if found and not found[1].flat:
        data = lines_for(story, *found) + story.writer.entry(found[1].stream.session_id)
        story.transcripts.append_part(*found, data)


def finish_part(story: "Story") -> None:
    if found := any_file(story):
        story.transcripts.finish(*found)


def touch(story: "Story") -> None:
    if found := any_file(story):
        story.transcripts.touch(found[0], int(story.clock.now_s() * 1e9))


def side_file(story: "Story") -> None:
    if found := any_file(story):
        story.transcripts.write_beside(beside(found[0]), story.rng.randbytes(20))


def delete(story: "Story") -> None:
    if found := any_file(story):
        story.transcripts.delete(found[0])


def move(story: "Story") -> None:
    found = any_file(story)
    if found and other_place(found[0]) not in story.transcripts.files:
        story.transcripts.move(found[0], other_place(found[0]))


def copy(story: "Story") -> None:
    found = any_file(story)
    if found and other_place(found[0]) not in story.transcripts.files:
        story.transcripts.copy(found[0], other_place(found[0]))


def replace_same(story: "Story") -> None:
    if found := any_file(story):
        story.transcripts.replace(found[0], bytes(story.transcripts.files[found[0]][1].content))


def replace_other(story: "Story") -> None:
    if found := any_file(story):
        story.transcripts.replace(found[0], _other_content(story, *found))


def rewrite_in_place(story: "Story") -> None:
    if found := any_file(story):
        _note_torn(story, found[0])
        story.transcripts.rewrite_in_place(found[0], _other_content(story, *found))


def _other_content(story: "Story", path: str, place: Place) -> bytes:
    """Some of the old lines, and others behind them."""
    lines = story.transcripts.files[path][1].lines()
    kept = lines[: story.rng.randrange(len(lines) + 1)]
    if place.flat:
        kept = kept or lines[:1]
    return b"".join(line + b"\n" for line in kept) + lines_for(story, path, place)


def truncate(story: "Story") -> None:
    found = any_file(story)
    if found and not found[1].flat:
        size = len(story.transcripts.files[found[0]][1].content)
        _note_torn(story, found[0])
        story.transcripts.truncate(found[0], story.rng.randrange(size + 1))


def scrub(story: "Story") -> None:
    found = any_file(story)
    if found and not found[1].flat:
        content = story.transcripts.files[found[0]][1].content
        at = story.rng.randrange(len(content)) if content else 0
        if content and content[at] not in b"\n#":
            _note_torn(story, found[0])
            story.transcripts.scrub(found[0], at, b"#")


def _note_torn(story: "Story", path: str) -> None:
    """A line too long for one read is read twice, and no look afterwards proves that it was the same line."""
    if story.is_sudden and story.server.bulk and story.server.bulk.max_bytes < LONG_BYTES:
        story.transcripts.note_torn(path)


def rewrite_unseen(story: "Story") -> None:
    found = any_file(story)
    if found and not found[1].flat:
        content = bytes(story.transcripts.files[found[0]][1].content)
        story.transcripts.rewrite_in_place(found[0], content.replace(b"w", b"v"), same_time=True)


# --- the agent ------------------------------------------------------------------------------------------------------


def take_hint(story: "Story") -> None:
    if story.hints:
        path = story.hints.pop(story.rng.randrange(len(story.hints)))
        story.process.scanner.look(path)


def lose_hints(story: "Story") -> None:
    story.hints.clear()


def scan(story: "Story") -> None:
    story.process.scan()


def look_again(story: "Story") -> None:
    story.process.scanner.look_again()


def take_event(story: "Story") -> None:
    story.process.take_event()


def run_task(story: "Story") -> None:
    if not story.process.run_task():
        story.process.wait()


def short_time(story: "Story") -> None:
    story.process.pass_time(story.rng.random())


def long_time(story: "Story") -> None:
    story.process.pass_time(story.rng.choice((10.0, 31.0, 301.0, 901.0)))


def crash(story: "Story") -> None:
    raise Crash


def stop(story: "Story") -> None:
    story.process.stop()
    story.boot()


def retry(story: "Story") -> None:
    story.process.inbox.append(Retry())


# --- its state ------------------------------------------------------------------------------------------------------


def cut_power(story: "Story") -> None:
    story.log(story.medium.cut_power(story.rng))
    raise Crash


def lie(story: "Story") -> None:
    story.has_lost_state = True
    story.medium.lies = not story.medium.lies


def fill_disk(story: "Story") -> None:
    story.has_lost_state = True
    story.medium.is_full = True


def empty_disk(story: "Story") -> None:
    story.medium.is_full = False


def damage(story: "Story") -> None:
    story.medium.is_damaged = True
    raise Crash


def roll_back(story: "Story") -> None:
    story.has_lost_state = True
    story.log(story.medium.roll_back(story.rng))
    raise Crash


# --- the disk -------------------------------------------------------------------------------------------------------


def spoil_file(story: "Story") -> None:
    if found := any_file(story):
        story.files.faults[found[0]] = story.rng.choice(badfiles.FAULTS)


def mend_files(story: "Story") -> None:
    story.files.faults.clear()
    story.files.out_of_descriptors = False


def use_descriptors_up(story: "Story") -> None:
    story.files.out_of_descriptors = True


# --- the way, and the server ----------------------------------------------------------------------------------------


def cut_wire(story: "Story") -> None:
    story.wire.is_cut = True


def mend_wire(story: "Story") -> None:
    story.wire.is_cut = False


def change_trouble(story: "Story") -> None:
    story.wire.trouble = story.rng.choice((0.0, 0.1, 0.3, 0.6))


def revoke_token(story: "Story") -> None:
    story.wire.is_locked = True


def give_token(story: "Story") -> None:
    story.wire.is_locked = False
    story.process.inbox.append(Retry())


def refuse_session(story: "Story") -> None:
    session_id = story.rng.choice(PLACES).stream.session_id
    story.there.session_statuses[session_id] = story.rng.choice((403, 413, 422, 400, 500, 503, 429))


def accept_sessions(story: "Story") -> None:
    story.there.session_statuses.clear()


def delete_on_server(story: "Story") -> None:
    story.there.session_statuses[story.rng.choice(PLACES).stream.session_id] = 410


def poison(story: "Story") -> None:
    """From now on the server can't stand one of the entries that were written already."""
    if found := any_file(story):
        lines = [line for line in story.transcripts.files[found[0]][1].lines() if len(line) > 40]
        if lines:
            story.there.poison[story.rng.choice(lines)] = story.rng.choice((400, 413, 422))


NEVER_S = 30.0
MOST_REQUESTS = 150
"""Of all streams together, to a server that never agrees, within that time: it was 686 for one of them once."""


def never_agree(story: "Story") -> None:
    """For a while the server answers each append with 409, whatever it was told. Nobody asks it without a pause."""
    story.server.contradicts = True
    until, before = story.clock.mono_s + NEVER_S, story.wire.sent
    while story.clock.mono_s < until:
        if not (story.process.take_event() or story.process.run_task() or story.process.wait()):
            break
        asked = story.wire.sent - before
        assert asked <= MOST_REQUESTS, f"{asked} requests in {NEVER_S:.0f} s to a server that never agrees"


def agree(story: "Story") -> None:
    story.server.contradicts = False


def back_up(story: "Story") -> None:
    story.there.backups.append(story.server.copy())


def set_back(story: "Story") -> None:
    story.server.set_back(story.rng.choice(story.there.backups))


def write_as_another(story: "Story") -> None:
    stream = _any_stored(story)
    if stream is None:
        return
    lines = split_lines(story.writer.entry(stream.session_id))
    story.there.foreign.update(lines)
    story.there.diverged.add(stream)
    story.server.write_as_another(stream, lines)


def send_ahead(story: "Story") -> None:
    """Another agent with the same file was faster."""
    stream = _any_stored(story)
    current = story.server.current(stream) if stream else None
    if stream is None or current is None or not story.server.bulk:
        return
    version = story.transcripts.versions[stream][-1]
    lines = version.lines()
    if lines[: len(current.lines)] == current.lines and len(lines) > len(current.lines):
        story.server.write_as_another(stream, lines[len(current.lines) :][: story.rng.randrange(1, 4)])
        story.there.is_led = True


def _any_stored(story: "Story") -> StreamId | None:
    stream = story.rng.choice(PLACES).stream
    return stream if story.server.current(stream) is not None else None


# --- time -----------------------------------------------------------------------------------------------------------


def jump(story: "Story") -> None:
    now_s = story.clock.wall_s
    story.clock.wall_s = story.rng.choice((now_s + 3600, now_s - 3600, YEAR_1970_S, YEAR_2100_S, 1_767_600_000.0))
    _wake(story)


def sleep(story: "Story") -> None:
    """The lid is closed: the monotonic clock stands still."""
    story.clock.wall_s += story.rng.choice((60.0, 3600.0, 86_400.0))
    _wake(story)


def _wake(story: "Story") -> None:
    """The daemon compares both clocks every few seconds; and may be stopped before it does."""
    if story.rng.random() < 0.8:
        story.process.inbox.append(Woken())
        story.process.scan()


TABLE = (
    Operation("append", 20, append, sudden=True),
    Operation("append part", 5, append_part, sudden=True),
    Operation("finish part", 5, finish_part, sudden=True),
    Operation("touch", 0.5, touch, sudden=True),
    Operation("side file", 0.5, side_file),
    Operation("delete", 0.4, delete, sudden=True),
    Operation("move", 0.6, move, sudden=True),
    Operation("replace by the same", 0.6, replace_same, sudden=True),
    Operation("copy", 0.5, copy, rewrites=True),
    Operation("replace by another", 1, replace_other, sudden=True, rewrites=True),
    Operation("rewrite in place", 1, rewrite_in_place, sudden=True, rewrites=True),
    Operation("truncate", 1, truncate, sudden=True, rewrites=True),
    Operation("scrub", 0.5, scrub, sudden=True, rewrites=True),
    Operation("rewrite unseen", 0.3, rewrite_unseen, rewrites=True),
    Operation("hint", 15, take_hint, sudden=True),
    Operation("lose hints", 1, lose_hints),
    Operation("scan", 3, scan, sudden=True),
    Operation("look again", 1, look_again),
    Operation("event", 25, take_event, sudden=True),
    Operation("task", 30, run_task, sudden=True),
    Operation("short time", 6, short_time),
    Operation("long time", 1.5, long_time),
    Operation("crash", 1, crash, sudden=True),
    Operation("stop", 0.4, stop),
    Operation("retry", 0.4, retry),
    Operation("cut power", 0.4, cut_power, sudden=True),
    Operation("lying drive", 0.5, lie),
    Operation("disk full", 0.4, fill_disk, sudden=True),
    Operation("disk has room", 1, empty_disk),
    Operation("damage state", 0.2, damage),
    Operation("roll state back", 0.2, roll_back),
    Operation("spoil file", 0.6, spoil_file, sudden=True),
    Operation("no descriptors", 0.2, use_descriptors_up),
    Operation("mend files", 1.5, mend_files),
    Operation("cut wire", 0.4, cut_wire, sudden=True),
    Operation("mend wire", 1.5, mend_wire),
    Operation("change trouble", 0.3, change_trouble),
    Operation("revoke token", 0.3, revoke_token),
    Operation("give token", 1, give_token),
    Operation("refuse session", 0.4, refuse_session),
    Operation("accept sessions", 1, accept_sessions),
    Operation("delete on server", 0.1, delete_on_server),
    Operation("poison", 0.3, poison),
    Operation("server never agrees", 0.2, never_agree),
    Operation("server agrees", 1, agree),
    Operation("back up", 0.8, back_up),
    Operation("set server back", 0.2, set_back),
    Operation("other writer", 0.2, write_as_another, rewrites=True),
    Operation("other is faster", 0.4, send_ahead, sudden=True),
    Operation("clock jumps", 0.4, jump, sudden=True),
    Operation("sleep", 0.4, sleep),
)
ALWAYS = 3


class Table:
    """The operations of one story, to be drawn by their weights."""

    def __init__(self, operations: Sequence[Operation], weights: Sequence[float]) -> None:
        self._operations = operations
        self._sums = list(accumulate(weights))
        sudden = [(one, weight) for one, weight in zip(operations, weights, strict=True) if one.sudden]
        self._sudden = [one for one, _ in sudden]
        self._sudden_sums = list(accumulate(weight for _, weight in sudden))

    def draw(self, rng: random.Random) -> Operation:
        return self._operations[bisect(self._sums, rng.random() * self._sums[-1])]

    def draw_sudden(self, rng: random.Random) -> Operation:
        return self._sudden[bisect(self._sudden_sums, rng.random() * self._sudden_sums[-1])]


# --- what is private ------------------------------------------------------------------------------------------------


def mark_private(story: "Story") -> None:
    session_id = story.rng.choice(PLACES).stream.session_id
    story.rules.sessions.add(session_id)
    story.ever_private.add(session_id)


def share_again(story: "Story") -> None:
    story.rules.sessions.discard(story.rng.choice(PLACES).stream.session_id)


def spoil_list(story: "Story") -> None:
    story.rules.blind = "the list can't be read"


def mend_list(story: "Story") -> None:
    story.rules.blind = ""


def delete_there(story: "Story") -> None:
    """Somebody deletes a session on the server, with another agent or a browser."""
    session_id = story.rng.choice(PLACES).stream.session_id
    if story.server.bulk:
        story.wire.server.send(delete_request(session_id))  # a twin has to hear of it as well
        story.wire.ever_deleted.add(session_id)
        story.wire.deleted.update(place.stream for place in PLACES if place.stream.session_id == session_id)


def restore(story: "Story") -> None:
    session_id = story.rng.choice(PLACES).stream.session_id
    story.process.inbox.append(Restore(frozenset({session_id})))
    for there in story.destinations.values():
        there.wire.user_wants_back(session_id)


PRIVATE_TABLE = (
    Operation("mark private", 4, mark_private),
    Operation("share again", 2, share_again),
    Operation("spoil the private list", 0.5, spoil_list),
    Operation("mend the private list", 2, mend_list),
    Operation("delete there", 0.2, delete_there),
    Operation("restore", 0.5, restore),
)
"""The same for stories of what is private."""


RULES_CHANGE = PRIVATE_TABLE[:4]
"""Those that others do, and that come in the middle of a look or a push."""


def draw_rules_change(rng: random.Random) -> Operation:
    return rng.choices(RULES_CHANGE, [one.weight for one in RULES_CHANGE])[0]


def draw_private(rng: random.Random) -> Operation:
    return rng.choices(PRIVATE_TABLE, [one.weight for one in PRIVATE_TABLE])[0]


# --- pauses ---------------------------------------------------------------------------------------------------------


def pause(story: "Story") -> None:
    story.process.inbox.append(PauseAsked())


def pause_for_a_while(story: "Story") -> None:
    story.process.inbox.append(PauseAsked(60.0))


def resume(story: "Story") -> None:
    story.process.inbox.append(ResumeAsked())


def hold_off(story: "Story") -> None:
    story.process.inbox.append(HeldOff(PauseReason.METERED))


def have_nothing_against_it(story: "Story") -> None:
    story.process.inbox.append(HeldOff(""))


PAUSE_TABLE = (
    Operation("pause", 1, pause),
    Operation("pause for a while", 2, pause_for_a_while),
    Operation("resume", 3, resume),
    Operation("hold off", 1, hold_off),
    Operation("have nothing against it", 2, have_nothing_against_it),
)
"""The same for stories in which the agent is told to rest."""


def draw_pause(rng: random.Random) -> Operation:
    return rng.choices(PAUSE_TABLE, [one.weight for one in PAUSE_TABLE])[0]


def draw_table(story: "Story") -> Table:
    """Which operations happen in this story, and how often."""
    chosen: list[Operation] = []
    weights: list[float] = []
    for one in TABLE:
        factor = story.rng.choice((0, 0, 1, 1, 3)) if one.weight < ALWAYS else story.rng.choice((0.5, 1, 2))
        if factor and (story.rewrites or not one.rewrites):
            chosen.append(one)
            weights.append(one.weight * factor)
    return Table(chosen, weights)
