import logging

import pytest
from discord import app_commands

from bot.replies import RefusedError, sentence
from core.errors import BusyError, CheckpointError, InputError, StoreError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("top_p must be in (0, 1], got 1.7", "top_p"), "Top_p must be in (0, 1], got 1.7."),
        (InputError("max_tokens must be at least 1, got 0", "max_tokens"), "Length must be at least 1, got 0."),
        (RefusedError("Not here!"), "Not here!"),
        (BusyError("the queue is full"), "The queue is full. Please try again in a minute."),
    ],
)
def test_what_people_can_act_on_is_told_as_a_sentence(error: Exception, told: str) -> None:
    assert sentence(error) == told


@pytest.mark.parametrize("error", [StoreError("cannot use /var/a"), CheckpointError("/var/a is no whole file")])
def test_what_names_addresses_and_files_is_only_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    told = sentence(error)
    assert "/var/a" not in told
    assert "/var/a" in caplog.text
    assert f"reference={told.rpartition(' ')[2]}" in caplog.text


def test_a_missing_permission_is_named() -> None:
    assert "Manage Server" in sentence(app_commands.MissingPermissions(["manage_guild"]))


def test_anything_else_is_told_by_a_reference_that_the_log_has_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        told = sentence(ZeroDivisionError("secret"))
    assert "secret" not in told
    assert f"reference={told.rpartition(' ')[2]}" in caplog.text
