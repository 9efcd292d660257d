"""What a session is made of, in the words that every layer shares."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from agent.core.sessions.normalised import LineReader


class StreamId(NamedTuple):
    """One append-only file of a session. `subpath` is empty for the main transcript, else its place below the
    session without the file's ending (`subagents/agent-x`). A side file is told by `FILES` before its place."""

    session_id: str
    subpath: str


TOO_LARGE = 413


class Rejected(NamedTuple):
    """An entry of which a server holds a note instead: the HTTP status of that, its size as it travels (0 where nobody
    noted it), and the largest that the server had declared to take then (0 without such a word)."""

    status: int
    size: int = 0
    most: int = 0

    def is_final(self, most: int | None) -> bool:
        """Whether it is larger than the server itself says to take: now, or where that is not known (None), then."""
        return self.status == TOO_LARGE and 0 < (self.most if most is None else most) < self.size


class RejectedRow(NamedTuple):
    """As it is remembered. A status of 0: the entry at this ordinal is no longer rejected."""

    destination: str
    stream: StreamId
    ordinal: int
    entry: Rejected


PROJECT_UNKNOWN = "its project is not known yet"
"""Why a session stays here for now: a rule asks for its folders, and no line has named one."""

FILES = "files/"
"""How the subpath of a side file begins (`files/tool-results/x.txt`): where it has its place on the wire, too."""


def is_side_file(subpath: str) -> bool:
    """Whether this is a file beside a session's transcripts, which travels as a whole, and not a stream."""
    return subpath.startswith(FILES)


CONTINUED = "rollouts/"
"""How the subpath of a transcript begins in which the session itself goes on: Codex begins another file for a thread of
which something was taken back. Other streams beside the main transcript are subagents'."""


