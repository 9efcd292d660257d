"""What is counted of a transcript while its events are read: models, tokens, messages, tools, hour by hour.

summary = Summary()
for event in events: summary.add(event)
merged([summary of the main transcript, of a subagent, …])      a session's
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from agent.core.sessions.normalised import Event, Usage

HOUR_S = 3600

_MOST_NAMES = 256
"""Of models and of tools in one transcript. What comes after is counted under `OTHER`, since a hostile transcript may
name as many as it has lines."""

_LONGEST_NAME = 120
_LONGEST_FOLDER = 4096

OTHER = "(other)"

_MOST_HOURS = 4096

_LATEST_S = 253_402_300_799.0
"""The last second of the year 9999: a later one is no time."""

_MESSAGES = frozenset({"user.message", "assistant.message"})


class Spent(msgspec.Struct, array_like=True):
    """Tokens and dollars, and the messages and calls of tools beside them. `cost_usd`: of what names a cost."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0
    cost_usd: float = 0.0
    messages: int = 0
    calls: int = 0

    def add(self, other: "Spent") -> None:
        self.input += other.input
        self.output += other.output
        self.cache_read += other.cache_read
        self.cache_creation += other.cache_creation
        self.cost_usd += other.cost_usd
        self.messages += other.messages
        self.calls += other.calls

    def add_usage(self, usage: "Usage") -> None:
        self.input += usage.input
        self.output += usage.output
        self.cache_read += usage.cache_read
        self.cache_creation += usage.cache_creation
        self.cost_usd += usage.cost_usd or 0.0

    @property
    def tokens(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_creation


class Calls(msgspec.Struct, array_like=True):
    calls: int = 0
    errors: int = 0


class Summary(msgspec.Struct, array_like=True):
    """Of one stream, or of a session. Times in wall seconds, None where no line says one. `kinds`: kind of event → how
    many. `tools`: kind of tool, tab, its name → calls. `hours`: hour since 1970 (0: of no known time), tab, model →
    what was spent in it. `models`: model → messages; `model`: the last one. `has_ended`: nothing was said after its
    end. `costs_are_known`: something said what it cost."""

    lines: int = 0
    started_at_s: float | None = None
    last_at_s: float | None = None
    has_ended: bool = False
    costs_are_known: bool = False
    cwd: str = ""
    model: str = ""
    parent_session_id: str = ""
    kinds: dict[str, int] = {}
    models: dict[str, int] = {}
    tools: dict[str, Calls] = {}
    hours: dict[str, Spent] = {}

    def add(self, event: "Event") -> None:
        kind = str(event.kind)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if event.at_s is not None and 0 <= event.at_s <= _LATEST_S:
            self._date(event.at_s)
        if event.model:
            self.model = _name(event.model)
        match kind:
            case "user.message" | "assistant.message":
                self._add_message(event, kind)
            case "tool.call":
                self._tool(event).calls += 1
                self._hour(event).calls += 1
                self.has_ended = False
            case "tool.result":
                if event.is_error:
                    self._tool(event).errors += 1
            case "session.started":
                self.parent_session_id = self.parent_session_id or event.parent_session_id[:_LONGEST_NAME]
                self.has_ended = False
            case "session.ended":
                self.has_ended = True
        if event.cwd and not self.cwd:
            self.cwd = event.cwd[:_LONGEST_FOLDER]
        if event.usage is not None:
            self._hour(event).add_usage(event.usage)
            self.costs_are_known = self.costs_are_known or event.usage.cost_usd is not None

    def total(self) -> Spent:
        found = Spent()
        for one in self.hours.values():
            found.add(one)
        return found

    def count(self, kind: str) -> int:
        return self.kinds.get(kind, 0)

    def _date(self, at_s: float) -> None:
        if self.started_at_s is None or at_s < self.started_at_s:
            self.started_at_s = at_s
        if self.last_at_s is None or at_s > self.last_at_s:
            self.last_at_s = at_s

    def _add_message(self, event: "Event", kind: str) -> None:
        self.has_ended = False
        self._hour(event).messages += 1
        if kind == "assistant.message" and self.model:
            name = _bounded(self.models, self.model, OTHER)
            self.models[name] = self.models.get(name, 0) + 1

    def _hour(self, event: "Event") -> Spent:
        at_s = event.at_s if event.at_s is not None else self.last_at_s  # not every line says a time
        hour = int(at_s // HOUR_S) if at_s is not None and 0 <= at_s <= _LATEST_S else 0
        key = f"{hour}\t{self.model}"
        found = self.hours.get(key)
        if found is None:
            if len(self.hours) >= _MOST_HOURS:
                key = f"0\t{OTHER}"
            found = self.hours.setdefault(key, Spent())
        return found

    def _tool(self, event: "Event") -> Calls:
        key = f"{event.tool_kind or 'other'}\t{_name(event.tool)}"
        found = self.tools.get(key)
        if found is None:
            if len(self.tools) >= _MOST_NAMES:
                key = f"other\t{OTHER}"
            found = self.tools.setdefault(key, Calls())
        return found


def merged(parts: Sequence[Summary]) -> Summary:
    """Of a session, the main transcript's first: it says model and folder where it says any."""
    whole = Summary()
    for one in parts:
        whole.lines += one.lines
        whole.costs_are_known = whole.costs_are_known or one.costs_are_known
        whole.cwd = whole.cwd or one.cwd
        whole.model = whole.model or one.model
        whole.parent_session_id = whole.parent_session_id or one.parent_session_id
        for at_s in (one.started_at_s, one.last_at_s):
            if at_s is not None:
                whole._date(at_s)
        _sum_counts(whole.kinds, one.kinds.items())
        _sum_counts(whole.models, one.models.items())
        for tool, calls in one.tools.items():
            known = whole.tools.setdefault(_bounded(whole.tools, tool, f"other\t{OTHER}"), Calls())
            known.calls += calls.calls
            known.errors += calls.errors
        for hour, spent in one.hours.items():
            whole.hours.setdefault(hour, Spent()).add(spent)
    whole.has_ended = bool(parts) and parts[0].has_ended
    return whole


def messages(summary: Summary) -> int:
    return sum(summary.count(kind) for kind in _MESSAGES)


def _sum_counts(into: dict[str, int], counts: Iterable[tuple[str, int]]) -> None:
    for name, count in counts:
        key = _bounded(into, name, OTHER)
        into[key] = into.get(key, 0) + count


def _bounded(known: "dict[str, int] | dict[str, Calls]", name: str, instead: str) -> str:
    return name if name in known or len(known) < _MOST_NAMES else instead


def _name(text: str) -> str:
    """Fit for a key that tabs divide."""
    return text[:_LONGEST_NAME].replace("\t", " ")
