"""What `status` shows, from values alone: one screen, nothing twice, and nothing that is as it should be anyway."""

import time
from collections.abc import Iterator

from agent.cli.layout import GLUE, Row, Span
from agent.cli.output import STATE_WORDS, age_words, clean, plural, size_words, span_words
from agent.core.status import DestinationLine, Status

_PASSING = ("running", "probing")
"""Conditions in which nobody has to do anything."""


def status_rows(
    found: Status, now_s: float, *, heading: str = "", start: str = "transcriptd service start"
) -> list[Row]:
    """`heading` takes the place of who is at work since when. `now_s`: wall time of this look. `start`: what to type so
    that an agent runs."""
    rows = [_head(found, heading)]
    rows += [Row(one.name, _destination(found, one, now_s)) for one in found.destinations]
    rows += _last_push(found, now_s)
    rows += _streams(found, now_s)
    rows += _sizes(found)
    rows += _remarks(found)
    rows += _places(found)
    rows += _warnings(found, heading, start)
    return rows


def _head(found: Status, heading: str) -> Row:
    if heading:
        return Row(None, (Span(heading, "bold"),))
    if not found.running:
        rest = " · as of its last run:" if found.counts.streams else " and has sent nothing here yet"
        return Row(None, (Span("transcriptd is not running", "bold yellow"), Span(rest)))
    state = Span("transcriptd is running", "bold green")
    if found.paused:
        until = f" until {_clock(found.paused_until_s)}" if found.paused_until_s is not None else ""
        state = Span(f"transcriptd is paused ({clean(found.paused)}{until})", "bold yellow")
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.since_s))
    facts = (f"since {since}", f"version {found.version}", f"pid {found.pid}")
    return Row(None, (state, *(Span(f" ·{GLUE}{fact.replace(' ', GLUE)}") for fact in facts)))


def _destination(found: Status, one: DestinationLine, now_s: float) -> tuple[Span, ...]:
    spans = [Span(clean(one.url))]
    if one.condition == "not_running":
        return tuple(spans)
    spans += [Span("  "), Span(one.condition.replace("_", " "), "green" if one.condition == "running" else "yellow")]
    if one.protocol:
        spans.append(Span(f" ({one.protocol})", "dim"))
    if one.why and (f"{one.name}: {one.why}") not in {what for what, _ in found.problems}:
        spans.append(Span(f", {clean(one.why)}"))
    if one.retry_at_s is not None:
        spans.append(Span(f", next try {_soon(one.retry_at_s, now_s)}"))
    return tuple(spans)


def _last_push(found: Status, now_s: float) -> Iterator[Row]:
    told = {one.name: one.acknowledged_s for one in found.destinations}
    if not told:
        return
    words = {name: "never" if at_s is None else age_words(at_s, now_s) for name, at_s in told.items()}
    if not any(told.values()):
        yield Row("last push", (Span("nothing was ever acknowledged"),))
    elif len(words) == 1:
        yield Row("last push", (Span(*words.values()),))
    else:
        yield Row("last push", (Span(", ".join(f"{name}: {word}" for name, word in words.items())),))


def _streams(found: Status, now_s: float) -> Iterator[Row]:
    """How many in which state, and what of those that are not on the server."""
    numbers: dict[tuple[str, str], int] = {}
    for state, number in sorted(found.counts.states.items(), key=lambda one: one[0] != "synced"):
        word = STATE_WORDS.get(state, (state, ""))
        numbers[word] = numbers.get(word, 0) + number
    spans = [Span("none yet")] if not numbers else []
    for (shown, colour), number in numbers.items():
        spans += [
            Span("  " if spans else ""),
            Span(f"{number:,}{GLUE}", "bold"),
            Span(shown.replace(" ", GLUE), colour),
        ]
    yield Row("transcripts", tuple(spans))
    yield from _reasons(found)
    if found.counts.next_try_s is not None:
        yield Row("next try", (Span(_soon(found.counts.next_try_s, now_s)),))
    if found.oldest_unsent_s is not None:
        yield Row("oldest wait", (Span(f"changed {age_words(found.oldest_unsent_s, now_s)}"),))


