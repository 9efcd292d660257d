"""The checks of `doctor` that look at this machine. Each gives its lines, raises what it likes, and changes nothing."""

import contextlib
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from agent import __version__
from agent.cli.output import plural, size_words
from agent.cli.scene import Scene, Tree
from agent.cli.starting import next_step
from agent.cli.status import describe_end
from agent.core.diagnosis import (
    Finding,
    Level,
    Service,
    judge_disk,
    judge_log,
    judge_restarts,
    judge_retention,
    judge_service,
    judge_versions,
    judge_watches,
)
from agent.core.status import Open, describe_lost_home, describe_open, describe_unfollowed
from agent.delivery.discovery.roots import find_lost_homes
from agent.errors import AgentError, DiskError, NotRunning
from agent.providers.others import other_folders

INOTIFY = Path("/proc/sys/fs/inotify/max_user_watches")


def check_versions(scene: Scene) -> list[Finding]:
    system = f"{platform.system()} {platform.release()}"
    if os.name == "posix" and os.getuid() == 0:
        system += ", as root"
    running = str(scene.hello().get("version", "")) or None if scene.is_running() else None
    return [judge_versions(__version__, platform.python_version(), system, running)]


def check_agent(scene: Scene) -> list[Finding]:
    """Whether one is at work, and what a dead one left."""
    from agent.system.machine.lock import is_alive, read_holder

    try:
        hello = scene.hello()
    except NotRunning as exc:
        holder = read_holder(scene.paths.lock)  # now: one that ended in the meantime is not one that hangs
        if holder is not None and is_alive(holder):
            words = f"process {holder} holds {scene.paths.lock} and does not answer ({exc.message})"
            return [Finding(Level.FAIL, "agent", words, "transcriptd service restart")]
        left = ", ".join(str(one) for one in (scene.paths.socket, scene.paths.lock.with_suffix(".pid")) if one.exists())
        words = "none runs" + (f"; a dead one left {left}, which the next start removes" if left else "")
        return [Finding(Level.WARN, "agent", words, next_step(scene.paths, scene.environment))]
    pid = hello.get("pid", read_holder(scene.paths.lock))
    return [Finding(Level.OK, "agent", f"process {pid} answers at {scene.paths.socket}")]


def check_settings(scene: Scene) -> list[Finding]:
    from agent.system.paths import find_open_files

    path = scene.paths.config
    try:
        settings = scene.settings()
    except AgentError as exc:
        return [Finding(Level.FAIL, "settings", exc.message, exc.hint or "transcriptd config path")]
    opened = [Finding(Level.WARN, "settings", what, fix) for what, fix in find_open_files(scene.paths)]
    names = ", ".join(one.name for one in settings.destinations)
    if not path.exists():
        words = f"{path} is not there, so there is no server to send to"
        return [*opened, Finding(Level.FAIL, "settings", words, "transcriptd login URL")]
    if not names:
        words = f"{path} names no server to send to"
        return [*opened, Finding(Level.FAIL, "settings", words, "transcriptd login URL")]
    return opened or [Finding(Level.OK, "settings", f"{path}; destinations: {names}")]


def check_private_list(scene: Scene) -> list[Finding]:
    from agent.system.state.privacy_list import PrivacyList

    path = scene.paths.private_list
    try:
        rules = PrivacyList(path, scene.settings_or_defaults().privacy).rules()
    except AgentError as exc:
        words = f"{exc.message}: everything is private"
        return [Finding(Level.FAIL, "private list", words, exc.hint or "transcriptd private list")]
    from agent.delivery.privacy.losses import find_lost

    if lost := find_lost(scene.paths, scene.settings_or_defaults().privacy):
        return [Finding(Level.WARN, "private list", *one) for one in lost]
    if not path.exists():
        return [Finding(Level.OK, "private list", "there is none; nothing is private for it")]
    return [Finding(Level.OK, "private list", f"{path}, {plural(len(rules), 'rule')}")]


