"""Who decides what stays here: the private list as values, and the verdict on a session.

    # everything behind a # is a comment
    session 0f3c2b1e-90ab-4cde-8f01-23456789abcd    # one session by its whole id
    project ~/src/secret-*                          # a folder and all below it; patterns as in core.patterns
    remote github.com/acme/*                        # sessions in a checkout of such a git remote, however it is spelt

What can't be told is private: a list that can't be read covers everything, a session whose folder or remote is not
known is covered by every rule of that kind. Where a pattern can be read in two ways, both count.
"""

import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from agent.core.privacy.patterns import translate_pattern
from agent.core.settings import Privacy
from agent.core.transcripts.session import PROJECT_UNKNOWN
from agent.errors import PrivacyListError

KINDS = ("session", "project", "remote")

HEADER = """\
# What transcriptd keeps to itself: one rule a line, read again whenever this file changes.
#
#   session 0f3c2b1e-90ab-4cde-8f01-23456789abcd    one session by its whole id
#   project ~/src/secret-*                          a folder and all below it; patterns: * ? [...] {a,b} **/
#   remote github.com/acme/*                        checkouts of such a git remote
#
# A line that is none of these makes everything private until it is corrected: transcriptd private list
"""
"""What a new list says. It may hold no rule."""

_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PART_OF_ID = re.compile(r"[0-9a-f]{4,8}|[0-9a-f]{8}-[0-9a-f-]*", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|[ \t])#")
_WINDOWS_FOLDER = re.compile(r"[A-Za-z]:[\\/]|\\\\")


Spell = Callable[[str], Iterable[str]]


class Rule(NamedTuple):
    """One line of the list. `value` as it is written there; `line` counts from 1, 0 for a rule that stands nowhere."""

    kind: str
    value: str
    line: int = 0

    @property
    def text(self) -> str:
        return f"{self.kind} {self.value}"


class SpeltRule(NamedTuple):
    """A rule and all the ways in which what it names is spelt: folders as written and with links resolved."""

    text: str
    spellings: tuple[str, ...]


class Grounds(NamedTuple):
    """What a session was private for, as it is remembered: every folder that it worked in, in every spelling, and the
    remotes of the checkouts there. `why`: in the words of `Verdict.why`; empty when it is not private now."""

    folders: frozenset[str] = frozenset()
    remotes: frozenset[str] = frozenset()
    why: str = ""

    def with_more(self, other: "Grounds") -> "Grounds":
        return Grounds(self.folders | other.folders, self.remotes | other.remotes, other.why)


NO_GROUNDS = Grounds()


class Subject(NamedTuple):
    """A session, as far as it matters here.

    `project`: the first folder it worked in, empty while that is not known; `project_spellings`: the same as written
    and resolved. `folders`: every folder it worked in, each in every spelling. `remotes`: those of the checkouts that
    these lie in, normalised; None when they can't be told. `aliases`: ids of sessions that it is a copy of. `grounds`:
    for what it was private before; judged together with what is found today.
    """

    session_id: str
    project: str = ""
    folders: frozenset[str] = frozenset()
    remotes: frozenset[str] | None = frozenset()
    aliases: frozenset[str] = frozenset()
    project_spellings: frozenset[str] = frozenset()
    grounds: Grounds = NO_GROUNDS


class Verdict(NamedTuple):
    """`why` is for people. `rule`: the line that decided, as `Rule.text`; empty without one. `certain` is False where
    a session is private only because something is not known: that withholds, but is no wish to delete anything."""

    private: bool
    why: str = ""
    rule: str = ""
    certain: bool = True


_SHARED = Verdict(False)

REMOTE_UNKNOWN = "a folder of it is gone or can't be read, so its git remote can't be told"


