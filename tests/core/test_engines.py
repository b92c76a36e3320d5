"""Engines by name: found on disk, loaded when asked for, swapped under running streams."""

import asyncio
import shutil
from pathlib import Path

import pytest

from core.engine import EngineSettings
from core.engines import AnyEngine, CheckpointSettings, Engines
from core.errors import CheckpointError, ClosedError, InputError
from core.requests import Finished, GenerationRequest, SamplingDefaults, Text, sampling_params
from tests.fixtures.ray_cluster import BACKENDS
from tests.tiny import make_tiny_checkpoint

SMALL = EngineSettings(slots=2, batch=2, threads=1, state_cache_mb=1, shutdown_grace_s=0.0)


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    for name in ("fable", "saga"):
        shutil.copytree(tiny_checkpoint, tmp_path / "models" / name)
    (tmp_path / "models" / "notes").mkdir()
    return tmp_path / "models"


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest) -> EngineSettings:
    """Engines of this process, and replicas in a Ray cluster."""
    if request.param == "local":
        return SMALL
    address = request.getfixturevalue("ray_cluster").address
    return SMALL.model_copy(update={"backend": "ray", "ray_address": address, "ray_max_replicas": 1})


async def finish(engine: AnyEngine, pace: float = 0.0) -> Finished:
    end = [event async for event in engine.generate(request(pace))][-1]
    assert isinstance(end, Finished)
    return end


async def write(engine: AnyEngine) -> str:
    return "".join([event.text async for event in engine.generate(request()) if isinstance(event, Text)])


def request(pace: float = 0.0) -> GenerationRequest:
    params = sampling_params(SamplingDefaults(), max_tokens=20, seed=1)
    return GenerationRequest(prompt="Once", sampling=params, pace=pace)


async def test_checkpoints_are_found_and_loaded_when_first_asked_for(folder: Path) -> None:
    async with Engines(CheckpointSettings(folders=(folder,), name="saga"), SMALL) as engines:
        assert engines.names() == ["fable", "saga"]
        assert engines.loaded() == []
        default, again = await asyncio.gather(engines.get(), engines.get("saga"))
        assert default is again
        assert [engine.name for engine in engines.loaded()] == ["saga"]
        assert (await finish(await engines.get("fable"))).reason == "length"


async def test_the_first_checkpoint_by_name_is_the_default(folder: Path) -> None:
    async with Engines(CheckpointSettings(folders=(folder,)), SMALL) as engines:
        assert engines.default_name == "fable"


async def test_the_default_stays_while_its_folder_is_replaced(folder: Path, tmp_path: Path) -> None:
    async with Engines(CheckpointSettings(folders=(folder,)), SMALL) as engines:
        engine = await engines.get()
        (folder / "fable").rename(tmp_path / "away")
        assert engines.default_name == "fable"
        assert await engines.get() is engine


async def test_an_unknown_name_is_refused_and_the_known_ones_are_named(folder: Path) -> None:
    async with Engines(CheckpointSettings(folders=(folder,)), SMALL) as engines:
        with pytest.raises(InputError, match="checkpoint must be one of fable, saga, got 'epic'"):
            await engines.get("epic")


async def test_no_checkpoint_at_all_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    async with Engines(CheckpointSettings(folders=(tmp_path,)), SMALL) as engines:
        with pytest.raises(CheckpointError, match=f"expected a checkpoint in {tmp_path}, found none"):
            await engines.get()


async def test_a_swap_lets_old_streams_finish_and_takes_new_ones(folder: Path, settings: EngineSettings) -> None:
    async with Engines(CheckpointSettings(folders=(folder,)), settings) as engines:
        old = await engines.get("fable")
        running = asyncio.create_task(finish(old, pace=50))
        await asyncio.sleep(0.05)
        fresh = await engines.swap(CheckpointSettings(folders=(folder,)))
        assert fresh is not old
        assert await engines.get() is fresh
        assert (await finish(fresh)).reason == "length"
        assert (await running).reason == "length"


@pytest.mark.parametrize(("grace_s", "reason"), [(30.0, "length"), (0.0, "shutdown")])
async def test_the_grace_of_closing_engines_holds_on_those_that_a_swap_retired_too(
    folder: Path, settings: EngineSettings, grace_s: float, reason: str
) -> None:
    async with Engines(CheckpointSettings(folders=(folder,)), settings) as engines:
        running = asyncio.create_task(finish(await engines.get(), pace=20))
        await asyncio.sleep(0.05)
        await engines.swap(CheckpointSettings(folders=(folder,)))
        await engines.close(grace_s)
        assert (await running).reason == reason


