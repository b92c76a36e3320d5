"""What the fault tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.store import DatabaseSettings
from tests.faults.server import Server
from tests.faults.size import IS_FULL
from tests.tiny import make_tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny checkpoint."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny").parent


@pytest.fixture
def new_server(tmp_path: Path, checkpoints: Path) -> Callable[..., Server]:
    """Make a server, not yet started, on a database."""

    def make(database: DatabaseSettings, **overrides: str) -> Server:
        return Server(tmp_path, checkpoints=checkpoints, database_url=database.url, **overrides)

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(7200 if IS_FULL else 600))