class PrivateRules(NamedTuple):
    """The list and what the settings say of sharing. `digest` differs whenever a verdict may differ.

    `unreadable`: why the list can't be had; then everything is private. `missing`: there is no list, which says nothing
    of whether there should be one. `before`: what was in force until a moment ago and still counts, since a file that
    just changed may be half written.
    """

    sessions: frozenset[str] = frozenset()
    projects: tuple[SpeltRule, ...] = ()
    remotes: tuple[SpeltRule, ...] = ()
    share: str = "all"
    shared_projects: tuple[str, ...] = ()
    fold_case: bool = False
    unreadable: str = ""
    missing: bool = False
    before: "PrivateRules | None" = None
    digest: str = ""

    @property
    def asks_for_remotes(self) -> bool:
        """Whether a verdict depends on `Subject.remotes` at all."""
        return bool(self.remotes) or (self.before is not None and self.before.asks_for_remotes)

    def decide(self, subject: Subject) -> Verdict:
        own = self._decide(subject)
        if self.before is None or (own.private and own.certain):
            return own
        earlier = self.before.decide(subject)
        return earlier if earlier.private and (earlier.certain or not own.private) else own

    def closed(self, why: str) -> "PrivateRules":
        """The same where everything is private, for this reason."""
        return self._replace(unreadable=why).sealed()

    def sealed(self) -> "PrivateRules":
        """The same with the digest that follows from the rest."""
        said = repr((sorted(self.sessions), *self[1:-2], self.before and self.before.digest))
        return self._replace(digest=hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=16).hexdigest())

    def _decide(self, subject: Subject) -> Verdict:
        if self.unreadable:
            return Verdict(True, self.unreadable, certain=False)
        if subject.session_id.casefold() in self.sessions:
            return _listed(f"session {subject.session_id}")
        for alias in sorted(subject.aliases):
            if alias.casefold() in self.sessions:
                return _copied(alias)
        if found := self._covering(subject):
            return _listed(found)
        if subject.grounds.why and (given := self._still_given(subject.grounds.why)) is not None:
            return given
        if self.share == "listed" and subject.project and not self._is_shared(subject):
            return Verdict(True, 'its project is not one of shared_projects, and share = "listed"')
        if not subject.project and (self.projects or self.share == "listed"):
            return Verdict(True, PROJECT_UNKNOWN, certain=False)
        if subject.remotes is None and self.remotes:
            return Verdict(True, REMOTE_UNKNOWN, certain=False)
        return _SHARED

    def _still_given(self, why: str) -> Verdict | None:
        """What gave this reason, if the list still does: only its owner takes a rule back. A folder that is gone, a
        remote that was renamed, a copy whose original was deleted do not."""
        rules = (*self.projects, *self.remotes)
        given = [_listed(rule.text) for rule in rules] + [_copied(session) for session in self.sessions]
        return next((one for one in given if one.why.casefold() == why.casefold()), None)

    def _covering(self, subject: Subject) -> str:
        """The text of the rule for folders or remotes that covers it, or covered it once."""
        folders = [*subject.folders, *subject.project_spellings, *filter(None, [subject.project])]
        folders += subject.grounds.folders
        ways = {_folder(one) for one in folders}
        if self.fold_case:
            ways |= {one.casefold() for one in ways}
        return _first_like(self.projects, ways, self.fold_case) or _first_like(
            self.remotes, (subject.remotes or frozenset()) | subject.grounds.remotes, False
        )

    def _is_shared(self, subject: Subject) -> bool:
        """Narrow where the list is wide: every spelling of the project has to be shared."""
        patterns = [self._key(one) for one in self.shared_projects]
        return all(
            any(fnmatchcase(one, pattern) for pattern in patterns for one in _with_parents(self._key(spelling)))
            for spelling in {subject.project, *subject.project_spellings}
        )

    def _key(self, folder: str) -> str:
        return _folder(folder).casefold() if self.fold_case else _folder(folder)


def _listed(rule: str) -> Verdict:
    return Verdict(True, f"it is on the private list: {rule}", rule)


def _copied(session: str) -> Verdict:
    return Verdict(True, copied_words(session), f"session {session}")


def copied_words(session: str) -> str:
    return f"its entries stand in a private session, {session}"


def parse_rules(
    text: str,
    source: str = "private.list",
    privacy: Privacy = Privacy(),  # noqa: B008 - frozen
    *,
    spell: Spell = lambda pattern: (pattern,),
    spell_shared: Spell = lambda pattern: (pattern,),
    fold_case: bool = False,
) -> PrivateRules:
    """The rules of a list. `spell` gives all spellings of a private folder's pattern, `spell_shared` those of one of
    `shared_projects`: `~` and links are the disk's business. Raises PrivacyListError, as all below do."""
    rules = [rule for rule in parse_lines(text, source) if rule is not None]
    return PrivateRules(
        sessions=frozenset(rule.value.casefold() for rule in rules if rule.kind == "session"),
        projects=tuple(SpeltRule(one.text, tuple(spell(one.value))) for one in rules if one.kind == "project"),
        remotes=tuple(SpeltRule(one.text, (normalise_remote(one.value),)) for one in rules if one.kind == "remote"),
        share=privacy.share,
        shared_projects=tuple(one for pattern in privacy.shared_projects for one in spell_shared(pattern)),
        fold_case=fold_case,
    ).sealed()


