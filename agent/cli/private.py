"""`transcriptd private`: what stays on this machine. These commands edit the list and say what follows."""

import glob
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from agent.cli.config import environment, load_settings, remembered
from agent.core.privacy.lost_rules import describe_lost
from agent.core.privacy.patterns import expand_pattern, is_pattern, tell_readings
from agent.core.privacy.rules import (
    NO_GROUNDS,
    REMOTE_UNKNOWN,
    Grounds,
    PrivateRules,
    Rule,
    Verdict,
    parse_lines,
    parse_rule,
    render_folder,
)
from agent.core.transcripts.session import Facts
from agent.errors import NotRunning, PrivacyListError, UsageError
from agent.system.control_socket import ControlClient
from agent.system.paths import Paths, default_paths
from agent.system.state.privacy_list import BRING_BACK, PrivacyList

if TYPE_CHECKING:
    from agent.core.settings import Settings
    from agent.delivery.inventory.survey import SessionHere, Survey

SESSION_VARIABLE = "CLAUDE_CODE_SESSION_ID"
"""Claude Code sets it for the commands of a session since 2.1.132."""

_WHOLE_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CANDIDATES = 3
_MOST_WILDCARDS = 2


class Named(NamedTuple):
    """What somebody named, and the rules that it may stand for: the first when it is added, any when removed."""

    word: str
    rules: tuple[Rule, ...]


class Matched(NamedTuple):
    """What one rule covers now. `folders`: in which these sessions began. `exists`: something that it means is there,
    with or without sessions. `notes`: how it is read, where that may surprise."""

    sessions: int
    folders: int
    exists: bool
    notes: tuple[str, ...]


class Covered(NamedTuple):
    """What rules cover of what is known here. `sent`: sessions of which a server has something. `doubtful`: reason →
    further sessions that stay here because these rules can't be applied to them. `copies`: those of `sessions` that
    no rule names, but in which entries of a named one stand. `on`: server → how many sessions it has something of.
    `matched`: rule of a folder or remote → what it covers."""

    sessions: int
    bytes: int
    sent: int
    doubtful: Mapping[str, int] = {}
    copies: int = 0
    on: Mapping[str, int] = {}
    matched: Mapping[str, Matched] = {}


class _Known(NamedTuple):
    """What the agent remembers: facts of sessions, which servers have something of them, and for what they are or were
    private."""

    facts: Mapping[str, Facts]
    sent: Mapping[str, frozenset[str]]
    sizes: Mapping[str, int]
    grounds: Mapping[str, Grounds] = {}

    def count_on(self, sessions: Collection[str]) -> dict[str, int]:
        """Server → how many of these sessions it has something of."""
        found: dict[str, int] = {}
        for name in (name for session in sessions for name in self.sent.get(session, ())):
            found[name] = found.get(name, 0) + 1
        return found


