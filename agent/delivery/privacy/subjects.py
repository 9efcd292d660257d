"""What the private list has to know of a session, looked up on this machine."""

from collections.abc import Iterable

from agent.core.privacy.rules import NO_GROUNDS, Grounds, PrivateRules, Subject
from agent.system.git import GitRemotes
from agent.system.state.privacy_list import spell_folder


def subject_of(
    rules: PrivateRules,
    git: GitRemotes,
    session_id: str,
    project: str,
    *,
    folders: Iterable[str] = (),
    aliases: Iterable[str] = (),
    grounds: Grounds = NO_GROUNDS,
) -> Subject:
    """A session for `rules.decide`. `folders`: every folder it worked in, as its lines name them. Remotes are looked up
    only when a rule asks for them."""
    written = {one for one in (project, *folders) if one}
    return Subject(
        session_id,
        project,
        frozenset(spelling for one in written for spelling in spell_folder(one)),
        git.of(sorted(written)) if rules.asks_for_remotes and written else frozenset() if written else None,
        frozenset(aliases),
        spell_folder(project),
        grounds,
    )
