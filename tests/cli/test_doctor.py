"""`doctor` on machines of all kinds: nothing there, everything broken, servers that refuse, hang or live in another
time. It changes nothing, and always ends."""

import json
import os
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from agent.cli import doctor, probes, server_probes
from agent.cli.doctor import CHECKS, Check, finding_rows, run_checks
from agent.cli.layout import lay_out, paint
from agent.cli.scene import Once, Scene, Tree
from agent.core.diagnosis import Finding, Level
from agent.core.settings import Destination
from agent.core.transcripts.identity import START
from agent.core.transcripts.session import Facts, StreamId
from agent.errors import DiskError, KeyringLocked, NotRunning, TokenNotReadable
from agent.providers.others import OTHERS, other_folders
from agent.services import ServiceState
from agent.system.machine.lock import DaemonLock
from agent.system.paths import default_paths
from agent.system.remote import find_proxy
from agent.system.state.lives import Lives
from agent.system.state.state_db import Changes, TrackRow, open_state
from tests.cli.running import Done, run
from tests.system.http_server import Seen, Server, plain, serving
from tests.system.privileges import needs_posix

GOOD = "tsd_good_0123456789abcdef"
BULK = json.dumps({"protocol": 1, "bulk": {"max_bytes": 1000, "max_entries": 10, "encodings": []}, "files": True})
CANARY = "canary-5f2e"
GITHUB = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"


@contextmanager
def server(*, date_s: float | None = None, bulk: bool = True) -> Iterator[Server]:
    """Takes `GOOD` only; its clock stands at `date_s`."""
    headers = () if date_s is None else (f"Date: {formatdate(date_s, usegmt=True)}",)

    def answer(connection: socket.socket, seen: Seen) -> bool:
        if seen.headers.get("authorization") != f"Bearer {GOOD}":
            connection.sendall(plain("401 Unauthorized", b"{}", *headers))
        elif seen.target.endswith("/capabilities") and bulk:
            connection.sendall(plain("200 OK", BULK.encode(), *headers))
        else:
            connection.sendall(plain("404 Not Found", b"{}", *headers))
        return True

    with serving(answer) as running:
        yield running


