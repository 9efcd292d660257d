"""Names that tell of people and their customers, out of what is handed to strangers: home folders, projects, sessions.

A name gets the same pseudonym wherever it stands, so that lines can still be compared, and another one on each machine:
the hash is keyed.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")

_PATHS = re.compile(r"(?:(?<![\w:/.~\]])|(?<=file:/))(?:~|[A-Za-z]:[\\/]|\\\\|/)[^\s\"'`<>|,;()\[\]{}]*")
"""What begins like a path, up to a blank or a quote. An address has `:` or `/` before its slashes."""

_SEPARATORS = re.compile(r"([\\/])")

_PLAIN = frozenset(
    """
    .claude projects settings.json config.toml private.list redaction.key state state.db logs transcriptd.log kept spool
    control.sock daemon.lock daemon.pid subagents tool-results transcriptd transcriptd-try .config .local .codex .gemini
    share Library Application Support . .. ~ bin python python3
    """.split()  # noqa: SIM905 - a paragraph of names
)
"""Parts of paths that are the same for everybody."""

_SYSTEM = ("/usr/", "/etc/", "/proc/", "/sys/", "/bin/", "/sbin/", "/lib", "/run/systemd/", "/System/", "/Library/")


class Pseudonyms:
    """`names`: what is known to be a name (paths, ids, rules) → its kind, which its pseudonym tells. `home`: the folder
    that `~` stands for. `user`: who that is."""

    def __init__(self, key: bytes, names: Mapping[str, str], home: str, user: str = "") -> None:
        self._key = blake2b(key, digest_size=32).digest()
        self._kinds = {name: kind for name, kind in names.items() if len(name) > 1}
        longest = sorted(self._kinds, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, longest))) if longest else None
        self._home = home.rstrip("/\\") if len(home) > 1 else ""
        self._user = re.compile(rf"\b{re.escape(user)}\b") if len(user) > 1 and user != "root" else None

    def name(self, kind: str, text: str) -> str:
        """`[kind:0123abcd]`"""
        digest = blake2b(text.encode(errors="surrogatepass"), key=self._key, digest_size=4)
        return f"[{kind}:{digest.hexdigest()}]"

    def mask(self, text: str) -> str:
        if self._names is not None:
            text = self._names.sub(lambda found: self._known(found.group()), text)
        text = _UUID.sub(lambda found: self.name("session", found.group().lower()), text)
        text = _PATHS.sub(lambda found: self.path(found.group()), text)
        return text if self._user is None else self._user.sub("[user]", text)

    def mask_all(self, value: Any) -> Any:
        """A JSON value with everything in it masked, names of members too."""
        if isinstance(value, str):
            return self.path(value) if value[:1] in ("/", "~", "\\") and " " not in value else self.mask(value)
        if isinstance(value, Mapping):
            return {self.mask(str(key)): self.mask_all(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.mask_all(one) for one in value]
        return value

    def path(self, text: str) -> str:
        """Its parts, each by its own pseudonym; those that are the same for everybody stay."""
        if text.startswith(_SYSTEM):
            return text
        if self._home and (text == self._home or text.startswith((f"{self._home}/", f"{self._home}\\"))):
            text = "~" + text[len(self._home) :]
        if self._names is not None:
            text = self._names.sub(lambda found: self._known(found.group()), text)
        return "".join(self._part(part) for part in _SEPARATORS.split(text))

    def _known(self, text: str) -> str:
        if self._home and (text == self._home or text.startswith((f"{self._home}/", f"{self._home}\\"))):
            return self._unfolded(text)
        return self.name(self._kinds[text], text)

    def _unfolded(self, text: str) -> str:
        """A known path below the home folder, part by part, so that folders that are the same look so."""
        return "~" + "".join(self._part(part) for part in _SEPARATORS.split(text[len(self._home) :]))

    def _part(self, part: str) -> str:
        if not part or part in "\\/" or part in _PLAIN or part.startswith("[") or part[1:] == ":":
            return part
        stem, dot, ending = part.rpartition(".")
        if dot and stem and ending.isascii() and ending.isalnum() and len(ending) < 6:
            return f"{self.name('folder', stem)}.{ending}"
        return self.name("folder", part)


def hide(text: str, secrets: Iterable[str]) -> str:
    """`text` without values that are known to be secret."""
    for secret in sorted((one for one in secrets if len(one) > 3), key=len, reverse=True):
        text = text.replace(secret, "[secret]")
    return text
