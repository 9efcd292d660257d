"""What a person may not do, root may; so these tests step down where they need a refusal."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65_534
IS_ROOT = os.name == "posix" and os.geteuid() == 0

needs_posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can be two users")


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """The block runs as somebody to whom modes apply."""
    if not IS_ROOT:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach; those of pytest are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="td-open-")).resolve()
    folder.chmod(0o777)
    try:
        with unprivileged():
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
                pytest.skip("temporary files of this machine are private")
        yield folder
    finally:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)
