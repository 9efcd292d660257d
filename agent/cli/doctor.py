"""`transcriptd doctor`: what is as it should be, what is not, and the next command to type."""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from agent import __version__
from agent.cli import probes
from agent.cli.layout import Row, Span
from agent.cli.scene import Scene
from agent.core.diagnosis import Finding, Level, as_json, exit_status, worst
from agent.core.settings import Destination
from agent.errors import AgentError
from agent.system.paths import default_paths

if TYPE_CHECKING:
    from agent.cli.server_probes import TokenOf

LOCAL_S = 5.0
REMOTE_S = 8.0
"""A server has this long for everything; with all of them at once the whole look ends within 10 s."""


class Check(NamedTuple):
    """`run` may take `limit_s`; what it has not said by then is a failure of that name."""

    name: str
    run: Callable[[Scene], list[Finding]]
    limit_s: float = LOCAL_S


CHECKS: tuple[Check, ...] = (
    Check("versions", probes.check_versions),
    Check("agent", probes.check_agent),
    Check("restarts", probes.check_restarts),
    Check("service", probes.check_service),
    Check("settings", probes.check_settings),
    Check("private list", probes.check_private_list),
    Check("transcripts", probes.check_folders),
    Check("watches", probes.check_watches),
    Check("disk", probes.check_disk),
    Check("state", probes.check_state),
    Check("status", probes.check_streams),
    Check("log", probes.check_log),
    Check("hooks", probes.check_hooks),
    Check("retention", probes.check_retention),
)
"""What is looked at, in the order in which it is told; servers follow."""


@click.command()
@click.option("--json", "as_document", is_flag=True, help="One JSON object, for scripts.")
@click.option(
    "--bundle",
    is_flag=False,
    flag_value="",
    metavar="[FILE.zip]",
    help="Also write an archive for whoever helps: without transcripts, tokens, or names of projects.",
)
@click.option("--with-paths", is_flag=True, help="With --bundle: leave folders, projects and session ids readable.")
def doctor(as_document: bool, bundle: str | None, with_paths: bool) -> None:
    """Look at everything that delivery needs, and say what to do where something is wrong.

    Changes nothing and asks nobody; servers are asked one question each. Exit status 0 when nothing failed (warnings
    are no failure), else 1.
    """
    scene = Scene(default_paths(os.environ), dict(os.environ))
    findings = examine(scene)
    document = as_json(findings, {"version": __version__})
    if bundle is not None:
        from agent.cli.bundle import write_bundle

        written = write_bundle(scene, document, bundle, with_paths=with_paths)
        document = {**document, "bundle": written.path, "members": list(written.members)}
    if as_document:
        from agent.cli.output import print_json

        print_json(document)
    else:
        from agent.cli.output import print_rows

        print_rows(finding_rows(findings))
        if bundle is not None:
            click.echo(f"\n{written.path}, for you to look at and to pass on; nothing was sent:")
            for member in written.members:
                click.echo(f"  {member}")
    sys.exit(exit_status(findings))


def examine(scene: Scene, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """All checks at once, each in a thread of its own; what hangs is left behind."""
    return run_checks(scene, [*checks, *_server_checks(scene)])


def _server_checks(scene: Scene) -> list[Check]:
    destinations = scene.destinations()
    if not destinations:
        return []
    from agent.cli import server_probes

    tokens = server_probes.open_token_lookups(scene)
    found = []
    for one in destinations:
        found.append(_server_check(f"token {one.name}", server_probes.check_token, tokens, one))
        found.append(_server_check(f"server {one.name}", server_probes.check_server, tokens, one))
    return found


def _server_check(
    name: str,
    run: "Callable[[Scene, TokenOf, Destination], list[Finding]]",
    tokens: "TokenOf",
    one: Destination,
) -> Check:
    return Check(name, lambda scene: run(scene, tokens, one), REMOTE_S)


def run_checks(
    scene: Scene, checks: Sequence[Check], monotonic_s: Callable[[], float] = time.monotonic
) -> list[Finding]:
    """The findings of all checks, in their order, whatever happens in one of them."""
    done: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()
    began_s = monotonic_s()
    for number, check in enumerate(checks):
        threading.Thread(target=partial(_run, done, number, check, scene), name=check.name, daemon=True).start()
    told: dict[int, list[Finding]] = {}
    for number in sorted(range(len(checks)), key=lambda one: checks[one].limit_s):
        while number not in told:
            left_s = began_s + checks[number].limit_s - monotonic_s()
            try:
                other, findings = done.get(timeout=max(0.0, left_s))
            except queue.Empty:
                words = f"no answer within {checks[number].limit_s:.0f} s"
                told[number] = [Finding(Level.FAIL, checks[number].name, words, "transcriptd doctor")]
            else:
                told.setdefault(other, findings)
    return [finding for number in range(len(checks)) for finding in told[number]]


def _run(done: "queue.SimpleQueue[tuple[int, list[Finding]]]", number: int, check: Check, scene: Scene) -> None:
    try:
        findings = check.run(scene)
    except AgentError as exc:
        findings = [Finding(Level.FAIL, check.name, exc.message, exc.hint)]
    except Exception as exc:  # noqa: BLE001 - a defect costs one line; its words may be a transcript's
        findings = [Finding(Level.FAIL, check.name, f"a defect in this check ({type(exc).__name__})", "report it")]
    done.put((number, findings))


_STYLES = {Level.OK: "green", Level.WARN: "bold yellow", Level.FAIL: "bold red"}


def finding_rows(findings: Sequence[Finding]) -> list[Row]:
    from agent.cli.output import clean, plural

    rows = []
    for one in findings:
        label = f"{one.level:<4}  {clean(one.name)}"
        rows.append(Row(label, (Span(clean(one.words)),), clean(one.fix), _STYLES[one.level]))
    counts = {level: sum(one.level is level for one in findings) for level in Level}
    summary = {
        Level.OK: "all is well",
        Level.WARN: f"nothing failed, {plural(counts[Level.WARN], 'warning')}",
        Level.FAIL: f"{counts[Level.FAIL]:,} failed, {plural(counts[Level.WARN], 'warning')}",
    }[worst(findings)]
    return [*rows, Row(None, (Span(summary, _STYLES[worst(findings)]),))]
