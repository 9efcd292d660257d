"""The file that gives Claude Code a command `/private`: Markdown with YAML on top, as its documentation has it.
`allowed-tools` lets the command run without a question, `disable-model-invocation` leaves it to the user alone."""

import json
import re
import shlex

FILE_NAME = "private.md"

_TEXT = """\
---
description: Keep this session on this machine, and delete what was sent of it
allowed-tools: {tool}
disable-model-invocation: true
---

Run this command with the Bash tool, exactly as it stands here and nothing else:

```
{command}
```

Then tell the user what it printed. If it failed, say so plainly: this session is not private then.
"""

_COMMAND = re.compile(r"^```\n(.+)\n```$", re.MULTILINE)


def render_private_command(program: str, home: str = "", *, windows: bool = False) -> str:
    """`program`: the installed command, absolute. `home`: TRANSCRIPTD_HOME where that is not found without."""
    words = [f"TRANSCRIPTD_HOME={home}"] if home else []
    words = ["env", *words] if words else []
    words += [program.replace("\\", "/") if windows else program, "private", "add", "--this"]
    return _render(shlex.join(words))


def is_private_command(text: str) -> bool:
    """Whether it is what `render_private_command` gave, for whatever program, and nobody has changed it since."""
    found = _COMMAND.search(text)
    return found is not None and found[1].endswith(" private add --this") and _render(found[1]) == text


def _render(command: str) -> str:
    return _TEXT.format(tool=json.dumps(f"Bash({command})", ensure_ascii=False), command=command)
