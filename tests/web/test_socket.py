"""The WebSocket, from outside: a really listening server and aiohttp's client. Each test runs on every backend."""

import asyncio
import importlib
import shutil
import socket
from pathlib import Path

import pytest
from aiohttp import WSCloseCode, WSMsgType

from core.checkpoint import CheckpointConfig, save_checkpoint
from core.engines import CheckpointSettings
from core.models import build_model
from core.novelty import NoveltyIndex
from core.tokenizer import Tokenizer
from tests.fixtures.ray_cluster import on_every_backend
from tests.tiny import TEXT
from tests.web.conftest import Site, StartSite, Written, eventually, streams_open
from web import protocol

pytestmark = on_every_backend


async def test_a_stream_is_accepted_written_and_done(site: Site) -> None:
    async with site.connect() as desk:
        written = await desk.write("a", seed=7, max_tokens=30, temperature=0.5)
    assert [message["type"] for message in written.messages[:2]] == ["accepted", "text"]
    assert written.accepted == {"type": "accepted", "id": "a", "seed": 7, "checkpoint": "tiny"}
    assert written.text
    assert written.end["reason"] in ("length", "end")
    assert written.end["completion_tokens"] <= 30
    assert written.end["duration_s"] >= written.end["time_to_first_token_s"] > 0


async def test_the_same_seed_gives_the_same_text_and_a_drawn_one_is_reported(site: Site) -> None:
    async with site.connect() as desk:
        first = await desk.write("a", temperature=1.2)
        again = await desk.write("b", temperature=1.2, seed=first.accepted["seed"])
        other = await desk.write("c", temperature=1.2)
    assert again.text == first.text
    assert other.accepted["seed"] != first.accepted["seed"]


async def test_the_counts_in_done_are_those_of_the_tokenizer(site: Site) -> None:
    tokenizer = (await site.engines.get("tiny")).tokenizer
    async with site.connect() as desk:
        written = await desk.write(max_tokens=25, temperature=0.8, seed=3, logprobs=0)
    tokens = [token for message in written.messages for token in message.get("tokens", [])]
    assert written.end["prompt_tokens"] == len(tokenizer.encode("Once upon a time"))
    assert written.end["completion_tokens"] == (25 if written.end["reason"] == "length" else len(tokens) + 1)


async def test_a_stream_is_told_what_the_model_it_began_on_copied_whatever_a_swap_has_taken_away(
    site: Site, checkpoints: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoints / "tiny", tmp_path / "first" / "mine")
    index = NoveltyIndex.build([TEXT])
    index.save(tmp_path / "first" / "mine")
    await site.engines.swap(CheckpointSettings(folders=(tmp_path / "first",)))
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once upon a time", max_tokens=40, pace=40, temperature=0)
        assert (await desk.receive())["checkpoint"] == "mine"
        await site.engines.swap(CheckpointSettings(folders=(checkpoints,), name="rough"))
        written = Written(await desk.until_end("a"))
    assert written.end["copied_share"] == round(index.copied(written.text).share, 4)
    assert [engine.name for engine in site.engines.loaded()] == ["rough"]


async def test_several_streams_on_one_socket_do_not_mix(site: Site) -> None:
    async with site.connect() as desk:
        alone = [await desk.write("x", seed=seed, max_tokens=40) for seed in range(5)]
        for seed in range(5):
            await desk.send("start", id=str(seed), prompt="Once upon a time", max_tokens=40, seed=seed)
        texts = {str(seed): "" for seed in range(5)}
        ended = 0
        while ended < 5:
            message = await desk.receive()
            if message["type"] == "text":
                texts[message["id"]] += message["text"]
            ended += message["type"] == "done"
    assert list(texts.values()) == [written.text for written in alone]


