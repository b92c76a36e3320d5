import pytest
from pydantic import ValidationError

from bot.settings import Addresses, BotSettings
from core.config import Config
from core.errors import ConfigError


def test_config_toml_states_the_defaults() -> None:
    assert Config().table("bot", BotSettings) == BotSettings()


def test_edits_closer_than_a_second_cannot_be_asked_for() -> None:
    with pytest.raises(ValidationError):
        BotSettings(edit_interval_s=0.5)


@pytest.mark.parametrize("name", ["DISCORD_API_URL", "DISCORD_GATEWAY_URL"])
def test_one_address_without_the_other_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="must be set together"):
        Addresses.read({name: "http://localhost:1"})


def test_no_address_means_discord_itself() -> None:
    assert Addresses.read({}) == Addresses(None, None)
