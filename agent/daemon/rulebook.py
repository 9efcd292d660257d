"""The private list and the settings of privacy, as `permits` asks for them."""

import os
from collections.abc import Mapping

from agent.core.privacy import PrivateRules
from agent.core.settings import Privacy
from agent.daemon.permits import SHARED, RulesNow, Verdict
from agent.daemon.subjects import subject_of
from agent.system.git import GitRemotes
from agent.system.paths import Paths
from agent.system.privacy_list import PrivacyList


class ListedRules:
    """`had_list`: there was one in an earlier life, so that a missing one is no sign that nothing is private."""

    def __init__(self, paths: Paths, privacy: Privacy, environment: Mapping[str, str], *, had_list: bool) -> None:
        self._list = PrivacyList(paths.private_list, privacy)
        self._git = GitRemotes(environment, os.path.expanduser("~"))
        if not had_list:
            self._list.create()

    def now(self) -> RulesNow:
        rules = self._read()
        asks_folders = _asks_folders(rules) or (rules.before is not None and _asks_folders(rules.before))
        sessions = rules.sessions | (rules.before.sessions if rules.before is not None else frozenset())
        return RulesNow(rules.digest, sessions, asks_folders, rules.unreadable)

    def judge(self, session_id: str, project: str, folders: frozenset[str]) -> Verdict:
        rules = self._read()
        found = rules.decide(subject_of(rules, self._git, session_id, project, folders=folders))
        # That a session is not among those to be shared is no wish to delete what was shared of it.
        return Verdict(found.why, found.certain and bool(found.rule)) if found.private else SHARED

    def _read(self) -> PrivateRules:
        rules = self._list.read()
        return rules.closed(f"the private list is gone: {self._list.path}") if rules.missing else rules


def _asks_folders(rules: PrivateRules) -> bool:
    return bool(rules.projects) or rules.asks_for_remotes or rules.share == "listed"