async def test_stop_ends_a_stream_as_cancelled_and_the_others_go_on(site: Site) -> None:
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=600, pace=20)
        await desk.send("start", id="b", prompt="Once", max_tokens=12, pace=40)
        while (message := await desk.receive())["type"] != "text" or message["id"] != "a":
            pass
        await desk.send("stop", id="a")
        ends = {}
        while len(ends) < 2:
            message = await desk.receive()
            if message["type"] == "done":
                ends[message["id"]] = message
    assert ends["a"]["reason"] == "cancelled"
    assert 0 < ends["a"]["completion_tokens"] < 600
    assert ends["b"]["reason"] in ("length", "end")


async def test_a_start_followed_at_once_by_its_stop_still_ends(site: Site) -> None:
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=600, pace=5)
        await desk.send("stop", id="a")
        assert (await desk.until_end("a"))[-1]["reason"] == "cancelled"


async def test_stopping_what_does_not_run_is_ignored(site: Site) -> None:
    async with site.connect() as desk:
        await desk.send("stop", id="nobody")
        assert (await desk.write("a")).end["type"] == "done"


async def test_an_id_may_be_used_again_once_its_stream_is_done_but_not_before(site: Site) -> None:
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=600, pace=10)
        await desk.send("start", id="a", prompt="Once", max_tokens=5)
        while (message := await desk.receive())["type"] != "error":
            pass
        assert (message["code"], message.get("id")) == ("duplicate_id", None)  # with one, the first would be over
        await desk.send("stop", id="a", now=True)
        while (message := await desk.receive())["type"] != "error":
            pass
        assert (message["field"], message.get("id")) == ("now", None)
        await desk.send("stop", id="a")
        while (message := await desk.receive())["type"] != "done":
            pass
        assert (await desk.write("a")).end["type"] == "done"


async def test_a_closed_socket_frees_its_streams_at_once(site: Site) -> None:
    async with site.connect() as desk:
        for id in "abc":
            await desk.send("start", id=id, prompt="Once", max_tokens=600, pace=2)
        while (await desk.receive())["type"] != "text":
            pass
        await eventually(lambda: streams_open(site) == 3)
    await eventually(lambda: streams_open(site) == 0)


async def test_what_cannot_come_here_is_no_alternative(site: Site, tmp_path: Path) -> None:
    """Of characters, a space alone can follow a prompt that ended in one: the others' logarithms are infinite."""
    tokenizer = Tokenizer.train([TEXT], vocab_size=100, kind="char")
    sizes = {"vocab_size": tokenizer.vocab_size, "document_id": tokenizer.document_id}
    sizes |= {"embedding_size": 8, "hidden_size": 8, "layers": 1, "dropout": 0.0}
    model, config = build_model("lstm", sizes), CheckpointConfig(architecture="lstm", model=sizes)
    save_checkpoint(tmp_path / "models/letters", model=model, tokenizer=tokenizer, config=config, card="")
    await site.engines.swap(CheckpointSettings(folders=(tmp_path / "models",)))
    async with site.connect() as desk:
        written = await desk.write(prompt="Once upon a ", max_tokens=5, logprobs=3)
    assert written.end["type"] == "done"
    tokens = [token for message in written.messages for token in message.get("tokens", [])]
    assert tokens[0] == {"text": "", "logprob": 0.0, "top": [{"text": "", "logprob": 0.0}]}
    assert [len(token["top"]) for token in tokens[1:]] == [3] * (len(tokens) - 1)


async def test_a_fault_while_sending_is_logged_and_cuts_the_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "encode", lambda message: 1 / 0)
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=600, pace=2)
        assert (await desk.socket.receive(timeout=30)).type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    await eventually(lambda: streams_open(site) == 0)
    assert "ZeroDivisionError" in caplog.text


async def test_log_probabilities_come_with_their_alternatives(site: Site) -> None:
    async with site.connect() as desk:
        written = await desk.write(seed=5, max_tokens=10, logprobs=3)
        plain = await desk.write(seed=5, max_tokens=10)
    tokens = [token for message in written.messages for token in message.get("tokens", [])]
    assert written.text == plain.text
    assert "".join(token["text"] for token in tokens) == written.text
    assert all(len(token["top"]) == 3 for token in tokens)
    assert all(token["top"][0]["logprob"] >= token["logprob"] for token in tokens)
    assert all("tokens" not in message for message in plain.messages)


