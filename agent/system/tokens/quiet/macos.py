"""The macOS Keychain, asked without a prompt. Follows Apple's documentation; not run yet."""

import ctypes

from keyring.backends import macOS


class Keyring(macOS.Keyring):
    """Where its parent would show a window, this one ends with errSecInteractionNotAllowed (-25308)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of keyring
        forbid_windows()


def forbid_windows() -> None:
    """For this process, which lives for one question."""
    security = ctypes.CDLL("/System/Library/Frameworks/Security.framework/Security")
    security.SecKeychainSetUserInteractionAllowed(ctypes.c_ubyte(0))
