"""The command `/private` of Claude Code: what its file says, and how it is known again."""

import json
import shlex

import pytest

from agent.core.slash_command import is_private_command, render_private_command


def front(text: str) -> dict[str, str]:
    begin, block, _ = text.split("---\n", 2)
    assert begin == ""
    return dict(line.split(": ", 1) for line in block.splitlines())


@pytest.mark.parametrize("program", ["/usr/bin/transcriptd", "/home/ada/my bin/it's/transcriptd"])
@pytest.mark.parametrize("home", ["", "/srv/td home"])
def test_the_tool_that_is_allowed_is_the_command_that_is_shown(program: str, home: str) -> None:
    text = render_private_command(program, home)
    tool = json.loads(front(text)["allowed-tools"])
    [command] = [line for line in text.splitlines() if line.endswith("private add --this")]
    assert tool == f"Bash({command})"
    words = shlex.split(command)
    assert words[-4:] == [program, "private", "add", "--this"]
    assert words[:-4] == (["env", f"TRANSCRIPTD_HOME={home}"] if home else [])
    assert front(text)["disable-model-invocation"] == "true"
    assert front(text)["description"]


def test_a_path_of_windows_is_written_for_git_bash() -> None:
    assert "\nC:/bin/transcriptd.exe private add --this\n" in render_private_command(
        "C:\\bin\\transcriptd.exe", windows=True
    )


def test_ours_is_told_from_what_somebody_changed() -> None:
    text = render_private_command("/a/transcriptd")
    assert is_private_command(text)
    for other in ("", "---\n", text + "\n", text.replace("Bash tool", "shell"), text.replace("--this", "--that")):
        assert not is_private_command(other)