def _reasons(found: Status) -> Iterator[Row]:
    counts, told = found.counts, {what for what, _ in found.problems}
    for reason, number in counts.waiting.items():
        if reason:
            yield Row("trying again", (Span(f"{number:,}: {clean(reason)}"),))
    for reason, number in counts.refused.items():
        if f"{number} not sent: {reason}" not in told:
            yield Row("not sent", (Span(f"{number:,}: {clean(reason)}"),))


def _sizes(found: Status) -> Iterator[Row]:
    counts = found.counts
    total = f"{plural(counts.sessions, 'session')} in {plural(counts.streams, 'transcript')}"
    total += f" and {plural(counts.files, 'side file')}" if counts.files else ""
    yield Row("on disk", (Span(f"{total}, {size_words(counts.disk_bytes or counts.bytes)}"),))
    number = counts.entries - counts.not_addressable - sum(counts.rejected.values())
    entries = "1 entry" if number == 1 else f"{number:,} entries"
    yield Row("on server", (Span(f"{entries}{share_words(found.share)}"),))


def share_words(share: float | None) -> str:
    """Behind a comma; nothing where there is nothing to be there."""
    if share is None:
        return ""
    return f", {share:.0f} %" if share in (0, 100) else f", {min(max(share, 0.1), 99.9):.1f} %"


def _remarks(found: Status) -> Iterator[Row]:
    """What is not the rule."""
    counts = found.counts
    if counts.not_addressable:
        words = f"{counts.not_addressable:,} entries have no uuid; this server has no place for them"
        yield Row("left out", (Span(words),))
    if counts.generations:
        words = f"{plural(counts.generations, 'new generation')}; what the server had before stays readable there"
        yield Row("rewritten", (Span(words),))
    if counts.redactions:
        yield Row("redacted", (Span(f"{plural(counts.redactions, 'secret')} replaced before sending"),))
    if counts.held:
        words = f"{plural(counts.held, 'file')}, {size_words(counts.kept_bytes)}; deliverable even if deleted"
        yield Row("held", (Span(words),))
    for why, number in found.withheld.items():
        yield Row("stays here", (Span(f"{plural(number, 'session')}: {clean(why)}"),))
    if found.to_delete:
        words = f"{plural(found.to_delete, 'private session')} on the server, as soon as may be"
        yield Row("to delete", (Span(words),))
    if found.held_back:
        yield Row("held back", (Span(f"{found.held_back:,} from before the first start (backlog = false)"),))


def _places(found: Status) -> Iterator[Row]:
    places = {one.name: one.token for one in found.destinations if one.token not in ("", "given")}
    words = set(places.values())
    if len(words) > 1:
        words = {", ".join(f"{name}: {place}" for name, place in places.items())}
    yield from (Row("token", (Span(one),)) for one in words)
    yield from (Row("watching", (Span(_folder(folder, found)),)) for folder in found.watching)
    yield from (Row("polling", (Span(_folder(folder, found)),)) for folder in found.polling)


def _folder(folder: str, found: Status) -> str:
    """With its agent, where there are several."""
    agent = found.agents.get(folder, "")
    return clean(f"{agent}: {folder}" if agent and len(set(found.agents.values())) > 1 else folder)


def _warnings(found: Status, heading: str, start: str) -> Iterator[Row]:
    if not found.running and not heading:
        words = "nothing is sent while no agent runs" if found.destinations else "there is no server to send to yet"
        yield _warning(words, start)
        if found.restarts:
            times = "once" if found.restarts == 1 else f"{found.restarts} times"
            yield _warning(f"it ended unexpectedly {times} within the last hour", "transcriptd logs")
    if found.paused == "by you":
        yield _warning("nothing is sent", "transcriptd resume")
    for what, hint in found.problems:
        yield _warning(what, hint)


def _warning(what: str, hint: str) -> Row:
    return Row(None, (Span("! ", "bold yellow"), Span(clean(what))), clean(hint) or "transcriptd doctor")


def _soon(at_s: float, now_s: float) -> str:
    return f"in {span_words(at_s - now_s)}" if at_s > now_s else "now"


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M", time.localtime(at_s))
