"""What becomes of rules of privacy that are not there any more though none of our commands took them out.

A list may be cut short by a full disk, by an editor that truncates before it writes, or by a copy from elsewhere; a
rule that is gone so looks like one that its owner took back. So it holds on for a while, with a warning, and is dropped
only if nobody puts it back. What commands of ours take out goes at once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import msgspec

from agent.core.settings import Privacy, Settings

HOLD_S = 600.0
"""Time to see a notification and to put a list back. Only time in which an agent runs counts."""

_NAMED = 3
"""Rules that a warning names."""


class KnownRules(msgspec.Struct, frozen=True):
    """What held at the last look. `rules`: lines of the list, those that hold on among them. `lost`: line → seconds for
    which it still holds. `edit`: number of the last edit of ours that was heeded."""

    rules: tuple[str, ...] = ()
    lost: Mapping[str, float] = {}
    edit: int = 0


def follow_list(
    known: KnownRules, own: Sequence[str], removed: Collection[str], *, passed_s: float, is_changed: bool
) -> KnownRules:
    """`own`: the lines of a list that reads well; `removed`: those that commands of ours took out since `known`.
    `passed_s`: since the last look; a list that `is_changed` since then begins its time anew."""
    there = set(own)
    lost = {}
    for line in known.rules:
        if line in there or line in removed:
            continue
        is_new = is_changed or line not in known.lost
        left_s = HOLD_S if is_new else known.lost[line] - passed_s
        if left_s > 0:
            lost[line] = left_s
    return KnownRules((*dict.fromkeys(own), *lost), lost, known.edit)


def describe_lost(what: str, lost: Collection[str], left_s: float, hint: str) -> list[tuple[str, str]]:
    """As a problem of `status`: nothing where nothing is lost. `what`: out of which file."""
    if not lost:
        return []
    named = ", ".join(list(lost)[:_NAMED]) + (", …" if len(lost) > _NAMED else "")
    rules = "1 rule is" if len(lost) == 1 else f"{len(lost):,} rules are"
    them, pronoun = ("it", "it holds") if len(lost) == 1 else ("them", "they hold")
    minutes = max(1, round(left_s / 60))
    still = f"{pronoun} for {minutes} more minute" + ("s" if minutes > 1 else "")
    return [(f"{rules} gone from {what}, and no command took {them} out; {still}: {named}", hint)]


class Sharing(msgspec.Struct, frozen=True):
    """What settings say of who gets to see what. `projects`: address of a server → patterns of those that go there."""

    privacy: Privacy = Privacy()
    projects: Mapping[str, tuple[str, ...]] = {}


class KnownSharing(msgspec.Struct, frozen=True):
    """`sharing`: what held at the last look. `left_s`: for how long that still holds where the settings say more may
    leave; 0 while they do not."""

    sharing: Sharing
    left_s: float = 0.0


def sharing_of(settings: Settings) -> Sharing:
    return Sharing(settings.privacy, {one.url: one.projects for one in settings.destinations})


def find_widened(before: Sharing, settings: Settings) -> list[str]:
    """The settings by which more would leave than before, in words: what is gone, or lets secrets through. What
    somebody wrote out (another folder that is shared, another server) is no loss."""
    old, new = before.privacy, settings.privacy
    lost = [
        ('privacy.share = "listed"', old.share == "listed" and new.share != "listed"),
        ("privacy.patterns", bool(set(old.patterns) - set(new.patterns))),
        ("privacy.allow, which has more", bool(set(new.allow) - set(old.allow))),
        ("privacy.emails", old.emails and not new.emails),
        ("privacy.home_folders", old.home_folders and not new.home_folders),
        ("privacy.hold_s", new.hold_s < old.hold_s),
    ]
    return [name for name, is_lost in lost if is_lost] + [
        f"projects of {one.name}" for one in settings.destinations if before.projects.get(one.url) and not one.projects
    ]


def keep_narrow(before: Sharing, settings: Settings) -> Settings:
    """`settings`, but nothing leaves that would have stayed before because of what `find_widened` names."""
    old, new = before.privacy, settings.privacy
    was_listed = old.share == "listed" and new.share != "listed"
    privacy = replace(
        new,
        share=old.share if was_listed else new.share,
        shared_projects=old.shared_projects if was_listed else new.shared_projects,
        patterns=tuple(dict.fromkeys((*new.patterns, *old.patterns))),
        allow=tuple(one for one in new.allow if one in old.allow),
        emails=old.emails or new.emails,
        home_folders=old.home_folders or new.home_folders,
        hold_s=max(new.hold_s, old.hold_s),
    )
    destinations = tuple(
        one if one.projects else replace(one, projects=before.projects.get(one.url, ()))
        for one in settings.destinations
    )
    return replace(settings, privacy=privacy, destinations=destinations)
