"""Files of ours, opened as if anybody could have put something in their place: each file × what may stand there."""

import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from agent.core.privacy.rules import Rule
from agent.core.sessions.runs import Run
from agent.errors import AgentError, DiskError, NotOurs
from agent.system import logs
from agent.system.files import own_files
from agent.system.machine.lock import DaemonLock, read_holder
from agent.system.paths import Paths, make_private_files, make_private_folder, paths_below, refuse_planted
from agent.system.state import index_db
from agent.system.state.annotations import Annotations
from agent.system.state.lives import Lives
from agent.system.state.privacy_list import PrivacyList
from agent.system.state.redaction_key import read_or_make_key
from agent.system.state.runs_file import RunsFile
from agent.system.state.spool import Spool
from agent.system.state.state_db import open_state
from agent.system.state.state_db.checking import check_state
from tests.system.planted import PLANTS, Stage, names_of
from tests.system.privileges import IS_ROOT, needs_posix

pytestmark = needs_posix
FILES = names_of(paths_below(Path("/home-of-nobody")))
MOST_S = 20


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fails where something waits: a pipe that nobody writes to would hold it for ever."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"it waits for more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def write_log(paths: Paths) -> None:
    log = logs.LogFile(paths.logs, file_bytes=200)
    try:
        for number in range(20):
            log.emit(logging.LogRecord("x", logging.INFO, "", 0, f"line {number}" * 5, None, None))
    finally:
        log.close()


def follow_log(paths: Paths) -> None:
    list(logs.follow(paths.logs, iter([True, False]).__next__))


def use_lock(paths: Paths) -> None:
    read_holder(paths.lock)
    lock = DaemonLock(paths.lock)
    lock.acquire()
    lock.release()


def use_lives(paths: Paths) -> None:
    lives = Lives(paths.lives)
    lives.begin(1.0)
    lives.end()


def use_runs(paths: Paths) -> None:
    runs, run = RunsFile(paths.runs), Run("r", "s", "claude", 1.0)
    runs.read()
    for _ in range(3):
        runs.note([run], [run])


def append_runs(paths: Paths) -> None:
    """To a file whose lines it counted before something else came in its place."""
    runs, run = RunsFile(paths.runs), Run("r", "s", "claude", 1.0)
    runs._lines = 1
    runs.note([run], [run])


def use_spool(paths: Paths) -> None:
    spool = Spool(str(paths.spool))
    spool.append("s", "/p")
    for one in spool.snapshots():
        spool.read(one)


def use_state(paths: Paths) -> None:
    check_state(paths.database)
    db = open_state(paths.database, "state.damaged-1.db")
    list(db.audit())
    db.close()


def use_index(paths: Paths) -> None:
    if (db := index_db.open_index_readonly(paths.index)) is not None:
        db.close()
    index_db.open_index(paths.index).close()


def use_index_lock(paths: Paths) -> None:
    with own_files.lock_own(paths.index_lock, 1):
        pass


def use_annotations(paths: Paths) -> None:
    Annotations(paths.annotations).read()
    Annotations(paths.annotations).forget({"s"})


def use_list(paths: Paths) -> None:
    PrivacyList(paths.private_list).create()


USES: tuple[Callable[[Paths], object], ...] = (
    write_log,
    follow_log,
    lambda paths: logs.read_last(paths.logs, 10),
    use_lock,
    use_lives,
    use_runs,
    append_runs,
    use_spool,
    lambda paths: Spool(str(paths.spool)).waiting(),
    use_state,
    use_index,
    use_index_lock,
    use_annotations,
    use_list,
    lambda paths: read_or_make_key(paths.redaction_key, paths.redaction_key_in_state),
    lambda paths: make_private_files(paths.state),
)


@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize("name", FILES)
def test_nothing_waits_follows_or_changes_what_is_not_ours(stage: Stage, name: str, kind: str) -> None:
    """Whatever we do with our files; and a daemon says what stands there before it begins."""
    path = stage.home / name
    stage.plant(kind, path)
    if not name.startswith(("state/state.db", "state/index.db")):
        with pytest.raises(NotOurs) as raised:
            refuse_planted(stage.paths)
        assert str(path) in raised.value.message
        assert "mv " in raised.value.hint
    for use in USES:
        with within(MOST_S), contextlib.suppress(AgentError):
            use(stage.paths)
    stage.assert_untouched()


