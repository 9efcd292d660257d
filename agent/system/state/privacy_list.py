"""The private list on disk: read anew whenever it changed, edited under a lock. `core.privacy.rules` has its rules.

It is asked before each request, from any thread. A list that can't be read makes everything private.
"""

import contextlib
import glob
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.core.privacy.patterns import expand_pattern
from agent.core.privacy.rules import HEADER, PrivateRules, Rule, parse_lines, parse_rules, split_lines
from agent.core.settings import Privacy
from agent.errors import DiskError, PrivacyListError, UsageError
from agent.system.files.own_files import lock_own

MOST_BYTES = 1 << 20
"""Some 15,000 rules. Each is tried for each session."""

FRESH_S = 1.0
"""So long after a change what stood there before still counts: an editor may be in the middle of writing."""

LINKS_S = 5.0
"""So often the links that lead into and out of the folders of rules are looked for anew."""

BRING_BACK = "bring it back, or make an empty file in its place if nothing is to be private"

LOCK_S = 10.0
_TRIES = 5
_MOST_LINKS = 10_000
_MOST_WILDCARDS = 2
_MOST_READINGS = 32
"""Of a pattern, for which links are looked for."""

_Signature = tuple[int, int, int, int, int]


_MOST_RECEIPTS = 1000
"""Rules taken out by commands, of which an agent that did not run meanwhile learns when it starts."""


class Seen(NamedTuple):
    """`rules`: what is in force. `own`: the lines of the list itself; None where nobody can tell. `is_settled`: nobody
    has written to it for a moment. `number` is another one whenever it was read."""

    rules: PrivateRules
    own: tuple[str, ...] | None
    is_settled: bool
    number: int


class _Receipts(msgspec.Struct, frozen=True):
    """Which rules commands of ours took out, each with the number of the edit, beside the list."""

    edit: int = 0
    removed: tuple[tuple[int, str], ...] = ()


class Edited(NamedTuple):
    """What an edit did: the rules that it changed, and those for which nothing was to be done."""

    changed: tuple[Rule, ...]
    unchanged: tuple[Rule, ...]


class _Loaded(NamedTuple):
    """`settled`: whether the file can be known by its signature alone from now on. `own`: as in `Seen`."""

    signature: _Signature | None
    rules: PrivateRules
    own: tuple[str, ...] | None
    text: str
    settled: bool
    spelt_at_s: float


