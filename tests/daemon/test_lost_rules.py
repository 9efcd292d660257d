"""Rules that are gone though nobody took them out: they hold for a while, are told of, and go only then."""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.privacy.lost_rules import HOLD_S
from agent.core.privacy.rules import parse_rule
from agent.core.settings import Privacy, Settings, parse_settings
from agent.delivery.privacy.kept_sharing import KeptSharing, narrowed
from agent.delivery.privacy.losses import WRITE_S, find_lost
from agent.delivery.privacy.rulebook import ListedRules
from agent.system.paths import Paths, paths_below
from agent.system.state.privacy_list import PrivacyList
from tests.fakes import FakeClock
from tests.reliability import MakeTally

RULES = [f"project /w/secret-{number}" for number in range(5)]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = paths_below(tmp_path / "td")
    paths.state.mkdir(parents=True)
    return paths


class Owner:
    """A list on disk, and an agent that looks at it now and then."""

    def __init__(self, paths: Paths, clock: FakeClock) -> None:
        self.paths, self.clock = paths, clock
        self.commands = PrivacyList(paths.private_list)
        self.commands.add([parse_rule(*rule.split(" ", 1)) for rule in RULES])
        self.quiet()
        self.start()

    def start(self) -> None:
        """An agent, after a restart or before."""
        self.agent = ListedRules(self.paths, Privacy(), os.environ, had_list=True, monotonic_s=self.clock.monotonic_s)

    def write(self, text: str) -> None:
        """By an editor, or whoever. Not of a moment ago."""
        self.paths.private_list.write_text(text, encoding="utf-8")
        self.quiet()

    def quiet(self) -> None:
        """Nobody has written for a while."""
        os.utime(self.paths.private_list, (1e9, 1e9))

    def private(self) -> list[str]:
        """The rules that are in force."""
        folders = [rule.partition(" ")[2] for rule in RULES]
        now = self.agent.now()
        if now.blind:
            return list(RULES)
        return [f"project {one}" for one in folders if self.agent.judge(now, "s", one, frozenset([one])).why]

    def live(self, seconds: float) -> None:
        """With a look each second or so."""
        for _ in range(20):
            self.clock.advance(seconds / 20)
            self.agent.now()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether the list was last written a moment ago, by its times: those of change can't be set."""
    now = [True]
    monkeypatch.setattr(
        "agent.system.state.privacy_list._is_settled", lambda signature: signature is not None and now[0]
    )
    return lambda value: now.__setitem__(0, value)


def cut(text: str, at: int) -> str:
    return text[:at]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_a_list_that_is_cut_anywhere_holds_for_ten_minutes(
    paths: Paths, settled: Callable[[bool], None], seed: int, restarts: bool, tally: MakeTally
) -> None:
    owner = Owner(paths, FakeClock())
    assert owner.private() == RULES
    whole = paths.private_list.read_text(encoding="utf-8")
    at = random.Random(seed).randrange(len(whole))
    settled(False)
    owner.write(cut(whole, at))
    assert owner.private() == RULES, "while somebody may be writing"
    settled(True)
    for part in (0.3, 0.3, 0.3):
        owner.live(HOLD_S * part)
        if restarts:
            owner.start()
        assert owner.private() == RULES
    if owner.agent.now().blind:
        return  # half a rule: all is private until it is corrected
    assert owner.agent.count_lost() > 0 or cut(whole, at).count("\n") == whole.count("\n")
    assert find_lost(paths, Privacy()) or owner.agent.count_lost() == 0
    owner.live(HOLD_S * 0.3 + 4 * WRITE_S)  # a restart forgets how much of a minute has passed
    standing = [rule for rule in RULES if rule in cut(whole, at).splitlines()]
    assert owner.private() == standing
    assert owner.agent.problems() == []
    tally("private means private", "a list cut short").note()


def test_a_list_that_is_put_back_has_lost_nothing(paths: Paths, settled: Callable[[bool], None]) -> None:
    owner = Owner(paths, FakeClock())
    whole = paths.private_list.read_text(encoding="utf-8")
    owner.write("")
    owner.live(HOLD_S / 2)
    [(words, _)] = owner.agent.problems()
    assert "5 rules are gone" in words
    assert "5 more minutes" in words
    owner.write(whole)
    owner.live(HOLD_S * 2)
    assert owner.private() == RULES
    assert owner.agent.problems() == []


def test_nothing_is_learned_from_a_list_that_is_being_written(paths: Paths, settled: Callable[[bool], None]) -> None:
    """Half a rule is another rule; it was never meant, and is not missed."""
    owner = Owner(paths, FakeClock())
    whole = paths.private_list.read_text(encoding="utf-8")
    settled(False)
    owner.write(f"{RULES[0]}\nproject /w/secr")
    owner.live(5)
    assert owner.private() == RULES
    assert owner.agent.problems() == []
    owner.write(whole)
    settled(True)
    owner.live(5)
    assert owner.private() == RULES
    assert owner.agent.problems() == []