@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize("name", ["state/state.db", "state/state.db-wal", "state/index.db"])
def test_a_database_is_begun_anew_beside_it(stage: Stage, name: str, kind: str) -> None:
    stage.plant(kind, stage.home / name)
    with within(MOST_S):
        if "state.db" in name:
            db = open_state(stage.paths.database, "state.damaged-1.db")
            assert db.note
            db.close()
            assert check_state(stage.paths.database).problem == ""
        elif kind != "folder":  # unlink removes none, and that is said
            index_db.open_index(stage.paths.index).close()
            assert stage.paths.index.is_file()
            assert not stage.paths.index.is_symlink()
    stage.assert_untouched()


def test_every_path_of_ours_is_in_the_list(stage: Stage) -> None:
    """Whoever adds a property to `Paths` says whether it is a file, a folder, the user's, or the socket."""
    paths = stage.paths
    users = {paths.config, paths.private_list}
    known = {*paths.own_files(), *paths.own_folders(), *users, paths.socket}
    named = {name for name in dir(type(paths)) if isinstance(getattr(type(paths), name), property)}
    assert {name for name in named if getattr(paths, name) not in known} == set()
    assert {paths.config, paths.state, paths.logs} <= known


def test_what_we_make_is_in_the_list(stage: Stage) -> None:
    """All of it, after everything was used; names that are made up for a moment aside."""
    for use in USES:
        use(stage.paths)
    made = {one for one in stage.home.rglob("*") if one.is_file()}
    others = {one for one in made if one.name.endswith(".taken")} | {stage.paths.private_list}
    assert made - others - set(stage.paths.own_files()) == set()


@pytest.mark.parametrize("name", ["state", "logs", "state/kept"])
def test_a_folder_of_ours_may_be_elsewhere_but_not_somebody_elses(stage: Stage, tmp_path: Path, name: str) -> None:
    folder, elsewhere = stage.home / name, tmp_path / "disk"
    elsewhere.mkdir(mode=0o700)
    for one in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        one.rmdir()
    if folder.exists():
        folder.rmdir()
    folder.symlink_to(elsewhere)
    refuse_planted(stage.paths)
    make_private_folder(folder)
    folder.unlink()
    folder.write_bytes(b"")
    with pytest.raises(NotOurs, match="is a file, where a folder"):
        refuse_planted(stage.paths)
    if IS_ROOT:
        folder.unlink()
        elsewhere.chmod(0o755)
        folder.symlink_to(elsewhere)
        os.chown(folder, 1234, 1234, follow_symlinks=False)
        with pytest.raises(NotOurs, match="belongs to user 1234"):
            refuse_planted(stage.paths)
        with pytest.raises(NotOurs, match="belongs to user 1234"):
            make_private_folder(folder)
        assert elsewhere.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "dangling"])
def test_settings_of_people_may_be_links_but_nothing_waits_for_them(stage: Stage, kind: str) -> None:
    from agent.system.files.reading import read_text
    from agent.system.state.settings_file import SettingsFile

    if kind not in PLANTS:
        pytest.skip("only root makes devices")
    path = stage.home / "config.toml"
    path.symlink_to(stage.target)
    assert read_text(path) == stage.target.read_text()
    path.unlink()
    stage.plant(kind, path)
    with within(MOST_S):
        if kind == "dangling":
            assert read_text(path) is None
            return
        with pytest.raises(DiskError, match=r"config\.toml can't be read"):
            read_text(path)
        with pytest.raises(DiskError, match=r"config\.toml can't be read"):
            SettingsFile(path).read()


def test_what_came_in_between_is_refused_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the opening."""
    path = stage.home / "state" / "lives.json"
    for kind in ("pipe", "link", "folder"):
        with monkeypatch.context() as patched:
            patched.setattr(own_files, "check_own", lambda _path: None)
            stage.plant(kind, path)
            with within(MOST_S), pytest.raises((NotOurs, OSError)):
                own_files.open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            with within(MOST_S), pytest.raises(NotOurs):
                own_files.read_own(path)
        remove(path)
    stage.assert_untouched()


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for one in path.iterdir():
            one.unlink()
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize(
    "lock",
    [
        lambda folder: DaemonLock(folder / "daemon.lock").acquire(),
        lambda folder: PrivacyList(folder / "private.txt").add([Rule("project", "/a")]),
        lambda folder: Annotations(folder / "annotations.json").forget({"s"}),
    ],
    ids=["daemon", "private list", "annotations"],
)
def test_a_lock_that_a_disk_cant_look_at_is_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: Callable[[Path], object]
) -> None:
    look = os.lstat

    def fail(path: os.PathLike[str] | str) -> os.stat_result:
        if os.fspath(path).endswith(".lock"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))
        return look(path)

    monkeypatch.setattr(os, "lstat", fail)
    with pytest.raises(DiskError, match="can't be locked"):
        lock(tmp_path)