async def test_engines_that_are_left_end_the_streams_of_those_that_a_swap_retired(
    folder: Path, settings: EngineSettings
) -> None:
    async with Engines(CheckpointSettings(folders=(folder,)), settings) as engines:
        running = asyncio.create_task(finish(await engines.get(), pace=1))
        await asyncio.sleep(0.05)
        await engines.swap(CheckpointSettings(folders=(folder,)))
    assert (await running).reason == "shutdown"


async def test_after_a_swap_is_written_what_the_changed_checkpoint_writes(
    folder: Path, settings: EngineSettings, tmp_path: Path, rough_checkpoint: Path
) -> None:
    only = CheckpointSettings(folders=(folder,), name="saga")
    async with Engines(only, settings) as engines:
        before = await write(await engines.get())
        (folder / "saga").rename(tmp_path / "away")
        shutil.copytree(rough_checkpoint, folder / "saga")
        after = await write(await engines.swap(only))
    async with Engines(only, SMALL) as engines:
        assert after == await write(await engines.get()) != before


async def test_a_swap_to_a_damaged_checkpoint_changes_nothing(folder: Path) -> None:
    async with Engines(CheckpointSettings(folders=(folder,), name="fable"), SMALL) as engines:
        old = await engines.get()
        (folder / "saga" / "model.safetensors").write_bytes(b"half")
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            await engines.swap(CheckpointSettings(folders=(folder,), name="saga"))
        with pytest.raises(InputError, match="checkpoint must be one of fable, saga, got 'epic'"):
            await engines.swap(CheckpointSettings(folders=(folder,), name="epic"))
        assert await engines.get() is old


async def test_a_swap_takes_new_folders_and_loads_the_others_again(
    folder: Path, tmp_path: Path, rough_checkpoint: Path
) -> None:
    async with Engines(CheckpointSettings(folders=(folder,), name="fable"), SMALL) as engines:
        saga = await engines.get("saga")
        (folder / "saga").rename(tmp_path / "away")
        shutil.copytree(rough_checkpoint, folder / "saga")
        make_tiny_checkpoint(tmp_path / "more" / "epic", steps=1)
        await engines.swap(CheckpointSettings(folders=(tmp_path / "more", folder), name="epic"))
        assert (engines.default_name, engines.names()) == ("epic", ["epic", "fable", "saga"])
        assert (await engines.get()).name == "epic"
        assert await write(await engines.get("saga")) != await write(await engines.get("fable"))
        with pytest.raises(ClosedError):
            await write(saga)


async def test_a_checkpoint_goes_on_loading_when_the_one_who_asked_first_leaves(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="core.engines")
    async with Engines(CheckpointSettings(folders=(folder,)), SMALL) as engines:
        asking = asyncio.create_task(engines.get("fable"))
        while "checkpoint_loaded" not in caplog.text:  # noqa: ASYNC110 -- the log is the only sign of half a load
            await asyncio.sleep(0)
        asking.cancel()
        assert (await finish(await engines.get("fable"))).reason == "length"
    assert caplog.text.count("checkpoint_loaded") == 1


async def test_a_run_of_the_trainer_goes_by_the_name_of_its_folder(folder: Path, tiny_checkpoint: Path) -> None:
    (folder / "mine" / "data").mkdir(parents=True)
    shutil.copytree(tiny_checkpoint, folder / "mine" / "checkpoint")
    async with Engines(CheckpointSettings(folders=(folder,), name="mine"), SMALL) as engines:
        assert engines.names() == ["fable", "mine", "saga"]
        assert (await engines.get()).name == "mine"


async def test_a_swap_after_closing_began_does_not_stretch_its_grace(folder: Path, settings: EngineSettings) -> None:
    """SIGHUP right before SIGTERM: the swap is loading when the engines close."""
    only = CheckpointSettings(folders=(folder,))
    async with Engines(only, settings) as engines:
        old = await engines.get()
        running = asyncio.create_task(finish(old, pace=1))
        await asyncio.sleep(0.05)
        swapping = asyncio.create_task(engines.swap(only))
        await asyncio.sleep(0)
        await engines.close(0.0)
        await old.close(60.0)
        assert (await running).reason == "shutdown"
        with pytest.raises(ClosedError):
            await swapping
        assert engines.loaded() == [old]