def check_folders(scene: Scene) -> list[Finding]:
    trees = scene.trees()
    found = {tree.provider for tree in trees if tree.there}  # Codex makes its second folder when something goes there
    shown = [tree for tree in trees if tree.there or tree.named or tree.provider not in found]
    missing = {tree.title: tree for tree in reversed(shown) if not tree.there and not tree.named}
    judged = [judge_tree(tree, sys.platform) for tree in shown if missing.get(tree.title, tree) is tree]
    if not scene.is_running():  # an agent at work tells of that in its status
        lost = find_lost_homes(scene.settings_or_defaults(), scene.environment)
        judged += [Finding(Level.WARN, "transcripts", *describe_lost_home(*one)) for one in lost]
        judged += _judge_left_out(trees)
    return judged + _judge_others(scene)


def _judge_others(scene: Scene) -> list[Finding]:
    """Coding agents that are here, and that nobody follows."""
    seen: dict[str, str] = {}
    for title, folder in other_folders(scene.environment, os.path.expanduser("~")):
        if os.path.isdir(folder):
            seen.setdefault(title, folder)
    return [
        Finding(Level.OK, "transcripts", f"{title} was used here ({folder}); it is not known, and not followed")
        for title, folder in seen.items()
    ]


def _judge_left_out(trees: Sequence[Tree]) -> list[Finding]:
    files = [one for tree in trees for one in tree.unfollowed.items()]
    told = describe_unfollowed(files, sum(tree.unfollowed_more for tree in trees))
    told += describe_unfollowed([one for tree in trees for one in tree.aside.items()])
    told += [(why, "") for tree in trees if not tree.trouble for why in tree.unreadable]
    return [Finding(Level.WARN, "transcripts", what, fix) for what, fix in told]


def judge_tree(tree: Tree, system: str) -> Finding:
    name = "transcripts"
    if tree.switched_off:
        return Finding(Level.OK, name, f"{tree.title} is switched off (watch.agents)")
    if not tree.there and not tree.named:
        return Finding(Level.OK, name, f"{tree.title} was not found here; {tree.path} is watched for")
    if not tree.there:
        words = f"{tree.path} is not there yet; it is watched for"
        return Finding(Level.WARN, name, words, f"start {tree.title} once, or change watch.{tree.provider}")
    if tree.denied and system == "darwin":
        words = f"{tree.trouble}: macOS protects this folder (TCC); nothing is taken as deleted for that"
        return Finding(
            Level.FAIL, name, words, "System Settings, Privacy & Security, Full Disk Access: add transcriptd"
        )
    if tree.trouble:
        return Finding(Level.FAIL, name, tree.trouble, f"ls -ld {tree.path}")
    counted = f"{plural(tree.sessions, 'session')}, {plural(tree.transcripts, 'transcript')}"
    if tree.documents:
        counted += f"; {plural(tree.documents, 'session')} of older versions, one document each, left alone"
    return Finding(Level.OK, name, f"{tree.title}: {tree.path}, {counted}")


def check_watches(scene: Scene) -> list[Finding]:
    limit = read_watch_limit(INOTIFY) if sys.platform == "linux" else None
    status = scene.status_or_none()
    folders = sum(tree.folders for tree in scene.trees())
    return [judge_watches(folders, limit, status.polling if status else ())]


def read_watch_limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def check_disk(scene: Scene) -> list[Finding]:
    import shutil

    folder = scene.paths.state
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    found = [judge_disk(str(folder), free, size_words(free))]
    if not os.access(there, os.W_OK | os.X_OK):
        found.append(Finding(Level.FAIL, "disk", f"{there} can't be written", f"ls -ld {there}"))
    return found


def check_state(scene: Scene) -> list[Finding]:
    from agent.system.state.state_db import check_state as look

    path = scene.paths.database
    found = look(path)
    if found.problem:
        fix = "restart the agent: it begins a new state and asks the server what it has"
        return [Finding(Level.FAIL, "state", f"{path}: {found.problem}", fix)]
    if found.version is None:
        return [Finding(Level.OK, "state", "there is none yet")]
    return [Finding(Level.OK, "state", f"{path}, schema {found.version}, quick_check finds nothing")]


_NO_FAULT = frozenset({Open.NO_PLACE, Open.NO_PLACE_ENTRIES, Open.DELETED_THERE, Open.TO_DELETE})
"""What is open, and is none of the problems that `status` has."""


