"""What is known of sessions beside their entries, and which destination was told of it."""

import hashlib
from collections.abc import Callable
from sys import intern

import msgspec

from agent.core.transcripts.session import Facts, StreamId
from agent.core.wire import Meta
from agent.delivery.state.journal import Journal, Store


class SessionFacts:
    """`host` and `version` go into every session's meta."""

    def __init__(self, journal: Journal, host: str, version: str) -> None:
        self._journal = journal
        self._host = host
        self._version = version
        self._told: dict[str, dict[str, str]] = {}
        self.known: dict[str, Facts] = {}
        self.on_project: Callable[[str], None] = lambda _session: None
        """Told when it becomes known where a session works."""
        self._unsaid: dict[Facts, Facts] = {}
        """Those without words, of which many sessions have the same."""

    def load(self, store: Store, shared: dict[str, str]) -> None:
        """`shared` is given each string that others will hold too."""
        for session, facts in store.sessions():
            self.known[shared.setdefault(session, session)] = self._shared(facts)
        for destination, session, digest in store.metas():
            self._told.setdefault(destination, {})[shared.setdefault(session, session)] = digest

    def of(self, session_id: str) -> Facts:
        return self.known.get(session_id, Facts())

    def learn(self, stream: StreamId, facts: Facts) -> None:
        """Takes what a stream said. A subagent names the project, but not the session."""
        before = self.of(stream.session_id)
        if stream.subpath:
            facts = facts._replace(title=before.title, prompt=before.prompt)
        learned = before.merged(facts)
        if learned != before:
            self.known[stream.session_id] = self._shared(learned)
            self._journal.note_session(stream.session_id, learned)
            if learned.project and not before.project:
                self.on_project(stream.session_id)

    def _shared(self, facts: Facts) -> Facts:
        """Many sessions have one project."""
        if facts == facts.to_keep():
            return self._unsaid.setdefault(facts, facts)
        return facts._replace(project=intern(facts.project))

    def meta(self, session_id: str, provider: str) -> tuple[Meta, str]:
        """What a server is told, and a digest to know it again by."""
        return meta_of(self.of(session_id), provider, self._host, self._version)

    def is_told(self, destination: str, session_id: str, provider: str) -> bool:
        if self.of(session_id).is_recalled():
            return True  # who sends it anew learns what it is called first
        return self._told.get(destination, {}).get(session_id, "") == self.meta(session_id, provider)[1]

    def forget_told(self, destination: str, session_id: str) -> None:
        """Nothing is known of the session there any more."""
        if self._told.get(destination, {}).pop(session_id, ""):
            self._journal.note_meta(destination, session_id, "")

    def note_told(self, destination: str, session_id: str, digest: str) -> None:
        self._told.setdefault(destination, {})[session_id] = digest
        self._journal.note_meta(destination, session_id, digest)


def meta_of(facts: Facts, provider: str, host: str, version: str) -> tuple[Meta, str]:
    """What a server is told of a session, and a digest to know it again by."""
    meta = Meta(provider, facts.project, facts.shown_title(), host, version)
    return meta, hashlib.blake2b(msgspec.json.encode(meta), digest_size=8).hexdigest()
