import pytest
from pydantic import ValidationError

from bot.settings import Addresses, BotSettings
from core.errors import ConfigError
from core.requests import RANGES, Range


def test_edits_closer_than_a_second_cannot_be_asked_for() -> None:
    with pytest.raises(ValidationError):
        BotSettings(edit_interval_s=0.5)


def test_a_pace_that_core_would_refuse_to_everybody_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RANGES, "pace", Range(0.5, 10))
    assert BotSettings(pace=0.5).pace == 0.5
    with pytest.raises(ValidationError, match=r"must be in \[0.5, 10\], got 0.25"):
        BotSettings(pace=0.25)


@pytest.mark.parametrize("name", ["DISCORD_API_URL", "DISCORD_GATEWAY_URL"])
def test_one_address_without_the_other_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="must be set together"):
        Addresses.read({name: "http://localhost:1"})


def test_no_address_means_discord_itself() -> None:
    assert Addresses.read({}) == Addresses(None, None)
