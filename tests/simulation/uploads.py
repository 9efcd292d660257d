"""A server that only takes whole files, beside the others: what came to be there, and when it was asked."""

import email.parser
import email.policy
import random
from typing import TYPE_CHECKING

from agent.core.delivery.lifecycle import State
from agent.core.transcripts.session import is_side_file
from agent.core.transcripts.sources import origin_of
from agent.core.wire import RawReply, Request
from agent.delivery.engine.errands import REST_S
from agent.delivery.push.filesender import upload_name
from agent.delivery.state.inputs import Input, Retry, Vanished
from agent.delivery.state.tasks import TrackKey, UploadTask
from agent.delivery.state.tracks import Track
from agent.errors import Unreachable
from tests.fakes import body_bytes
from tests.simulation.operations import Operation
from tests.simulation.transcripts import PLACES

if TYPE_CHECKING:
    from tests.simulation.story import Story

SHELF = "shelf"


def parse_file(request: Request) -> tuple[str, bytes]:
    """Name and content of the multipart field `file`."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body_bytes(request))
    (part,) = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "file"
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return str(part.get_filename()), content


class Shelf:
    """Keeps files by name, the last one wins. `trouble`: how often it fails. `most_bytes`: of a file, above which it
    answers 413. `forbids`: whether it answers 403. `refused`: name → status and size, as long as that is final."""

    def __init__(self, story: "Story", rng: random.Random) -> None:
        self._story = story
        self._rng = rng
        self._streams = {upload_name(one.stream): one.stream for one in PLACES}
        self._taken_s: dict[TrackKey, float] = {}
        self.files: dict[str, bytes] = {}
        self.refused: dict[str, tuple[int, int]] = {}
        self.trouble = rng.choice((0.0, 0.0, 0.3))
        self.is_away = self.forbids = False
        self.most_bytes = 1 << 30

    def send(self, request: Request) -> RawReply:
        self._story.between()
        if self.is_away or self._rng.random() < self.trouble / 2:
            raise Unreachable("test: no answer")
        if request.method == "GET":
            return RawReply(404, {}, b"")
        name, content = parse_file(request)
        answer = self._take(name, content)
        self._story.log(f"{SHELF}: {name} {len(content)} {answer.status}")
        return answer

    def _take(self, name: str, content: bytes) -> RawReply:
        self._check_arrived(name, content)
        if self._rng.random() < self.trouble:
            return RawReply(503, {}, b"{}")
        status = 403 if self.forbids else 413 if len(content) > self.most_bytes else 201
        if status != 201:
            self.refused[name] = (status, len(content))
            return RawReply(status, {}, b"{}")
        self.files[name] = content
        return RawReply(201, {}, b"{}")

    def _check_arrived(self, name: str, content: bytes) -> None:
        rules, transcripts = self._story.rules, self._story.transcripts
        assert not rules.blind, "something leaves while nobody can tell what is private"
        session = name.partition(".")[0]
        assert session not in rules.sessions, f"{name} is private, and leaves"
        is_known = name in self.refused and session not in self._story.ever_private  # shared again is begun again
        status, size = self.refused[name] if is_known else (0, 0)
        assert status != 413 or len(content) < size, f"{name} was too large, and comes again"
        assert status != 403, f"{name} was forbidden, and comes again"
        stream = self._streams.get(name)
        if stream is None or stream in transcripts.unseen | transcripts.torn:
            return
        begins = any(one.content.startswith(content) for one in transcripts.versions[stream])
        assert begins, f"{name} is what no version of the file began with"

    # --- what the daemon does -------------------------------------------------------------------------------------

    def begin_life(self) -> None:
        """A new process: it may have forgotten what rests, and what was refused a moment ago."""
        self._taken_s.clear()
        self.refused.clear()

    def hear(self, event: Input) -> None:
        """Before the engine does: a file that comes back is tried again, and all are when somebody says so."""
        if isinstance(event, Retry):
            self.begin_life()
        elif isinstance(event, Vanished):
            self.refused.clear()

    def check_rest(self, task: UploadTask, track: Track) -> None:
        """Before a file is handed out: one that was sent a moment ago rests, unless that failed."""
        now_s = self._story.clock.mono_s
        since_s = now_s - self._taken_s.get(task.key, -REST_S)
        assert track.attempts or since_s > REST_S - 0.001, f"{task.key.stream} is sent again after {since_s:.1f} s"
        self._taken_s[task.key] = now_s

    # --- the end --------------------------------------------------------------------------------------------------

    def end_trouble(self) -> None:
        self.trouble, self.is_away, self.forbids, self.most_bytes = 0.0, False, False, 1 << 30

    def check_end(self) -> None:
        """Each file that is followed is there as a whole, as it is now."""
        story = self._story
        for key, track in story.process.engine.tracks.items():
            if key.destination != SHELF or is_side_file(key.subpath) or track.path not in story.transcripts.files:
                continue
            place, version = story.transcripts.files[track.path]
            if track.state in (State.PRIVATE, State.GONE) or place.stream in story.transcripts.unseen:
                continue
            assert track.state is State.SYNCED, f"{SHELF}: {key.stream} is {track.state}: {track.reason}"
            assert origin_of(key.subpath) == place.stream.subpath
            stored = self.files.get(upload_name(key.stream), b"")
            content = bytes(version.content)
            assert stored in {content, content[: content.rfind(b"\n") + 1]}, (
                f"{SHELF}: {key.stream} is there with {len(stored)} bytes"
            )


# --- what may happen there --------------------------------------------------------------------------------------------


def _shelf(story: "Story") -> Shelf:
    assert story.shelf is not None
    return story.shelf


def go_away(story: "Story") -> None:
    _shelf(story).is_away = True


def come_back(story: "Story") -> None:
    _shelf(story).is_away = False


def forbid(story: "Story") -> None:
    _shelf(story).forbids = True


def allow(story: "Story") -> None:
    _shelf(story).forbids = False


def limit(story: "Story") -> None:
    _shelf(story).most_bytes = story.uploading.choice((300, 1000, 3000))


def lift_limit(story: "Story") -> None:
    _shelf(story).most_bytes = 1 << 30


TABLE = (
    Operation("shelf goes away", 1, go_away),
    Operation("shelf comes back", 2, come_back),
    Operation("shelf forbids", 1, forbid),
    Operation("shelf allows", 2, allow),
    Operation("shelf limits", 1, limit),
    Operation("shelf lifts its limit", 1, lift_limit),
)
"""What happens in stories with such a server."""


def draw(rng: random.Random) -> Operation:
    return rng.choices(TABLE, [one.weight for one in TABLE])[0]
