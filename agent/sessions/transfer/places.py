"""Where the files of a session from elsewhere belong on this machine: what its provider says, held against what may
be."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from agent.core.transcripts.placing import find_twins, unfit_parts
from agent.core.transcripts.session import FILES, Facts, Provider, StreamId, is_side_file
from agent.core.transcripts.transcript import split_lines, whole_lines_bytes
from agent.delivery.discovery.scanner import Root
from agent.errors import DiskError, RemoteProtocolError, UsageError
from agent.system.files import reading as files

_FIRST_BYTES = 64 << 10
_LIST_BYTES = 1 << 20
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
    """Names right below the root → the project that they are of, as far as a look at a few transcripts or the file
    beside them tells. Where only such a file does, all names are there, also those that say none; and first the one
    that the agent's own list has for that project."""
    found: dict[str, str] = {}
    with suppress(DiskError):
        for entry in sorted(files.list_folder(root.path)):
            named = _project_of(root, entry.path) if entry.is_folder else ""
            if named or not root.provider.lines_name_project:
                found[entry.name] = named
            if named and named == project and root.provider.lines_name_project and root.provider.name in BY_PROJECT:
                break
    registered = _read_registry(root)
    listed = {name: of for of, name in registered.items()}
    first = registered.get(project, "")
    found = {name: found.get(name) or listed.get(name, "") for name in {**found, **listed}}
    return {first: project, **found} if found.get(first) == project else found


def _read_registry(root: Root) -> Mapping[str, str]:
    """Project → name below the root."""
    if not root.provider.registry:
        return {}
    data = _read_small(os.path.join(os.path.dirname(root.path), *root.provider.registry))
    return root.provider.read_registry(data)


def _read_small(path: str) -> bytes:
    """What stands in a small file; nothing where there is none that can be read."""
    seen = files.look_at(path)
    if seen is None or seen.is_folder or seen.link or seen.oddity:
        return b""
    with suppress(DiskError), files.open_file(path) as file:
        return file.read_at(0, _LIST_BYTES)
    return b""


def _project_of(root: Root, folder: str) -> str:
    provider = root.provider
    if not provider.lines_name_project:
        beside = provider.beside((os.path.basename(folder), ""))
        return provider.read_beside(_read_small(os.path.join(root.path, *beside))) if beside else ""
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