def _subjects(command: Any) -> Any:
    options = [
        click.argument("word", nargs=-1),
        click.option("--session", "sessions", multiple=True, metavar="ID", help="A session by its id."),
        click.option("--project", "projects", multiple=True, metavar="FOLDER", help="A folder; *, ? and […] match."),
        click.option("--remote", "remotes", multiple=True, metavar="PATTERN", help="A git remote: github.com/acme/*."),
        click.option("--this", is_flag=True, help="The session of Claude Code that runs this command."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def private() -> None:
    """Say which sessions stay on this machine.

    The rules stand in a text file beside the settings, which may be edited by hand as well; it is read again before
    each request. Sessions that become private are deleted on the server.
    """


@private.command()
@_subjects
def add(as_json: bool, **named: Any) -> None:
    """Make sessions private: what was sent of them is deleted on the server.

    WORD is a session (its id or the beginning of it) or a folder. A folder stands for every session that worked in it
    or below it; quote patterns.
    """
    paths = default_paths(environment())
    settings = load_settings(paths)
    rules_list = PrivacyList(paths.private_list, settings.privacy)
    known = _read_known(paths)
    rules = [one.rules[0] for one in name_rules(_with_ids(known, settings, **named), **named)]
    edited = rules_list.add(rules, create=not had_list(paths))
    agent, note = tell_agent(paths)
    deletes = find_deletes(paths, settings)
    covered = count_covered(_in_force(paths, settings), rules, settings, known)
    if as_json:
        _print(
            list=str(rules_list.path),
            added=[rule.text for rule in edited.changed],
            already=[rule.text for rule in edited.unchanged],
            agent=agent,
            deletes=deletes,
            **{**covered._asdict(), "matched": {text: one._asdict() for text, one in covered.matched.items()}},
        )
        return
    from agent.cli.output import clean, plural, size_words

    click.echo(f"{rules_list.path}:")
    for rule in [*edited.changed, *edited.unchanged]:
        what = "added" if rule in edited.changed else "was there already"
        matched = covered.matched.get(rule.text)
        click.echo(f"  {clean(rule.text)}: {what}{_matches(matched)}")
        if matched is not None and not matched.exists:
            click.echo("  ! it covers no session and no folder that is here now; is it written as you meant it?")
        for note in matched.notes if matched is not None else ():
            click.echo(f"  ! {clean(note)}")
    copies = f"; {covered.copies:,} of them for entries that they share" if covered.copies else ""
    click.echo(f"private: {plural(covered.sessions, 'session')}, {size_words(covered.bytes)}{copies}")
    for name, number in covered.on.items():
        what, whom = ("1 of them is", "it") if number == 1 else (f"{number:,} of them are", "them")
        what = "it is" if covered.sessions == 1 else what
        click.echo(f"{what} on {clean(name)}; {_what_follows(deletes.get(name), agent, whom)}")
    for why, count in covered.doubtful.items():
        whom = "it" if count == 1 else "them"
        click.echo(f"! {plural(count, 'more session')}: {clean(why)}; nothing of {whom} leaves")
        if why == REMOTE_UNKNOWN:
            click.echo(f"  to have {whom} sent: make the folder again, an empty one will do, or remove the rule")
    if note:
        click.echo(f"! {note}", err=True)


@private.command()
@_subjects
def remove(as_json: bool, **named: Any) -> None:
    """Take rules out of the list; what no other rule covers is sent again.

    WORD is what `add` takes. A session that a folder's rule covers stays private until that rule goes.
    """
    paths = default_paths(environment())
    settings = load_settings(paths)
    rules_list = PrivacyList(paths.private_list, settings.privacy)
    from agent.delivery.privacy.losses import hold_lost

    standing = rules_list.rules()
    known = _read_known(paths)
    listed = [rule.value for rule in standing if rule.kind == "session"]
    wanted = name_rules(_with_ids(known, settings, listed, **named), **named)
    held = hold_lost(rules_list, paths)
    found = rules_list.find([rule for one in wanted for rule in one.rules])
    gone = rules_list.alike([rule for one in wanted for rule in one.rules], held)
    for one in wanted:
        if not any(rule in found for rule in one.rules) and not rules_list.alike(one.rules, held):
            raise UsageError(f"no rule of the list says {one.rules[0].text!a}", hint="transcriptd private list")
    edited = rules_list.remove(found)
    if gone:  # it is out of the list already, and holds on; its owner says that it is meant
        rules_list.confirm_removed(rule.text for rule in gone)
        edited = edited._replace(changed=(*edited.changed, *gone))
    agent, note = tell_agent(paths)
    still = _still_private(_in_force(paths, settings), edited.changed, settings, known)
    if as_json:
        _print(
            list=str(rules_list.path), removed=[rule.text for rule in edited.changed], agent=agent, still_private=still
        )
        return
    from agent.cli.output import clean

    click.echo(f"{rules_list.path}:")
    for rule in edited.changed:
        click.echo(f"  {clean(rule.text)}: removed")
    for session, why in still.items():
        click.echo(f"! {clean(session)} stays private: {clean(why)}")
    if note:
        click.echo(f"! {note}", err=True)


@private.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def list_(as_json: bool) -> None:
    """Show the rules, and how many sessions each one covers. Exit status 78 when the list is not understood."""
    paths = default_paths(environment())
    settings = load_settings(paths)
    rules_list = PrivacyList(paths.private_list, settings.privacy)
    rules = rules_list.rules()
    known = _read_known(paths)
    from agent.delivery.privacy.losses import hold_lost

    held = hold_lost(rules_list, paths)
    rules += [rule for rule in parse_lines("\n".join(held)) if rule is not None]
    in_force = rules_list.read()
    if in_force.missing and had_list(paths):
        raise PrivacyListError(
            f"the private list is gone, so everything is private: {rules_list.path}", hint=BRING_BACK
        )
    verdicts = _decide_all(in_force, settings, known)
    counts: dict[str, int] = {}
    others: dict[str, int] = {}
    for verdict in verdicts.values():
        if verdict.private:
            tally, key = (counts, verdict.rule.casefold()) if verdict.rule else (others, verdict.why)
            tally[key] = tally.get(key, 0) + 1
    rows: list[dict[str, Any]] = [
        {
            "rule": rule.text,
            "line": 0 if rule.text in held else rule.line,
            "sessions": counts.get(rule.text.casefold(), 0),
            "held_s": round(held[rule.text]) if rule.text in held else None,
        }
        for rule in rules
    ]
    total = sum(verdict.private for verdict in verdicts.values())
    if as_json:
        _print(
            list=str(rules_list.path),
            rules=rows,
            others=others,
            private=total,
            known=len(verdicts),
            share=settings.privacy.share,
            shared_projects=settings.privacy.shared_projects,
        )
        return
    from agent.cli.output import clean, console, make_table, plural

    click.echo(f"{rules_list.path}" + ("" if rules else ": no rules"))
    if rows:
        table = [(clean(row["rule"]), f"{row['sessions']:,}") for row in rows]
        console().print(make_table([("rule", "fold"), ("sessions", "right")], table))
    for what, hint in describe_lost("this list", held, min(held.values(), default=0.0), _OR_BACK):
        click.echo(f"! {clean(what)}; {hint}", err=True)
    if settings.privacy.share == "listed":
        shared = ", ".join(map(clean, settings.privacy.shared_projects)) or "none"
        click.echo(f'share = "listed"; shared_projects: {shared}')
    for why, count in others.items():
        click.echo(f"{plural(count, 'more session')}: {clean(why)}")
    click.echo(f"{total:,} of {plural(len(verdicts), 'session')} private")


def _in_force(paths: Paths, settings: "Settings") -> PrivateRules:
    """What an agent obeys: the list as it stands, and what is gone from it and holds on."""
    from agent.delivery.privacy.losses import hold_lost

    private_list = PrivacyList(paths.private_list, settings.privacy)
    hold_lost(private_list, paths)
    return private_list.read()


_OR_BACK = "to put it back: transcriptd private add; to end it now: transcriptd private remove"


# ---- what is named ----


def name_rules(
    known: _Known,
    *,
    word: tuple[str, ...] = (),
    sessions: tuple[str, ...] = (),
    projects: tuple[str, ...] = (),
    remotes: tuple[str, ...] = (),
    this: bool = False,
) -> list[Named]:
    """What the arguments of `add` and `remove` stand for. Raises UsageError."""
    found = [_name_session(one, known) for one in sessions]
    found += [Named(one, _project_rules(one)) for one in projects]
    found += [Named(one, (parse_rule("remote", one.strip()),)) for one in remotes]
    if this:
        session = environment().get(SESSION_VARIABLE, "")
        if not session:
            raise UsageError(
                f"this is no session of Claude Code: {SESSION_VARIABLE} is not set",
                hint="Claude Code sets it since 2.1.132; elsewhere: transcriptd private add --session ID",
            )
        found.append(Named("--this", (parse_rule("session", session),)))
    found += [_name_word(one, known) for one in word]
    if not found:
        raise UsageError("nothing is named", hint="a session, a folder, --remote PATTERN or --this")
    return found


def _with_ids(
    known: _Known,
    settings: "Settings",
    listed: Iterable[str] = (),
    *,
    word: tuple[str, ...],
    sessions: tuple[str, ...],
    **_: object,
) -> _Known:
    """`known` with every id that a beginning may mean: also of what the agent has not seen yet."""
    found = [*listed]
    if not all(_WHOLE_ID.fullmatch(one) for one in (*word, *sessions)):
        from agent.delivery.discovery.roots import find_roots
        from agent.delivery.inventory.survey import find_sessions

        found += find_sessions(find_roots(settings, environment()))
    return known._replace(facts={**dict.fromkeys(found, Facts()), **known.facts})


def _name_word(word: str, known: _Known) -> Named:
    is_folder = os.path.isdir(os.path.expanduser(word))
    is_session = _WHOLE_ID.fullmatch(word) is not None or (bool(word) and _begin_with(word, known) != [])
    if is_folder and is_session:
        raise UsageError(f"{word!a} is a folder and a session", hint="say which: --session or --project")
    if is_session:
        return _name_session(word, known)
    looks_absolute = os.path.isabs(word) or word[:1] in ("~", ".")
    fixed = os.path.dirname(word[: next((at for at, ch in enumerate(word) if ch in "*?[{"), len(word))])
    if is_folder or looks_absolute or (is_pattern(word) and os.path.isdir(fixed or ".") and "://" not in word):
        return Named(word, _project_rules(word))
    raise UsageError(
        f"{word!a} is neither a session that is known here nor a folder",
        hint="for a git remote: --remote; for a folder that is not there: --project",
    )


def _name_session(word: str, known: _Known) -> Named:
    if _WHOLE_ID.fullmatch(word) or word in known.facts:
        return Named(word, (parse_rule("session", word),))
    found = _begin_with(word, known)
    if len(found) == 1:
        return Named(word, (parse_rule("session", found[0]),))
    if not found:
        raise UsageError(f"no session here begins with {word!a}", hint="transcriptd sessions list")
    some = ", ".join(found[:_CANDIDATES]) + (", …" if len(found) > _CANDIDATES else "")
    raise UsageError(f"{len(found):,} sessions begin with {word!a}: {some}")


def _begin_with(word: str, known: _Known) -> list[str]:
    """Ids are the same in upper and lower case, so a list by hand may have another spelling."""
    found = {one.casefold(): one for one in known.facts if word and one.casefold().startswith(word.casefold())}
    return sorted(found.values())


def _project_rules(word: str) -> tuple[Rule, ...]:
    """A folder that is there stands for itself, whatever its name holds; else it may be a pattern."""
    if not word:
        raise UsageError("a folder has a name", hint="for the one you are in: --project .")
    folder = os.path.abspath(os.path.expanduser(word))
    # `*/secret` is any folder of that name, wherever it lies.
    pattern = parse_rule("project", word if word.startswith("*/") else folder) if is_pattern(word) else None
    literal = parse_rule("project", render_folder(folder))
    if pattern is None:
        return (literal,)
    return (literal, pattern) if os.path.isdir(folder) else (pattern, literal)


# ---- what follows ----


def tell_agent(paths: Paths) -> tuple[str, str]:
    """Lets a running agent look at the list now: `told`, `not_running` or `failed`, and what to tell a person."""
    try:
        with ControlClient(paths.socket) as client:
            client.call("agent.privacy_changed")
    except NotRunning:
        return "not_running", ""
    except UsageError:  # an older one, which has no such method
        return "failed", "the running agent does not know of private lists: end it, and start this version"
    return "told", ""


def _matches(matched: Matched | None) -> str:
    from agent.cli.output import plural

    if matched is None or not matched.sessions:
        return ""
    within = f" in {plural(matched.folders, 'folder')}" if matched.folders else ""
    return f"; covers {plural(matched.sessions, 'session')}{within}"


def find_deletes(paths: Paths, settings: "Settings") -> dict[str, bool | None]:
    """Server → whether it deletes what is private; None where only a running agent that has asked it could tell."""
    known = {one.name: False if one.protocol == "upload" else None for one in settings.destinations}
    try:
        with ControlClient(paths.socket) as client:
            rows = client.call("agent.status")["destinations"]
    except (NotRunning, UsageError):
        return known
    return {**known, **{row["name"]: row.get("deletes") for row in rows}}


def _what_follows(deletes: bool | None, agent: str, whom: str) -> str:
    if deletes is False:
        return "that server can't delete, so it keeps what it has: ask whoever runs it"
    when = "now" if agent == "told" else "when it runs next"
    return f"the agent deletes {whom} there {when}" + ("" if deletes else ", if that server offers deletion")


def count_covered(rules: PrivateRules, added: Iterable[Rule], settings: "Settings", known: _Known) -> Covered:
    """What `added` covers, whatever else stands in the list."""
    texts = {rule.text for rule in added}
    kinds = {rule.kind for rule in added}
    ids = {rule.value.casefold() for rule in added if rule.kind == "session"}
    narrowed = rules._replace(
        sessions=frozenset(ids),
        projects=tuple(one for one in rules.projects if one.text in texts),
        remotes=tuple(one for one in rules.remotes if one.text in texts),
        share="all",
    )
    if kinds == {"session"}:
        from agent.delivery.discovery.roots import find_roots
        from agent.delivery.inventory.survey import find_copies

        copies = find_copies(find_roots(settings, environment()), ids)
        size = sum(known.sizes.get(session, 0) for session in known.sizes if session.casefold() in ids)
        sent = [session for session in known.sent if session.casefold() in ids or session in copies]
        size += sum(copies.values())
        return Covered(len(ids) + len(copies), size, len(sent), copies=len(copies), on=known.count_on(sent))
    here = survey(narrowed, settings, known).sessions
    sizes = {one.session_id: one.bytes for one in here}
    verdicts = _decide_all(narrowed, settings, known, here)
    covered = {session for session, verdict in verdicts.items() if verdict.rule}
    doubtful: dict[str, int] = {}
    for verdict in verdicts.values():
        if verdict.private and not verdict.rule:
            doubtful[verdict.why] = doubtful.get(verdict.why, 0) + 1
    there = covered & known.sent.keys()
    size = sum(sizes.get(one, 0) for one in covered)
    projects = {session: facts.project for session, facts in known.facts.items()}
    projects |= {one.session_id: one.project for one in here}
    matched = {}
    for rule in (one for one in added if one.kind != "session"):
        found = [session for session, verdict in verdicts.items() if verdict.rule == rule.text]
        if not found and len(texts) > 1:  # a verdict names one rule, and this may be another one
            found = [
                session
                for session, verdict in _decide_all(_alone(rules, rule), settings, known).items()
                if verdict.rule
            ]
        matched[rule.text] = _match(rule, [projects.get(one, "") for one in found])
    return Covered(len(covered), size, len(there), doubtful, on=known.count_on(there), matched=matched)


def _alone(rules: PrivateRules, rule: Rule) -> PrivateRules:
    return rules._replace(
        sessions=frozenset(),
        projects=tuple(one for one in rules.projects if one.text == rule.text),
        remotes=tuple(one for one in rules.remotes if one.text == rule.text),
        share="all",
    )


def _match(rule: Rule, folders: list[str]) -> Matched:
    """`folders`: where each session that it covers began; empty where that is not known."""
    exists = bool(folders) or (rule.kind == "project" and any(map(_may_be_there, expand_pattern(rule.value))))
    return Matched(len(folders), len({*folders} - {""}), exists, tuple(tell_readings(rule.value)))


def _may_be_there(pattern: str) -> bool:
    """Whether a look at the disk finds it; with many wildcards that would be a look at half of it, and nobody knows."""
    if sum(map(glob.has_magic, pattern.split("/"))) > _MOST_WILDCARDS:
        return True
    return next(glob.iglob(os.path.expanduser(pattern), include_hidden=True), None) is not None


def _still_private(rules: PrivateRules, removed: Iterable[Rule], settings: "Settings", known: _Known) -> dict[str, str]:
    """Sessions whose own rule went, and which another one covers."""
    ids = {rule.value.casefold() for rule in removed if rule.kind == "session"}
    if not ids:
        return {}
    now = rules._replace(before=None)
    verdicts = _decide_all(now, settings, known)
    return {one: said.why for one, said in verdicts.items() if one.casefold() in ids and said.private}


def _decide_all(
    rules: PrivateRules, settings: "Settings", known: _Known, here: list["SessionHere"] | None = None
) -> dict[str, Verdict]:
    """Session → verdict, of those on this disk and of those that only the agent remembers."""
    from agent.delivery.privacy.subjects import subject_of
    from agent.system.git import GitRemotes

    sessions = survey(rules, settings, known).sessions if here is None else here
    found = {one.session_id: one.verdict for one in sessions}
    git = GitRemotes(environment(), os.path.expanduser("~"))
    for session, facts in known.facts.items():
        if session not in found:
            grounds = known.grounds.get(session, NO_GROUNDS)
            found[session] = rules.decide(subject_of(rules, git, session, facts.project, grounds=grounds))
    return found


def survey(rules: PrivateRules, settings: "Settings", known: _Known) -> "Survey":
    """The sessions of this user's coding agents, with what `rules` say of each."""
    from agent.delivery.discovery.roots import find_roots
    from agent.delivery.inventory.survey import survey_sessions
    from agent.system.git import GitRemotes

    git = GitRemotes(environment(), os.path.expanduser("~"))
    return survey_sessions(find_roots(settings, environment()), known.facts, rules, git, grounds=known.grounds)


def had_list(paths: Paths) -> bool:
    """Whether an agent has seen a list here. One that is missing since must not be begun anew."""
    from agent.cli.rehearsing import read_remembered

    return read_remembered(paths)[1]


def _read_known(paths: Paths) -> _Known:
    from agent.cli.rehearsing import read_grounds
    from agent.cli.sessions.known import read_sessions

    lines, facts = read_sessions(paths)
    sizes: dict[str, int] = {}
    for line in lines:
        sizes[line.session_id] = sizes.get(line.session_id, 0) + max(line.size, 0)
    sent: dict[str, frozenset[str]] = {}
    for line in lines:
        if line.sent_entries or line.sent_bytes:
            sent[line.session_id] = sent.get(line.session_id, frozenset()) | {line.destination}
    with remembered(paths) as store:
        grounds = read_grounds(store, store.tracks()) if store is not None else {}
    return _Known({**dict.fromkeys(sizes, Facts()), **facts}, sent, sizes, grounds)


def _print(**fields: Any) -> None:
    from agent.cli.output import print_json

    print_json({"schema": 1, **fields})
