"""Settings that commands change: what else stands in the file stays as somebody wrote it."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.settings import Destination, Settings, parse_settings, render_settings
from agent.core.settings_text import set_destination, set_section
from agent.errors import SettingsError

URL = "https://transcripts.example.com"

MINE = """\
# what I think of this program
[watch]   # two places
claude = [
    "~/.claude/projects", # the usual one
    '/srv/other',
]

[[destination]]
url = "https://old.example.com"   # till May
projects = ["~/work"]

[[destination]]
name = "home" # under the desk
url = "http://127.0.0.1:8787"

[push]
interval_s = 1_0.5
"""


def test_a_value_changes_and_nothing_else() -> None:
    after = set_destination(MINE, "home", {"url": URL})
    assert after == MINE.replace("http://127.0.0.1:8787", URL)


def test_the_one_without_a_name_is_the_default() -> None:
    after = set_destination(MINE, "default", {"url": URL, "token": "file", "token_file": "/x"})
    assert '# till May\nprojects = ["~/work"]' in after
    first, second = parse_settings(after).destinations
    assert (first.name, first.url, first.token, first.token_file, first.projects) == (
        "default",
        URL,
        "file",
        "/x",
        ("~/work",),
    )
    assert second == parse_settings(MINE).destinations[1]


def test_what_is_the_same_already_is_left_as_it_was_written() -> None:
    assert set_destination(MINE, "home", {"url": "http://127.0.0.1:8787", "token": None}) == MINE
    assert set_section(MINE, "push", {"interval_s": 10.5}) == MINE


def test_a_new_server_is_added_behind_the_others() -> None:
    after = set_destination(MINE, "work", {"url": URL, "keyring": "macos"})
    for line in MINE.splitlines():
        assert line in after.splitlines()
    settings = parse_settings(after)
    assert [one.name for one in settings.destinations] == ["default", "home", "work"]
    assert settings.destinations[2] == Destination(URL, name="work", keyring="macos")
    assert settings.push == parse_settings(MINE).push


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[push]\nbacklog = false\n", "destination = []\n"])
def test_the_first_server(text: str) -> None:
    after = set_destination(text, "default", {"url": URL})
    assert after.startswith(text.replace("destination = []\n", ""))
    settings = parse_settings(after)
    assert settings.destinations == (Destination(URL),)
    assert settings.push == parse_settings(text).push


def test_servers_written_in_one_line() -> None:
    text = 'destination = [{url = "https://a.example.com", name = "a"}]\n'
    settings = parse_settings(set_destination(text, "b", {"url": URL}))
    assert [(one.name, one.url) for one in settings.destinations] == [("a", "https://a.example.com"), ("b", URL)]


def test_a_key_is_taken_away() -> None:
    text = f'[[destination]]\nurl = "{URL}"\ntoken_file = "/x" # there\ntoken = "file"\n'
    after = set_destination(text, "default", {"token": "keyring", "token_file": None})
    assert parse_settings(after).destinations == (Destination(URL),)


def test_windows_line_ends_stay() -> None:
    text = f'# mine\r\n[[destination]]\r\nurl = "{URL}/old"\r\n'
    assert set_destination(text, "default", {"url": URL}).startswith(f'# mine\r\n[[destination]]\r\nurl = "{URL}"\r\n')


def test_a_section_is_changed_or_made() -> None:
    after = set_section(MINE, "push", {"backlog": False})
    assert after == MINE + "backlog = false\n"
    made = set_section(MINE, "privacy", {"share": "listed", "shared_projects": ["~/open", "/srv/*"]})
    assert made.startswith(MINE)
    assert parse_settings(made).privacy.shared_projects == ("~/open", "/srv/*")


def test_what_is_no_toml_is_refused_without_being_repeated() -> None:
    for broken in ("[push", 'url = "tsd_x'):
        with pytest.raises(SettingsError) as caught:
            set_section(broken, "push", {})
        assert "tsd_x" not in str(caught.value)


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
VALUES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"url": st.just(URL)},
    optional={"token_file": NAMES, "credential": NAMES, "token": st.sampled_from(["file", "keyring"])},
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_whatever_is_set_is_in_force_then(changes: list[tuple[str, dict[str, Any]]]) -> None:
    text, expected = render_settings(Settings()), dict[str, dict[str, Any]]()
    for name, values in changes:
        text = set_destination(text, name, values)
        expected.setdefault(name, {}).update(values)
    settings = parse_settings(text)
    assert settings.destinations == tuple(Destination(name=name, **values) for name, values in expected.items())
    assert {key: value for key, value in tomllib.loads(text).items() if key != "destination"} == tomllib.loads(
        render_settings(Settings())
    )
