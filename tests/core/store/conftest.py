"""An open store on each database."""

from collections.abc import AsyncIterator

import pytest

from core.store import DatabaseSettings, Store


@pytest.fixture
async def store(database_settings: DatabaseSettings) -> AsyncIterator[Store]:
    async with Store(database_settings) as store:
        yield store
