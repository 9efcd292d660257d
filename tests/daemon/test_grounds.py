"""A session that was private for something stays private when that is not to be found any more: only its owner's word
frees it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.delivery.lifecycle import State
from agent.core.privacy.rules import parse_rule
from agent.core.settings import Privacy
from agent.delivery.privacy.rulebook import ListedRules
from agent.system.paths import paths_below
from agent.system.state.privacy_list import PrivacyList
from tests.daemon.test_private import is_deleted, line, stored, told
from tests.fakes import AsgiServer, FakeClock
from tests.reliability import MakeTally
from tests.simulation.world import SimulatedAgent

Make = Callable[..., SimulatedAgent]


class Machine:
    """A checkout, a link to a folder, and a private list, beside an agent that obeys it."""

    def __init__(self, make_agent: Make, receiver: AsgiServer, folder: Path) -> None:
        self._clock = FakeClock()
        paths = paths_below(folder / "td")
        self.list = paths.private_list
        self.work, self.secret, self.link = folder / "work", folder / "secret", folder / "link"
        self.checkout = self.work / "app"
        self.checkout.mkdir(parents=True)
        (self.work / "open").mkdir()
        self.secret.mkdir()
        self.link.symlink_to(self.secret)
        self.set_remote("git@github.com:acme/app.git")
        environment = {"HOME": str(folder / "home"), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
        rules = ListedRules(paths, Privacy(), environment, had_list=False, monotonic_s=self._clock.monotonic_s)
        self.agent = make_agent(receiver, rulebook=rules)
        self.receiver = receiver

    def set_remote(self, url: str) -> None:
        git = self.checkout / ".git"
        for name in ("objects", "refs"):
            (git / name).mkdir(parents=True, exist_ok=True)
        (git / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
        (git / "config").write_text(f'[core]\n\tbare = false\n[remote "origin"]\n\turl = {url}\n', encoding="utf-8")

    def rule(self, *rules: str) -> None:
        """The owner has these rules, and no others, as commands write them."""
        commands = PrivacyList(self.list)
        commands.add(parse_rule(*rule.split(" ", 1)) for rule in rules)
        commands.remove(one for one in commands.rules() if one.text not in rules)
        self.hear()

    def hear(self) -> None:
        """The rules of a moment ago count no more."""
        told(self.agent)
        self._clock.advance(3600)
        told(self.agent)
        self.agent.settle()


def rename_remote(machine: Machine) -> None:
    machine.set_remote("git@github.com:elsewhere/other.git")


def remove_checkout(machine: Machine) -> None:
    shutil.rmtree(machine.checkout)
    machine.checkout.mkdir()


def move_checkout(machine: Machine) -> None:
    machine.checkout.rename(machine.work / "moved")
    machine.checkout.mkdir()


def remove_link(machine: Machine) -> None:
    machine.link.unlink()
    machine.link.mkdir()


def delete_original(machine: Machine) -> None:
    machine.agent.path("original").unlink()


def cut_transcript(machine: Machine) -> None:
    machine.agent.path("s").write_bytes(line("b", str(machine.work / "open")))


REMOTE = "remote github.com/acme/*"

CASES: dict[str, tuple[Callable[[Machine], str], Callable[[Machine], None]]] = {
    "the remote was renamed": (lambda _: REMOTE, rename_remote),
    "the checkout is gone": (lambda _: REMOTE, remove_checkout),
    "the checkout was moved": (lambda _: REMOTE, move_checkout),
    "a link leads nowhere": (lambda machine: f"project {machine.secret}", remove_link),
    "the original is gone": (lambda _: "session original", delete_original),
    "the line was taken out": (lambda machine: f"project {machine.checkout}", cut_transcript),
}


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("is_sent", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_it_stays_private_until_its_owner_takes_the_rule_back(  # noqa: PLR0917 - parameters of one grid
    make_agent: Make, receiver: AsgiServer, tmp_path: Path, case: str, is_sent: bool, restarts: bool, tally: MakeTally
) -> None:
    machine = Machine(make_agent, receiver, tmp_path / "machine")
    agent = machine.agent
    rule_of, change = CASES[case]
    if not is_sent:
        machine.rule(rule_of(machine))
    agent.append("original", line("o", str(machine.work / "open")))
    agent.append("s", line("o", str(machine.work / "open")) + line("a", str(machine.checkout)))
    agent.append("s", line("c", str(machine.link)))
    agent.settle()
    machine.rule(rule_of(machine))
    assert agent.state("s") is State.PRIVATE
    change(machine)
    for unrelated in ("/nowhere", "/elsewhere"):
        machine.rule(rule_of(machine), f"project {unrelated}", "session somebody", "remote gitlab.com/nobody/*")
        if restarts:
            agent.crash()
        agent.settle()
        assert agent.state("s") is State.PRIVATE
        assert not stored(receiver, "s")
        assert is_deleted(receiver, "s") is is_sent
    machine.rule()
    assert agent.state("s") is State.SYNCED
    assert stored(receiver, "s") == agent.path("s").read_bytes()
    tally("private means private", "what it was private for is not to be found any more").note()


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ("remote github.com/acme/*", "remote github.com/acme/app", True),
        ("remote github.com/acme/*", "remote github.com/acme/other", False),
        ("project */secret", "project {secret}", True),
        ("project {secret}", "project */secretly", False),
    ],
)
def test_another_rule_is_asked_of_what_is_remembered(  # noqa: PLR0917 - the same
    make_agent: Make, receiver: AsgiServer, tmp_path: Path, before: str, after: str, stays: bool
) -> None:
    """The rule that it was private for is gone; what made it so is judged by the one that took its place."""
    machine = Machine(make_agent, receiver, tmp_path / "machine")
    agent = machine.agent
    machine.rule(before.format(secret=machine.secret))
    agent.append("s", line("a", str(machine.checkout)) + line("c", str(machine.link)))
    agent.settle()
    assert agent.state("s") is State.PRIVATE
    rename_remote(machine)
    remove_link(machine)
    agent.crash()
    machine.rule(after.format(secret=machine.secret))
    assert agent.state("s") is (State.PRIVATE if stays else State.SYNCED)
