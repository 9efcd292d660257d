"""The Secret Service (GNOME Keyring, KeePassXC, KWallet 6), asked without a prompt."""

import secretstorage
from keyring.backends import SecretService
from keyring.errors import KeyringLocked


class Keyring(SecretService.Keyring):
    """Unlike its parent it neither unlocks a collection nor makes one, both of which prompt."""

    def get_preferred_collection(self) -> secretstorage.Collection:
        collection = secretstorage.Collection(secretstorage.dbus_init())
        if collection.is_locked():
            raise KeyringLocked
        return collection

    def unlock(self, item: secretstorage.Item) -> None:
        if item.is_locked():
            raise KeyringLocked
