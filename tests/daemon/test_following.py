"""What the control socket tells of sessions, by a whole agent and real files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.core.control_params import MOST_PREVIEWS
from agent.daemon.control.control import checked
from agent.daemon.control.following import following_methods
from agent.daemon.process.supervisor import Daemon
from agent.delivery.base.heartbeats import Heartbeats
from agent.errors import UsageError
from agent.providers import PROVIDERS
from agent.sessions.live.runs import LiveRuns
from agent.system.control_socket import Method, Subscribed
from agent.system.files import reading as files
from agent.system.state.runs_file import RunsFile
from tests.fakes import AsgiServer, FakeRules
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]

LONG = "x" * 100_000


def line(kind: str, words: str) -> bytes:
    content: Any = words if kind == "user" else [{"type": "text", "text": words}]
    return json.dumps({"type": kind, "uuid": words[:36], "cwd": "/w", "message": {"content": content}}).encode() + b"\n"


class Asked:
    def __init__(self, agent: SimulatedAgent, folder: Path) -> None:
        self.agent = agent
        self.live = LiveRuns(
            RunsFile(folder / "runs.jsonl"),
            PROVIDERS,
            files,
            Heartbeats(agent.clock.monotonic_s),
            now_s=agent.clock.now_s,
            monotonic_s=agent.clock.monotonic_s,
            say_over=lambda _session, _at_s: None,
        )
        daemon = SimpleNamespace(ask=lambda question: question(agent.engine), live=self.live)
        self.methods: Mapping[str, Method] = following_methods(cast(Daemon, daemon))

    def __call__(self, method: str, **params: Any) -> Any:
        answer = checked(method, self.methods[method])(params)
        if isinstance(answer, Subscribed):
            answer.feed.close()
            return answer.result
        return answer


@pytest.fixture
def asked(make_agent: Make, receiver: AsgiServer, tmp_path: Path) -> Asked:
    agent = make_agent(receiver)
    for number in range(6):
        agent.append("s-one", line("user", f"ask {number}") + line("assistant", f"say {number}"))
    agent.append("s-two", line("user", LONG) + line("assistant", "short"))
    agent.append("s-one", line("user", "below"), "subagents/agent-a")
    agent.settle()
    return Asked(agent, tmp_path)


def test_the_last_events_of_a_session(asked: Asked) -> None:
    found = asked("sessions.get", session="s-o", last=3)
    assert (found["session_id"], found["provider"], found["private"], found["run"]) == ("s-one", "claude", False, None)
    assert [one["text"] for one in found["events"] if one["kind"].endswith("message")][-2:] == ["ask 5", "say 5"]
    assert len(found["events"]) == 3
    assert found["events"][-1]["offset"] == asked.agent.path("s-one").stat().st_size
    assert asked("sessions.get", session="s-one", last=0)["events"] == []
    (cut,) = [one for one in asked("sessions.get", session="s-two")["events"] if one["kind"] == "user.message"]
    assert (len(cut["text"]), cut["cut"]) == (64 << 10, True)


def test_a_session_goes_on_in_the_files_of_its_own_and_not_in_its_subagents(asked: Asked) -> None:
    agent = asked.agent
    agent.append("s-one", line("user", "after that") + line("assistant", "and this"), "rollouts/r-2")
    agent.append("s-one", line("user", "between"), "rollouts/r-1")
    agent.settle()

    def said(last: int) -> list[str]:
        events = asked("sessions.get", session="s-one", last=last)["events"]
        return [one["text"] for one in events if one["kind"].endswith("message")]

    assert said(1) == ["and this"]
    assert said(40)[-5:] == ["ask 5", "say 5", "between", "after that", "and this"]
    (shown,) = asked("sessions.preview", sessions=["s-one"], items=2)["sessions"]
    assert [one["text"] for one in shown["events"]] == ["after that", "and this"]
    offsets = asked("messages.subscribe", session="s-one")["offsets"]
    assert set(offsets) == {"", "rollouts/r-1", "rollouts/r-2"}
    assert "subagents/agent-a" in asked("messages.subscribe", session="s-one", subagents=True)["offsets"]


def test_previews_are_bounded_and_one_that_is_not_there_says_so(asked: Asked) -> None:
    found = asked("sessions.preview", sessions=["s-one", "s-two", "nobody", "s-one"], items=2, characters=10)
    one, two, nobody = found["sessions"]
    assert [(event["kind"], event["text"]) for event in one["events"]] == [
        ("user.message", "ask 5"),
        ("assistant.message", "say 5"),
    ]
    assert [(len(event["text"]), event.get("cut", False)) for event in two["events"]] == [(10, True), (5, False)]
    assert nobody == {"session_id": "nobody", "error": "no session here is called 'nobody'"}


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("sessions.get", {}, "session: a text"),
        ("sessions.get", {"session": 7}, "session: a text"),
        ("sessions.get", {"session": "s-one", "latest": 3}, "the nearest is last"),
        ("sessions.get", {"session": "s-"}, "several sessions begin"),
        ("sessions.get", {"session": "s-one", "last": 1_001}, "from 0 to 1000, here 1001"),
        ("sessions.get", {"session": "s-one", "last": -1}, "whole number"),
        ("sessions.get", {"session": "s-one", "last": True}, "whole number"),
        ("sessions.preview", {}, "a list of texts"),
        ("sessions.preview", {"sessions": ["s"] * (MOST_PREVIEWS + 1)}, "0 to 50 of them, here 51"),
        ("sessions.preview", {"sessions": [], "items": 21}, "from 0 to 20, here 21"),
        ("messages.subscribe", {"session": "nobody"}, "no session here"),
        ("messages.subscribe", {"session": "s-one", "after_seq": "x"}, "whole number"),
        ("messages.subscribe", {"session": "s-one", "epoch": []}, "epoch: a text"),
        ("sessions.subscribe", {"after_seq": -1}, "whole number"),
    ],
)
def test_wrong_params_are_refused_in_words(asked: Asked, method: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        asked(method, **params)


def test_a_subscription_tells_where_it_begins(asked: Asked) -> None:
    size = asked.agent.path("s-one").stat().st_size
    found = asked("messages.subscribe", session="s-one")
    assert (found["session_id"], found["seq"], found["refresh"]) == ("s-one", 0, False)
    assert found["offsets"] == {"": size}
    found = asked("messages.subscribe", session="s-one", subagents=True)
    assert set(found["offsets"]) == {"", "subagents/agent-a"}


def test_private_sessions_are_their_users_own(make_agent: Make, receiver: AsgiServer, tmp_path: Path) -> None:
    agent = make_agent(receiver, rulebook=FakeRules("s"))
    agent.append("s", line("user", "mine"))
    agent.settle()
    asked = Asked(agent, tmp_path)
    found = asked("sessions.get", session="s")
    assert found["private"]
    assert "mine" in [one.get("text") for one in found["events"]]
    assert asked("messages.subscribe", session="s")["private"]
    assert not any("mine" in str(one) for one in agent.told)
    assert asked("runs.list") == {"runs": []}
    assert asked("sessions.subscribe")["seq"] == 0