def check_streams(scene: Scene) -> list[Finding]:
    """What `status` warns of, and what is held. How the last run ended is told by `restarts`."""
    status = scene.status()
    ended = "" if status.running else describe_end(scene.paths)
    problems = [(what, fix) for what, fix in status.problems if what != ended]
    found = [Finding(Level.WARN, "status", what, fix or "transcriptd status") for what, fix in problems]
    kinds = {kind: number for kind, number in status.open.items() if kind in _NO_FAULT}
    found += [Finding(Level.WARN, "status", what, fix or "transcriptd status") for what, fix in describe_open(kinds)]
    waiting = status.open.get(Open.UNSENT, 0)
    words = f"{plural(status.counts.streams, 'transcript')}, {waiting:,} waiting"
    if status.counts.held:
        words += f", {status.counts.held:,} held ({size_words(status.counts.kept_bytes)})"
    return found or [Finding(Level.OK, "status", words)]


def check_restarts(scene: Scene) -> list[Finding]:
    from agent.system.state.lives import Lives

    if not scene.is_running() and (words := describe_end(scene.paths)):
        return [Finding(Level.WARN, "restarts", words, "transcriptd logs")]
    return [judge_restarts(Lives(scene.paths.lives).count_unclean(scene.now_s()))]


def check_log(scene: Scene) -> list[Finding]:
    from agent.system.logs import NAME, Sink, find_log_files
    from agent.system.state.lives import Lives

    folder, life = scene.paths.logs, Lives(scene.paths.lives).read()
    if life.log == Sink.JOURNAL:
        return [Finding(Level.OK, "log", f"in the journal ({life.unit or 'transcriptd.service'}): transcriptd logs")]
    sizes = []
    for path in find_log_files(folder):
        with contextlib.suppress(OSError):
            sizes.append(path.stat().st_size)
    size = sum(sizes)
    return [judge_log(str(folder / NAME), size if sizes else None, size_words(size))]


def read_log_tail(scene: Scene, most: int) -> str:
    """The log's newest lines, from the journal if the last run wrote there, else from files; empty without either."""
    from agent.system.logs import Sink, read_last
    from agent.system.state.lives import Lives

    life = Lives(scene.paths.lives).read()
    if life.log == Sink.JOURNAL:
        from agent.cli.logs import read_journal

        return read_journal(life.unit, most)
    return "\n".join(read_last(scene.paths.logs, most))


def check_hooks(scene: Scene) -> list[Finding]:
    from agent.cli.hook import examine_hooks

    path = _claude_settings(scene)
    found = examine_hooks(path)
    if not found.commands:
        return [Finding(Level.OK, "hooks", f"none in {path}; nothing depends on them")]
    if found.wrong:
        return [Finding(Level.WARN, "hooks", what, fix or f"edit {path}") for what, fix in found.wrong]
    return [Finding(Level.OK, "hooks", f"{', '.join(found.commands)} in {path}")]


def check_retention(scene: Scene) -> list[Finding]:
    from agent.providers import PROVIDERS
    from agent.system.files.reading import read_text

    status = scene.status_or_none()
    oldest_s = status.oldest_unsent_s if status else None
    followed, found = {tree.provider for tree in scene.trees() if tree.there}, []
    for name, provider in PROVIDERS.items():
        path = provider.settings_file(scene.environment, os.path.expanduser("~")) or ""
        if name not in followed and not (path and os.path.exists(path)):
            continue
        try:
            days = provider.parse_retention_days(read_text(Path(path)) if path else None)
        except DiskError as exc:
            found.append(Finding(Level.WARN, f"retention {name}", exc.message, f"ls -ld {path}"))
            continue
        found.append(judge_retention(f"retention {name}", days, oldest_s, scene.now_s(), path))
    return found


def check_service(scene: Scene) -> list[Finding]:
    from agent.services import find_service

    state = find_service(scene.environment, scene.paths)
    found = Service(*(getattr(state, name) for name in Service._fields))
    return [judge_service(found, running=scene.is_running())]


def _claude_settings(scene: Scene) -> Path:
    from agent.providers import PROVIDERS

    return Path(PROVIDERS["claude"].settings_file(scene.environment, os.path.expanduser("~")) or "")
