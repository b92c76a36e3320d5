"""An open store on each database, and rows to put into its log."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from core.store import DatabaseSettings, LogSettings, Store
from core.tables import Generation


@pytest.fixture
async def store(database_settings: DatabaseSettings) -> AsyncIterator[Store]:
    settings = LogSettings(spool_mb=1, retention_days=0)  # or retention by itself takes what a test makes old
    async with Store(database_settings, settings) as store:
        yield store


def generation(request_id: str, **changed: Any) -> Generation:
    values: dict[str, Any] = {
        "request_id": request_id,
        "writer_id": "writer",
        "started_at": datetime.now(UTC),
        "source": "web",
        "user_key": "u",
        "guild_key": None,
        "checkpoint": "tiny",
        "prompt": "Once \0 🐉",
        "completion": " upon",
        "temperature": 0.8,
        "top_k": 0,
        "top_p": 0.95,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "cache_strength": 0.0,
        "stop": ["\n\n", "\0"],
        "max_tokens": 200,
        "seed": 2**53 - 1,
        "pace": 0.0,
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "reason": "length",
        "message": None,
        "time_to_first_token_s": 0.01,
        "duration_s": 0.02,
    }
    return Generation(**values | changed)
