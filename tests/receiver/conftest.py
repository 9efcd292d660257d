from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.receiver.harness import Client, Receiver


@pytest.fixture(scope="session")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One receiver for all tests that only need their own session on it."""
    with Receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture
def client(receiver: Receiver) -> Iterator[Client]:
    with receiver.client() as connected:
        yield connected


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a receiver that a test starts itself."""
    return tmp_path / "data"
