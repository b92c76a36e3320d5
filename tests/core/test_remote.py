"""The remote engine over a real Ray cluster of several nodes on this machine, one of which is killed in mid-stream."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.checkpoint import Checkpoint
from core.engine import Engine, EngineSettings
from core.engines import AnyEngine
from core.errors import ClosedError, ConfigError, InputError
from core.remote import RemoteEngine
from core.requests import Finished, GenerationRequest, SamplingDefaults, Started, Text, sampling_params
from tests.fixtures.ray_cluster import NODES, ON_RAY

pytestmark = ON_RAY

STREAMS = 50
SLOTS = 60  # on each


@pytest.fixture
async def remote(ray_cluster: Any, tiny: Checkpoint) -> AsyncIterator[RemoteEngine]:
    settings = EngineSettings(
        backend="ray",
        ray_address=ray_cluster.address,
        ray_min_replicas=NODES,
        ray_max_replicas=NODES,
        threads=1,
        slots=SLOTS,
        queue=0,
    )
    async with RemoteEngine(tiny, settings) as engine:
        yield engine


async def test_replicas_that_cannot_start_are_told(ray_cluster: Any, tiny: Checkpoint, tmp_path: Path) -> None:
    """Another machine of the cluster may lack the checkpoint; here it is gone for all of them."""
    lost = dataclasses.replace(tiny, name="lost", path=tmp_path / "lost")
    settings = EngineSettings(backend="ray", ray_address=ray_cluster.address, threads=1)
    with pytest.raises(ConfigError, match=r"the replicas of lost do not start: .*the checkpoint at .*/lost\?"):
        await RemoteEngine(lost, settings).__aenter__()


async def test_a_remote_engine_writes_what_a_local_one_writes(remote: RemoteEngine, tiny: Checkpoint) -> None:
    request = _request(1)
    async with Engine(tiny, EngineSettings(threads=1)) as local:
        expected = await _write(local, request)
    assert await _write(remote, request) == expected


async def test_input_that_the_engine_refuses_is_refused_the_same_way(remote: RemoteEngine) -> None:
    with pytest.raises(InputError, match="state must be an exported stream state"):
        await _write(remote, GenerationRequest(prompt="", sampling=_request(1).sampling, state=b"nonsense"))


async def test_closing_the_iterator_frees_the_replicas_slot(remote: RemoteEngine) -> None:
    async with asyncio.timeout(60):
        for _ in range(2):  # the second time, every slot of every replica must be free again
            streams = [remote.generate(_request(number, pace=0.5)) for number in range(NODES * SLOTS)]
            await asyncio.gather(*(anext(stream) for stream in streams))
            await asyncio.gather(*(stream.aclose() for stream in streams))


async def test_a_closing_engine_ends_streams_with_a_reason(remote: RemoteEngine) -> None:
    writing = asyncio.create_task(_write(remote, _request(1, pace=1)))
    await asyncio.sleep(1)
    await remote.close(0)
    assert (await writing)[2] == "shutdown"
    with pytest.raises(ClosedError):
        await _write(remote, _request(1))


async def test_a_node_killed_under_50_streams_changes_no_text(
    ray_cluster: Any, remote: RemoteEngine, tiny: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    requests, heard = [_request(number, pace=20) for number in range(STREAMS)], Counter[str]()
    async with Engine(tiny, EngineSettings(threads=1)) as local:
        expected = await asyncio.gather(*(_write(local, _request(number)) for number in range(STREAMS)))
    writing = [asyncio.create_task(_write(remote, request, heard)) for request in requests]
    async with asyncio.timeout(60):
        while min(heard[request.prompt] for request in requests) < 20:  # noqa: ASYNC110 -- in the midst of all
            await asyncio.sleep(0.05)
    assert not any(task.done() for task in writing)
    ours = ray.get_runtime_context().get_node_id()  # any node of this machine may be the one that we came in by
    victim = next(node for node in ray_cluster.worker_nodes if node.node_id != ours)
    await asyncio.to_thread(ray_cluster.remove_node, victim, allow_graceful=False)
    assert await asyncio.gather(*writing) == expected
    moved = [record.args[0] for record in caplog.records if record.msg.startswith("replica lost")]
    assert any(tokens > 0 for tokens in moved), "the node was killed, and no stream was on it"
    ray_cluster.add_node(num_cpus=1)  # for the tests that follow
    print(f"streams={STREAMS} moved={len(moved)} tokens_already_told={moved}")


def _request(number: int, pace: float = 0) -> GenerationRequest:
    sampling = sampling_params(SamplingDefaults(), seed=number, max_tokens=150, repetition_penalty=1.1)
    return GenerationRequest(prompt=f"Once upon a time {number}", sampling=sampling, pace=pace)


async def _write(
    engine: AnyEngine, request: GenerationRequest, heard: Counter[str] | None = None
) -> tuple[str, int, str]:
    """Return the text, how many tokens it was told to have, and why it ended; check that it was told once."""
    heard = Counter() if heard is None else heard
    text, tokens, starts = "", 0, 0
    async for event in engine.generate(request):
        match event:
            case Started():
                starts += 1
            case Text():
                text += event.text
                tokens += event.tokens
                heard[request.prompt] += event.tokens
            case Finished():
                assert starts == 1
                assert event.completion_tokens == tokens
                return text, tokens, event.reason
    raise AssertionError("the stream had no end")
