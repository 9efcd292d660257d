"""What scripts rely on: exit statuses, and errors that say what to do."""

from pathlib import Path

import pytest

from tests.e2e.processes import (
    agent,
    command,
    end,
    environment,
    last_json,
    read_until,
    receiver,
    write_config,
)


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    folder = tmp_path / "projects"
    (folder / "p").mkdir(parents=True)
    (folder / "p" / "s.jsonl").write_bytes(b'{"uuid":"u","cwd":"/home/ada/tide"}\n')
    return folder


def test_a_wrong_token_ends_with_4_and_sends_nothing_wrong(projects: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        refused = command(home, "push", env=environment(home, TRANSCRIPTD_TOKEN="tsd_wrong"))
        assert refused.returncode == 4
        assert "TRANSCRIPTD_TOKEN" in refused.stdout
        assert "tsd_wrong" not in refused.stdout + refused.stderr
        accepted = command(home, "push", "--json")
        assert accepted.returncode == 0
        assert last_json(accepted)["counts"]["states"] == {"synced": 1}


def test_a_server_that_is_down_ends_with_69_and_loses_nothing(projects: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        port = int(server.url.rpartition(":")[2])
        server.stop()
        answer = command(home, "push")
        assert answer.returncode == 69
        assert "can't be reached" in answer.stdout
        server.start(port)
        assert command(home, "push").returncode == 0
        assert server.entries("s") == (projects / "p" / "s.jsonl").read_bytes()


def test_no_destination_and_broken_settings_end_with_78(tmp_path: Path) -> None:
    assert command(tmp_path, "run").returncode == 78
    (tmp_path / "config.toml").write_text("[[destination]]\nurl = 'http://example.com'\n", encoding="utf-8")
    answer = command(tmp_path, "run")
    assert answer.returncode == 78
    assert "unencrypted" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_second_agent_is_refused_and_named(projects: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        with agent(home) as first:
            read_until(first, "transcriptd is running")
            second = command(home, "run")
            assert second.returncode == 75
            assert str(first.pid) in second.stderr
            assert end(first) == 0


def test_a_running_agent_sends_what_grows_by_itself(projects: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with receiver(tmp_path / "data") as server:
        write_config(home, server.url, projects)
        with agent(home) as working:
            read_until(working, "transcriptd is running")
            path = projects / "new project" / "t.jsonl"
            path.parent.mkdir()
            path.write_bytes(b'{"uuid":"a"}\n')
            assert command(home, "push").returncode == 0
            with path.open("ab") as file:
                file.write(b'{"uuid":"b"}\n')
            assert any(server.entries("t") == path.read_bytes() for _ in range(1000))
            assert command(home, "sessions", "verify").returncode == 0
            assert end(working) == 0
