"""Which session a command is about."""

from pathlib import Path

import pytest

from agent.cli.config import environment, load_settings
from agent.cli.sessions.choosing import Chosen, choose_session
from agent.errors import UsageError
from agent.system.paths import default_paths
from tests.cli.running import run
from tests.cli.test_sessions import write
from tests.daemon.test_indexing import line, said


def choose(words: str) -> Chosen:
    paths = default_paths(environment())
    return choose_session(words, load_settings(paths), paths, environment())


@pytest.fixture
def sessions(home: Path) -> Path:
    main = write(home, "aaaa1111", said(3))
    (main.parent / "aaaa1111" / "subagents").mkdir(parents=True)
    (main.parent / "aaaa1111" / "subagents" / "agent-1.jsonl").write_bytes(said(1))
    write(home, "aaaa2222", line("user", "a needle in here", 1), ago_s=7200)
    return home


@pytest.mark.parametrize("indexed", [True, False])
def test_by_id_beginning_title_label_and_latest(sessions: Path, indexed: bool) -> None:
    if indexed:
        run("sessions", "backfill")
        assert choose("needle").session_id == "aaaa2222"
        assert choose("needle").facts.project == "/project/demo"
    found = choose("aaaa1111")
    assert (found.session_id, found.provider) == ("aaaa1111", "claude")
    assert [one.stream.subpath for one in found.files] == ["", "subagents/agent-1"]
    assert choose("aaaa22").session_id == "aaaa2222"
    assert choose("latest").session_id == "aaaa1111"
    run("sessions", "patch", "aaaa1111", "--label", "Needle")
    assert choose("needle").session_id == "aaaa1111", "a label goes before a title"


def test_none_and_several_are_told_apart(sessions: Path) -> None:
    with pytest.raises(UsageError, match="'aaaa' may be 2 sessions") as several:
        choose("aaaa")
    assert "aaaa1111, aaaa2222" in several.value.hint
    for words in ("nothing", "", "\x1b[2J"):
        with pytest.raises(UsageError, match="no session here"):
            choose(words)
