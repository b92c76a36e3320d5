"""The checkpoints as the models page sees them, and the search for copied text."""

import asyncio
import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from core.engines import CheckpointSettings
from core.novelty import Copied, NoveltyIndex
from tests.tiny import TEXT
from tests.web.conftest import Site


async def test_checkpoints_are_listed_with_their_sizes_the_default_first(site: Site) -> None:
    views = (await site.get("/api/checkpoints"))["checkpoints"]
    assert [(view["name"], view["is_default"]) for view in views] == [("tiny", True), ("rough", False)]
    model = load_checkpoint(site.engines.path("tiny")).model
    assert views[0]["parameters"] == sum(tensor.numel() for tensor in model.state_dict().values())
    assert views[0]["architecture"] == "awd_lstm"
    assert views[0]["vocab_size"] == (await site.engines.get("tiny")).tokenizer.vocab_size
    assert views[0]["bytes"] > 4 * views[0]["parameters"]


async def test_one_checkpoint_comes_with_its_card(site: Site) -> None:
    details = await site.get("/api/checkpoints/tiny")
    assert details["card"].startswith("# tiny")
    assert details["curve"] == details["training"].get("history", [])


async def test_an_unknown_checkpoint_is_not_found(site: Site) -> None:
    for name in ("gone", "..%2Ftiny", "%2E%2E"):
        assert (await site.get(f"/api/checkpoints/{name}", 404))["error"]["code"] in ("unknown_checkpoint", "not_found")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / WEIGHTS).unlink(),
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1]),
        lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 7),
        lambda folder: (folder / CONFIG).write_text("{"),
        lambda folder: (folder / CONFIG).write_text('{"version": 1}'),
        lambda folder: (folder / CONFIG).write_text('{"version": 1, "architecture": "lstm", "model": []}'),
        lambda folder: (folder / CONFIG).write_text('{"version": 1, "architecture": 7, "model": {}}'),
        lambda folder: (folder / CONFIG).write_text("[" * 100_000),
        lambda folder: (folder / CONFIG).write_text(
            f'{{"version": 1, "architecture": "lstm", "model": {{}}, "training": {{"x": {"[" * 400 + "]" * 400}}}}}'
        ),
    ],
)
async def test_a_damaged_checkpoint_hides_no_other(
    tiny_checkpoint: Path, tmp_path: Path, site: Site, damage: Callable[[Path], object]
) -> None:
    for name in ("half", "whole"):
        shutil.copytree(tiny_checkpoint, tmp_path / "copies" / name)
    await site.engines.swap(CheckpointSettings(folders=(tmp_path / "copies",), name="whole"))
    damage(tmp_path / "copies" / "half")
    assert [view["name"] for view in (await site.get("/api/checkpoints"))["checkpoints"]] == ["whole"]
    assert (await site.get("/api/checkpoints/half", 404))["error"]["code"] == "unknown_checkpoint"


async def test_where_a_damaged_checkpoint_lies_is_for_the_log_alone(
    tiny_checkpoint: Path, tmp_path: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "copies" / "half")
    (tmp_path / "copies" / "half" / WEIGHTS).write_bytes(b"half")
    await site.engines.get()
    site.engines._checkpoints = CheckpointSettings(folders=(tmp_path / "copies",), name="half")
    error = (await site.call("POST", "/v1/completions", 500, json={"model": "half", "prompt": "Once"}))["error"]
    assert (error["code"], error["message"]) == (
        "invalid_checkpoint",
        "this checkpoint is damaged, or cannot be written with",
    )
    assert str(tmp_path / "copies" / "half") in caplog.text


@pytest.fixture
async def indexed(checkpoints: Path, tmp_path: Path, site: Site) -> Site:
    """A server whose checkpoint `rough` has an index of its book."""
    folder = Path(shutil.copytree(checkpoints, tmp_path / "copies"))
    NoveltyIndex.build([TEXT]).save(folder / "rough")
    await site.engines.swap(CheckpointSettings(folders=(folder,), name="tiny"))
    return site


async def test_what_stands_in_the_books_is_found_in_characters(indexed: Site) -> None:
    copied = "there was a small grey donkey who lived at the edge of a wood"
    text = f"🐎 In our tale {copied}, unlike any other."
    answer = await indexed.call("POST", "/api/copied", json={"text": text, "checkpoint": "rough"})
    assert [text[span["start"] : span["end"]] for span in answer["spans"]] == [copied]
    assert answer["longest_run"] == len(copied.split())
    assert answer["share"] == round(len(copied.split()) / 20, 4)


async def test_without_an_index_nothing_is_claimed(site: Site) -> None:
    answer = await site.call("POST", "/api/copied", json={"text": TEXT})
    assert answer == {"spans": None, "share": None, "longest_run": None}


async def test_texts_are_searched_one_at_a_time_and_one_that_is_too_long_not_at_all(
    indexed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, running, most = NoveltyIndex.copied, 0, 0

    def slowly(index: NoveltyIndex, text: str) -> Copied:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.05)
        running -= 1
        return search(index, text)

    monkeypatch.setattr(NoveltyIndex, "copied", slowly)
    asked = {"text": TEXT, "checkpoint": "rough"}
    await asyncio.gather(*(indexed.call("POST", "/api/copied", json=asked) for _ in range(5)))
    assert most == 1
    body, headers = io.BytesIO(json.dumps({"text": "a " * 2**20}).encode()), {"Content-Type": "application/json"}
    error = (await indexed.call("POST", "/api/copied", 400, data=body, headers=headers))["error"]
    assert error["message"] == "text must be at most 1048576 characters, got 2097152"
