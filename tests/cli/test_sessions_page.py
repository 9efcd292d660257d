"""docs/sessions.md shows what the commands show; `python -m tests.cli.test_sessions_page` puts it there."""

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.sessions.normalised import Completeness, Event, Kind, ToolKind, Usage
from agent.providers.reading import lines
from tests.cli.running import run
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "sessions.md"
SAMPLE = REPOSITORY / "agent" / "cli" / "sample"
SHOWN = {"show": ("sessions", "show", "6513270e"), "get": ("sessions", "get", "6513270e", "-n", "2")}

_BLOCK = r"(?<=<!-- {0} -->\n).*?(?=<!-- end of {0} -->)"


def render(name: str) -> str:
    done = run(*SHOWN[name])
    assert done.status == 0, done.err
    return f"```\n$ transcriptd {' '.join(SHOWN[name])}\n{done.out.rstrip()}\n```\n"


@pytest.fixture
def _sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    shutil.copytree(SAMPLE, os.environ["CLAUDE_CONFIG_DIR"], dirs_exist_ok=True)
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "UTC")
        _set_zone()
        yield
    _set_zone()


def _set_zone() -> None:
    if sys.platform != "win32":
        time.tzset()


@pytest.mark.skipif(sys.platform == "win32", reason="a process's zone can't be set")
@pytest.mark.usefixtures("_sample")
@pytest.mark.parametrize("name", SHOWN)
def test_the_page_shows_what_the_command_shows(name: str) -> None:
    (shown,) = re.findall(_BLOCK.format(name), PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown == render(name), "python -m tests.cli.test_sessions_page"


def test_every_kind_and_field_is_described() -> None:
    text = PAGE.read_text(encoding="utf-8")
    described = set(re.findall(r"`([a-z_.]+)`", text))
    fields = set(Event.__struct_fields__) | set(Usage.__struct_fields__)
    warnings = {lines.UNKNOWN, lines.BROKEN, lines.TOO_LONG, lines.TOO_DEEP}
    missing = {*Kind, *ToolKind, *Completeness, *fields, *warnings} - {"kind", "usage"} - described
    assert not missing


def _write() -> None:
    home = Path(tempfile.mkdtemp())
    os.environ |= {"TRANSCRIPTD_HOME": str(home / "td"), "CLAUDE_CONFIG_DIR": str(home), "TZ": "UTC"}
    os.environ |= {"HOME": str(home), "CODEX_HOME": str(home / "codex")}
    _set_zone()
    shutil.copytree(SAMPLE, home, dirs_exist_ok=True)
    text = PAGE.read_text(encoding="utf-8")
    for name in SHOWN:
        text = re.sub(_BLOCK.format(name), lambda _, name=name: render(name), text, flags=re.DOTALL)  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8")
    shutil.rmtree(home)


if __name__ == "__main__":
    _write()
