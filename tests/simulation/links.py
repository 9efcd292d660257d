"""Symbolic links below the watched folder: to what is there anyway, and to what lies outside and must stay there."""

import os
import random
from typing import TYPE_CHECKING

from tests.simulation.operations import Operation, any_file
from tests.simulation.transcripts import PLACES, PROJECTS

if TYPE_CHECKING:
    from tests.simulation.story import Story

OUTSIDE = b"outside the fence"
SESSIONS = {place.stream.session_id for place in PLACES}


def outside(root: str) -> str:
    """A folder beside the watched one."""
    return os.path.join(os.path.dirname(root), "outside")


def prepare(story: "Story") -> None:
    """What lies outside: it looks like what is sent, and must not be."""
    folder = outside(story.root)
    story.disk.make_folder(folder)
    for name in ("s8.jsonl", "result.txt"):
        story.disk.append(os.path.join(folder, name), b'{"type":"user","uuid":"u","text":"%s"}\n' % OUTSIDE)
    story.disk.make_folder(os.path.join(story.root, PROJECTS[0], "s1", "tool-results"))


def _link(story: "Story", target: str, *parts: str) -> None:
    path = os.path.join(story.root, *parts)
    if path not in story.links and not story.disk.exists(path):
        story.disk.symlink(target, path)
        story.links[path] = target
        story.hints.append(path)


def link_to_file(story: "Story") -> None:
    found = any_file(story)
    if found and not found[1].flat:  # such a file goes by the link's name until its lines say whose it is
        _link(story, found[0], story.linking.choice(PROJECTS), f"alias{story.linking.randrange(3)}.jsonl")


def link_to_folder(story: "Story") -> None:
    target = os.path.join(story.root, *story.linking.choice(((PROJECTS[0],), (PROJECTS[0], "s1"))))
    _link(story, target, story.linking.choice(("r", "t")))


def link_out(story: "Story") -> None:
    away = outside(story.root)
    target, parts = story.linking.choice(
        (
            (os.path.join(away, "s8.jsonl"), (PROJECTS[0], "s7.jsonl")),
            (os.path.join(away, "s8.jsonl"), (PROJECTS[1], "s8.jsonl")),
            (os.path.join(away, "result.txt"), (PROJECTS[0], "s1", "tool-results", "out.txt")),
            (away, ("away",)),
        )
    )
    _link(story, target, *parts)


def hint_below(story: "Story") -> None:
    """A change is told by a path that leads through a link."""
    if story.links:
        story.hints.append(os.path.join(story.linking.choice(list(story.links)), story.linking.choice(PLACES).name))


def remove_link(story: "Story") -> None:
    if story.links:
        path = story.linking.choice(list(story.links))
        story.disk.unlink(path)
        del story.links[path]
        story.hints.append(path)


TABLE = (
    Operation("link to a file", 3, link_to_file, sudden=True),
    Operation("link to a folder", 2, link_to_folder, sudden=True),
    Operation("link out", 4, link_out, sudden=True),
    Operation("hint below a link", 3, hint_below),
    Operation("remove a link", 2, remove_link, sudden=True),
)
"""The same as `operations.TABLE` for stories with links."""


def draw(rng: random.Random) -> Operation:
    return rng.choices(TABLE, [one.weight for one in TABLE])[0]


def check_links(story: "Story") -> None:
    """Nothing of what lies outside was sent or retained, and each link that leads there is named."""
    for there in story.destinations.values():
        sessions = there.server.sessions
        assert sessions.keys() <= SESSIONS, f"{sessions.keys() - SESSIONS} lie outside, or only a link names them so"
        for session in sessions.values():
            made = [bytes(one.data) for stream in session.streams.values() for one in stream.generations.values()]
            assert not any(OUTSIDE in data for data in (*made, *session.files.values())), "sent what lies outside"
    assert not any(OUTSIDE in story.disk.read(one.path) for one in story.kept.list_kept()), "retained what lies outside"
    scanner = story.process.scanner
    for path, target in story.links.items():
        if target.startswith(outside(story.root)):
            assert path in scanner.aside or path in scanner.unfollowed, f"{path} leads out, and nobody says so"
