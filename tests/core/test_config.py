"""config.toml: every key stands there, unknown ones stop the program, the environment wins for one run."""

from pathlib import Path

import pytest

from core.config import TABLES, Config
from core.engines import CheckpointSettings
from core.errors import ConfigError
from core.requests import Limits, SamplingDefaults
from core.store.log import LogSettings

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return Config(path)


def test_a_key_left_out_has_its_default(tmp_path: Path) -> None:
    limits = written(tmp_path, "[limits]\nmax_tokens = 7\n").table("limits", Limits)
    assert limits == Limits(max_tokens=7)


def test_an_unknown_key_is_named_with_its_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[limits\] max_tokn is an unknown key"):
        written(tmp_path, "[limits]\nmax_tokn = 7\n").table("limits", Limits)


def test_an_unknown_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="table limts is unknown; expected one of checkpoint, sampling"):
        written(tmp_path, "[limts]\nmax_tokens = 7\n")


def test_a_value_out_of_range_is_named_with_what_came(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[sampling\] top_p: .*less than or equal to 1, got 1.7"):
        written(tmp_path, "[sampling]\ntop_p = 1.7\n").table("sampling", SamplingDefaults)


def test_several_wrong_keys_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"top_p.*; \[sampling\] temprature"):
        written(tmp_path, "[sampling]\ntop_p = 1.7\ntemprature = 1\n").table("sampling", SamplingDefaults)


def test_broken_toml_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not valid TOML: .*line 2"):
        written(tmp_path, "[limits]\nmax_tokens = = 7\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"elsewhere\.toml: no such file"):
        Config(tmp_path / "elsewhere.toml")


def test_the_environment_overrides_one_key_and_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABLEWRIGHT_LIMITS__MAX_TOKENS", "12")
    limits = written(tmp_path, "[limits]\nmax_prompt_bytes = 99\nmax_tokens = 7\n").table("limits", Limits)
    assert limits == Limits(max_prompt_bytes=99, max_tokens=12)


@pytest.mark.parametrize("name", ["FABLEWRIGHT_LIMTS__MAX_TOKENS", "FABLEWRIGHT_LIMITS__MAX_TOKNS"])
def test_a_misspelt_override_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "12")
    with pytest.raises(ConfigError, match="is unknown"):
        written(tmp_path, "").table("limits", Limits)


def test_an_override_that_is_no_list_is_named_with_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABLEWRIGHT_CHECKPOINT__FOLDERS", "checkpoints")
    with pytest.raises(ConfigError, match=r"environment: expected a list .* in one of FABLEWRIGHT_CHECKPOINT__FOLDERS"):
        written(tmp_path, "").table("checkpoint", CheckpointSettings)


def test_rows_are_kept_for_a_century_at_most(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[log\] retention_days: .*less than or equal to 36500, got 1000000"):
        written(tmp_path, "[log]\nretention_days = 1_000_000\n").table("log", LogSettings)


def test_the_shipped_file_names_every_table() -> None:
    text = (ROOT / "config.toml").read_text()
    assert [table for table in TABLES if f"\n[{table}]" not in text] == []
