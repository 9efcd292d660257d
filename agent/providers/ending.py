"""How lines begin that say of their session that it ended, for those coding agents that write such lines. Nothing is
decoded."""

from collections.abc import Mapping

ENDING: Mapping[str, tuple[bytes, ...]] = {
    "copilot": (b'{"type":"session.shutdown"',),
}
"""Claude Code has a hook for it; Codex and Gemini CLI write nothing when they end."""


def says_over(provider: str, last_line: bytes) -> bool:
    """Whether the last whole line of a main transcript ends its session; what comes behind it goes on with it."""
    return last_line.startswith(ENDING.get(provider, ()))
