"""The way back, with a real receiver over a real connection: what one machine pushed, another one pulls, byte for byte,
and has nothing to send of it."""

import json
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agent.cli.config import environment, load_settings
from agent.cli.running import running_daemon
from agent.core.wire import Request, StreamHead, parse_streams, streams_request
from agent.daemon.process import supervisor
from agent.delivery.state.tasks import TrackKey
from agent.system import remote
from agent.system.machine.network import WayOut
from agent.system.paths import default_paths
from agent.system.tokens.sources import open_tokens
from tests.cli.running import Done, run
from tests.conftest import CORPUS
from tests.e2e.processes import TOKEN, Receiver, receiver, write_config
from tests.waiting import wait_for

VERSIONS = (
    "1.0.100-print",
    "2.0.30-print",
    "2.0.30-torn",
    "2.1.197-print",
    "2.1.329-print",
    "2.1.329-tui-scripted",
)


OTHERS = {"codex": "codex/sessions", "gemini": "gemini/tmp", "copilot": "copilot/session-state"}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "receiver") as made:
        yield made


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "Daemon", partial(supervisor.Daemon, way_out=lambda: WayOut("", "")))


class Machine:
    """A home of its own; `use` makes the commands that follow those of its user."""

    def __init__(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "td"
        self.projects = folder / "projects"
        self.work = folder / "work"
        self._monkeypatch = monkeypatch
        for one in (self.projects, self.work):
            one.mkdir(parents=True)
        self.roots = {name: folder / name for name in OTHERS}
        more = "".join(f'{name} = ["{root}"]\n' for name, root in self.roots.items())
        write_config(self.home, url, self.projects, more)

    def run(self, *arguments: str) -> Done:
        self._monkeypatch.setenv("TRANSCRIPTD_HOME", str(self.home))
        self._monkeypatch.setenv("TRANSCRIPTD_TOKEN", TOKEN)
        return run(*arguments)

    def files(self) -> dict[str, bytes]:
        """Place below the project's folder → content."""
        found = sorted(one for one in self.projects.rglob("*") if one.is_file())
        return {one.relative_to(self.projects).as_posix().partition("/")[2]: one.read_bytes() for one in found}


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """All that go out."""
    seen: list[Request] = []
    send = remote.Remote._send

    def recorded(self: remote.Remote, request: Request, *more: Any) -> Any:
        seen.append(request)
        return send(self, request, *more)

    monkeypatch.setattr(remote.Remote, "_send", recorded)
    return seen


def sent(requests: list[Request]) -> list[str]:
    return [f"{one.method} {one.path}" for one in requests if one.method not in ("GET", "HEAD")]


def whole(data: bytes) -> bytes:
    """Up to the last newline: what follows it has not been written to its end."""
    return data[: data.rfind(b"\n") + 1]


@pytest.fixture
def machines(there: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, Machine]:
    mine, other = (Machine(tmp_path / name, there.url, monkeypatch) for name in ("mine", "other"))
    return mine, other


@pytest.mark.parametrize("version", VERSIONS)
def test_every_claude_transcript_of_the_corpus_comes_back_as_it_was(
    version: str, corpus: Path, machines: tuple[Machine, Machine], requests: list[Request]
) -> None:
    mine, other = machines
    shutil.copytree(corpus / "claude" / version / "projects", mine.projects, dirs_exist_ok=True)
    assert mine.run("push").status == 0
    missing = other.run("pull", "--list", "--json").json()["sessions"]
    assert missing
    for row in missing:
        done = other.run("pull", row["session"], "--project", str(other.work), "--json")
        assert done.status == 0, done.err
        assert done.json()["verified"] is True
    assert other.run("pull", "--list", "--json").json()["sessions"] == []
    theirs, ours = {name: data for name, data in mine.files().items() if data}, other.files()
    assert theirs.keys() == ours.keys()
    for name, data in ours.items():
        assert data == (whole(theirs[name]) if name.endswith(".jsonl") else theirs[name]), name
    requests.clear()
    again = other.run("push", "--json")
    assert again.status == 0, again.err
    assert sent(requests) == [], "nothing is sent again"
    assert other.run("sessions", "verify", "--json").json()["equal"] is True


@pytest.mark.parametrize("agent", OTHERS)
def test_every_other_transcript_of_the_corpus_comes_back_as_it_was(
    agent: str, corpus: Path, machines: tuple[Machine, Machine], requests: list[Request]
) -> None:
    mine, other = machines
    shutil.copytree(corpus / OTHERS[agent], mine.roots[agent])
    assert mine.run("push").status == 0
    missing = other.run("pull", "--list", "--json").json()["sessions"]
    assert missing
    for row in missing:
        done = other.run("pull", row["session"], "--project", str(other.work), "--json")
        assert done.status == 0, done.err
        for path in (Path(one["path"]) for one in done.json()["files"]):
            below = path.relative_to(other.roots[agent])
            theirs = mine.roots[agent] / below
            if agent == "gemini":  # its project has another folder here
                theirs = mine.roots[agent] / "demo-proj-v1" / Path(*below.parts[1:])
            data = theirs.read_bytes()
            assert path.read_bytes() == (whole(data) if path.suffix == ".jsonl" else data), below
    assert other.run("pull", "--list", "--json").json()["sessions"] == []
    requests.clear()
    again = other.run("push", "--json")
    assert again.status == 0, again.err
    assert sent(requests) == [], "nothing is sent again"
    assert other.run("sessions", "verify", "--json").json()["equal"] is True


def test_a_thread_comes_back_with_the_files_that_it_went_on_in(machines: tuple[Machine, Machine]) -> None:
    """Each under a name that its coding agent takes for what it is, and more of it is sent."""
    mine, other = machines
    shutil.copytree(CORPUS.with_name("cases") / "codex-segments" / "codex" / "sessions", mine.roots["codex"])
    assert mine.run("push").status == 0
    (row,) = other.run("pull", "--list", "--json").json()["sessions"]
    done = other.run("pull", row["session"], "--json")
    assert (done.status, done.json()["verified"]) == (0, True), done.err
    theirs, ours = ({one.name: one.read_bytes() for one in it.roots["codex"].rglob("*.jsonl")} for it in machines)
    assert theirs == ours
    assert len(ours) == 2
    last = max(other.roots["codex"].rglob("*.jsonl"))
    with last.open("ab") as file:
        file.write(b'{"type":"event_msg","ordinal":5}\n')
    assert other.run("push").status == 0
    assert other.run("sessions", "verify", "--json").json()["equal"] is True
    assert sorted(one.head.entry_count for one in fetch_streams(other, row["session"])) == [3, 4]
    assert mine.run("private", "add", row["session"]).status == 0
    assert mine.run("push").status == 0
    assert other.run("pull", "--list", "--json").json()["sessions"] == [], "all of it was taken back"


GEMINI = "a9000000-1111-4111-8111-111111111111"


@pytest.mark.parametrize("known", ["nothing", "another's", "marker", "list", "old"])
def test_a_session_of_gemini_comes_to_where_gemini_looks_and_goes_on_there(
    known: str, machines: tuple[Machine, Machine]
) -> None:
    mine, other = machines
    data = b'{"sessionId":"%s","projectHash":"x","startTime":"2026-11-01T10:00:00.000Z"}\n' % GEMINI.encode()
    data += b'{"id":"m1","type":"user","content":"first question"}\n'
    there = mine.roots["gemini"] / "demo" / "chats" / "session-2026-11-01T10-00-a9000000.jsonl"
    there.parent.mkdir(parents=True)
    there.write_bytes(data)
    (there.parent.parent / ".project_root").write_text("/w/g")
    assert mine.run("sessions", "show", GEMINI).out.splitlines()[0].endswith("/w/g")
    assert mine.run("push").status == 0
    mine.run("sessions", "backfill")
    assert mine.run("sessions", "list", "--json").json()["sessions"][0]["project"] == "/w/g"
    root, project = other.roots["gemini"], str(other.work)
    made: dict[str, tuple[str, str | None]] = {
        "nothing": ("work", None),
        "another's": ("work-1", None),
        "marker": ("some-3", project),
        "list": ("listed", project),
        "old": (sha256(project.encode()).hexdigest(), ""),
    }
    folder, marker = made[known]
    if known == "another's":
        (root / "work").mkdir(parents=True)
        (root / "work" / ".project_root").write_text("/elsewhere/work")
    if marker is not None:
        (root / folder / "chats").mkdir(parents=True)
        (root / folder / "logs.json").write_text("[]")
    if marker:
        (root / folder / ".project_root").write_text(marker)
    if known == "list":
        (root / "aa").mkdir()
        (root / "aa" / ".project_root").write_text(project)
        (root.parent / "projects.json").write_text(json.dumps({"projects": {project: folder}}))
    done = pull(other, session=GEMINI)
    assert done.status == 0, done.err
    placed = root / folder / "chats" / there.name
    assert placed.read_bytes() == data
    assert (root / folder / ".project_root").read_text() == project
    assert f"cd {project} && gemini --resume {GEMINI}" in done.out
    with placed.open("ab") as file:
        file.write(b'{"id":"m2","type":"user","content":"and on it goes"}\n')
    assert other.run("push").status == 0
    assert other.run("sessions", "verify", "--json").json()["equal"] is True
    assert [one.head.entry_count for one in fetch_streams(other, GEMINI)] == [3]
    other.run("sessions", "backfill")
    (row,) = other.run("sessions", "list", "--json").json()["sessions"]
    assert row["project"] == project


@pytest.mark.parametrize("is_busy", [False, True], ids=["alone", "beside another session"])
@pytest.mark.parametrize("wanted", ["elsewhere", "its own"])
def test_a_session_whose_side_files_were_left_comes_to_where_it_shall_go_on(
    wanted: str, is_busy: bool, machines: tuple[Machine, Machine]
) -> None:
    """A clean-up takes the transcript and leaves its folder; the rest must not follow that into another project."""
    mine, _ = machines
    own, elsewhere = mine.work / "a", mine.work / "new"
    own.mkdir()
    elsewhere.mkdir()
    data = lines(3).replace(b"/elsewhere", str(own).encode())
    folder = mine.projects / encoded(own)
    (folder / ONE / "tool-results").mkdir(parents=True)
    (folder / f"{ONE}.jsonl").write_bytes(data)
    side = folder / ONE / "tool-results" / "a.txt"
    side.write_text("out")
    assert mine.run("push").status == 0
    (folder / f"{ONE}.jsonl").unlink()
    if is_busy:
        (folder / "other.jsonl").write_bytes(data)
    target = elsewhere if wanted == "elsewhere" else own
    done = mine.run("pull", ONE, "--project", str(target))
    assert done.status == 0, done.err
    assert f"cd {target} && claude --resume {ONE}" in done.out
    assert (mine.projects / encoded(target) / f"{ONE}.jsonl").read_bytes() == data
    assert (mine.projects / encoded(target) / ONE / "tool-results" / "a.txt").read_text() == "out"
    assert side.read_text() == "out", "nothing that was here is touched"
    assert len(list(mine.projects.rglob(f"{ONE}.jsonl"))) == 1
    with (mine.projects / encoded(target) / f"{ONE}.jsonl").open("ab") as file:
        file.write(lines(1))
    mine.run("push")
    assert [one.head.entry_count for one in fetch_streams(mine, ONE)] == [4]
    (mine.projects / encoded(target) / f"{ONE}.jsonl").unlink()
    again = mine.run("pull", ONE, "--project", str(target))
    assert again.status == 0, again.err
    assert (mine.projects / encoded(target) / f"{ONE}.jsonl").read_bytes() == data + lines(1)


def encoded(path: Path) -> str:
    return "".join(one if one.isascii() and one.isalnum() else "-" for one in str(path))


def test_verify_names_what_was_compared_with_nothing(machines: tuple[Machine, Machine]) -> None:
    mine, _ = machines
    path = write_session(mine, lines(2))
    assert mine.run("push").status == 0
    assert mine.run("sessions", "verify").status == 0
    stray = path.parent.parent / "stray.jsonl"
    stray.write_bytes(lines(1))
    done = mine.run("sessions", "verify", "--json")
    assert (done.status, done.json()["equal"]) == (1, False)
    assert done.json()["unfollowed"] == [{"path": str(stray), "why": "Claude Code names no transcript so"}]
    assert f"! {stray} is not followed: " in mine.run("sessions", "verify").out
    assert mine.run("sessions", "verify", ONE).status == 0, "nothing is said of others"
    assert mine.run("push").status == 1
    assert str(stray) in mine.run("doctor").out.replace("\n", "").replace("  ", "")


LINE = b'{"type":"user","uuid":"u%d","cwd":"/elsewhere","sessionId":"%s","message":{"role":"user","content":"hello"}}\n'
ONE = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"


def lines(count: int, session: str = ONE) -> bytes:
    return b"".join(LINE % (number, session.encode()) for number in range(count))


def write_session(machine: Machine, data: bytes, session: str = ONE) -> Path:
    path = machine.projects / "p" / f"{session}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def pull(machine: Machine, *more: str, session: str = ONE) -> Done:
    return machine.run("pull", session, "--project", str(machine.work), *more)


def test_a_running_agent_is_told_before_the_file_is_there(
    machines: tuple[Machine, Machine], requests: list[Request]
) -> None:
    mine, other = machines
    write_session(mine, lines(5))
    assert mine.run("push").status == 0
    other.run("status")  # its environment
    paths = default_paths(environment())
    settings = load_settings(paths)
    tokens = open_tokens(settings.destinations, paths.instance, environment())
    with running_daemon(settings, paths, tokens, watch=True) as daemon:
        wait_for(lambda: daemon.full_scans > 0)
        requests.clear()
        assert pull(other).status == 0
        scans = daemon.full_scans
        daemon.request_scan()
        wait_for(lambda: daemon.full_scans > scans and not daemon.ask(lambda engine: engine.is_busy()))
        assert sent(requests) == []
        key = TrackKey("default", ONE, "")
        assert daemon.ask(lambda engine: engine.tracks[key].state) == "synced"
        path = next(other.projects.rglob("*.jsonl"))
        with path.open("ab") as file:
            file.write(lines(1))
        daemon.request_scan()
        wait_for(lambda: daemon.ask(lambda engine: engine.tracks[key].cursor.entry_count) == 6)
    assert [one.partition("?")[0].rpartition("/")[2] for one in sent(requests)][:1] == ["entries"]


def test_what_is_here_already_is_left_alone(machines: tuple[Machine, Machine]) -> None:
    mine, other = machines
    write_session(mine, lines(5))
    assert mine.run("push").status == 0
    path = write_session(mine, lines(5))
    before = path.stat()
    done = mine.run("pull", ONE)
    assert (done.status, "is here already" in done.out) == (0, True)
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    for here, why in ((lines(4), "is not the server's copy"), (lines(6), "goes on where"), (b"{}\n" * 5, "is not")):
        path = write_session(other, here)
        done = pull(other)
        assert (done.status, why in done.err) == (2, True), done.err
        assert path.read_bytes() == here
    assert [one.name for one in other.projects.iterdir()] == ["p"]


def test_a_folder_has_to_be_named_where_its_own_is_not_here(machines: tuple[Machine, Machine]) -> None:
    mine, other = machines
    write_session(mine, lines(1))
    assert mine.run("push").status == 0
    done = other.run("pull", ONE)
    assert (done.status, "--project DIR" in done.err) == (2, True)
    assert list(other.projects.iterdir()) == []
    elsewhere = other.work / "same"
    elsewhere.mkdir()
    write_session(mine, lines(1, "two").replace(b"/elsewhere", str(elsewhere).encode()), "two")
    assert mine.run("push").status == 0
    assert other.run("pull", "two").status == 0, "its own folder is here"
    name = "".join(one if one.isalnum() else "-" for one in str(elsewhere))
    assert (other.projects / name / "two.jsonl").is_file()


def test_a_rehearsal_places_nothing(machines: tuple[Machine, Machine], requests: list[Request]) -> None:
    mine, other = machines
    write_session(mine, lines(3))
    assert mine.run("push").status == 0
    requests.clear()
    done = pull(other, "--dry-run", "--json").json()
    assert [row["outcome"] for row in done["files"]] == ["would be placed"]
    assert list(other.projects.iterdir()) == []
    assert [one.path for one in requests if "/entries" in one.path and "limit=64" not in one.path] == []
    assert pull(other, "--json").json()["files"][0]["path"] == done["files"][0]["path"]


def test_what_is_private_here_is_not_brought_here(machines: tuple[Machine, Machine]) -> None:
    mine, other = machines
    write_session(mine, lines(3))
    write_session(mine, lines(3, "two").replace(b"u", b"v").replace(b'v"', b'u"'), "two")
    assert mine.run("push").status == 0
    assert other.run("private", "add", "--session", ONE).status == 0
    assert other.run("private", "add", "--project", "/elsewhere").status == 0
    for session in (ONE, "two"):
        done = pull(other, session=session)
        assert (done.status, "private" in done.err) == (2, True), done.err
    assert not list(other.projects.rglob("*.jsonl"))
    assert mine.run("push").status == 0
    assert len(mine.run("pull", "--list", "--json").json()["sessions"]) == 0


def test_a_session_that_was_deleted_there_says_so(machines: tuple[Machine, Machine]) -> None:
    mine, other = machines
    write_session(mine, lines(3))
    assert mine.run("push").status == 0
    assert mine.run("private", "add", "--session", ONE).status == 0
    assert mine.run("push").status == 0
    done = pull(other)
    assert (done.status, "deleted this session on the server" in done.err) == (2, True), done.err
    assert (pull(other, session="nobody").status, "knows no session" in pull(other, session="nobody").err) == (2, True)


def test_secrets_that_stayed_there_are_told_of(machines: tuple[Machine, Machine]) -> None:
    mine, other = machines
    secret = b"ghp_" + b"aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6"
    theirs = write_session(mine, lines(2).replace(b"hello", b"token " + secret, 1))
    assert mine.run("push").status == 0
    done = pull(other)
    assert (done.status, "1 secret was replaced" in done.out) == (0, True), done.out + done.err
    (path,) = other.projects.rglob("*.jsonl")
    assert secret not in path.read_bytes()
    assert secret in theirs.read_bytes()
    assert other.run("push").status == 0
    assert other.run("sessions", "verify", "--json").json()["equal"] is True


def test_an_older_generation_can_be_had(machines: tuple[Machine, Machine]) -> None:
    mine, other = machines
    write_session(mine, lines(3))
    assert mine.run("push").status == 0
    write_session(mine, lines(2).replace(b"hello", b"other"))
    assert mine.run("push").status == 0
    newest = pull(other, "--dry-run", "--json").json()
    assert "1 more generations" in newest["notes"][0]
    raw = fetch_streams(mine, ONE)
    older = next(row.head.generation for row in raw if not row.current)
    assert pull(other, "--generation", str(older)).status == 0
    assert next(other.projects.rglob("*.jsonl")).read_bytes() == lines(3)


def fetch_streams(machine: Machine, session: str) -> list[StreamHead]:
    text = (machine.home / "config.toml").read_text(encoding="utf-8")
    url = text.split('"')[1]
    return parse_streams(remote.Remote(url, lambda: TOKEN).send(streams_request(session))) or []


def test_a_colleagues_session_comes_where_the_token_allows_it(
    there: Receiver, machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = machines
    write_session(mine, lines(4))
    assert mine.run("push").status == 0
    plain, reader = (
        json.loads(mine.run("receiver", "token", "create", name, "--owner", "ben", "--json", *more,
                            "--data", str(there.data)).out)["token"]
        for name, more in (("plain", ()), ("reader", ("--read", "local")))
    )  # fmt: skip
    monkeypatch.setattr(sys.modules[__name__], "TOKEN", plain)
    assert other.run("pull", "--list", "--json").json()["sessions"] == []
    assert "knows no session" in pull(other).err
    assert pull(other, "--owner", "local").status == 2
    monkeypatch.setattr(sys.modules[__name__], "TOKEN", reader)
    assert [row["owner"] for row in other.run("pull", "--list", "--json").json()["sessions"]] == ["local"]
    done = pull(other, "--json")
    assert done.json()["owner"] == "local", done.err
    path = next(other.projects.rglob("*.jsonl"))
    assert path.read_bytes() == lines(4)
    assert other.run("push").status == 0
    assert fetch_streams(other, ONE) == [], "nothing of it is sent as one's own before it grows"
    with path.open("ab") as file:
        file.write(lines(1))
    assert other.run("push").status == 0
    assert [row.head.entry_count for row in fetch_streams(other, ONE)] == [5]


@pytest.mark.parametrize("at", [1, 2, 37, 100])
def test_verify_says_which_line_differs_first(
    at: int, machines: tuple[Machine, Machine], requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = machines
    path = write_session(mine, lines(100))
    assert mine.run("push").status == 0
    changed = lines(100).splitlines(keepends=True)
    changed[at - 1] = changed[at - 1].replace(b"hello", b"HELLO")
    path.write_bytes(b"".join(changed))
    monkeypatch.setattr("agent.core.transcripts.identity.Survey.MOST_PLACES", 16)
    requests.clear()
    done = mine.run("sessions", "verify", "--json")
    (row,) = done.json()["streams"]
    assert (done.status, row["outcome"], row["differs_at"]) == (1, "different", at)
    assert len(requests) < 20
    assert not any("/entries" in one.path for one in requests), "nothing of it is asked for"
    assert f"different from line {at} on" in mine.run("sessions", "verify", ONE[:5]).out


def test_verify_all_tells_what_only_the_server_has(machines: tuple[Machine, Machine]) -> None:
    mine, other = machines
    write_session(mine, lines(3))
    assert mine.run("push").status == 0
    write_session(other, lines(2, "two"), "two")
    assert other.run("push").status == 0
    done = other.run("sessions", "verify", "--all", "--json")
    assert (done.status, done.json()["equal"]) == (0, True)
    assert [row["session"] for row in done.json()["only_there"]] == [ONE]
    assert f"only on default: {ONE}" in other.run("sessions", "verify", "--all").out
    assert other.run("sessions", "verify", "--all", "two").status == 2