async def test_a_stop_string_ends_the_text_before_it(site: Site) -> None:
    async with site.connect() as desk:
        whole = await desk.write(seed=1, max_tokens=100, temperature=0)
        stop = whole.text[10:14]
        stopped = await desk.write(seed=1, max_tokens=100, temperature=0, stop=stop)
    assert stopped.end["reason"] == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]


async def test_an_empty_prompt_starts_a_story(site: Site) -> None:
    async with site.connect() as desk:
        assert (await desk.write(prompt="")).end["type"] == "done"
        assert (await desk.write(prompt=" \n\n ")).end["type"] == "done"


async def test_a_named_checkpoint_writes_and_an_unknown_one_is_refused(site: Site) -> None:
    async with site.connect() as desk:
        assert (await desk.write(checkpoint="rough", seed=1)).accepted["checkpoint"] == "rough"
        error = (await desk.write(checkpoint="gone")).end
    assert (error["code"], error["message"]) == (
        "unknown_checkpoint",
        "checkpoint must be one of rough, tiny, got 'gone'",
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", -1, "temperature must be in [0, 2], got -1.0"),
        ("top_p", 1.7, "top_p must be in (0, 1], got 1.7"),
        ("top_k", -3, "top_k must be a whole number in [0, 1000], got -3"),
        ("max_tokens", 0, "max_tokens must be a whole number of at least 1, got 0"),
        ("max_tokens", 10**9, "max_tokens must be in [1, 600], got 1000000000"),
        ("seed", -1, f"seed must be a whole number in [0, {2**53 - 1}], got -1"),
        ("seed", 2**53, f"seed must be a whole number in [0, {2**53 - 1}], got {2**53}"),
        ("pace", 5000, "pace must be 0 or in [0.5, 1000], got 5000.0"),
        ("logprobs", 21, "logprobs must be less than or equal to 20, got 21"),
        ("stop", ["x"] * 17, "stop must hold at most 16 strings, got 17"),
        ("temperature", "0.8", 'temperature must be a number, got "0.8"'),
        ("colour", "red", "colour is not a known field"),
        ("prompt", "x" * 2**20, "prompt must be at most 100000 bytes, got 1048576"),
    ],
)
async def test_a_bad_setting_is_refused_by_name_and_the_socket_goes_on(
    site: Site, field: str, value: object, message: str
) -> None:
    async with site.connect() as desk:
        error = (await desk.write("bad", **{field: value})).end
        assert (error["type"], error["code"], error["message"]) == ("error", "invalid_request", message)
        assert (await desk.write("good")).end["type"] == "done"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "expected JSON"),
        ("", "expected JSON"),
        ('{"type": "start", "id": "a", "prompt": "", "temperature": NaN}', "temperature must be a finite number"),
        ('{"type": "start", "id": "a", "prompt": "\\ud800"}', "expected JSON"),
        ('{"type": "sing"}', "type must be"),
        ("[" * 100_000, "expected JSON"),
    ],
)
async def test_a_frame_that_is_no_message_is_refused_and_the_socket_goes_on(site: Site, frame: str, code: str) -> None:
    async with site.connect() as desk:
        await desk.socket.send_str(frame)
        error = await desk.receive()
        assert error["type"] == "error"
        assert error["message"].startswith(code)
        assert (await desk.write("good")).end["type"] == "done"


async def test_a_binary_frame_is_refused_and_the_socket_goes_on(site: Site) -> None:
    async with site.connect() as desk:
        await desk.socket.send_bytes(b"\xff\x00")
        assert (await desk.receive())["message"] == "expected a text frame, got a binary one"
        assert (await desk.write("good")).end["type"] == "done"