def write_settings(home: Path, url: str, more: str = "", token: str = GOOD) -> None:
    (home / "td").mkdir(exist_ok=True)
    (home / "token").write_text(token)
    (home / "token").chmod(0o600)
    text = f'[[destination]]\nurl = "{url}"\ntoken = "file"\ntoken_file = "{(home / "token").as_posix()}"\n{more}'
    (home / "td" / "config.toml").write_text(text, encoding="utf-8")
    (home / "td" / "config.toml").chmod(0o600)


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks the service manager of this machine."""
    state = ServiceState("systemd", installed=True, enabled=True, active=True, command=("transcriptd", "run"))
    monkeypatch.setattr("agent.services.find_service", lambda *_, **__: state)


def levels(done: Done) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in done.json()["findings"]:
        found.setdefault(one["name"], []).append(one["level"])
    return found


def words_of(done: Done, name: str) -> str:
    return " | ".join(f"{one['words']} -> {one['fix']}" for one in done.json()["findings"] if one["name"] == name)


# --- machines -------------------------------------------------------------------------------------------------------


def test_a_machine_with_nothing_on_it_is_told_where_to_begin_and_stays_as_it_is(home: Path) -> None:
    before = sorted(home.rglob("*"))
    done = run("doctor", "--json")
    assert (done.status, done.err) == (1, ""), "without a server nothing is well"
    assert (levels(done)["settings"], levels(done)["agent"]) == (["fail"], ["warn"])
    assert "no server to send to" in words_of(done, "settings")
    assert "transcriptd login URL" in words_of(done, "settings")
    assert sorted(home.rglob("*")) == before


def test_settings_that_can_not_be_read_fail_and_the_rest_is_looked_at_all_the_same(home: Path) -> None:
    (home / "td").mkdir()
    (home / "td" / "config.toml").write_text("[push\n")
    (home / "td" / "private.list").write_text("nonsense\n")
    done = run("doctor", "--json")
    assert done.status == 1
    found = levels(done)
    assert (found["settings"], found["private list"]) == (["fail"], ["fail"])
    assert {one.name for one in CHECKS} - {"retention"} <= set(found), "nothing is left out"


@needs_posix
def test_files_that_others_may_read_are_named_with_the_command(home: Path) -> None:
    write_settings(home, "http://127.0.0.1:9")
    (home / "td" / "config.toml").chmod(0o644)
    (home / "td").chmod(0o755)
    assert f"chmod 600 {home / 'td' / 'config.toml'}" in words_of(run("doctor", "--json"), "settings")


def test_a_damaged_state_is_told_and_left_as_it_is(home: Path) -> None:
    path = default_paths(os.environ).database
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 500)
    done = run("doctor", "--json")
    assert (done.status, levels(done)["state"]) == (1, ["fail"])
    assert [one.name for one in path.parent.iterdir()] == ["state.db"]
    assert path.read_bytes() == b"no database" * 500


def test_what_a_dead_agent_left_is_named(home: Path) -> None:
    state = home / "td" / "state"
    state.mkdir(parents=True)
    (state / "daemon.pid").write_text("999999999\n")
    assert "which the next start removes" in words_of(run("doctor", "--json"), "agent")
    (state / "daemon.pid").write_text(f"{os.getpid()}\n")
    done = run("doctor", "--json")
    assert (levels(done)["agent"], done.status) == (["fail"], 1)
    assert "does not answer" in words_of(done, "agent")


def test_an_agent_that_ends_just_now_is_not_one_that_hangs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = DaemonLock(scene.paths.lock)
    scene.paths.lock.parent.mkdir(parents=True, exist_ok=True)
    lock.acquire()

    def ends() -> dict[str, Any]:
        lock.release()
        raise NotRunning("no transcriptd is running")

    monkeypatch.setattr(scene, "hello", ends)
    (found,) = probes.check_agent(scene)
    assert (found.level, found.words) == (Level.WARN, "none runs")


def test_folders_are_counted_and_a_mac_that_denies_them_is_explained(home: Path) -> None:
    folder = home / ".claude" / "projects" / "p" / "q"
    folder.mkdir(parents=True)
    for name in ("a.jsonl", "b.jsonl", "c.txt"):
        (folder / name).write_text("{}\n")
    assert "2 transcripts" in words_of(run("doctor", "--json"), "transcripts")
    denied = Tree(
        "claude", "Claude Code", "/p", there=True, trouble="/p can't be read: Operation not permitted", denied=True
    )
    mac = probes.judge_tree(denied, "darwin")
    assert (mac.level, "TCC" in mac.words, "Full Disk Access" in mac.fix) == (Level.FAIL, True, True)
    assert "TCC" not in probes.judge_tree(denied, "linux").words


def test_a_limit_of_watches_is_read_where_there_is_one(tmp_path: Path) -> None:
    assert probes.read_watch_limit(tmp_path / "nothing") is None
    (tmp_path / "limit").write_text("8192\n")
    assert probes.read_watch_limit(tmp_path / "limit") == 8192


def test_hooks_that_can_not_run_are_a_warning_and_missing_ones_are_none(home: Path) -> None:
    assert levels(run("doctor", "--json"))["hooks"] == ["ok"]
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir()
    hook = {"hooks": [{"type": "command", "command": "/gone/transcriptd capture"}]}
    settings.write_text(json.dumps({"hooks": {"SessionStart": [hook], "SessionEnd": [hook]}, "cleanupPeriodDays": 2}))
    done = run("doctor", "--json")
    assert levels(done)["hooks"] == ["warn"]
    assert "/gone/transcriptd is not there" in words_of(done, "hooks")
    assert "after 2 days" in words_of(done, "retention claude")


# --- checks that fail ---------------------------------------------------------------------------------------------


@pytest.fixture
def scene() -> Scene:
    return Scene(default_paths(os.environ), {})


def test_a_defect_in_a_check_costs_its_line_and_tells_no_words(scene: Scene) -> None:
    def stumble(_: Scene) -> list[Finding]:
        raise ValueError(CANARY)

    def refuse(_: Scene) -> list[Finding]:
        raise DiskError("it is full", hint="empty it")

    good = Finding(Level.OK, "c", "fine")
    found = run_checks(scene, [Check("a", stumble), Check("b", refuse), Check("c", lambda _: [good])])
    assert [(one.level, one.name) for one in found] == [(Level.FAIL, "a"), (Level.FAIL, "b"), (Level.OK, "c")]
    assert CANARY not in repr(found)
    assert found[1].fix == "empty it"


def test_a_check_that_hangs_is_left_behind_and_the_others_are_told(scene: Scene) -> None:
    over = threading.Event()

    def hang(_: Scene) -> list[Finding]:
        over.wait(30)
        return []

    good = Finding(Level.OK, "c", "fine")
    try:
        found = run_checks(scene, [Check("a", hang, 0.05), Check("b", hang, 0.05), Check("c", lambda _: [good])])
    finally:
        over.set()
    assert [one.words for one in found] == ["no answer within 0 s", "no answer within 0 s", "fine"]


def test_the_whole_look_ends_within_ten_seconds() -> None:
    assert max(doctor.LOCAL_S, doctor.REMOTE_S, *(one.limit_s for one in CHECKS)) <= 8


def test_who_asks_second_gets_the_same_answer_or_error() -> None:
    asked: list[int] = []

    def find() -> int:
        asked.append(1)
        raise DiskError("no")

    once = Once(find)
    for _ in range(2):
        with pytest.raises(DiskError):
            once()
    assert asked == [1]


# --- servers --------------------------------------------------------------------------------------------------------


def test_a_server_that_takes_the_token_tells_what_it_offers_and_the_time(home: Path) -> None:
    with server(date_s=time.time()) as there:
        write_settings(home, there.url)
        done = run("doctor", "--json")
    found = levels(done)
    assert (found["server default"], found["token default"], found["clock default"]) == (["ok", "ok"], ["ok"], ["ok"])
    assert "bulk with files" in words_of(done, "server default")
    assert GOOD not in done.out


def test_a_simple_server_is_asked_in_its_own_words(home: Path) -> None:
    with server(bulk=False) as there:
        write_settings(home, there.url)
        done = run("doctor", "--json")
    assert "speaks ingress" in words_of(done, "server default")


def test_a_token_that_is_refused_fails_with_the_way_to_another(home: Path) -> None:
    with server() as there:
        write_settings(home, there.url, token="tsd_wrong")
        done = run("doctor", "--json")
        assert done.status == 1
        assert f"does not accept the token -> transcriptd login {there.url}" in words_of(done, "server default")
        (home / "token").unlink()
        without = run("doctor", "--json")
    assert levels(without)["token default"] == ["fail"]
    assert levels(without)["server default"] == ["ok", "warn"], "it is there, whatever it thinks of us"


@pytest.mark.parametrize("apart_s", [-3600, 3600])
def test_a_clock_that_is_off_is_a_warning(home: Path, apart_s: int) -> None:
    with server(date_s=time.time() + apart_s) as there:
        write_settings(home, there.url)
        done = run("doctor", "--json")
    assert (levels(done)["clock default"], done.status) == (["warn"], 0)


def test_nobody_there_fails_with_what_failed(home: Path) -> None:
    write_settings(home, "http://127.0.0.1:9")
    done = run("doctor", "--json")
    assert (levels(done)["server default"], done.status) == (["fail"], 1)
    assert "no connection" in words_of(done, "server default")


def test_a_server_that_never_answers_is_left_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REMOTE_S", 0.3)
    over = threading.Event()

    def swallow(*_: object) -> bool:
        over.wait(20)
        return False

    with serving(swallow) as there:
        write_settings(home, there.url)
        try:
            done = run("doctor", "--json")
        finally:
            over.set()
    assert levels(done)["server default"] == ["fail"]
    assert "no answer within" in words_of(done, "server default")
    assert levels(done)["token default"] == ["ok"]


def test_a_server_that_takes_connections_and_says_nothing_is_told_from_one_that_is_not_there(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        one = Destination(url)
        (found,) = server_probes.check_server(scene, {one.name: Once(lambda: GOOD)}, one, 0.2)
    assert (found.level, found.fix) == (Level.FAIL, f"curl -v {url}")
    assert "is there, and gives no answer within 0 s" in found.words
    assert server_probes.SILENT_S < doctor.REMOTE_S


def test_a_keyring_that_is_locked_is_a_state_and_no_failure(scene: Scene) -> None:
    def locked() -> str | None:
        raise KeyringLocked("the keyring is locked", hint="unlock it")

    def handed_out() -> str | None:
        raise TokenNotReadable("no service manager hands out credentials here")

    one = Destination("http://127.0.0.1:9")
    assert server_probes.check_token(scene, {"default": Once(locked)}, one)[0].level is Level.WARN
    assert server_probes.check_token(scene, {"default": Once(handed_out)}, one)[0].level is Level.FAIL


def test_a_token_in_the_environment_is_named_as_such(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTD_TOKEN", GOOD)
    with server() as there:
        write_settings(home, there.url)
        done = run("doctor", "--json")
    assert "from TRANSCRIPTD_TOKEN here" in words_of(done, "token default")
    assert GOOD not in done.out


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://ada:hunter2@proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("http://ada:hunter2@proxy:port", "an address that is none"),
    ],
)
def test_a_proxy_is_named_without_its_password(proxy: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert find_proxy("https://transcripts.example.com") == shown
    assert find_proxy("http://127.0.0.1:8787") == "", "what stays on this machine goes through none"


# --- how it looks ---------------------------------------------------------------------------------------------------

FINDINGS = [
    Finding(Level.OK, "versions", "transcriptd 0.1.0, Python 3.11.7, Linux 6.1"),
    Finding(Level.WARN, "service", "not installed (systemd)", "transcriptd service install"),
    Finding(
        Level.FAIL,
        "server default",
        "transcripts.example.com can't be reached: its name has no address, or DNS does not answer",
        "curl -v https://transcripts.example.com",
    ),
]


@pytest.mark.parametrize("width", [0, 40, 80, 140])
def test_findings_look_as_they_were_looked_at(width: int) -> None:
    file = Path(__file__).with_name("screens") / f"doctor-{width}.txt"
    text = "".join(paint(line, colour=False) + "\n" for line in lay_out(finding_rows(FINDINGS), width))
    if os.environ.get("UPDATE_SCREENS"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_for_people_it_says_the_same_as_for_scripts(home: Path) -> None:
    done = run("doctor")
    for one in run("doctor", "--json").json()["findings"]:
        assert f"{one['level']:<4}  {one['name']}" in done.out
        assert one["fix"] in done.out
    assert "1 failed, " in done.out


# --- the bundle -----------------------------------------------------------------------------------------------------


def unpack(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def plant(home: Path) -> dict[str, str]:
    """Canaries wherever something of the kind may lie; kind → the word that must not come out."""
    kinds = "transcript title prompt token proxy variable customer blanks rule pattern session log list remote"
    words = {kind: f"{CANARY}{kind}" for kind in kinds.split()}
    customer = home / words["customer"]
    spaced = home / f"Kunde {words['blanks']} AG"
    root = home / ".claude" / "projects" / f"-home-{words['customer']}"
    root.mkdir(parents=True)
    session = words["session"]
    path = root / f"{session}.jsonl"
    path.write_text(json.dumps({"type": "user", "uuid": "u", "cwd": str(customer), "message": words["transcript"]}))
    folders = f'projects = ["{customer}", "{spaced}"]'
    privacy = f'[privacy]\npatterns = ["own: {words["pattern"]}"]\nallow = ["{words["rule"]}"]\n'
    write_settings(home, "http://127.0.0.1:9", f"{folders}\n{privacy}", words["token"])
    rules = f"project {customer}/{words['list']}\nsession {session}\nremote example.com/{words['remote']}\n"
    (home / "td" / "private.list").write_text(rules)
    (home / "td" / "private.list").chmod(0o600)
    (home / "td" / "logs").mkdir()
    log = f"2026-11-21 INFO {path}: sent\n2026-11-21 WARNING {spaced}/x.jsonl, {words['token']}, {GITHUB}\n"
    (home / "td" / "logs" / "transcriptd.log").write_text(log)
    rows = [
        TrackRow("default", StreamId(one, ""), "claude", where, 100, 10**18, state, f"{where}: no", 0, START)
        for one, where, state in ((session, str(path), "refused"), ("s2", f"{spaced}/x.jsonl", "waiting"))
    ]
    facts = Facts(str(spaced), words["title"], words["prompt"])
    db = open_state(default_paths(os.environ).database, "aside")
    db.commit(Changes(tracks=rows, sessions=[(session, facts)]))
    db.close()
    return words


@pytest.fixture
def planted(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    words = plant(home)
    monkeypatch.setenv("TRANSCRIPTD_TOKEN", words["token"])
    monkeypatch.setenv("HTTPS_PROXY", f"http://ada:{words['proxy']}@127.0.0.1:9")
    monkeypatch.setenv("SOME_SETTING", words["variable"])
    return words


def test_a_bundle_holds_none_of_what_it_must_not(home: Path, tmp_path: Path, planted: dict[str, str]) -> None:
    file = tmp_path / "bundle.zip"
    done = run("doctor", "--bundle", str(file))
    members = unpack(file)
    assert list(members) == [
        "README.txt", "doctor.json", "status.json", "versions.json", "state.json", "settings.toml", "log.txt"
    ]  # fmt: skip
    assert all(name in done.out for name in members), "it says what is in it"
    found = [(name, kind) for name, text in members.items() for kind, word in planted.items() if word in text]
    assert found == []
    whole = "".join(members.values())
    for words in (str(home), GITHUB, "Kunde"):
        assert words not in whole, words
    assert "[redacted:" in members["log.txt"]
    assert json.loads(members["state.json"])["states"] == {"refused": 1, "waiting": 1}
    assert json.loads(members["doctor.json"])["schema"] == json.loads(members["status.json"])["schema"] == 1


def test_with_paths_they_are_left_and_nothing_else(home: Path, tmp_path: Path, planted: dict[str, str]) -> None:
    file = tmp_path / "bundle.zip"
    run("doctor", "--bundle", str(file), "--with-paths")
    whole = "".join(unpack(file).values())
    assert planted["customer"] in whole
    assert str(home) in whole
    hidden = [kind for kind in planted if kind not in {"customer", "blanks", "session", "list"}]
    assert [kind for kind in hidden if planted[kind] in whole] == []


@needs_posix
def test_a_log_in_the_journal_is_in_the_bundle_through_the_same_sieves(
    home: Path, tmp_path: Path, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (home / "td" / "logs" / "transcriptd.log").read_text() + "the newest line\n"
    (tmp_path / "said").write_text(said)
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\ncat "{tmp_path}/said"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    Lives(default_paths(os.environ).lives).begin(1.0, "journal", "--user-unit=transcriptd.service")
    run("doctor", "--bundle", str(tmp_path / "bundle.zip"))
    log = unpack(tmp_path / "bundle.zip")["log.txt"]
    assert "the newest line" in log
    assert [kind for kind, word in planted.items() if word in log] == []
    assert GITHUB not in log


@needs_posix
def test_a_bundle_is_its_owners_alone_and_takes_no_files_place(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "bundle.zip"
    before = os.umask(0)
    try:
        assert run("doctor", "--bundle", str(file)).status == 1  # there is no server
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_bytes()
    again = run("doctor", "--bundle", str(file))
    assert again.status == 1
    assert "is there already" in again.err
    assert file.read_bytes() == kept
    assert not (home / "td").exists(), "no key is made for it"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a file that is always full")
def test_a_bundle_for_which_there_is_no_room_leaves_nothing(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    opened = os.open

    def full(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        found = opened(path, flags, *rest, **more)
        if path == file:
            os.close(found)
            return opened("/dev/full", os.O_WRONLY)
        return found

    with mock.patch.object(os, "open", full):
        done = run("doctor", "--bundle", str(file))
    assert done.status == 1
    assert "can't be written: No space left on device" in done.err
    assert not file.exists()


def test_a_last_run_that_nobody_ended_is_told_before_the_next_one(home: Path) -> None:
    lives = Lives(default_paths(os.environ).lives)
    default_paths(os.environ).state.mkdir(parents=True)
    lives.begin(1.0)
    for screen in (run("status").out, run("doctor").out):
        assert screen.count("ended unexpectedly") == 1
        assert "transcriptd logs" in screen
    default_paths(os.environ).lock.with_suffix(".pid").write_text(str(os.getpid()))
    assert "ended unexpectedly" not in run("status").out, "it is at work, and does not answer yet"
    lives.end()
    default_paths(os.environ).lock.with_suffix(".pid").unlink()
    assert "ended unexpectedly" not in run("status").out + run("doctor").out


def test_a_bundle_without_a_name_has_the_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("doctor", "--json", "--bundle")
    (file,) = tmp_path.glob("transcriptd-20*.zip")
    assert done.json()["bundle"] == file.name


def test_each_coding_agent_is_listed_as_found_not_found_or_switched_off(home: Path) -> None:
    session = "01a1fb4c-6b9f-7401-9c9b-e6751cf647c1"
    day = home / ".codex" / "sessions" / "2026" / "11" / "20"
    day.mkdir(parents=True)
    (day / f"rollout-2026-11-20T23-30-51-{session}.jsonl").write_text("{}\n")
    write_settings(
        home, "http://127.0.0.1:9", '[watch]\nagents = ["codex", "gemini", "copilot"]\ncopilot = ["~/elsewhere"]\n'
    )
    done = run("doctor", "--json")
    found = [(one["level"], one["words"]) for one in done.json()["findings"] if one["name"] == "transcripts"]
    assert found == [
        ("ok", f"Codex CLI: {home}/.codex/sessions, 1 session, 1 transcript"),
        ("ok", f"Gemini CLI was not found here; {home}/.gemini/tmp is watched for"),
        ("warn", f"{home}/elsewhere is not there yet; it is watched for"),
        ("ok", "Claude Code is switched off (watch.agents)"),
    ]


@pytest.mark.parametrize("variable", ["CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "COPILOT_HOME"])
def test_a_variable_that_leads_nowhere_is_a_warning(variable: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/nowhere/at all")
    words = f"{variable} names /nowhere/at all, which is not there"
    (found,) = (one for one in run("doctor", "--json").json()["findings"] if one["words"] == words)
    assert found["level"] == "warn"
    assert variable in found["fix"]
    monkeypatch.setenv(variable, str(home))
    assert "which is not there" not in run("doctor").out.replace("\n", " ")


def test_of_several_folders_each_is_followed_and_the_missing_one_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        path = home / name / "projects" / "p" / f"{name}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(b'{"uuid":"u"}\n')
    (home / "link").symlink_to("a")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", f"{home / 'a'}, {home / 'b'},{home / 'c'},{home / 'link'}")
    words = [one["words"] for one in run("doctor", "--json").json()["findings"] if one["name"] == "transcripts"]
    for name in ("a", "b"):
        assert f"Claude Code: {home / name / 'projects'}, 1 session, 1 transcript" in words
    assert f"CLAUDE_CONFIG_DIR names {home / 'c'}, which is not there" in words
    assert sum("1 transcript" in one for one in words) == 2, "a link to one of them is no third folder"


@needs_posix
def test_links_that_lead_out_are_named_and_those_to_another_watched_folder_are_not(home: Path) -> None:
    projects = home / ".claude" / "projects"
    (projects / "p").mkdir(parents=True)
    (home / ".codex" / "sessions" / "2026").mkdir(parents=True)
    for name, target in (("out", home), ("p/memory", home), ("in", home / ".codex" / "sessions" / "2026")):
        (projects / name).symlink_to(target)
    rows = [(one["level"], one["words"]) for one in run("doctor", "--json").json()["findings"]]
    out = "is not followed: it leads out of the watched folders"
    named = [row for row in rows if "is not followed" in row[1]]
    assert named == [("warn", f"{projects}/out {out}"), ("warn", f"{projects}/p/memory {out}")]


def test_the_folder_that_some_versions_took_is_looked_into_as_well(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLAUDE_CONFIG_DIR")
    for folder in (".claude", ".config/claude"):
        path = home / folder / "projects" / "p" / f"{folder[-6:]}-1.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(b'{"uuid":"u"}\n')
    words = [one["words"] for one in run("doctor", "--json").json()["findings"] if one["name"] == "transcripts"]
    assert sum("1 session, 1 transcript" in one for one in words) == 2


@pytest.mark.parametrize("title", OTHERS)
def test_a_coding_agent_that_is_not_known_is_named(title: str, home: Path) -> None:
    for folder in [folder for name, folder in other_folders(dict(os.environ), str(home)) if name == title]:
        Path(folder).mkdir(parents=True)
        found = [
            one for one in run("doctor", "--json").json()["findings"] if one["words"].startswith(f"{title} was used")
        ]
        assert [(one["level"], folder in one["words"]) for one in found] == [("ok", True)]
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("title", "path"),
    [
        ("Codex CLI", ".codex/sessions/2025/05/07/rollout-2025-05-07-01a1fb4c-6b9f-7401-9c9b-e6751cf647c1.json"),
        ("Gemini CLI", ".gemini/tmp/p/chats/session-2025-09-01T10-00-0cfd5ac8.json"),
    ],
)
def test_sessions_of_older_versions_are_counted_as_left_alone(title: str, path: str, home: Path) -> None:
    (home / path).parent.mkdir(parents=True)
    (home / path).write_text("{}")
    (home / path).with_name("logs.json").write_text("[]")
    told = [one["words"] for one in run("doctor", "--json").json()["findings"] if one["words"].startswith(title)]
    assert sum("; 1 session of older versions, one document each, left alone" in one for one in told) == 1
