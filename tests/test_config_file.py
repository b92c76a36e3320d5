"""config.toml: every setting of the program stands in it, at the value that it has without the file."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from bot.settings import BotSettings
from core.config import TABLES, Config
from core.engine import EngineSettings
from core.engines import CheckpointSettings
from core.requests import Limits, SamplingDefaults
from core.store import DatabaseSettings, LogSettings
from web.settings import WebSettings

CONFIG = Path(__file__).parents[1] / "config.toml"
SETTINGS: dict[str, type[BaseModel]] = {
    "checkpoint": CheckpointSettings,
    "engine": EngineSettings,
    "sampling": SamplingDefaults,
    "limits": Limits,
    "database": DatabaseSettings,
    "log": LogSettings,
    "web": WebSettings,
    "bot": BotSettings,
}


@pytest.mark.parametrize("table", TABLES)
def test_config_toml_states_every_default(table: str) -> None:
    kind = SETTINGS[table]
    assert tomllib.loads(CONFIG.read_text())[table].keys() == kind.model_fields.keys()
    stated, default = Config(CONFIG).table(table, kind).model_dump(), kind().model_dump()
    for values in (stated, default):
        values["folders"] = [(CONFIG.parent / folder).resolve() for folder in values.get("folders", ())]
    assert stated == default
