"""What the tool `agnes` leaves in a workspace, in the folder `.claude` there, as its public sources of 2026 write it.

| file                                  | lines                                                                    |
|---------------------------------------|--------------------------------------------------------------------------|
| `agnes-sessions-private.txt`          | the id of a session that stays private                                   |
| `agnes-sessions-private-skipped.txt`  | `<when> TAB <session id> TAB <path>`: it was private when it was its turn |
| `agnes-sessions.txt`                  | `<session id> TAB <path> [TAB <when it failed first>]`, or a path alone   |
| `agnes-sessions.snapshot.*.txt`       | the same, left by a run that ended in the middle                         |

Where the workspace is stands in its settings as `workspace_root`; earlier versions took the folder they ran in.
"""

import re
from collections.abc import Iterable

FOLDER = ".claude"
PRIVATE = "agnes-sessions-private.txt"
SKIPPED = "agnes-sessions-private-skipped.txt"
QUEUES = ("agnes-sessions.txt", "agnes-sessions.snapshot.*.txt")
SETTINGS = "config.yaml"

_ROOT = re.compile(
    r"""^workspace_root[ \t]*:[ \t]*(?:"([^"\n]+)"|'([^'\n]+)'|([^\s#'"][^\n#]*?))[ \t]*(?:#.*)?$""", re.MULTILINE
)


def parse_workspace(settings: str) -> str:
    """The folder that its settings name; empty where they name none."""
    found = _ROOT.search(settings)
    return next(filter(None, found.groups()), "") if found else ""


def parse_private(text: str) -> list[str]:
    """Session ids of the private list, each once."""
    return _each_once(line.strip() for line in text.splitlines())


def parse_skipped(text: str) -> list[str]:
    """Session ids of those that were left out for being private, each once."""
    return _each_once(parts[1].strip() for line in text.splitlines() if len(parts := line.split("\t")) >= 2)


def parse_queue(text: str) -> dict[str, str]:
    """Path → session id, empty where the line names none."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        first, tab, rest = line.strip().partition("\t")
        path = rest.partition("\t")[0].strip() if tab else first
        if path:
            found[path] = (first.strip() if tab else "") or found.get(path, "")
    return found


def _each_once(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, ids)))
