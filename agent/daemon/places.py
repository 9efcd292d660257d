"""Where the files of a session from elsewhere belong on this machine: what its provider says, held against what may
be."""

import os
from collections.abc import Mapping, Sequence

from agent.core.placing import find_twins, unfit_parts
from agent.core.session import FILES, Facts, Provider, StreamId, is_side_file
from agent.core.transcript import split_lines, whole_lines_bytes
from agent.daemon.scanner import Root
from agent.errors import DiskError, RemoteProtocolError, UsageError
from agent.system import files

_FIRST_BYTES = 64 << 10
_LOOKED_AT = 3
"""Transcripts of a folder that are asked which project they are of."""

BY_PROJECT = frozenset({"claude", "gemini"})
"""Coding agents that keep a session in the folder of its project, and look for it nowhere else."""

_NO_PLACE = "the server names a file that has no place in a session"


def first_lines(path: str) -> list[bytes]:
    """Whole lines at the beginning of a file."""
    with files.open_file(path) as file:
        data = file.read_at(0, _FIRST_BYTES)
    return split_lines(data[: whole_lines_bytes(data)])


def choose_project(provider: Provider, wanted: str, said: str) -> str:
    """The folder of this machine that takes the place of a session's own. `wanted`: by whoever asks; `said`: by its
    lines. Raises UsageError where nobody can tell: nothing else of a session says which checkout it was of."""
    if wanted:
        return wanted
    if provider.name not in BY_PROJECT or (said and is_folder(said)):
        return said
    what = f"it worked in {said[:200]!a}, which is not here" if said else "it names no folder"
    raise UsageError(what, hint="say where it goes on: --project DIR")


def find_places(
    provider: Provider, project: str, folders: Mapping[str, str], streams: Mapping[StreamId, Sequence[bytes]]
) -> list[tuple[str, ...]]:
    """The names below a root for each stream, whose first lines are given. Raises UsageError, RemoteProtocolError."""
    places = [find_place(provider, stream, project, lines, folders) for stream, lines in streams.items()]
    if (twin := find_twins(places)) is not None:
        raise RemoteProtocolError(f"the server has two files that are one on many systems, {twin[-1][:80]!a}")
    return places


def find_place(
    provider: Provider, stream: StreamId, project: str, lines: Sequence[bytes], folders: Mapping[str, str]
) -> tuple[str, ...]:
    """Names below a root that are sound, and lead to that stream and no other one."""
    below = stream.subpath.removeprefix(FILES).split("/") if stream.subpath else []
    if why := unfit_parts([stream.session_id, *below]):
        raise RemoteProtocolError(f"{_NO_PLACE}: {why}")
    parts = provider.place(stream, project, lines, folders)
    if parts is None and not stream.subpath:
        hint = "start the coding agent there once, then pull again"
        raise UsageError(f"nobody can say how {provider.name} calls the folder of {project[:200]!a}", hint=hint)
    if parts is None:
        raise RemoteProtocolError(f"{_NO_PLACE} of {provider.name}")
    if why := unfit_parts(parts):
        raise RemoteProtocolError(f"{_NO_PLACE}: {why}")
    if provider.classify(parts, lambda: list(lines)) != stream:
        raise RemoteProtocolError("the server names a file that would be taken for another one here")
    return parts


def read_folders(root: Root, project: str) -> dict[str, str]:
    """Names right below the root → the project that their transcripts name, as far as a look at a few of them tells."""
    found: dict[str, str] = {}
    try:
        entries = files.list_folder(root.path)
    except DiskError:
        return found
    for entry in entries:
        if entry.is_folder and (named := _project_of(root, entry.path)):
            found[entry.name] = named
            if named == project and root.provider.name in BY_PROJECT:
                break
    return found


def _project_of(root: Root, folder: str) -> str:
    provider = root.provider
    try:
        seen = [one.path for one in files.list_folder(folder) if not one.is_folder and one.size > 0]
        known = [path for path in seen if (stream := provider.classify(root.parts(path), list)) and _is_main(stream)]
        for path in known[:_LOOKED_AT]:
            data = b"".join(line + b"\n" for line in first_lines(path))
            if project := provider.read_facts(data, (), Facts()).project:
                return project
    except DiskError:
        return ""
    return ""


def _is_main(stream: StreamId) -> bool:
    return not is_side_file(stream.subpath)


def is_folder(path: str) -> bool:
    return os.path.isabs(path) and os.path.isdir(path)  # a checkout may well be reached by a link
