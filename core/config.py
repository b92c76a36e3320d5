"""Reads config.toml and the environment, and hands each table to the settings class that owns it.

Each table's class lives beside the code it configures; this module knows only the tables' names. Any key can be
overridden for one run by `FABLEWRIGHT_<TABLE>__<KEY>` (pydantic-settings' nested convention).
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, create_model
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from .errors import ConfigError

DEFAULT_PATH = Path("config.toml")
PREFIX = "FABLEWRIGHT_"
TABLES = ("checkpoint", "sampling", "limits", "engine", "database", "log", "web", "bot")

Table = TypeVar("Table", bound=BaseModel)


class Config:
    """The tables of one config.toml. Raises ConfigError where the file cannot be read or names an unknown table."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(os.environ.get(f"{PREFIX}CONFIG", DEFAULT_PATH))
        self._tables = _read_toml(self.path)
        _refuse_unknown(f"{self.path}: table", self._tables, TABLES)
        overridden = [name for name in os.environ if name.startswith(PREFIX) and "__" in name]
        tables = [name.removeprefix(PREFIX).split("__")[0].lower() for name in overridden]
        _refuse_unknown("environment: table", tables, TABLES)

    def table(self, name: str, owner: type[Table]) -> Table:
        """Return table `name` as its owner's class, overrides applied. Raises ConfigError that names every bad key."""
        assert name in TABLES, name
        root = create_model(name, __base__=_Root, **{name: (owner, ...)})  # type: ignore[call-overload]
        self._refuse_unknown_overrides(name, owner)
        try:
            return getattr(root(**{name: dict(self._tables.get(name, {}))}), name)  # type: ignore[no-any-return]
        except SettingsError:
            given = [key for key in sorted(os.environ) if key.upper().startswith(f"{PREFIX}{name.upper()}")]
            message = "expected a list or a table as JSON, such as '[\"127.0.0.1/32\"]', in one of"
            raise ConfigError(f"environment: {message} {', '.join(given)}") from None
        except ValidationError as error:
            problems = "; ".join(_describe(problem, owner) for problem in error.errors())
            raise ConfigError(f"{self.path}: {problems}") from None

    def _refuse_unknown_overrides(self, name: str, owner: type[BaseModel]) -> None:
        prefix = f"{PREFIX}{name.upper()}__"
        keys = [key.removeprefix(prefix).lower() for key in os.environ if key.upper().startswith(prefix)]
        _refuse_unknown(f"environment: {prefix}…: key", keys, tuple(owner.model_fields))


class _Root(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment wins over the file


def _read_toml(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected the configuration there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        tables = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{path}: expected only tables at the top, got the key {name!r}")
    return tables


def _refuse_unknown(what: str, names: Any, known: tuple[str, ...]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(f"{what} {', '.join(unknown)} is unknown; expected one of {', '.join(known)}")


def _describe(problem: Any, owner: type[BaseModel]) -> str:
    table, *keys = problem["loc"]
    where = f"[{table}] {'.'.join(map(str, keys))}"
    if problem["type"] == "extra_forbidden":
        alike = difflib.get_close_matches(str(keys[-1]), owner.model_fields, n=1)
        known = f"did you mean {alike[0]}?" if alike else f"expected one of {', '.join(owner.model_fields)}"
        return f"{where} is an unknown key; {known}"
    return f"{where}: {problem['msg'].lower()}, got {problem['input']!r}"
