"""Backends of `keyring` that never show a prompt: one that nobody answers would block for ever, and one every few
seconds would drive its owner mad. Where they would prompt, they say KeyringLocked."""
