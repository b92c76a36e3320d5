"""Named sets of training options: TOML files in `trainer/presets`, or any other that a person or `tune` wrote.

A preset stands for options on the command line; those given there by name go before it.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError

from core.errors import ConfigError

_GIVEN = {"corpus", "valid", "test", "out", "preset", "minutes", "clock", "seed", "resume"}

Experiment = TypeVar("Experiment", bound=BaseModel)
Values = TypeVar("Values", bound=Mapping[str, Any])

FOLDER = Path(__file__).parent / "presets"


def refuse_given(options: Values) -> Values:
    """Return the options. Raises ValueError where one is what an experiment gives to all its runs alike."""
    if odd := sorted(_GIVEN.intersection(key.replace("-", "_") for key in options)):
        raise ValueError(f"{', '.join(odd)} must be the same for all, and so cannot stand here")
    return options


Options = Annotated[dict[str, Any], AfterValidator(refuse_given)]


def preset_names() -> list[str]:
    """Return the names of the presets that come with the trainer."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_preset(name: str) -> dict[str, Any]:
    """Return a preset's options, by its name or its file. Raises ConfigError where there is none or it is no TOML."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(preset_names())
        raise ConfigError(f"preset must be one of {known}, or a .toml file that is there, got {name!r}")
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for key, value in options.items():
        if key == "preset" or isinstance(value, dict | list):
            raise ConfigError(f"{path}: expected options of `train`, each a word, a number, true or false, got {key}")
    return options


def read_experiment(path: Path, kind: type[Experiment]) -> Experiment:
    """Read the TOML file of a comparison or a search. Raises ConfigError that names every bad key."""
    try:
        return kind(**tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}" for problem in error.errors())
        raise ConfigError(f"{path}: {'; '.join(problems)}") from None


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return options as a command line has them: true and false as `--name` and `--no-name`."""
    arguments = []
    for key, value in options.items():
        name = key.replace("_", "-")
        arguments += [f"--{name}" if value else f"--no-{name}"] if isinstance(value, bool) else [f"--{name}={value}"]
    return arguments


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what of `now` was another value before, "" where nothing was; what `before` does not name has not changed."""
    odd = [name for name in now if name in before and before[name] != now[name]]
    return ", ".join(f"{name} was {before[name]!r} and is {now[name]!r}" for name in odd)


def expand_preset(arguments: Sequence[str]) -> list[str]:
    """Put the options of `--preset NAME` right after the command, so that whatever else is given wins."""
    rest, preset = [], None
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--preset":
            preset = next(remaining, "")
        elif argument.startswith("--preset="):
            preset = argument.removeprefix("--preset=")
        else:
            rest.append(argument)
    if preset is None:
        return rest
    return [*rest[:1], *as_arguments(load_preset(preset)), *rest[1:]]
