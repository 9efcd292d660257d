"""Consent: what is shown before anything is sent, what is asked, and what becomes of the answers."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agent.cli import consent
from agent.cli.config import environment, load_settings
from agent.cli.consent import ask_consent, group_sessions, parse_choice
from agent.core.privacy.rules import Verdict
from agent.core.settings import Destination
from agent.core.transcripts.identity import START
from agent.core.transcripts.session import Observation, StreamId
from agent.delivery.inventory.survey import SessionHere
from agent.errors import UsageError
from agent.system.paths import default_paths
from agent.system.state.state_db import Changes, TrackRow, open_state

SERVER = Destination("https://h.example")
BEFORE = '# mine\n[push]\nworkers = 2  # enough\n\n[[destination]]\nname = "x"\nurl = "https://x.example"  # old\n'


def write_session(home: Path, session: str, folder: str, size: int) -> None:
    path = home / ".claude" / "projects" / "p" / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = json.dumps({"type": "user", "uuid": session, "cwd": folder, "text": "CANARY"}) + "\n"
    path.write_text(begin.ljust(size - 1, " ") + "\n", encoding="utf-8")


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A terminal, settings by hand, five sessions in three projects, one of them private."""
    for number, (folder, size) in enumerate(
        [("/w/web", 5000), ("/w/web", 3000), ("/w/a[1]", 2000), ("/w/secret/x", 900), ("", 700)]
    ):
        write_session(home, f"s{number}", folder, size)
    paths = default_paths(environment())
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text(BEFORE, encoding="utf-8")
    paths.private_list.write_text("project /w/secret\n", encoding="utf-8")
    monkeypatch.setattr(consent, "is_terminal", lambda: True)
    return paths.config


def ask(answers: str, server: Destination = SERVER) -> tuple[int, str]:
    @click.command()
    def command() -> None:
        ask_consent(default_paths(environment()), server)

    done = CliRunner().invoke(command, input=answers)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_what_lies_here_is_shown_before_anything_is_asked(here: Path) -> None:
    status, out = ask("all\ny\n")
    assert status == 0
    table, _, rest = out.partition("share all projects")
    rows = [line.split() for line in table.splitlines()[1:]]
    assert rows[1][:5] == ["1", "/w/web", "2", "8.0", "kB"]
    assert rows[2][:5] == ["2", "/w/a[1]", "1", "2.0", "kB"]
    # What is private where folders count: a session whose folder nobody knows is one of them.
    assert [rows[3][2:], rows[4][1:]] == [["known)", "1", "private"], ["/w/secret/x", "1", "private"]]
    assert rows[5] == ["3", "sessions,", "10.0", "kB;", "2", "private"]
    assert "send also what is there already (3 sessions, 10.0 kB)?" in rest
    assert "shared with https://h.example: all projects, history too\n" in rest
    assert "CANARY" not in out


def test_the_answers_are_written_and_nothing_else_is_changed(here: Path) -> None:
    status, out = ask("listed\n2, ~/more, /w/own-*\nn\n")
    assert status == 0
    assert "send also what is there already (1 session, 2.0 kB)?" in out
    assert "shared with https://h.example: only /w/a[[]1], ~/more, /w/own-*, from the agent's first start on\n" in out
    text = here.read_text(encoding="utf-8")
    settings = load_settings(default_paths(environment()))
    assert (settings.push.backlog, settings.push.workers, settings.privacy.share) == (False, 2, "listed")
    assert settings.privacy.shared_projects == ("/w/a[[]1]", "~/more", "/w/own-*")
    for line in BEFORE.splitlines():
        assert line in text
    status, out = ask("\n\n\n")
    assert status == 0
    assert load_settings(default_paths(environment())) == settings, "what holds is what is proposed"


def test_a_wrong_choice_is_asked_again(here: Path) -> None:
    status, out = ask("some\nlisted\n9\n3\nwork\n1\nn\n")
    assert status == 0
    for words in (
        "'some' is not one of",
        "9 is no number of the table",
        "folder of 3 is not known",
        "neither a number",
    ):
        assert words in out
    assert load_settings(default_paths(environment())).privacy.shared_projects == ("/w/web",)


@pytest.mark.parametrize("answers", ["", "all\n", "listed\n", "listed\n1\n"])
def test_who_gives_up_has_changed_nothing(here: Path, answers: str) -> None:
    status, _ = ask(answers)
    assert status == 1
    assert here.read_text(encoding="utf-8") == BEFORE


def test_without_a_terminal_it_is_said_what_holds(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "is_terminal", lambda: False)
    assert ask("") == (0, "shared: all projects, history too; to look first: transcriptd push --dry-run\n")
    here.write_text(BEFORE + '[privacy]\nshare = "listed"\n', encoding="utf-8")
    assert ask("")[1].startswith("shared: only projects that are listed, and none is, history too;")


def test_a_server_that_has_something_is_not_asked_for_again(here: Path) -> None:
    cursor = START._replace(offset=10, entry_count=1, sent_count=1)
    row = TrackRow("default", StreamId("s0", ""), "claude", "/p", 10, 10**18, "synced", "", 0, cursor)
    db = open_state(default_paths(environment()).database, "aside")
    db.commit(Changes(tracks=[row]))
    db.close()
    assert ask("") == (0, "")
    assert ask("all\ny\n", Destination("https://x.example", name="x"))[1] != ""


def test_no_sessions_are_nothing_to_ask_about(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "is_terminal", lambda: True)
    status, out = ask("all\n")
    assert status == 0
    assert out.startswith("there are no sessions on this machine yet\n")
    assert load_settings(default_paths(environment())).push.backlog


def test_many_projects_are_summed_up() -> None:
    sessions = [
        SessionHere(f"s{number}", f"/w/{number:02}", (), 1000 - number, 5.0, 6.0, Verdict(number % 10 == 0))
        for number in range(60)
    ]
    rows = group_sessions([*sessions, *sessions])
    assert (len(rows), rows[0].project, rows[-1].project) == (60, "/w/01", "/w/50")
    assert (rows[0].sessions, rows[0].private, rows[0].bytes) == (2, 0, 1998)
    assert (rows[-1].sessions, rows[-1].private, rows[-1].bytes) == (2, 2, 0)
    assert len(consent.render_projects(rows, 10.0).rows) == consent._SHOWN


def test_agents_are_named_where_there_are_several() -> None:
    def here(session: str, project: str, provider: str) -> SessionHere:
        file = Observation(StreamId(session, ""), provider, f"/{session}", 9, 5, 0, 1)
        return SessionHere(session, project, (file,), 9, 5.0, 6.0, Verdict(private=False))

    rows = group_sessions([here("a", "/w/1", "codex"), here("b", "/w/1", "claude"), here("c", "/w/2", "gemini")])
    assert [one.agents for one in rows] == [("Claude Code", "Codex CLI"), ("Gemini CLI",)]
    assert str(consent.render_projects(rows, 10.0).columns[-1].header) == "agent"
    alone = group_sessions([here("a", "/w/1", "codex")])
    assert "agent" not in [str(one.header) for one in consent.render_projects(alone, 10.0).columns]


def test_a_choice_is_numbers_and_folders() -> None:
    assert parse_choice(" 1 ,/w/*, 1,~/x,*/y ", ["/w/#1 #x"]) == ("/w/#1 [#]x", "/w/*", "~/x", "*/y")
    for wrong in ("", ",", "0", "2", "x", "1;2"):
        with pytest.raises(UsageError):
            parse_choice(wrong, ["/w"])
