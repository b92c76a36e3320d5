"""A preset is a set of options; what a person types goes before it."""

from pathlib import Path

import pytest

from core.errors import ConfigError
from trainer.__main__ import _parser
from trainer.presets import expand_preset, load_preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_understood_by_train(name: str) -> None:
    args = _parser().parse_args(expand_preset(["train", "books", "--out", "run", "--preset", name]))
    for option, value in load_preset(name).items():
        assert getattr(args, option) == value


def test_the_command_line_goes_before_the_preset() -> None:
    arguments = expand_preset(["train", "--learning-rate", "0.5", "books", "--out", "run", "--preset=course"])
    args = _parser().parse_args(arguments)
    assert (args.learning_rate, args.hidden_size, args.bfloat16) == (0.5, 1024, False)


def test_a_file_of_ones_own_is_a_preset(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("dropout = 0.1\nbfloat16 = true\n")
    assert expand_preset(["train", "--preset", str(tmp_path / "mine.toml"), "x"]) == [
        *("train", "--dropout=0.1", "--bfloat16", "x")
    ]


@pytest.mark.parametrize("name", ["unheard-of", "none.toml", ""])
def test_an_unknown_preset_is_named(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"preset must be one of awd, awd-one-cycle, course, fast, stock, .* got '{name}'"
    ):
        load_preset(name)


def test_a_preset_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML"):
        load_preset(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize("text", ['preset = "fast"', "[options]\ndropout = 0.1"])
def test_a_preset_holds_nothing_but_options(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.toml: expected options of `train`, .* got (preset|options)"):
        load_preset(str(tmp_path / "odd.toml"))
