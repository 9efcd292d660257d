"""Tokens in files, and who may read those."""

import os
from pathlib import Path

import pytest

from agent.errors import TokenNotReadable
from agent.system.tokens.places import read_credential, read_signature, read_token_file
from tests.system.privileges import needs_posix


def token_file(folder: Path, text: str = "tsd_x\n", mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(path: Path) -> TokenNotReadable:
    with pytest.raises(TokenNotReadable) as caught:
        read_token_file(str(path))
    assert caught.value.exit_status == 77
    assert "tsd_x" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert read_token_file(str(token_file(tmp_path, mode=mode))) == "tsd_x"


@needs_posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o666, 0o610])
def test_one_that_others_may_open_is_refused_with_its_mode_and_what_helps(tmp_path: Path, mode: int) -> None:
    refused = refusal(token_file(tmp_path, mode=mode))
    assert f"mode {mode:04o}" in refused.message
    assert refused.hint == f"chmod 600 {tmp_path / 'token'}"


@needs_posix
def test_the_file_behind_a_link_is_what_counts(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(token_file(tmp_path, mode=0o644))
    refusal(link)
    (tmp_path / "token").chmod(0o600)
    assert read_token_file(str(link)) == "tsd_x"


@needs_posix
def test_somebody_elses_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = token_file(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert "belongs to user" in refusal(path).message


def test_a_file_that_is_not_there_or_empty_is_no_token(tmp_path: Path) -> None:
    assert read_token_file(str(tmp_path / "none")) is None
    assert read_token_file(str(token_file(tmp_path, " \n"))) is None


@pytest.mark.parametrize("text", ["tsd_x tsd_y\n", "tsd_x\ntsd_y\n", "token = tsd_x\n", "tsd_x" * 4000])
def test_a_file_with_more_than_a_token_is_refused(tmp_path: Path, text: str) -> None:
    refusal(token_file(tmp_path, text))


@needs_posix
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token", 0o600)
    assert "is no file" in refusal(tmp_path / "token").message
    assert "is no file" in refusal(tmp_path).message


def test_a_setting_that_is_missing_is_named() -> None:
    with pytest.raises(TokenNotReadable, match="token_file is not set"):
        read_token_file("")


def test_the_home_folder_may_be_written_short(home: Path) -> None:
    token_file(home)
    assert read_token_file("~/token") == "tsd_x"
    assert read_signature("~/token") == read_signature(str(home / "token")) is not None


def test_a_credential_is_read_where_the_service_manager_puts_it(tmp_path: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read_credential("token", environment) is None
    token_file(tmp_path, mode=0o440)
    assert read_credential("token", environment) == "tsd_x", "who may read it is the manager's business"


@pytest.mark.parametrize("name", ["", ".", "..", "../token", "/etc/passwd"])
def test_a_credential_has_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(TokenNotReadable, match="no name of a credential"):
        read_credential(name, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_outside_of_a_service_there_are_no_credentials() -> None:
    with pytest.raises(TokenNotReadable, match="CREDENTIALS_DIRECTORY is not set") as caught:
        read_credential("token", {})
    assert caught.value.hint.startswith("LoadCredential=token:")


@needs_posix
def test_a_signature_changes_with_content_and_mode(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    seen = {read_signature(str(path))}
    path.chmod(0o640)
    seen.add(read_signature(str(path)))
    fresh = tmp_path / "fresh"
    fresh.write_text("tsd_y\n")
    fresh.replace(path)
    seen.add(read_signature(str(path)))
    path.unlink()
    assert read_signature(str(path)) is None
    assert len(seen) == 3
