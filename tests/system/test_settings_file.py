"""Another program's settings on a real disk: as a whole or not at all."""

import os
from pathlib import Path

import pytest

from agent.errors import DiskError, SettingsError
from agent.system.state.settings_file import SettingsFile
from tests.system.privileges import NOBODY, needs_posix, needs_root, open_folder, unprivileged


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.json"


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


@pytest.mark.parametrize("text", ["{}", "\ufeff{\r\n}\r\n", '{"a": "ä \u2028"}\n'], ids=ascii)
def test_a_text_is_kept_byte_for_byte(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
    file = SettingsFile(path)
    assert file.read() == text
    file.write_copy(text)
    file.write(text + " ", instead_of=text)
    assert (path.read_bytes(), file.copy.read_bytes()) == ((text + " ").encode(), text.encode())
    assert file.read_copy() == text
    assert names(path.parent) == {"settings.json", "settings.json.before-transcriptd"}


def test_no_file_is_an_empty_text_and_the_other_way_round(path: Path) -> None:
    file = SettingsFile(path)
    assert (file.read(), file.read_copy()) == ("", None)
    file.write_copy("")
    file.write("{}", instead_of="")
    assert (file.read(), file.read_copy()) == ("{}", "")
    file.write("", instead_of="{}")
    assert not path.exists()


@needs_posix
def test_its_mode_stays_and_a_new_file_is_the_users_alone(path: Path) -> None:
    file = SettingsFile(path)
    file.write("{}", instead_of="")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    file.write_copy("{}")
    file.write("{} ", instead_of="{}")
    assert path.stat().st_mode & 0o777 == file.copy.stat().st_mode & 0o777 == 0o640


@needs_root
def test_its_owner_stays(path: Path) -> None:
    path.write_text("{}", encoding="utf-8")
    os.chown(path, NOBODY, NOBODY)
    SettingsFile(path).write("{} ", instead_of="{}")
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


@needs_posix
def test_a_link_stays_one_and_its_target_changes(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept elsewhere" / "claude.json"
    target.parent.mkdir()
    path.symlink_to(target)
    file = SettingsFile(path)
    file.write("{}", instead_of="")
    assert path.is_symlink()
    assert target.read_text(encoding="utf-8") == "{}"
    assert file.copy.parent == target.parent


def test_what_somebody_else_wrote_meanwhile_stays(path: Path) -> None:
    path.write_text("{}", encoding="utf-8")
    file = SettingsFile(path)
    text = file.read()
    path.write_text('{"new": 1}', encoding="utf-8")
    with pytest.raises(DiskError, match="changed by somebody else"):
        file.write("{} ", instead_of=text)
    assert path.read_text(encoding="utf-8") == '{"new": 1}'
    assert names(path.parent) == {"settings.json"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_file_and_nothing_else(
    path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path.write_text("{}", encoding="utf-8")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(DiskError, match="No space left"):
        SettingsFile(path).write("{} ", instead_of="{}")
    assert path.read_text(encoding="utf-8") == "{}"
    assert names(path.parent) == {"settings.json"}


@needs_posix
def test_a_folder_that_may_not_be_written_is_a_disk_error() -> None:
    with open_folder() as folder:
        path = folder / "settings.json"
        path.write_text("{}", encoding="utf-8")
        path.chmod(0o666)
        folder.chmod(0o555)
        with unprivileged(), pytest.raises(DiskError, match="can't be written"):
            SettingsFile(path).write("{} ", instead_of="{}")
        assert path.read_text(encoding="utf-8") == "{}"


def test_without_its_folder_there_is_nothing_to_change(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="is not there") as refused:
        SettingsFile(tmp_path / "gone" / "settings.json").read()
    assert "Claude Code" in refused.value.hint


def test_what_is_no_text_is_refused(path: Path) -> None:
    path.write_bytes("{}".encode("utf-16"))
    with pytest.raises(SettingsError, match="not UTF-8"):
        SettingsFile(path).read()
