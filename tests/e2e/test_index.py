"""The index of a real daemon, which a process of its own keeps, asked by commands and by the socket."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from agent.errors import UsageError
from agent.system.control_socket import ControlClient
from agent.system.paths import paths_below
from tests.daemon.test_indexing import line, said
from tests.e2e.processes import READY_S, agent, command, end, last_json, read_until, write_config
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e


def children_of(pid: int) -> list[str]:
    """What the processes that this one started run."""
    found = []
    for one in Path("/proc").iterdir():
        try:
            if one.name.isdigit() and f"PPid:\t{pid}\n" in (one / "status").read_text():
                found.append((one / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended meanwhile
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks for processes in /proc")
def test_a_daemon_keeps_the_index_by_a_process_that_goes_with_it(tmp_path: Path) -> None:
    home, projects = tmp_path / "h", tmp_path / "projects"
    paths = paths_below(home)
    path = projects / "p" / "aaaa1111.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(said(5))
    write_config(home, "http://127.0.0.1:9", projects)
    with agent(home) as process:
        read_until(process, "transcriptd is running")
        with ControlClient(paths.socket, timeout_s=READY_S) as client:

            def rows(**params: Any) -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = client.call("sessions.list", flat=True, **params)["sessions"]
                return [one for one in found if one.get("messages")]

            wait_for(rows, "the index", READY_S)
            assert any("agent.sessions.index.index_child" in one for one in children_of(process.pid))
            with path.open("ab") as file:
                file.write(line("user", "a needle", 900))
            wait_for(lambda: rows()[0]["messages"] == 6, "what was added", READY_S)
            hits = client.call("sessions.search", words=["needle"])["hits"]
            assert [(one["session"], one["line"]) for one in hits] == [("aaaa1111", 6)]
            assert client.call("sessions.describe", session="aaaa1111")["files"][0]["servers"][0]["state"] != "synced"
            assert client.call("sessions.stats", by="model")["total"]["messages"] == 6
            patched = client.call("sessions.patch", session="aaaa1111", label="mine", set={"plug.x": [1]})
            assert (patched["label"], patched["values"]) == ("mine", {"plug.x": [1]})
            assert [one["session"] for one in client.call("sessions.resolve", words="mine")["sessions"]] == ["aaaa1111"]
            assert client.call("sessions.resolve", beginning="aaaa")["sessions"][0]["session_id"] == "aaaa1111"
            assert client.call("sessions.cleanup", dry_run=True)["forgotten"] == []
            for method, params in (
                ("sessions.describe", {"session": "nobody"}),
                ("sessions.patch", {"session": "nobody", "label": "x"}),
                ("sessions.patch", {"session": "aaaa1111", "set": {"nodot": 1}}),
                ("sessions.search", {"words": []}),
                ("sessions.stats", {"by": "moon"}),
                ("sessions.list", {"sort": "moon"}),
                ("sessions.list", {"limit": -1}),
            ):
                with pytest.raises(UsageError):
                    client.call(method, **params)
            assert client.call("sessions.list")["streams"][0]["session_id"] == "aaaa1111", "as it was before"
        assert last_json(command(home, "sessions", "backfill", "--force", "--json"))["sessions"] == 1
        listed = json.loads(command(home, "sessions", "list", "--json").stdout)["sessions"]
        assert [(one["title"], one["lines"], one["state"]) for one in listed] == [("mine", 6, listed[0]["state"])]
        path.unlink()
        wait_for(lambda: _life(home) == "gone", "that it is gone", READY_S)
        child = next(one for one in children_of(process.pid) if "index_child" in one)
        assert child
        end(process, signal.SIGKILL)
        wait_for(lambda: not _is_indexing(paths.state), "the end of its process", READY_S)


def _life(home: Path) -> str:
    found = json.loads(command(home, "sessions", "list", "--json").stdout)["sessions"]
    return str(found[0].get("life", "")) if found else ""


def _is_indexing(state: Path) -> bool:
    """Whether a process has the index open."""
    for one in Path("/proc").iterdir():
        try:
            open_files = [str(fd.readlink()) for fd in (one / "fd").iterdir()] if one.name.isdigit() else []
        except OSError:
            continue
        if str(state / "index.db") in open_files:
            return True
    return False