class PrivacyList:
    """The list at `path`, and what `privacy` says of sharing. `home` stands for `~`."""

    def __init__(
        self,
        path: Path,
        privacy: Privacy = Privacy(),  # noqa: B008 - frozen
        *,
        home: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._privacy = privacy
        self._home = os.path.expanduser("~") if home is None else home
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._loaded: _Loaded | None = None
        self._before: list[tuple[float, PrivateRules]] = []
        self._held: tuple[str, ...] = ()
        self._number = 0

    def read(self) -> PrivateRules:
        """The rules that are in force now. `unreadable` says why when there are none to be had, `missing` that there
        is no file. Never fails."""
        return self.look().rules

    def look(self) -> Seen:
        """The same, with what it comes from."""
        with self._mutex:
            now_s = self._monotonic()
            old = self._loaded
            if old and old.settled and now_s - old.spelt_at_s <= LINKS_S and old.signature == self._look():
                return self._seen(old, now_s)
            self._loaded = new = self._load(now_s)
            self._number += 1
            # What was unreadable or missing gave no rules that could still count.
            if old and old.rules.digest != new.rules.digest and not (old.rules.unreadable or old.rules.missing):
                self._before.append((now_s, old.rules))
            return self._seen(new, now_s)

    def hold(self, lines: Iterable[str]) -> None:
        """Lines that are in force though they stand in the list no more."""
        held = tuple(lines)
        with self._mutex:
            if held != self._held:
                self._held = held
                if self._loaded is not None:
                    self._loaded = self._loaded._replace(settled=False)

    def removed_since(self, edit: int) -> tuple[int, frozenset[str]]:
        """The number of the last edit by a command of ours, and the lines that those behind `edit` took out."""
        receipts = self._read_receipts()
        return receipts.edit, frozenset(line for number, line in receipts.removed if number > edit)

    def confirm_removed(self, lines: Iterable[str]) -> None:
        """Its owner says that these lines are to be gone. Raises DiskError."""
        with self._locked():
            self._note_removed(lines)

    def create(self) -> bool:
        """Makes the list with a heading and no rule; whether there was none. Raises DiskError."""
        with self._locked():
            if os.path.lexists(self.path):
                return False
            self._replace(HEADER, instead_of=None)
            return True

    def rules(self) -> list[Rule]:
        """What stands in the list, in its order. Raises DiskError or PrivacyListError."""
        return [rule for rule in parse_lines(self._read_text() or "", str(self.path)) if rule is not None]

    def find(self, rules: Iterable[Rule]) -> list[Rule]:
        """Those of `rules` that stand in the list, however they are written there. Raises as `rules`."""
        known = {self._key(rule) for rule in self.rules()}
        return [rule for rule in rules if self._key(rule) in known]

    def alike(self, rules: Iterable[Rule], lines: Iterable[str]) -> list[Rule]:
        """The rules that `lines` hold and that say the same as one of `rules`."""
        wanted = {self._key(rule) for rule in rules}
        return [rule for rule in parse_lines("\n".join(lines)) if rule is not None and self._key(rule) in wanted]

    def add(self, rules: Iterable[Rule], *, create: bool = True) -> Edited:
        """Puts rules at the end, all or none, except those that stand there already. Raises DiskError, and
        PrivacyListError for a list that can't be parsed, or is not there and not to be begun: a new one would share
        what the old one kept."""
        with self._locked():
            text = self._read_text()
            if text is None and not create:
                raise PrivacyListError(f"the private list is gone: {self.path}", hint=BRING_BACK)
            found = [rule for rule in parse_lines(text or "", str(self.path)) if rule is not None]
            known = {self._key(rule) for rule in found}
            added: list[Rule] = []
            unchanged: list[Rule] = []
            for rule in rules:
                (unchanged if self._key(rule) in known else added).append(rule)
                known.add(self._key(rule))
            if added:
                self._replace(_append(text if text is not None else HEADER, added), instead_of=text)
                self._forget_removed(rule.text for rule in added)
            return Edited(tuple(added), tuple(unchanged))

    def remove(self, rules: Iterable[Rule]) -> Edited:
        """Takes rules out, with the comments on their lines; all else stays byte for byte. Raises as `add`."""
        with self._locked():
            text = self._read_text() or ""
            lines = split_lines(text)
            found = parse_lines(text, str(self.path))
            wanted = {self._key(rule): rule for rule in rules}
            doomed = [number for number, rule in enumerate(found) if rule is not None and self._key(rule) in wanted]
            if doomed:
                left = "".join(line for number, line in enumerate(lines) if number not in doomed)
                bom = "\ufeff" if text.startswith("\ufeff") and not left.startswith("\ufeff") else ""
                self._replace(bom + left, instead_of=text)
                self._note_removed(rule.text for number in doomed if (rule := found[number]) is not None)
            gone = {self._key(rule) for number in doomed if (rule := found[number]) is not None}
            removed = tuple(rule for key, rule in wanted.items() if key in gone)
            return Edited(removed, tuple(rule for key, rule in wanted.items() if key not in gone))

    # ---- receipts ----

    @property
    def _receipts_path(self) -> Path:
        return self.path.with_name(self.path.name + ".removed")

    def _read_receipts(self) -> _Receipts:
        try:
            return msgspec.json.decode(self._receipts_path.read_bytes(), type=_Receipts)
        except (OSError, msgspec.MsgspecError):
            return _Receipts()

    def _note_removed(self, lines: Iterable[str]) -> None:
        """Behind the list itself: a crash between the two has rules hold that are gone, and not the other way round."""
        before = self._read_receipts()
        edit = before.edit + 1
        removed = (*before.removed, *((edit, line) for line in lines))[-_MOST_RECEIPTS:]
        _write_whole(self._receipts_path, msgspec.json.encode(_Receipts(edit, removed)))

    def _forget_removed(self, lines: Iterable[str]) -> None:
        """What was put back is not taken out any more."""
        before, back = self._read_receipts(), set(lines)
        removed = tuple(one for one in before.removed if one[1] not in back)
        if removed != before.removed:
            _write_whole(self._receipts_path, msgspec.json.encode(_Receipts(before.edit, removed)))

    # ---- reading ----

    def _look(self) -> _Signature | None:
        try:
            return _signature(os.stat(self.path))
        except OSError:
            return None

    def _load(self, now_s: float) -> _Loaded:
        signature, data, why = self._read_whole()
        text = ""
        if not why and data is not None:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                why = f"{self.path} is not UTF-8"
        missing = data is None and not why
        own: tuple[str, ...] | None = None
        try:
            found = [rule for rule in parse_lines(text, str(self.path)) if rule]
            own = tuple(rule.text for rule in found) if data is not None and not why else None
            text = "\n".join((text, *self._held)) if self._held and own is not None else text
            patterns = [rule.value for rule in parse_lines(text, str(self.path)) if rule and rule.kind == "project"]
            folds = self._folds_case([*patterns, *self._privacy.shared_projects])
            rules = parse_rules(
                text,
                str(self.path),
                self._privacy,
                spell=self._spell,
                spell_shared=self._spell_fixed,
                fold_case=folds,
            )
        except PrivacyListError as exc:
            rules, own, why = PrivateRules(), None, exc.message
        except (OSError, ValueError) as exc:  # a disk that does not even say where a link leads
            rules, own = PrivateRules(), None
            why = f"the folders in {self.path} can't be looked at: {type(exc).__name__}"
        rules = rules._replace(missing=missing).sealed()
        return _Loaded(signature, rules.closed(why) if why else rules, own, text, _is_settled(signature), now_s)

    def _read_whole(self) -> tuple[_Signature | None, bytes | None, str]:
        """Signature, content (None without a file) and why it can't be had. A file that is replaced or changed while
        it is read is read again."""
        for _ in range(_TRIES):
            try:
                before = os.stat(self.path)
                if why := _unfit(before):
                    return _signature(before), None, f"{self.path} {why}"
                with open(os.open(self.path, _READING), "rb") as file:
                    opened = os.fstat(file.fileno())
                    data = file.read(MOST_BYTES + 1)
                after = os.stat(self.path)
            except FileNotFoundError:
                if os.path.islink(self.path):
                    return None, None, f"{self.path} is a link that leads nowhere"
                if not os.path.lexists(self.path):
                    return None, None, ""
                continue
            except OSError as exc:
                return None, None, f"{self.path} can't be read: {exc.strerror}"
            if _signature(before) == _signature(opened) == _signature(after) and len(data) == before.st_size:
                return _signature(after), data, ""
        return None, None, f"{self.path} changes while it is read"

    def _seen(self, loaded: _Loaded, now_s: float) -> Seen:
        return Seen(self._with_before(loaded.rules, now_s), loaded.own, _is_settled(loaded.signature), self._number)

    def _with_before(self, rules: PrivateRules, now_s: float) -> PrivateRules:
        self._before = [one for one in self._before if now_s - one[0] <= FRESH_S]
        before = None
        for _, earlier in self._before:
            before = earlier._replace(before=before).sealed()
        return rules._replace(before=before).sealed() if before else rules

    # ---- folders ----

    def _spell(self, pattern: str) -> Iterator[str]:
        """What `_spell_fixed` gives, and the targets of links that the pattern matches, if it has at most two
        wildcards: more would mean to look at half a disk."""
        whole, *resolved = self._spell_fixed(pattern)
        yield whole
        yield from resolved
        for reading in expand_pattern(whole)[:_MOST_READINGS]:
            _, *resolved = self._spell_fixed(reading)
            yield from resolved
            fixed, rest = _split_pattern(reading)
            if rest and os.path.isabs(fixed) and sum(map(glob.has_magic, rest.split("/"))) <= _MOST_WILDCARDS:
                for found in islice(glob.iglob(reading, include_hidden=True), _MOST_LINKS):
                    if (real := os.path.realpath(found)) != found:
                        yield glob.escape(real)

    def _spell_fixed(self, pattern: str) -> Iterator[str]:
        """The pattern as written, and with what leads to its first wildcard resolved."""
        whole = self._expanded(pattern)
        yield whole
        fixed, rest = _split_pattern(whole)
        if os.path.isabs(fixed) and (real := os.path.realpath(fixed)) != os.path.normpath(fixed):
            yield glob.escape(real) + rest

    def _expanded(self, pattern: str) -> str:
        if pattern == "~" or pattern.startswith(("~/", "~\\")):
            return self._home + pattern[1:]
        return os.path.expanduser(pattern) if pattern.startswith("~") else pattern

    def _folds_case(self, patterns: list[str]) -> bool:
        """Whether a file system that rules speak of takes upper and lower case for the same."""
        if sys.platform in ("darwin", "win32"):
            return True
        folders = {self._home, *(_split_pattern(self._expanded(one))[0] for one in patterns)}
        return any(_ignores_case(one) for one in folders)

    def _key(self, rule: Rule) -> tuple[str, str]:
        parsed = parse_rules(rule.text, spell=lambda pattern: (self._expanded(pattern),))
        spelt = [one.spellings[0] for one in (*parsed.projects, *parsed.remotes)]
        return (rule.kind, spelt[0].rstrip("/") if spelt else rule.value.casefold())

    # ---- writing ----

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import filelock  # `status` reads the list too, and has to answer fast

        try:
            lock = lock_own(self.path.with_name(self.path.name + ".lock"))
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire(timeout=LOCK_S)
        except filelock.Timeout as exc:
            raise DiskError(f"{self.path} is being changed by another process for more than {LOCK_S:g} s") from exc
        except OSError as exc:
            raise DiskError(f"{self.path} can't be locked: {exc.strerror}") from exc
        try:
            yield
        finally:
            lock.release()

    def _read_text(self) -> str | None:
        _, data, why = self._read_whole()
        if why:
            raise PrivacyListError(why, hint="nothing was changed; correct it first")
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as exc:
            raise PrivacyListError(f"{self.path} is not UTF-8", hint="nothing was changed; correct it first") from exc

    def _replace(self, text: str, *, instead_of: str | None) -> None:
        """On disk when it returns; a crash leaves the old or the new. Links are followed."""
        data = text.encode()
        if len(data) > MOST_BYTES:
            raise UsageError(f"{self.path} would have {len(data):,} bytes, allowed are {MOST_BYTES:,}")

        def check() -> None:
            if self._read_text() != instead_of:
                raise DiskError(f"{self.path} was changed by somebody else meanwhile", hint="run it again")

        _write_whole(self.path, data, check)


def _write_whole(path: Path, data: bytes, check: Callable[[], None] = lambda: None) -> None:
    """`check()` is asked last. Raises DiskError, and what that raises."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    try:
        file, fresh = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(target)}.")  # mode 0600
        try:
            with os.fdopen(file, "wb") as writing:
                writing.write(data)
                writing.flush()
                os.fsync(writing.fileno())
            check()
            os.replace(fresh, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
        _sync_folder(folder)
    except OSError as exc:
        raise DiskError(f"{path} can't be written: {exc.strerror}") from exc


def spell_folder(folder: str) -> frozenset[str]:
    """A folder as written, and with links resolved; for `core.privacy.rules.Subject`."""
    if not folder:
        return frozenset()
    try:
        return frozenset((folder, os.path.realpath(folder) if os.path.isabs(folder) else folder))
    except (OSError, ValueError):  # a NUL, or links in a circle on some systems
        return frozenset((folder,))


_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _signature(seen: os.stat_result) -> _Signature:
    """The time of change tells also of an edit that sets the time of the content back."""
    return (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _unfit(seen: os.stat_result) -> str:
    if stat.S_ISDIR(seen.st_mode):
        return "is a folder"
    if not stat.S_ISREG(seen.st_mode):
        return "is no file"
    return f"has {seen.st_size:,} bytes, allowed are {MOST_BYTES:,}" if seen.st_size > MOST_BYTES else ""


def _is_settled(signature: _Signature | None) -> bool:
    """Two writes within one tick of the file system's clock look the same, so a fresh file is read each time; also one
    from the future."""
    if signature is None:
        return False
    changed_at_ns = max(signature[3], signature[4])
    return changed_at_ns < time.time_ns() - int(FRESH_S * 1e9)


def _split_pattern(pattern: str) -> tuple[str, str]:
    """What of a pattern stands before its first wildcard, as a folder, and the rest from a slash on."""
    parts = pattern.replace("\\", "/").split("/") if os.name == "nt" else pattern.split("/")
    for number, part in enumerate(parts):
        if glob.has_magic(part):
            return "/".join(parts[:number]) or "/", "/" + "/".join(parts[number:])
    return pattern, ""


def _ignores_case(folder: str) -> bool:
    name = os.path.basename(folder.rstrip("/"))
    other = os.path.join(os.path.dirname(folder.rstrip("/")), name.swapcase())
    try:
        return name != name.swapcase() and os.path.samefile(folder, other)
    except (OSError, ValueError):
        return False


def _append(text: str, rules: Iterable[Rule]) -> str:
    end = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    gap = "" if not text.removeprefix("\ufeff") or text.endswith("\n") else end
    return text + gap + "".join(rule.text + end for rule in rules)


def _sync_folder(folder: str) -> None:
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
