"""The private list and the settings of privacy, as `permits` asks for them."""

from collections.abc import Mapping

from agent.core.privacy import PrivateRules
from agent.core.settings import Privacy
from agent.daemon.permits import RulesNow, Verdict
from agent.daemon.subjects import subject_of
from agent.system.git import GitRemotes
from agent.system.paths import Paths
from agent.system.privacy_list import PrivacyList


class ListedRules:
    """`had_list`: there was one in an earlier life, so that a missing one is no sign that nothing is private."""

    def __init__(self, paths: Paths, privacy: Privacy, environment: Mapping[str, str], *, had_list: bool) -> None:
        self._list = PrivacyList(paths.private_list, privacy)
        self._git = GitRemotes(environment)
        if not had_list:
            self._list.create()

    def now(self) -> RulesNow:
        rules = self._read()
        asks_folders = bool(rules.projects or rules.asks_for_remotes) or rules.shares_listed_only
        return RulesNow(rules.digest, frozenset(rules.sessions), asks_folders, rules.unreadable)

    def judge(self, session_id: str, project: str, folders: frozenset[str]) -> Verdict:
        rules = self._read()
        found = rules.decide(subject_of(rules, self._git, session_id, project, folders=folders))
        return Verdict(found.why or "private", found.certain) if found.private else Verdict()

    def _read(self) -> PrivateRules:
        rules = self._list.read()
        return rules.closed(f"the private list is gone, {self._list.path}") if rules.missing else rules
