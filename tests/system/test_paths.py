"""Where things live, and whose folders are good enough for a socket and a lock."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import DiskError
from agent.system.paths import default_paths, find_open_files, make_private_files, make_private_folder, paths_below
from tests.system.privileges import NOBODY, needs_posix, needs_root, open_folder, unprivileged


def test_one_variable_puts_everything_below_one_folder(tmp_path: Path) -> None:
    paths = default_paths({"TRANSCRIPTD_HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/user/7"})
    assert paths == paths_below(tmp_path)
    everything = {paths.config, paths.state, paths.logs, paths.database, paths.lock, paths.socket}
    for one in everything:
        assert one.is_relative_to(tmp_path)


def test_a_relative_home_is_made_absolute_and_a_tilde_is_the_users(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_paths({"TRANSCRIPTD_HOME": "td"}).state == tmp_path / "td" / "state"
    assert default_paths({"TRANSCRIPTD_HOME": "~/td"}).state == home / "td" / "state"


def test_an_empty_variable_is_none(home: Path) -> None:
    assert default_paths({"TRANSCRIPTD_HOME": ""}) == default_paths({})


def test_without_it_the_platforms_folders_below_the_users_home_are_taken(home: Path) -> None:
    paths = default_paths({})
    for one in (paths.config, paths.state, paths.logs):
        assert one.is_relative_to(home), one.name
        assert "transcriptd" in one.parts


def test_the_socket_is_found_from_any_shell(tmp_path: Path) -> None:
    assert default_paths({"XDG_RUNTIME_DIR": str(tmp_path)}).socket == default_paths({}).socket


@needs_posix
@pytest.mark.parametrize("letter", ["x", "ü"])
def test_a_home_with_a_long_name_still_has_a_socket_that_fits(letter: str) -> None:
    homes = [Path("/" + letter * 60, str(number)) / (letter * 60) for number in range(2)]
    sockets = [paths_below(home).socket for home in homes]
    for one in sockets:
        assert len(os.fsencode(one)) <= 103, "104 with the zero behind it is what macOS takes"
        assert str(os.getuid()) in one.parent.name, "each user has a folder of their own"
    assert sockets[0] != sockets[1], "two homes, two sockets"
    assert sockets[0] == paths_below(homes[0]).socket, "both ends find the same one"


@needs_posix
def test_a_name_of_just_the_right_length_is_used_as_it_is() -> None:
    def home_of(length: int) -> Path:
        rest = length - len("/" + "/state/control.sock")
        return Path("/" + "x" * rest)

    assert paths_below(home_of(100)).socket == home_of(100) / "state" / "control.sock"
    assert paths_below(home_of(101)).socket != home_of(101) / "state" / "control.sock"


# --- private folders ----------------------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@needs_posix
def test_a_new_folder_is_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a" / "b") == 0o700
    make_private_folder(tmp_path / "a" / "b")


@needs_posix
@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
def test_a_folder_that_others_may_enter_is_narrowed(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    (folder / "kept").touch()
    make_private_folder(folder)
    assert mode_of(folder) == 0o700
    assert (folder / "kept").exists()


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="is a file, where a folder of ours belongs"):
        make_private_folder(tmp_path / "file")
    with pytest.raises(DiskError, match="can't be made"):
        make_private_folder(tmp_path / "file" / "below")


@needs_root
def test_somebody_elses_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Who makes the folder for sockets first in /tmp could otherwise stand between us and our daemon."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o755)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(DiskError, match=f"belongs to user {NOBODY}, not to 0"):
        make_private_folder(folder)
    assert mode_of(folder) == 0o755


@needs_posix
def test_a_folder_that_may_not_be_made_is_told() -> None:
    with open_folder() as folder:
        folder.chmod(0o555)
        with unprivileged(), pytest.raises(DiskError, match="Permission denied"):
            make_private_folder(folder / "state")


# --- private files ------------------------------------------------------------------------------------------------


@needs_posix
def test_files_and_folders_that_others_may_read_are_narrowed(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir(mode=0o755)
    for name, mode in (("state.db", 0o644), ("below/kept", 0o666), ("fine", 0o600), ("read only", 0o400)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    make_private_files(tmp_path)
    modes = {str(path.relative_to(tmp_path)): mode_of(path) for path in tmp_path.rglob("*")}
    assert modes == {"below": 0o700, "state.db": 0o600, "below/kept": 0o600, "fine": 0o600, "read only": 0o400}


@needs_posix
def test_a_held_transcript_and_what_links_lead_to_keep_their_modes(tmp_path: Path) -> None:
    theirs, elsewhere, state = tmp_path / "transcript.jsonl", tmp_path / "elsewhere", tmp_path / "state"
    state.mkdir()
    for path in (theirs, elsewhere):
        path.touch()
        path.chmod(0o644)
    os.link(theirs, state / "held")
    (state / "link").symlink_to(elsewhere)
    (state / "nowhere").symlink_to(tmp_path / "missing")
    make_private_files(state)
    assert (mode_of(theirs), mode_of(elsewhere)) == (0o644, 0o644)


@needs_posix
@pytest.mark.parametrize("victim", ["below", "below/deep", "below/deep/file", "below/file"])
def test_what_goes_while_modes_are_narrowed_is_nobodys_trouble(
    victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step: a command that runs beside makes and removes files and folders of its own."""
    at, calls = 0, 1
    while calls > at:
        at, calls = at + 1, 0
        state = tmp_path / str(at)
        for name in ("below/deep/file", "below/file", "left"):
            (state / name).parent.mkdir(parents=True, exist_ok=True)
            (state / name).touch()
            (state / name).chmod(0o644)

        def counted(real: Callable[..., Any], state: Path = state, at: int = at) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == at and victim:
                    gone = state / victim
                    shutil.rmtree(gone, ignore_errors=True)
                    gone.unlink(missing_ok=True)
                return real(*given, **named)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", counted(os.scandir))
            patch.setattr(Path, "lstat", counted(Path.lstat))
            make_private_files(state)
        assert mode_of(state / "left") == 0o600
    assert at > 3


@needs_root
def test_somebody_elses_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    """As `sudo transcriptd` leaves it for the user, the other way round."""
    (tmp_path / "state.db").touch()
    os.chown(tmp_path / "state.db", NOBODY, NOBODY)
    with pytest.raises(DiskError, match=f"belongs to user {NOBODY}, not to 0") as caught:
        make_private_files(tmp_path)
    assert "chown" in caught.value.hint


@needs_posix
@pytest.mark.parametrize(
    ("folder", "mode", "word"),
    [(0o755, 0o644, "read"), (0o711, 0o640, "read"), (0o755, 0o620, "change"), (0o755, 0o600, ""), (0o700, 0o666, "")],
)
def test_settings_that_others_may_read_or_change_are_told(tmp_path: Path, folder: int, mode: int, word: str) -> None:
    paths = paths_below(tmp_path / "home")
    paths.config.parent.mkdir()
    assert find_open_files(paths) == []
    for path in (paths.config, paths.private_list):
        path.touch()
        path.chmod(mode)
    paths.config.parent.chmod(folder)
    told = [
        (f"others on this machine may {word} {path}", f"chmod 600 {path}")
        for path in (paths.config, paths.private_list)
    ]
    assert find_open_files(paths) == (told if word else [])
