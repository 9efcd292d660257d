"""Our hooks in somebody else's settings: put in, taken out, and nothing else touched."""

import json
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.hooks import (
    EVENTS,
    are_disabled,
    find_hooks,
    install_hooks,
    is_own,
    program_of,
    render_command,
    uninstall_hooks,
)
from agent.errors import SettingsError
from tests.conftest import require_tool

COMMAND = "/home/ada/.local/bin/transcriptd capture"
OTHER = "/opt/td/transcriptd capture"

numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=12,
)
foreign_hooks = st.fixed_dictionaries(
    {"type": st.just("command"), "command": st.sampled_from(["say done", "transcriptd status", "capture", "'"])},
    optional={"timeout": numbers},
)
groups = st.one_of(
    st.fixed_dictionaries({"hooks": st.lists(foreign_hooks, max_size=2)}, optional={"matcher": st.text(max_size=5)}),
    values,
)
events = st.sampled_from([*EVENTS, "Stop", "PreToolUse", ""])
hooks = st.dictionaries(events, st.lists(groups, max_size=3), max_size=3)
settings = st.builds(
    lambda first, ours, last: {**{k: v for k, v in first.items() if k != "hooks"}, **ours, **last},
    st.dictionaries(st.text(max_size=6), values, max_size=3),
    st.one_of(st.just({}), hooks.map(lambda found: {"hooks": found})),
    st.dictionaries(st.text(min_size=1, max_size=6).filter(lambda key: key != "hooks"), values, max_size=2),
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Settings as people and programs write them."""
    style: dict[str, Any] = draw(
        st.sampled_from([{}, {"indent": 2}, {"indent": 4}, {"indent": "\t"}, {"indent": 0}, {"separators": (",", ":")}])
    )
    text = json.dumps(draw(settings), ensure_ascii=draw(st.booleans()), **style)
    text = text.encode("utf-8", "replace").decode()  # half of a surrogate pair can't stand in a file
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return draw(st.sampled_from(["", "\ufeff"])) + text + draw(st.sampled_from(["", "\n", "\r\n", "\n \n\t"]))


def plain(text: str) -> Any:
    return json.loads(text.removeprefix("\ufeff"))


def without(document: Any, command: str = COMMAND) -> Any:
    """The same without our hooks, and without what is empty then."""
    found = json.loads(json.dumps(document))
    for event, groups in list(found.get("hooks", {}).items()):
        for group in groups if isinstance(groups, list) else []:
            if isinstance(group, dict) and isinstance(group.get("hooks"), list):
                mine = [one for one in group["hooks"] if isinstance(one, dict) and one.get("command") == command]
                for one in mine:
                    group["hooks"].remove(one)
        found["hooks"][event] = [group for group in groups if group != {"hooks": []}]
    found["hooks"] = {event: groups for event, groups in found.get("hooks", {}).items() if groups}
    return found if found["hooks"] else {key: value for key, value in found.items() if key != "hooks"}


# --- for any settings -----------------------------------------------------------------------------------------------


@given(documents())
@example("{}")
@example("{ }")
@example('{"hooks": { }}')
@example('{"hooks":{"SessionStart":[ ]}, "n": 1.50e+3, "n": 2}\n')
def test_what_is_put_in_comes_out_byte_for_byte(text: str) -> None:
    installed = install_hooks(text, COMMAND)
    assert uninstall_hooks(installed.text, text).text == text


@given(documents())
def test_every_byte_that_was_there_stays_but_blanks_in_what_was_empty(text: str) -> None:
    rest = iter(install_hooks(text, COMMAND).text)
    assert all(ch in rest for ch in text if ch not in " \t\r\n"), "in their order"


@given(documents())
def test_all_else_means_what_it_meant(text: str) -> None:
    installed = install_hooks(text, COMMAND)
    found = plain(installed.text)
    for event in EVENTS:
        assert found["hooks"][event][-1] == {"hooks": [{"type": "command", "command": COMMAND, "timeout": 5}]}
    assert [(one.event, one.command) for one in find_hooks(installed.text)] == [
        (event, COMMAND) for event in found["hooks"] if event in EVENTS
    ]
    assert without(found) == without(plain(text))
    assert list(found) == list(plain(text)) + ([] if "hooks" in plain(text) else ["hooks"]), "keys keep their order"


@given(documents())
def test_twice_is_once_and_another_place_takes_the_place(text: str) -> None:
    once = install_hooks(text, COMMAND)
    assert install_hooks(once.text, COMMAND) == (once.text, ())
    moved = install_hooks(once.text, OTHER)
    assert moved.text == install_hooks(text, OTHER).text
    assert uninstall_hooks(moved.text, text).text == text


@given(documents(), st.sampled_from([2, None, "\t"]))
def test_a_file_that_somebody_wrote_anew_since_keeps_all_but_ours(text: str, indent: Any) -> None:
    changed = {**plain(install_hooks(text, COMMAND).text), "theme of today": "dark"}
    left = uninstall_hooks(json.dumps(changed, indent=indent), text).text
    assert plain(left) == {**plain(text), "theme of today": "dark"}, "containers that were there stay, ours go"


@given(documents())
def test_without_knowing_what_was_there_no_container_goes(text: str) -> None:
    found = plain(uninstall_hooks(install_hooks(text, COMMAND).text, None).text)
    assert without(found) == without(plain(text))
    assert all(isinstance(found["hooks"][event], list) for event in EVENTS)


@given(documents())
def test_a_hook_that_is_not_there_is_not_taken_out(text: str) -> None:
    assert uninstall_hooks(text, None) == (text, ())
    assert find_hooks(text) == []


# --- how it looks ---------------------------------------------------------------------------------------------------

NEW = """{
  "hooks": {
    "SessionStart": [
      {
        "hooks": [
          {
            "type": "command",
            "command": "/home/ada/.local/bin/transcriptd capture",
            "timeout": 5
          }
        ]
      }
    ],
    "SessionEnd": [
      {
        "hooks": [
          {
            "type": "command",
            "command": "/home/ada/.local/bin/transcriptd capture",
            "timeout": 5
          }
        ]
      }
    ]
  }
}
"""


def test_without_a_file_there_are_only_the_hooks_and_later_no_file() -> None:
    installed = install_hooks("", COMMAND)
    assert installed == (NEW, ("SessionStart: added", "SessionEnd: added"))
    assert uninstall_hooks(NEW, "") == ("", ("SessionStart: removed", "SessionEnd: removed"))
    later = NEW[:-3] + ',\n  "theme": "dark"\n}\n'
    assert uninstall_hooks(later, "").text == '{\n  "theme": "dark"\n}\n'


def test_it_is_written_as_the_rest_is() -> None:
    tabs = (
        '{\r\n\t"a": 1.50,\r\n\t"hooks": {\r\n\t\t"Stop": [],\r\n\t\t"SessionEnd": [\r\n\t\t\t{}\r\n\t\t]\r\n\t}\r\n}'
    )
    made = install_hooks(tabs, COMMAND).text
    assert made.count("\r\n") == made.count("\n")
    assert made.startswith(tabs[: tabs.index("{}") + 2] + ',\r\n\t\t\t{\r\n\t\t\t\t"hooks": [\r\n\t\t\t\t\t{')
    assert install_hooks('{"a":[],"b":{}}', "x/transcriptd capture").text == (
        '{"a":[],"b":{},"hooks":{"SessionStart":[{"hooks":[{"type":"command","command":"x/transcriptd capture",'
        '"timeout":5}]}],"SessionEnd":[{"hooks":[{"type":"command","command":"x/transcriptd capture","timeout":5}]}]}}'
    )


def test_hooks_of_ours_that_somebody_moved_are_found_and_taken_out_there() -> None:
    mine = {"type": "command", "command": OTHER, "async": True}
    theirs = {"type": "command", "command": "say hello"}
    moved = {"hooks": {"SessionStart": [{"matcher": "startup", "hooks": [theirs, mine]}], "Stop": [{"hooks": [mine]}]}}
    text = json.dumps(moved, indent=2)
    changed = install_hooks(text, COMMAND)
    assert changed.done == (f"SessionStart: changed, it was {OTHER}", "SessionEnd: added")
    found = plain(changed.text)
    assert found["hooks"]["SessionStart"] == [{"matcher": "startup", "hooks": [theirs, mine | {"command": COMMAND}]}]
    left = plain(uninstall_hooks(changed.text, None).text)
    assert left == {
        "hooks": {"SessionStart": [{"matcher": "startup", "hooks": [theirs]}], "Stop": [], "SessionEnd": []}
    }


def test_a_second_hook_of_ours_goes() -> None:
    mine = {"hooks": [{"type": "command", "command": OTHER}]}
    text = json.dumps({"hooks": {"SessionStart": [mine, {"matcher": "x"}, mine]}})
    found = plain(install_hooks(text, COMMAND).text)
    assert found["hooks"]["SessionStart"] == [
        {"hooks": [{"type": "command", "command": COMMAND}]}, {"matcher": "x"}
    ]  # fmt: skip


def test_settings_can_turn_all_hooks_off() -> None:
    assert are_disabled('{"disableAllHooks": true}')
    assert not are_disabled('{"disableAllHooks": false}')
    assert not are_disabled("{}")


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (" ", "not JSON, line 1 column 2"),
        ("{", "not JSON"),
        ('{"a": 1,}', "not JSON"),
        ('{\n  // mine\n  "a": 1}', "line 2 column 3"),
        ('{"a": NaN}', "not JSON"),
        ('{"secret-word": tru}', "not JSON"),
        ("{} {}", "more follows"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no object"),
        ("null", "no object"),
        ('{"hooks": []}', "hooks in settings.json is not an object"),
        ('{"hooks": null}', "hooks in settings.json is not an object"),
        ('{"hooks": {"SessionEnd": {}}}', "hooks.SessionEnd in settings.json is not a list"),
        ('{"hooks": {}, "hooks": {}}', "hooks stands more than once"),
        ('{"hooks": {"SessionEnd": [], "SessionEnd": []}}', "SessionEnd stands more than once"),
    ],
)
def test_what_is_not_understood_is_refused_without_quoting_it(text: str, what: str) -> None:
    for act in (lambda: install_hooks(text, COMMAND), lambda: uninstall_hooks(text, None), lambda: find_hooks(text)):
        with pytest.raises(SettingsError) as refused:
            act()
        assert what in refused.value.message
        assert "nothing was changed" in refused.value.hint
        assert "secret-word" not in refused.value.message


def test_a_copy_that_is_not_understood_is_no_guide() -> None:
    installed = install_hooks("{}", COMMAND).text
    assert plain(uninstall_hooks(installed, "{ broken").text) == {"hooks": {event: [] for event in EVENTS}}


# --- the command ----------------------------------------------------------------------------------------------------

PROGRAMS = ["/usr/bin/transcriptd", "/home/a b/transcriptd", '/it\'s $HOME `x` "q" \\ !/transcriptd', "/ä/transcriptd"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_shell_runs_exactly_that_program(program: str) -> None:
    command = render_command(program, "/state of mine/spool")
    told = subprocess.run(
        [require_tool("sh"), "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines() == [program, "capture", "--spool", "/state of mine/spool"]
    assert is_own(command)
    assert program_of(command) == program


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (r"C:\Users\ada\bin\transcriptd.exe", "C:/Users/ada/bin/transcriptd.exe capture"),
        (r"C:\Users\Ada L\transcriptd.exe", '"C:/Users/Ada L/transcriptd.exe" capture'),
        (r"C:\it's\$x\transcriptd.exe", '"C:/it\'s/\\$x/transcriptd.exe" capture'),
        (r"\\server\share\transcriptd.exe", "//server/share/transcriptd.exe capture"),
    ],
)
def test_on_windows_names_are_quoted_for_git_bash(program: str, expected: str) -> None:
    command = render_command(program, windows=True)
    assert command == expected
    bash = [require_tool("bash"), "-c", f"printf '%s\\n' {command}"]
    told = subprocess.run(bash, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[0] == program.replace("\\", "/")
    assert is_own(command)


@pytest.mark.parametrize(
    "command",
    [
        "transcriptd",
        "transcriptd status",
        "mytranscriptd capture",
        "echo transcriptd capture",
        "'transcriptd capture",
        "",
    ],
)
def test_other_commands_are_not_ours(command: str) -> None:
    assert not is_own(command)


def test_a_program_whose_name_no_file_of_settings_can_hold_is_refused() -> None:
    with pytest.raises(SettingsError, match="not UTF-8"):
        render_command("/\udcff/transcriptd")


def test_words_of_a_command_are_taken_apart_as_a_shell_does() -> None:
    assert shlex.split(render_command("/a b/transcriptd")) == ["/a b/transcriptd", "capture"]