def parse_lines(text: str, source: str = "private.list") -> list[Rule | None]:
    """What each line of the list says; None for a blank line or a comment."""
    lines = split_lines(text.removeprefix("\ufeff"))
    return [_parse_line(line.rstrip("\r\n"), number, source) for number, line in enumerate(lines, 1)]


def split_lines(text: str) -> list[str]:
    """Lines with their ends, which is all of the text. Only a newline ends one: a name may hold what else does."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + lines[-1:] * bool(lines[-1])


def parse_rule(kind: str, value: str) -> Rule:
    """One rule from its parts, as it can stand in a list."""
    rule = _parse_line(f"{kind} {value}", 0, "")
    if rule is None or rule.text != f"{kind} {value}":
        raise PrivacyListError(f"{value!a} can't stand in a private list behind {kind}")
    return rule


def render_folder(folder: str) -> str:
    """The pattern of this one folder and what is below it. What no line can hold becomes a ?, which covers more."""
    escaped = re.sub(r"([*?[]|\{(?=[^}]*,))", r"[\1]", folder.rstrip("/") or "/")
    escaped = re.sub(r"([ \t])#", r"\1[#]", escaped)
    escaped = re.sub(r"[ \t]$", "[ ]", escaped.replace("\t", "?"))
    return "".join(ch if ch.isprintable() else "?" for ch in escaped)


def normalise_remote(url: str) -> str:
    """`host/path` of a git remote, in lower case, without user, port and `.git`; the path alone where it is on this
    machine. Patterns stay patterns."""
    url = re.sub(r"^[a-z0-9-]+::", "", url.strip().casefold())  # a helper's name, as in codecommit::…
    scheme, is_url, rest = url.partition("://")
    if is_url:
        host, _, path = unquote(rest).partition("/")
        host = "" if scheme == "file" else _without_port(host)
    elif _WINDOWS_FOLDER.match(url) or url[:1] in ("/", ".", "~"):
        host, path = "", url.replace("\\", "/")
    elif (found := _BRACKETED.match(url)) is not None:  # [user@host:port]:path, also of ssh and scp
        host, path = _without_port(found[1]), found[2]
        host = f"[{host}]" if ":" in host else host
    else:
        if re.match(r"[^/]*:", url):  # host:path, the way of ssh and scp
            url = url.replace(":", "/", 1)
        host, _, path = url.partition("/")
        host = host.rpartition("@")[2].rstrip(".")
    path = _one_way(path).removesuffix(".git").rstrip("/")
    if not host:
        return "/" + path if scheme == "file" and is_url else path
    return "/".join(filter(None, (_SAME_HOST.get(host, host), path.lstrip("/"))))


_BRACKETED = re.compile(r"(?:[^@/\[\]]*@)?\[([^\]/]+)\]:(.*)", re.DOTALL)


def _without_port(host: str) -> str:
    """Without user, port and the dot that a whole name may end in. An IPv6 address is no port."""
    host = host.rpartition("@")[2]
    return (host if host.count(":") > 1 and not host.startswith("[") else re.sub(r":\d*$", "", host)).rstrip(".")


def _one_way(path: str) -> str:
    """A path without what changes nothing: doubled slashes, `.`, and `..` with what it takes back."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return "/" * path.startswith("/") + "/".join(kept)


