"""What happens where sessions have several files."""

import random
from typing import TYPE_CHECKING

from tests.simulation.operations import Operation, any_file, copy, lines_for
from tests.simulation.transcripts import Place, other_place

if TYPE_CHECKING:
    from tests.simulation.story import Story


def _second_file(story: "Story") -> tuple[str, Place] | None:
    """A file of a session that has two."""
    files = story.transcripts.files
    paths = [path for path in files if other_place(path) in files]
    return (path, files[path][0]) if (path := story.copies.choice(paths) if paths else "") else None


def append_to_one(story: "Story") -> None:
    if found := _second_file(story):
        story.transcripts.append(*found, lines_for(story, *found))


def append_alike(story: "Story") -> None:
    """Both grow by the same, as where a program keeps them equal."""
    if found := _second_file(story):
        data = lines_for(story, *found)
        story.transcripts.append(*found, data)
        other = other_place(found[0])
        if story.transcripts.files[other][1] is not story.transcripts.files[found[0]][1]:
            story.transcripts.append(other, found[1], data)


def link(story: "Story") -> None:
    found = any_file(story)
    if found and other_place(found[0]) not in story.transcripts.files and not story.rewrites:
        story.transcripts.link(found[0], other_place(found[0]))


def delete_one(story: "Story") -> None:
    if found := _second_file(story):
        story.transcripts.delete(found[0])


TABLE = (
    Operation("copy", 3, copy),
    Operation("append to one", 8, append_to_one),
    Operation("append alike", 2, append_alike),
    Operation("link", 1, link),
    Operation("delete one", 1, delete_one),
)
"""The same as `operations.TABLE` for stories in which sessions have several files."""


def draw(rng: random.Random) -> Operation:
    return rng.choices(TABLE, [one.weight for one in TABLE])[0]
