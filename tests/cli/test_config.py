"""`config`, and what every command says about settings that are missing or wrong."""

from pathlib import Path

import pytest

from agent.core.settings import Settings, parse_settings
from tests.cli.running import run, spawn
from tests.system.privileges import IS_ROOT, needs_posix

GOOD = '[[destination]]\nurl = "https://transcripts.example.com"\nname = "work"\n\n[push]\ninterval_s = 60\n'
BAD = {
    "a misspelt key": ("[push]\nintervall_s = 30\n", "push.intervall_s", "push.interval_s"),
    "a wrong value": ("[push]\nworkers = 99\n", "push.workers", "from 1 to 8"),
    "no TOML": ("[push\n", "is not TOML", "transcriptd config path"),
    "plain http": ('[[destination]]\nurl = "http://transcripts.example.com"\n', "unencrypted", "insecure = true"),
    "no address": ('[[destination]]\nname = "work"\n', "destination.url is missing", "url"),
}


@pytest.fixture
def file(home: Path) -> Path:
    path = home / "td" / "config.toml"
    path.parent.mkdir()
    return path


def test_path_names_the_file_also_when_there_is_none(file: Path) -> None:
    done = run("config", "path")
    assert (done.status, done.out) == (0, f"{file}\n")
    assert not file.exists()


def test_show_without_a_file_tells_the_defaults_and_how_to_begin(file: Path) -> None:
    done = run("config", "show")
    assert done.status == 0
    assert done.out.startswith(f"# {file} (not there; these are the defaults)\n")
    assert parse_settings(done.out) == Settings()
    assert '# url = "https://transcripts.example.com"' in done.out


def test_show_tells_what_is_in_force_as_a_file_that_says_the_same(file: Path) -> None:
    file.write_text(GOOD, encoding="utf-8")
    done = run("config", "show")
    assert done.status == 0
    assert parse_settings(done.out) == parse_settings(GOOD)
    assert "not there" not in done.out
    assert "poll_interval_s = 5\n" in done.out, "defaults included"


def test_check_of_a_good_file_names_its_destinations(file: Path) -> None:
    done = run("config", "check")
    assert (done.status, done.out) == (0, f"{file} is fine; destinations: none yet\n")
    file.write_text(GOOD, encoding="utf-8")
    assert run("config", "check").out == f"{file} is fine; destinations: work\n"


@pytest.mark.parametrize(
    "command", [("config", "check"), ("config", "show"), ("run",), ("push",), ("push", "--dry-run")]
)
@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_ends_every_command_with_78_and_the_place(file: Path, command: tuple[str, ...], case: str) -> None:
    text, what, hint = BAD[case]
    file.write_text(text, encoding="utf-8")
    done = run(*command)
    assert (done.status, done.out) == (78, "")
    first, _, second = done.err.partition("\n")
    assert first.startswith("transcriptd: ")
    assert str(file) in first
    assert what in first
    assert hint in first + second


@pytest.mark.parametrize("command", ["status", "sessions"])
def test_commands_that_only_look_say_so_too(file: Path, command: str) -> None:
    file.write_text("[push\n", encoding="utf-8")
    done = run(command, *(["verify"] if command == "sessions" else []))
    assert done.status == 78


@pytest.mark.parametrize("command", ["run", "push"])
def test_without_a_destination_there_is_nothing_to_run(file: Path, command: str) -> None:
    for text in (None, "", "[push]\n"):
        if text is not None:
            file.write_text(text, encoding="utf-8")
        done = run(command)
        assert (done.status, done.out) == (78, "")
        assert f"{file} names no server to send to" in done.err
        assert "transcriptd login URL" in done.err
        assert "transcriptd try" in done.err


def test_a_file_that_can_not_be_read_is_told(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    done = run("config", "check")
    assert done.status == 1
    assert f"{file} can't be read: not UTF-8" in done.err
    file.unlink()
    file.mkdir()
    assert "can't be read" in run("config", "show").err


@needs_posix
@pytest.mark.skipif(IS_ROOT, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_told(file: Path) -> None:
    file.write_text(GOOD, encoding="utf-8")
    file.chmod(0o000)
    assert "Permission denied" in run("config", "check").err


def test_a_file_written_by_a_windows_editor_is_fine(file: Path) -> None:
    file.write_bytes(GOOD.replace("\n", "\r\n").encode())
    assert run("config", "check").status == 0


def test_exit_statuses_are_those_of_the_process(file: Path) -> None:
    file.write_text("[push\n", encoding="utf-8")
    done = spawn("config", "check")
    assert done.status == 78
    assert "Traceback" not in done.err
    file.unlink()
    assert spawn("run").status == 78
    assert spawn("config", "path").status == 0


def test_the_printed_example_works_when_it_is_pasted(file: Path) -> None:
    example = run("config", "show").out.partition("# to begin with:\n")[2]
    file.write_text("\n".join(line.removeprefix("# ") for line in example.splitlines()), encoding="utf-8")
    assert run("config", "check").out == f"{file} is fine; destinations: default\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_locale_ends_a_command(file: Path, encoding: str) -> None:
    """A pipe on Windows takes cp1252, a daemon's journal in the C locale takes ASCII."""
    file.write_text(GOOD.replace("work", "Gezeiten 潮 → 🌊"), encoding="utf-8")
    for command in (["config", "show"], ["config", "check"], ["status"], ["status", "--json"]):
        done = spawn(*command, more={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
        assert (done.status, done.err) == (3 if command[0] == "status" else 0, ""), command


def test_show_masks_what_may_be_a_secret(file: Path) -> None:
    """A pattern may be the secret itself; a token in the wrong place is not repeated either."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('[privacy]\npatterns = ["house key: open-sesame-[0-9]+", "just-open-sesame"]\n', encoding="utf-8")
    shown = run("config", "show")
    assert shown.status == 0
    assert "open-sesame" not in shown.out
    assert 'patterns = ["house key: •••", "•••"]' in shown.out
    assert "house key: open-sesame-[0-9]+" in run("config", "show", "--reveal").out


@pytest.mark.parametrize(
    "line", ['token = "tsd_open-sesame-0123456789"', 'url = "https://ada:open-sesame@example.com"']
)
@pytest.mark.parametrize("command", [("config", "show"), ("config", "check"), ("status",), ("push",)])
def test_a_secret_in_the_wrong_place_is_not_repeated(file: Path, line: str, command: tuple[str, ...]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    url = "" if line.startswith("url") else 'url = "https://example.com"\n'
    file.write_text(f"[[destination]]\n{url}{line}\n", encoding="utf-8")
    done = run(*command)
    assert done.status == 78
    assert "open-sesame" not in done.out + done.err