@pytest.mark.parametrize(("fields", "id"), [(2_000, "a"), (200_000, None)])
async def test_a_frame_of_many_faults_is_refused_in_a_sentence(fields: int, id: str | None, site: Site) -> None:
    async with site.connect() as desk:
        unknown = ",".join(f'"{number}":0' for number in range(fields))
        await desk.socket.send_str(f'{{"type":"start","id":"a","prompt":"",{unknown}}}')
        error = await desk.receive()
        assert error["message"] == f"expected what the documentation describes, got {fields:,} faults"
        assert error.get("id") == id
        assert (await desk.write("good")).end["type"] == "done"


async def test_a_frame_above_the_limit_closes_the_socket_and_no_other(start_site: StartSite) -> None:
    site = await start_site(max_message_bytes=2**16)
    async with site.connect() as desk, site.connect() as other:
        await desk.socket.send_str("x" * (2**16 + 1))
        message = await desk.socket.receive(timeout=30)
        assert (message.type, desk.socket.close_code) == (WSMsgType.CLOSE, 1009)
        assert (await other.write("good")).end["type"] == "done"


async def test_a_socket_that_says_nothing_is_closed_in_time_but_not_while_it_listens(start_site: StartSite) -> None:
    site = await start_site(idle_timeout_s=0.2)
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=8, pace=10)
        assert (await desk.until_end("a"))[-1]["type"] == "done"  # takes 0.8 s
        assert (await desk.socket.receive(timeout=30)).type is WSMsgType.CLOSE


async def test_a_socket_that_only_answers_heartbeats_is_closed_in_time(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.import_module("web.socket"), "_HEARTBEAT_S", 2
    )  # a busy client has half of it to answer
    site = await start_site(idle_timeout_s=3)
    async with site.connect() as desk, asyncio.timeout(20):
        assert (await desk.socket.receive()).type is WSMsgType.CLOSE


async def test_a_client_that_does_not_read_is_cut_off_and_its_streams_are_freed(start_site: StartSite) -> None:
    site = await start_site(send_timeout_s=0.3)
    async with site.connect() as desk:
        transport = desk.socket._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for number in range(40):  # their answers must fill the buffers of both kernels' ends
            await desk.send("start", id=str(number), prompt="", max_tokens=600, logprobs=20)
        await eventually(lambda: not site.web._sockets, within_s=60)
        transport.abort()  # or the client waits ten seconds for a farewell it does not read
    await eventually(lambda: streams_open(site) == 0)


async def test_too_many_streams_on_one_socket_are_refused(start_site: StartSite) -> None:
    site = await start_site(streams_per_socket=2)
    async with site.connect() as desk:
        for id in "ab":
            await desk.send("start", id=id, prompt="Once", max_tokens=600, pace=2)
        error = (await desk.write("c")).end
        assert error["code"] == "too_many_streams"


# ---- resuming


async def test_a_stream_dropped_at_ten_places_resumes_to_the_identical_text(site: Site) -> None:
    request = {"prompt": "Once upon a time", "max_tokens": 120, "temperature": 0.9, "seed": 11}
    async with site.connect() as desk:
        whole = await desk.write(**request)
    text, stream, last = "", "", {}
    for drop in range(10):
        async with site.connect() as desk:
            if not stream:
                await desk.send("start", id="a", pace=150, resumable=True, **request)
            else:
                await desk.send("resume", id=f"a{drop}", stream=stream, received=len(text))
            for _ in range(drop % 4 + 2):
                message = await desk.receive()
                stream = message.get("stream", stream)
                text += message.get("text", "")
                if message["type"] == "done":
                    last = message
                    break
    async with site.connect() as desk:
        await desk.send("resume", id="last", stream=stream, received=len(text))
        rest = Written(await desk.until_end("last"))
    assert text + rest.text == whole.text
    assert rest.end["completion_tokens"] == whole.end["completion_tokens"]
    assert rest.end["reason"] == whole.end["reason"]
    assert not last or rest.text == ""


