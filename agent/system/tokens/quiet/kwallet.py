"""KWallet 5, asked without a prompt. Follows its documented interface; not run yet."""

from typing import Any

from keyring.backends import kwallet
from keyring.errors import KeyringLocked


class Keyring(kwallet.DBusKeyring):
    """Unlike its parent it opens no wallet that is closed, which prompts."""

    def connected(self, service: str) -> bool:
        wallets = self.wallets()
        if not wallets.isOpen(wallets.networkWallet(), signature="s"):
            raise KeyringLocked
        return bool(super().connected(service))  # type: ignore[no-untyped-call]  # of keyring

    def wallets(self) -> Any:
        """The daemon, whose `isOpen` takes a handle or a name."""
        import dbus
        from dbus.mainloop.glib import DBusGMainLoop

        found = dbus.SessionBus(mainloop=DBusGMainLoop()).get_object(self.bus_name, self.object_path)
        return dbus.Interface(found, "org.kde.KWallet")
