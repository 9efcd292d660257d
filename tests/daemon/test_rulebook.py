"""The private list as senders ask for it: one that was there and is gone keeps everything here."""

import os
from pathlib import Path

import pytest

from agent.core.settings import Privacy
from agent.delivery.privacy.permits import SHARED
from agent.delivery.privacy.rulebook import ListedRules
from agent.errors import DiskError
from agent.system.paths import Paths, paths_below
from agent.system.state.privacy_list import PrivacyList

NOWHERE: frozenset[str] = frozenset()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_below(tmp_path / "td")


def rulebook(paths: Paths, privacy: Privacy | None = None, *, had_list: bool = False) -> ListedRules:
    return ListedRules(paths, privacy or Privacy(), os.environ, had_list=had_list)


def test_the_first_start_makes_an_empty_list(paths: Paths) -> None:
    rules = rulebook(paths)
    assert rules.has_list
    assert paths.private_list.exists()
    assert rules.judge(rules.now(), "s", "/w", frozenset(["/w"])) == SHARED


def test_a_list_that_goes_keeps_everything_here_until_it_is_back(paths: Paths) -> None:
    rules = rulebook(paths)
    paths.private_list.unlink()
    verdict = rules.judge(rules.now(), "s", "/w", frozenset(["/w"]))
    assert ("is gone" in verdict.why, verdict.certain) == (True, False)
    assert "is gone" in rules.now().blind
    again = rulebook(paths, had_list=True)
    assert not paths.private_list.exists(), "a new one would share what the old one kept"
    assert again.now().blind
    paths.private_list.touch()
    assert again.judge(again.now(), "s", "/w", frozenset(["/w"])) == SHARED


def test_where_none_can_be_made_there_is_none(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: PrivacyList) -> bool:
        raise DiskError("folder /td can't be written")

    monkeypatch.setattr(PrivacyList, "create", refuse)
    rules = rulebook(paths)
    assert not rules.has_list
    assert rules.judge(rules.now(), "s", "/w", frozenset(["/w"])) == SHARED
    assert "there is no private list yet: folder /td can't be written" in caplog.text
    paths.private_list.parent.mkdir()
    paths.private_list.touch()
    rules.now()
    assert rules.has_list
    paths.private_list.unlink()
    assert rules.now().blind


def test_what_the_settings_do_not_share_is_no_wish_to_delete(paths: Paths) -> None:
    rules = rulebook(paths, Privacy("listed", ("/w/open",)))
    assert rules.judge(rules.now(), "s", "/w/open", frozenset(["/w/open"])) == SHARED
    verdict = rules.judge(rules.now(), "s", "/w", frozenset(["/w"]))
    assert ("shared_projects" in verdict.why, verdict.certain) == (True, False)
    PrivacyList(paths.private_list).add([])
    paths.private_list.write_text("project /w/secret\n", encoding="utf-8")
    assert rules.judge(rules.now(), "s", "/w/open", frozenset(["/w/open", "/w/secret"])).certain
    assert rules.judge(rules.now(), "s", "", NOWHERE).certain is False