def test_what_changes_meanwhile_begins_its_time_anew(paths: Paths, settled: Callable[[bool], None]) -> None:
    owner = Owner(paths, FakeClock())
    owner.write("")
    owner.live(HOLD_S * 0.9)
    owner.write("no rule at all\n")
    owner.live(HOLD_S * 2)
    assert owner.agent.now().blind
    owner.write("# being written\n")
    owner.live(HOLD_S * 0.9)
    assert owner.private() == RULES
    owner.live(HOLD_S * 0.2)
    assert owner.private() == []


@pytest.mark.parametrize("is_running", [True, False])
def test_what_commands_take_out_goes_at_once(paths: Paths, settled: Callable[[bool], None], is_running: bool) -> None:
    owner = Owner(paths, FakeClock())
    owner.write("".join(f"{rule}\n" for rule in RULES[1:]))
    if is_running:
        owner.live(10)
        assert owner.private() == RULES
    owner.commands.remove([parse_rule("project", "/w/secret-3")])
    owner.quiet()
    if not is_running:
        owner.start()
    owner.live(10)
    assert owner.private() == [RULES[0], RULES[1], RULES[2], RULES[4]], "and no other one"
    owner.commands.confirm_removed([RULES[0]])
    owner.live(10)
    assert owner.private() == [RULES[1], RULES[2], RULES[4]]


def test_a_receipt_counts_once(paths: Paths, settled: Callable[[bool], None]) -> None:
    """Taken out by a command and put back, by a command or by hand: the next loss is one."""
    owner = Owner(paths, FakeClock())
    for put_back in ("command", "hand"):
        owner.commands.remove([parse_rule("project", "/w/secret-0")])
        owner.quiet()
        owner.live(10)
        assert owner.private() == RULES[1:]
        if put_back == "command":
            owner.commands.add([parse_rule("project", "/w/secret-0")])
            owner.quiet()
        else:
            owner.write("".join(f"{rule}\n" for rule in RULES))
        owner.live(10)
        owner.write("")
        owner.live(10)
        assert owner.private() == RULES
        owner.write("".join(f"{rule}\n" for rule in RULES))
        owner.live(10)


def test_what_is_known_is_lost_with_the_state_and_nothing_else(paths: Paths, settled: Callable[[bool], None]) -> None:
    owner = Owner(paths, FakeClock())
    for damaged in (b"", b"{", b"\xff" * 9, b"[1]"):
        paths.known_rules.write_bytes(damaged)
        owner.start()
        assert owner.private() == RULES


# --- settings -------------------------------------------------------------------------------------------------------

TEXT = """\
[[destination]]
url = "https://a.example"
projects = ["/w/open"]

[privacy]
share = "listed"
shared_projects = ["/w/open"]
patterns = ["kind: x{9}"]
emails = true
home_folders = true
hold_s = 60
"""


def take(kept: KeptSharing, text: str) -> Settings:
    return kept.take(parse_settings(text))


@pytest.mark.parametrize("at", range(len("[[destination]]\n"), len(TEXT)))
def test_settings_that_are_cut_anywhere_share_no_more_than_before(paths: Paths, at: int) -> None:
    clock = FakeClock()
    kept = KeptSharing(paths.known_sharing, "config.toml", clock.monotonic_s)
    whole = take(kept, TEXT)
    try:
        left = parse_settings(TEXT[:at])
    except Exception:  # noqa: BLE001 - settings that are none change nothing
        return
    found = kept.take(left)
    assert set(found.privacy.shared_projects) <= {"/w/open"}
    assert replace(found.privacy, shared_projects=("/w/open",)) == whole.privacy
    assert [one.projects for one in found.destinations] == [("/w/open",)] * len(left.destinations)
    assert narrowed(paths.known_sharing, left)[0] == found
    again = KeptSharing(paths.known_sharing, "config.toml", clock.monotonic_s)
    assert again.take(left) == found, "over a restart"
    if not again.lost:
        return
    clock.advance(HOLD_S - 1)
    assert not again.is_over()
    clock.advance(2)
    assert again.is_over()
    assert again.take(left) == left


def test_settings_that_say_more_than_before_are_taken_at_once(paths: Paths) -> None:
    kept = KeptSharing(paths.known_sharing, "config.toml", FakeClock().monotonic_s)
    take(kept, TEXT)
    more = TEXT.replace('shared_projects = ["/w/open"]', 'shared_projects = ["/w/open", "/w/more"]')
    assert take(kept, more).privacy.shared_projects == ("/w/open", "/w/more")
    assert kept.problems() == []


def test_another_text_that_is_no_secret_has_to_wait(paths: Paths) -> None:
    kept = KeptSharing(paths.known_sharing, "config.toml", FakeClock().monotonic_s)
    take(kept, TEXT)
    assert take(kept, TEXT + 'allow = [".*"]\n').privacy.allow == ()
    [(words, hint)] = kept.problems()
    assert "privacy.allow" in words
    assert hint == "transcriptd config accept"