_SAME_HOST = {
    "ssh.github.com": "github.com",
    "www.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}
"""Second names, for networks that only let the port of https through."""


def _parse_line(line: str, number: int, source: str) -> Rule | None:
    content = _without_comment(line, number, source)
    if not content:
        return None
    kind, _, value = content.replace("\t", " ").partition(" ")
    value = value.strip()
    if kind not in KINDS:
        raise _wrong(source, number, f"{_shown(kind)} is no kind of rule, expected session, project or remote")
    if not value:
        raise _wrong(source, number, f"{kind} names nothing, expected {_EXPECTED[kind]}")
    if not value.isprintable():
        raise _wrong(source, number, f"{kind} holds a character that can't be seen, expected {_EXPECTED[kind]}")
    if value[0] in "\"'":
        raise _wrong(source, number, "a quote begins what is meant; names stand in this list without quotes")
    _CHECKS[kind](value, number, source)
    return Rule(kind, value, number)


def _without_comment(line: str, number: int, source: str) -> str:
    found = _COMMENT.search(line)
    if found is None:
        return line.strip(" \t")
    content, comment = line[: found.start()].strip(" \t"), line[found.end() :]
    if content and comment and comment[0] not in " \t#":  # `project ~/C #1` may mean a folder of that name
        what = "a # without a blank behind it may belong to the name"
        raise _wrong(source, number, f"{what}; write “# ” for a comment, [#] in a name")
    return content


def _check_session(value: str, number: int, source: str) -> None:
    if re.search(r"[\s*?\[\]/\\…]", value) or (_PART_OF_ID.fullmatch(value) and not _WHOLE_ID.fullmatch(value)):
        raise _wrong(source, number, f"{_shown(value)} is no whole session id", hint="transcriptd sessions list --json")


def _check_project(value: str, number: int, source: str) -> None:
    if not (value[0] in "/~*" or _WINDOWS_FOLDER.match(value)):
        raise _wrong(source, number, f"{_shown(value)} is no folder, expected one that begins with /, ~ or *")
    if {".", ".."}.intersection(_folder(value, normalise=False).split("/")):
        raise _wrong(source, number, f"{_shown(value)} holds . or .., expected a folder without them")


def _check_remote(value: str, number: int, source: str) -> None:
    bare = value.partition("/")[0]
    names_host = ":" in value or value[0] in "/~" or any(ch in bare for ch in ".*?[") or bare == "localhost"
    if " " in value or not names_host or not normalise_remote(value).strip("/."):
        raise _wrong(source, number, f"{_shown(value)} is no git remote, expected {_EXPECTED['remote']}")


_CHECKS = {"session": _check_session, "project": _check_project, "remote": _check_remote}

_EXPECTED = {
    "session": "a whole session id",
    "project": "a folder that begins with /, ~ or *",
    "remote": "a host and path such as github.com/acme/*",
}


def _folder(folder: str, *, normalise: bool = True) -> str:
    """A folder or its pattern in one way of writing it: slashes, none doubled, none at the end; accents composed."""
    if _WINDOWS_FOLDER.match(folder):
        folder = folder.replace("\\", "/")
    if not normalise:
        return folder
    whole = re.sub(r"/(?:\.?/)+", "/", unicodedata.normalize("NFC", folder))
    return whole.rstrip("/") or whole[:1]


def _with_parents(folder: str) -> list[str]:
    """The folder, and all that it lies in."""
    found = [folder]
    while (parent := posixpath.dirname(found[-1])) not in ("", found[-1]):
        found.append(parent)
    return found


def _first_like(rules: tuple[SpeltRule, ...], names: Iterable[str], fold_case: bool) -> str:
    """The text of a rule that matches one of the names or what it lies in."""
    if not rules:
        return ""
    above = {one for name in names for one in _with_parents(name)}
    any_of_them, each = _matchers(rules, fold_case)
    if not any(map(any_of_them, above)):
        return ""
    return next(rule.text for rule, match in zip(rules, each, strict=True) if any(map(match, above)))


_Match = Callable[[str], object]


@lru_cache(maxsize=8)  # a list may have thousands of rules, and thousands of sessions ask it
def _matchers(rules: tuple[SpeltRule, ...], fold_case: bool) -> tuple[_Match, list[_Match]]:
    """What tells whether any rule matches, and what tells it of each. A pattern also matches as it stands: a folder
    may be called `a[1]`."""
    sources = []
    for rule in rules:
        ways = {_folder(spelling) for spelling in rule.spellings}
        if fold_case:
            ways |= {one.casefold() for one in ways}
        sources.append("|".join(dict.fromkeys(other for one in sorted(ways) for other in translate_pattern(one))))
    return re.compile("|".join(sources)).match, [re.compile(source).match for source in sources]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _wrong(source: str, number: int, what: str, hint: str = "") -> PrivacyListError:
    where = f"line {number} of {source}: " if number else ""
    return PrivacyListError(where + what, hint=hint or ("transcriptd private list" if number else ""))