def is_conversation(subpath: str) -> bool:
    """Whether the session's own conversation stands there: in its main transcript, or in one in which that goes on."""
    return not subpath or subpath.startswith(CONTINUED)


Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Of entries or bytes, as somebody else says it: what every reader of JSON keeps exactly."""

EntryId = Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]{1,128}\Z")]
Uuid = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")]
ChainHash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{64}\Z")]


class Head(msgspec.Struct, frozen=True):
    """What a server holds last for a stream. `chain_hash` is hex, None where the server keeps none. The bounds hold for
    what is decoded."""

    last_uuid: EntryId | None = None
    entry_count: Count = 0
    generation: Uuid | None = None
    chain_hash: ChainHash | None = None


class Observation(NamedTuple):
    """What a look at the disk gave. Times are integer nanoseconds since 1970, sizes bytes."""

    stream: StreamId
    provider: str
    path: str
    size: int
    mtime_ns: int
    device: int
    inode: int
    project: str = ""
    """The folder that something beside the file says its session works in."""


class Gone(NamedTuple):
    """A file that is no longer there, and the stream it stood for. `inode`: of the other session's file that has its
    name now; 0 where nothing has."""

    stream: StreamId
    path: str
    inode: int = 0


UNSAID = "…"
"""In the place of a prompt: there was a title or a prompt, and only memory had it."""


class Facts(NamedTuple):
    """What the lines of a session say about it; empty strings where they do not.

    `project`: the folder it began in. `title`: a name that somebody or the coding agent gave it. `prompt`: the
    beginning of the first thing its user wrote.
    """

    project: str = ""
    title: str = ""
    prompt: str = ""

    def merged(self, newer: "Facts") -> "Facts":
        """The first project and prompt hold (the folder may change within a session); the last title does."""
        prompt = newer.prompt if self.prompt == UNSAID and newer.prompt else self.prompt or newer.prompt
        return Facts(self.project or newer.project, newer.title or self.title, prompt)

    def to_keep(self) -> "Facts":
        """What may be written down: nothing that stands in a transcript but the name of its folder."""
        return Facts(self.project, prompt=UNSAID if self.title or self.prompt else "")

    def before(self, offset: int) -> "Facts":
        """What is known to whom reads on from there: the beginning tells again what is unsaid."""
        return self._replace(prompt="") if offset == 0 and self.prompt == UNSAID else self

    def is_recalled(self) -> bool:
        """Whether there was a title that nobody has in memory now. To tell of the session would take that away where it
        is known."""
        return self.prompt == UNSAID and not self.title

    def recalled(self) -> "Facts":
        """As after a restart: there were words, and whoever tells of the session learns them first."""
        return Facts(self.project, prompt=UNSAID)

    def shown_title(self) -> str:
        return self.title or (self.prompt if self.prompt != UNSAID else "")


class Provider(Protocol):
    """One coding agent: where its transcripts live and how their lines read. Pure; the scanner does the looking."""

    name: str
    title: str
    """What people call it."""
    lines_name_project: bool
    """Whether the first folder that the lines name is where the session began; else only `beside` tells that."""
    telling: tuple[bytes, ...]
    """How lines begin that tell of their session wherever they stand; they come to `read_facts` marked."""

    companions: Mapping[str, str]
    """What ends as a transcript does and is none, by its path below a root as `fnmatch` reads it → what it is."""

    documents: tuple[str, ...]
    """The same patterns of sessions that older versions wrote as one document each, and anew with every change: they
    are left alone, and counted for whoever asks."""
    variable: str
    """The variable of the environment that names where the agent keeps its things."""

    def named_homes(self, environment: Mapping[str, str]) -> list[str]:
        """The folders that it names; mostly none."""

    def roots(self, environment: Mapping[str, str], home: str) -> list[str]:
        """The folders whose trees hold transcripts, absolute."""

    def settings_file(self, environment: Mapping[str, str], home: str) -> str | None:
        """Where the agent's own settings are, for `parse_retention_days`; None where they say nothing of it."""

    def parse_retention_days(self, settings: str | None) -> float | None:
        """Days after its last change until the agent deletes a transcript; None for never. `settings`: the text of its
        settings file, None without one."""

    def classify(self, parts: tuple[str, ...], first_lines: Callable[[], list[bytes]]) -> StreamId | None:
        """The stream of the file at `parts` below a root; None for what is no transcript, or can't be told yet.
        `first_lines` reads the first whole lines of the file (at most 64 KiB)."""

    def place(
        self, stream: StreamId, project: str, first_lines: Sequence[bytes], folders: Mapping[str, str]
    ) -> tuple[str, ...] | None:
        """The names below a root where a transcript or side file of a session of that project belongs on this machine,
        so that `classify` finds it there; None where that can't be told. `folders`: names right below the root → the
        project that their transcripts name. Nothing is checked: whoever writes there does that."""

    def beside(self, parts: tuple[str, ...]) -> tuple[str, ...] | None:
        """The parts below the root of a small file that says where the session of the file at `parts` works; None
        where the lines say it themselves."""

    def read_beside(self, data: bytes) -> str:
        """The folder that such a file names; empty where it names none."""

    def render_beside(self, project: str) -> bytes | None:
        """What has to stand in such a file, so that the agent finds a session that is laid there; None where it needs
        none, or where the file is a part of the session."""

    registry: tuple[str, ...]
    """The names below the folder above a root of a file that says which folder of the root a project has; empty for
    none."""

    def read_registry(self, data: bytes) -> Mapping[str, str]:
        """Project → name of its folder, as such a file says."""

    def folders_in(self, data: bytes) -> tuple[str, ...]:
        """The folders that a piece of a transcript was written in, in their order, each once. It may begin and end
        anywhere; what is quoted within an entry may count as well."""

    def entry_ids_in(self, data: bytes) -> list[bytes]:
        """Ids of entries in a piece of a transcript, and of what it continues: who has one of them too is a copy."""

    def read_facts(self, data: bytes, marked: Sequence[bytes], known: Facts) -> Facts:
        """`known`, and what the first lines of `data` and its marked lines add to it."""

    def reader(self, stream: StreamId) -> "LineReader":
        """What turns the lines of that stream into events."""
