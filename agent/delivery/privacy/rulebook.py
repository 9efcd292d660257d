"""The private list and the settings of privacy, as `permits` asks for them."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping

from agent.core.privacy.rules import NO_GROUNDS, Grounds, PrivateRules
from agent.core.settings import Privacy
from agent.delivery.privacy.losses import Losses
from agent.delivery.privacy.permits import SHARED, RulesNow, Verdict, stale_rules
from agent.delivery.privacy.subjects import subject_of
from agent.errors import DiskError
from agent.system.git import GitRemotes
from agent.system.paths import Paths
from agent.system.state.privacy_list import PrivacyList

log = logging.getLogger(__name__)

HAS_LIST = "private_list"
"""Settled in the store once there is one: from then on a missing list makes everything private."""


class _Rules:
    """`read()` gives the rules that are in force: the same object as long as they are the same."""

    def __init__(self, read: Callable[[], PrivateRules], git: GitRemotes) -> None:
        self._read = read
        self._git = git
        self._put: tuple[PrivateRules, RulesNow] | None = None

    def now(self) -> RulesNow:
        rules, put = self._read(), self._put
        if put is None or put[0] is not rules:
            put = self._put = rules, _put(rules)
        return put[1]

    def judge(
        self, rules: RulesNow, session_id: str, project: str, folders: frozenset[str], grounds: Grounds = NO_GROUNDS
    ) -> Verdict:
        put = self._put
        if put is None or put[1] != rules:
            raise stale_rules()
        listed = put[0]
        subject = subject_of(listed, self._git, session_id, project, folders=folders, grounds=grounds)
        found = listed.decide(subject)
        # That a session is not among those to be shared is no wish to delete what was shared of it.
        if not found.private:
            return SHARED
        if not (found.certain and found.rule):
            return Verdict(found.why, certain=False)
        return Verdict(found.why, grounds=Grounds(subject.folders, subject.remotes or frozenset()))


class ListedRules(_Rules):
    """`had_list`: there was one in an earlier life, so that a missing one is no sign that nothing is private.
    `has_list`: one was seen, in this life or that; False where none can be made, as in a folder that nobody may
    write."""

    def __init__(
        self,
        paths: Paths,
        privacy: Privacy,
        environment: Mapping[str, str],
        *,
        had_list: bool,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(self._read_list, GitRemotes(environment, os.path.expanduser("~")))
        self._list = PrivacyList(paths.private_list, privacy, monotonic=monotonic_s)
        self._losses = Losses(self._list, paths.known_rules, monotonic_s)
        self.has_list = had_list
        if not had_list:
            try:
                self._list.create()
            except DiskError as exc:
                log.warning("there is no private list yet: %s", exc.message)
        self._read_list()

    def _read_list(self) -> PrivateRules:
        rules = self._losses.read()
        self.has_list = self.has_list or not rules.missing
        return close_missing(self._list, rules) if self.has_list else rules

    def problems(self) -> list[tuple[str, str]]:
        """That rules hold though they are gone; as `status` tells it."""
        return self._losses.problems()

    def count_lost(self) -> int:
        return self._losses.count()


class FixedRules(_Rules):
    """Rules as they were read once, for commands that look and make nothing."""

    def __init__(self, rules: PrivateRules, git: GitRemotes) -> None:
        super().__init__(lambda: rules, git)


def _put(rules: PrivateRules) -> RulesNow:
    both = [rules] if rules.before is None else [rules, rules.before]
    sessions = frozenset[str]().union(*(one.sessions for one in both))
    return RulesNow(rules.digest, sessions, "".join(map(_folders_digest, both)), rules.unreadable)


def _folders_digest(rules: PrivateRules) -> str:
    """Of what asks for the folders that a session worked in; empty when nothing does."""
    if not rules.projects and not rules.asks_for_remotes and rules.share != "listed":
        return ""
    said = repr((rules.projects, rules.remotes, rules.share, rules.shared_projects, rules.fold_case))
    return hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def close_missing(private_list: PrivacyList, rules: PrivateRules) -> PrivateRules:
    """`rules` of a list that was there once: without it everything is private."""
    return rules.closed(f"the private list is gone: {private_list.path}") if rules.missing else rules