async def test_a_stream_can_be_resumed_in_the_middle_of_a_piece(site: Site) -> None:
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=40, seed=2, resumable=True, logprobs=1)
        written = Written(await desk.until_end("a"))
        await desk.send("resume", id="b", stream=written.accepted["stream"], received=7)
        assert Written(await desk.until_end("b")).text == written.text[7:]


async def test_the_newest_listener_has_the_stream(site: Site) -> None:
    async with site.connect() as old, site.connect() as new:
        await old.send("start", id="a", prompt="Once", max_tokens=40, pace=40, seed=2, resumable=True)
        stream = (await old.receive())["stream"]
        await old.receive()
        await new.send("resume", id="b", stream=stream, received=0)
        written = Written(await new.until_end("b"))
        assert written.end["type"] == "done"
        assert (await old.until_end("a"))[-1]["code"] == "taken_over"
        await old.send("stop", id="a")  # no longer its to stop
        again = await old.write("a", prompt="Once", max_tokens=40, seed=2)
    assert again.text == written.text


async def test_what_cannot_be_resumed_is_refused(site: Site) -> None:
    async with site.connect() as desk:
        await desk.send("resume", id="a", stream="guessed", received=0)
        assert (await desk.receive())["code"] == "unknown_stream"
        await desk.send("start", id="b", prompt="Once", max_tokens=5, seed=2, resumable=True)
        stream = Written(await desk.until_end("b")).accepted["stream"]
        await desk.send("resume", id="c", stream=stream, received=10_000)
        error = await desk.receive()
        assert (error["code"], error["field"]) == ("invalid_request", "received")


async def test_a_kept_stream_is_stopped_and_forgotten_in_time(start_site: StartSite) -> None:
    site = await start_site(resume_s=1.0)
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=600, pace=3, resumable=True)
        stream = (await desk.receive())["stream"]
    await asyncio.sleep(0.1)
    assert streams_open(site) == 1
    await eventually(lambda: streams_open(site) == 0)
    async with site.connect() as desk:
        await desk.send("resume", id="a", stream=stream, received=0)
        assert (await desk.receive())["code"] == "unknown_stream"


# ---- who may come in


async def test_pages_of_other_sites_are_refused_and_our_own_are_not(site: Site) -> None:
    for origin, status in (("http://evil.example", 403), ("null", 403), (site.url, 101)):
        headers = {"Origin": origin, "Upgrade": "websocket", "Connection": "Upgrade"} | {
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        async with site.client.get(f"{site.url}/ws", headers=headers) as response:
            assert response.status == status, origin


async def test_a_full_server_says_so(start_site: StartSite) -> None:
    site = await start_site(max_sockets=1)
    async with site.connect() as desk:
        async with site.client.get(f"{site.url}/ws") as response:
            assert response.status == 503
            assert (await response.json())["error"]["code"] == "busy"
        assert (await desk.write()).end["type"] == "done"


async def test_a_start_that_comes_while_the_server_shuts_down_is_left_to_the_next_one(site: Site) -> None:
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=20, pace=40, temperature=0)
        assert (await desk.receive())["type"] == "accepted"
        site.web.drain()
        await desk.send("start", id="b", prompt="Once", max_tokens=5)
        messages = [frame.json() async for frame in desk.socket]
        assert {message["id"] for message in messages} == {"a"}
        assert messages[-1]["type"] == "done"
        assert desk.socket.close_code == WSCloseCode.GOING_AWAY


async def test_a_socket_that_opens_while_the_server_shuts_down_is_sent_to_the_next_one(site: Site) -> None:
    site.web.drain()
    async with site.connect() as desk:
        await desk.send("start", id="a", prompt="Once", max_tokens=5)
        assert (await desk.socket.receive(timeout=60)).data == WSCloseCode.GOING_AWAY
