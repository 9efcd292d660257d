"""The keyrings that may hold a token, and no others: what happens to be installed never becomes one."""

import sys
from collections.abc import Mapping
from typing import NamedTuple


class Backend(NamedTuple):
    """`loud`: the class of `keyring` that may ask its owner to unlock it. `quiet`: one that never does. `words`: what
    people call it. `most_characters`: of a token, None where nobody knows a limit."""

    loud: str
    quiet: str
    words: str
    most_characters: int | None = None


BACKENDS: Mapping[str, Backend] = {
    "secret-service": Backend(
        "keyring.backends.SecretService.Keyring",
        "agent.system.tokens.quiet.secret_service.Keyring",
        "the keyring of this session (Secret Service)",
    ),
    "kwallet": Backend("keyring.backends.kwallet.DBusKeyring", "agent.system.tokens.quiet.kwallet.Keyring", "KWallet"),
    "macos": Backend("keyring.backends.macOS.Keyring", "agent.system.tokens.quiet.macos.Keyring", "the macOS Keychain"),
    # Credential Manager asks nobody. A credential has 2,560 bytes at most, and `keyring` writes UTF-16.
    "windows": Backend(
        "keyring.backends.Windows.WinVaultKeyring",
        "keyring.backends.Windows.WinVaultKeyring",
        "the Windows Credential Manager",
        1280,
    ),
}
AUTO = "auto"


def choose_backend(wished: str, platform: str = sys.platform) -> str:
    """The name in `BACKENDS`: the one that the settings name, else the system's own. Never the best that answers just
    now, since that may be another one tomorrow."""
    if wished != AUTO:
        return wished
    return {"darwin": "macos", "win32": "windows"}.get(platform, "secret-service")
