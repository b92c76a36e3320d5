"""The OpenAI-compatible routes, asked by the real `openai` client, sync and async. Each test runs on every backend."""

import asyncio
import copy
import io
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest

from core.checkpoint import Checkpoint, save_checkpoint
from core.engines import CheckpointSettings
from tests.fixtures.ray_cluster import on_every_backend
from tests.web.conftest import Site, StartSite, eventually, streams_open

pytestmark = on_every_backend

PROMPT = "Once upon a time"
JSON = {"Content-Type": "application/json"}
Answer = TypeVar("Answer")


@pytest.fixture
async def client(site: Site) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def in_thread(site: Site, ask: Callable[[openai.OpenAI], Answer]) -> Answer:
    """Run the synchronous client where it may block."""

    def run() -> Answer:
        with openai.OpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0) as client:
            return ask(client)

    return await asyncio.to_thread(run)


# ---- completions


async def test_a_completion_has_the_originals_shape(client: openai.AsyncOpenAI, site: Site) -> None:
    answer = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=12, seed=1)
    tokenizer = (await site.engines.get("tiny")).tokenizer
    assert (answer.object, answer.model, len(answer.choices)) == ("text_completion", "tiny", 1)
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(tokenizer.encode(PROMPT))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_synchronous_client_gets_the_same_text(client: openai.AsyncOpenAI, site: Site) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 30, "seed": 5}
    from_async = await client.completions.create(**asked)
    from_sync = await in_thread(site, lambda client: client.completions.create(**asked))
    assert from_sync.choices[0].text == from_async.choices[0].text


async def test_a_completion_is_what_the_page_would_write(client: openai.AsyncOpenAI, site: Site) -> None:
    answer = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=30, seed=5, temperature=0.7)
    async with site.connect() as desk:
        written = await desk.write(prompt=PROMPT, max_tokens=30, seed=5, temperature=0.7, top_p=1, min_p=0)
    assert answer.choices[0].text == written.text


async def test_sixteen_tokens_are_written_when_nothing_is_said(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="tiny", prompt=PROMPT, temperature=0)  # far from the story's end
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (16, "length")


async def test_streamed_chunks_join_to_the_whole_answer(client: openai.AsyncOpenAI, site: Site) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 30, "seed": 5}
    whole = await client.completions.create(**asked)
    chunks = [chunk async for chunk in await client.completions.create(stream=True, **asked)]
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == whole.choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks)
    blocking = await in_thread(site, lambda client: list(client.completions.create(stream=True, **asked)))
    assert "".join(chunk.choices[0].text for chunk in blocking) == whole.choices[0].text


async def test_usage_ends_a_stream_that_asked_for_it(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(
        model="tiny", prompt=PROMPT, max_tokens=9, seed=5, stream=True, stream_options={"include_usage": True}
    )
    last = [chunk async for chunk in stream][-1]
    assert last.choices == []
    assert last.usage is not None
    assert 0 < last.usage.completion_tokens <= 9


async def test_n_choices_are_drawn_with_seeds_that_follow_each_other(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 20, "temperature": 1.2}
    answer = await client.completions.create(n=3, seed=10, **asked)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for i, choice in enumerate(answer.choices):
        alone = await client.completions.create(seed=10 + i, **asked)
        assert alone.choices[0].text == choice.text


async def test_several_prompts_are_answered_in_order_and_each_counted_once(client: openai.AsyncOpenAI) -> None:
    prompts = ["Once upon a time", "The donkey", "Where"]
    answer = await client.completions.create(model="tiny", prompt=prompts, n=2, max_tokens=10, seed=3)
    assert [choice.index for choice in answer.choices] == list(range(6))
    counted = 0
    for i, prompt in enumerate(prompts):
        alone = await client.completions.create(model="tiny", prompt=prompt, n=2, max_tokens=10, seed=3)
        assert [choice.text for choice in alone.choices] == [c.text for c in answer.choices[2 * i : 2 * i + 2]]
        assert alone.usage is not None
        counted += alone.usage.prompt_tokens
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == counted


async def test_streamed_choices_can_be_told_apart(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 20, "n": 3, "seed": 4}
    whole = await client.completions.create(**asked)
    texts = ["", "", ""]
    async for chunk in await client.completions.create(stream=True, **asked):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]


async def test_a_prompt_may_be_token_ids(client: openai.AsyncOpenAI, site: Site) -> None:
    tokenizer = (await site.engines.get("tiny")).tokenizer
    ids = tokenizer.encode(PROMPT)
    by_text = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=10, seed=1)
    by_ids = await client.completions.create(model="tiny", prompt=ids, max_tokens=10, seed=1)
    by_lists = await client.completions.create(model="tiny", prompt=[ids, ids], max_tokens=10, seed=1)
    assert by_ids.choices[0].text == by_text.choices[0].text
    assert [choice.text for choice in by_lists.choices] == [by_text.choices[0].text] * 2


async def test_stop_strings_end_the_text_and_are_not_part_of_it(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 60, "temperature": 0}
    whole = (await client.completions.create(**asked)).choices[0].text
    stop = whole[8:12]
    for stops in (stop, [stop, "never"]):
        answer = await client.completions.create(stop=stops, **asked)
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].text == whole[: whole.index(stop)]


async def test_echo_gives_the_prompt_back_first(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 8, "seed": 1}
    plain = await client.completions.create(**asked)
    echoed = await client.completions.create(echo=True, **asked)
    assert echoed.choices[0].text == PROMPT + plain.choices[0].text
    chunks = [chunk async for chunk in await client.completions.create(echo=True, stream=True, **asked)]
    assert "".join(chunk.choices[0].text for chunk in chunks) == echoed.choices[0].text


async def test_log_probabilities_are_in_step_with_the_text(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 10, "seed": 1, "logprobs": 2}
    choice = (await client.completions.create(**asked)).choices[0]
    assert choice.logprobs is not None
    tokens, offsets = choice.logprobs.tokens or [], choice.logprobs.text_offset or []
    assert "".join(tokens) == choice.text
    assert offsets[0] == len(PROMPT)
    assert [after - before for before, after in pairwise(offsets)] == [len(token) for token in tokens[:-1]]
    for token, logprob, top in zip(
        tokens, choice.logprobs.token_logprobs or [], choice.logprobs.top_logprobs or [], strict=True
    ):
        assert top[token] == logprob <= 0
        assert 2 <= len(top) <= 3  # the drawn token is there even when it was not among the likeliest
    streamed: list[str] = []
    async for chunk in await client.completions.create(stream=True, **asked):
        logprobs = chunk.choices[0].logprobs
        streamed += (logprobs.tokens or []) if logprobs else []
    assert streamed == tokens


async def test_echo_with_logprobs_scores_the_prompt_as_well(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "echo": True, "logprobs": 2, "seed": 1}
    choice = (await client.completions.create(max_tokens=6, **asked)).choices[0]
    alone = (await client.completions.create(max_tokens=0, **asked)).choices[0]
    assert alone.text == PROMPT
    assert choice.logprobs is not None
    assert alone.logprobs is not None
    tokens, offsets = choice.logprobs.tokens or [], choice.logprobs.text_offset or []
    assert "".join(tokens) == choice.text
    assert offsets == [len("".join(tokens[:i])) for i in range(len(tokens))]
    assert (choice.logprobs.token_logprobs or [])[0] is None
    assert all(logprob is not None and logprob <= 0 for logprob in (choice.logprobs.token_logprobs or [])[1:])
    scores = alone.logprobs.token_logprobs or []
    assert scores == (choice.logprobs.token_logprobs or [])[: len(scores)]
    streamed = [chunk async for chunk in await client.completions.create(max_tokens=0, stream=True, **asked)]
    assert streamed[0].choices[0].text == PROMPT
    assert streamed[-1].choices[0].finish_reason == "length"


async def test_every_word_of_a_story_without_a_prompt_has_its_log_probability(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="tiny", prompt="", max_tokens=6, seed=1, logprobs=1)
    assert answer.choices[0].logprobs is not None
    assert all(logprob is not None for logprob in answer.choices[0].logprobs.token_logprobs or [None])


async def test_our_own_settings_travel_in_the_extra_body(client: openai.AsyncOpenAI, site: Site) -> None:
    extra = {"top_k": 5, "min_p": 0.01, "repetition_penalty": 1.3}
    answer = await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=20, seed=1, extra_body=extra)
    async with site.connect() as desk:
        written = await desk.write(prompt=PROMPT, max_tokens=20, seed=1, temperature=1, top_p=1, **extra)
    assert answer.choices[0].text == written.text


async def test_a_seed_that_was_drawn_is_reported_and_repeats_the_text(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 20, "temperature": 1.5}
    first = (await client.completions.create(**asked)).choices[0]
    again = (await client.completions.create(seed=first.model_extra["seed"], **asked)).choices[0]
    assert again.text == first.text


# ---- errors


@pytest.mark.parametrize(
    ("asked", "param", "message"),
    [
        ({"temperature": 3}, "temperature", "temperature must be in [0, 2], got 3.0"),
        ({"temperature": "hot"}, "temperature", 'temperature must be a number, got "hot"'),
        ({"max_tokens": 10**9}, "max_tokens", "max_tokens must be in [1, 600], got 1000000000"),
        (
            {"max_tokens": 0},
            "max_tokens",
            "max_tokens must be at least 1 unless echo and logprobs are set",
        ),
        (
            {"prompt": "x" * 40_000, "echo": True, "logprobs": 1},
            "prompt",
            "prompt must be at most 32768 characters",
        ),
        ({"n": 1000}, "n", "n times the number of prompts must be in [1, 16], got 1000"),
        ({"n": 0}, "n", "n must be greater than or equal to 1, got 0"),
        ({"n": 10**4200, "prompt": ["a", "b"]}, "n", "n must be less than or equal to 2147483647, got 1000"),
        ({"n": 2, "seed": 2**53 - 1}, "seed", f"seed must be in [0, {2**53 - 2}] where n is 2, got {2**53 - 1}"),
        ({"prompt": [0]}, "prompt", "prompt's token ids must be those that the model reads their text as"),
        ({"prompt": ["a", 1]}, "prompt.1", "prompt.1 must be a string, got 1"),
        ({"stop": [1]}, "stop.0", "stop.0 must be a string, got 1"),
        ({"prompt": []}, "prompt", "prompt must hold at least one text, got an empty list"),
        ({"prompt": 7}, "prompt", "prompt must be a string or be a list, got 7"),
        ({"prompt": [10**6]}, "prompt", "prompt's token ids must be below"),
        ({"prompt": "x" * 200_000}, "prompt", "prompt must be at most 100000 bytes, got 200000"),
        ({"best_of": 4}, "best_of", "best_of must be equal to n (1) here, got 4"),
        ({"suffix": "end"}, "suffix", "suffix is not supported"),
        ({"logit_bias": {"5": 10}}, "logit_bias", "logit_bias is not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "presence_penalty is not supported"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream_options is only allowed when stream"),
        ({"extra_body": {"colour": "red"}}, "colour", "colour is not a known field"),
        ({"extra_body": {"x-colour": "red"}}, "x-colour", "x-colour is not a known field"),
        ({"extra_body": {"": "red"}}, "", '"" is not a known field'),
        ({"extra_body": {"str": "red"}}, "str", "str is not a known field"),
    ],
)
async def test_a_bad_request_is_refused_by_name(
    client: openai.AsyncOpenAI, asked: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.completions.create(**{"model": "tiny", "prompt": PROMPT, "max_tokens": 5} | asked)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert refused.value.body["message"].startswith(message)  # type: ignore[index]


async def test_what_changes_nothing_is_taken(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"logit_bias": {"5": 0}, "presence_penalty": 0, "suffix": ""}
    assert (await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=5, **asked)).choices[0].text


async def test_a_number_of_many_digits_is_cut_short_in_the_refusal(site: Site) -> None:
    for body in ({"max_tokens": 10**4200}, {"seed": 10**4200}, {"top_k": 10**4200}):
        refused = await site.call("POST", "/v1/completions", 400, json={"model": "tiny", "prompt": "Once"} | body)
        assert refused["error"]["param"] in body
        assert len(refused["error"]["message"]) < 120


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_not_found(client: openai.AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError, match="the model 'gpt-9' does not exist") as refused:
        await client.completions.create(model="gpt-9", prompt=PROMPT, stream=stream)
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/v1/completions", {}, 405, "method_not_allowed"),
        ("POST", "/v1/nothing", {"json": {}}, 404, "not_found"),
        ("POST", "/v1/completions", {"data": "prompt=Once"}, 415, "unsupported_media_type"),
        ("POST", "/v1/completions", {"data": io.BytesIO(b"x" * 2**23), "headers": JSON}, 413, "too_large"),
        (
            "POST",
            "/v1/completions",
            {"data": "{", "headers": JSON},
            400,
            "invalid_request",
        ),
        ("POST", "/v1/completions", {"json": [1]}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"json": {"prompt": "x" * 500_000}}, 413, "too_large"),
        (
            "POST",
            "/v1/completions",
            {"data": "{}", "headers": JSON | {"Content-Encoding": "gzip"}},
            400,
            "invalid_request",
        ),
        ("GET", "/ws", {}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"json": {"prompt": "Once"}}, 400, "invalid_request"),
        ("GET", "/v1/models/gone", {}, 404, "model_not_found"),
    ],
)
async def test_every_error_has_openais_shape(
    site: Site, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    error = (await site.call(method, path, status, **options))["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code


async def test_a_client_that_leaves_frees_its_streams(site: Site) -> None:
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 600, "n": 16}
    for stream in (True, False):
        asking = asyncio.create_task(site.call("POST", "/v1/completions", json=body | {"stream": stream}))
        await eventually(lambda: streams_open(site, "api") > 0)
        asking.cancel()
        await eventually(lambda: streams_open(site, "api") == 0)


# ---- models and chat


async def test_models_are_the_checkpoints(client: openai.AsyncOpenAI) -> None:
    models = [model.id async for model in client.models.list()]
    assert models == ["rough", "tiny"]
    model = await client.models.retrieve("tiny")
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "fablewright")


async def test_a_model_that_goes_while_it_is_listed_is_left_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.engines, "names", lambda: ["gone", "tiny"])
    assert [model["id"] for model in (await site.get("/v1/models"))["data"]] == ["tiny"]
    assert (await site.get("/v1/models/gone", 404))["error"]["code"] == "model_not_found"


async def test_chat_writes_on_from_the_messages_as_one_story(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="tiny",
        messages=[
            {"role": "user", "content": "Once upon"},
            {"role": "assistant", "content": " a time."},
            {"role": "user", "content": "The donkey"},
        ],
        max_tokens=15,
        seed=1,
        logprobs=True,
        top_logprobs=2,
    )
    completion = await client.completions.create(
        model="tiny", prompt="Once upon a time.\n\nThe donkey", max_tokens=15, seed=1
    )
    choice = answer.choices[0]
    assert choice.message.content == completion.choices[0].text
    assert choice.logprobs is not None
    assert "".join(token.token for token in choice.logprobs.content or []) == choice.message.content


async def test_an_answer_goes_back_into_the_chat_as_the_client_holds_it(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "max_tokens": 5, "seed": 1, "extra_body": {"tools": []}}
    begun = {"role": "user", "content": PROMPT}
    answer = (await client.chat.completions.create(messages=[begun], **asked)).choices[0].message
    for message in (answer, answer.model_dump()):
        messages: Any = [begun, message, {"role": "user", "content": "The donkey"}]
        assert (await client.chat.completions.create(messages=messages, **asked)).choices[0].message.content


async def test_tokens_that_are_parts_of_characters_are_told_by_their_bytes(
    client: openai.AsyncOpenAI, site: Site, tiny: Checkpoint, tmp_path: Path
) -> None:
    """This model writes almost nothing but the bytes of é."""
    model = copy.deepcopy(tiny.model)
    model.output_bias.data[tiny.tokenizer.encode("é")] = 20.0
    save_checkpoint(tmp_path / "models/accents", model=model, tokenizer=tiny.tokenizer, config=tiny.config, card="")
    await site.engines.swap(CheckpointSettings(folders=(tmp_path / "models",)))
    asked: dict[str, Any] = {"model": "accents", "max_tokens": 31, "seed": 1, "extra_body": {"min_p": 0.1}}
    chat = await client.chat.completions.create(
        messages=[{"role": "user", "content": PROMPT}], logprobs=True, top_logprobs=2, **asked
    )
    assert chat.choices[0].logprobs is not None
    told = chat.choices[0].logprobs.content or []
    written = bytes(byte for token in told for byte in token.bytes or ())
    assert written.decode(errors="replace") == chat.choices[0].message.content
    assert {bytes(other.bytes or ()) for token in told for other in token.top_logprobs} == {b"\xc3", b"\xa9"}
    whole = (await client.completions.create(prompt=PROMPT, logprobs=2, **asked)).choices[0]
    assert whole.logprobs is not None
    offsets, tokens = whole.logprobs.text_offset or [], whole.logprobs.tokens or []
    assert {"", "é"} <= set(tokens)
    assert all(whole.text[at - len(PROMPT) :].startswith(token) for at, token in zip(offsets, tokens, strict=True))
    assert set().union(*(whole.logprobs.top_logprobs or [])) == {"é", "bytes:\\xc3", "bytes:\\xa9"}


async def test_chat_streams_deltas(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 15,
        "seed": 1,
    }
    whole = await client.chat.completions.create(**asked)
    chunks = [chunk async for chunk in await client.chat.completions.create(stream=True, **asked)]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
            "this model continues text and follows no instructions; leave the system message out",
        ),
        ({"messages": []}, "messages must have at least 1 item"),
        ({"messages": [{"role": "pirate", "content": "Arr"}]}, 'messages.0.role must be "user" or "assistant"'),
        ({"response_format": {"type": "json_object"}}, 'response_format.type must be "text", got "json_object"'),
        ({"top_logprobs": 2}, "top_logprobs is only allowed when logprobs is true"),
        ({"extra_body": {"tools": [{"type": "function"}]}}, "tools: this model reads and writes text alone"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            'messages.0.content.0.type must be "text", got "image_url"',
        ),
        (
            {"messages": [{"role": "assistant", "content": "Hi", "tool_calls": [{"id": "a"}]}]},
            "messages.0.tool_calls: this model reads and writes text alone",
        ),
    ],
)
async def test_what_chat_cannot_do_is_refused(client: openai.AsyncOpenAI, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(
            **{"model": "tiny", "messages": [{"role": "user", "content": "Once"}], "max_tokens": 5} | asked
        )
    assert refused.value.body["message"].startswith(message)  # type: ignore[index]


# ---- keys


async def test_a_server_that_requires_keys_tells_good_ones_from_bad(start_site: StartSite) -> None:
    site = await start_site(require_key=True)
    row, key = await site.store.keys.make("a friend")
    asked: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 3}
    for bad in ("none", "fw-invented"):
        async with openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key=bad, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.completions.create(**asked)
            assert refused.value.code == "invalid_api_key"
    async with openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key=key, max_retries=0) as client:
        assert (await client.completions.create(**asked)).choices[0].text
        await site.store.keys.revoke(row.id)
        with pytest.raises(openai.AuthenticationError):
            await client.completions.create(**asked)


async def test_a_spent_allowance_is_the_clients_rate_limit_error(start_site: StartSite) -> None:
    site = await start_site(require_key=True, requests_per_minute=2)
    _, key = await site.store.keys.make("a friend")
    async with openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key=key, max_retries=0) as client:
        await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=3, n=2)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.completions.create(model="tiny", prompt=PROMPT, max_tokens=3)
    assert refused.value.code == "rate_limited"
    assert int(refused.value.response.headers["Retry-After"]) > 0


async def test_settings_that_nothing_uses_are_refused_all_the_same(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature must be in"):
        await client.completions.create(
            model="tiny", prompt="Once", max_tokens=0, echo=True, logprobs=1, temperature=99
        )


async def test_a_refused_body_counts_like_a_text(start_site: StartSite) -> None:
    site = await start_site(requests_per_minute=2)
    headers = {"Authorization": "Bearer none", "X-Forwarded-For": "203.0.113.9"}
    bad = [await site.client.post(f"{site.url}/v1/completions", json={"prompt": 1}, headers=headers) for _ in range(3)]
    assert [answer.status for answer in bad] == [400, 400, 429]


async def test_a_model_that_is_not_there_counts_like_a_text(start_site: StartSite) -> None:
    site = await start_site(requests_per_minute=2)
    headers = {"Authorization": "Bearer none", "X-Forwarded-For": "203.0.113.9"}
    body = {"model": "nobody", "prompt": "Once"}
    bad = [await site.client.post(f"{site.url}/v1/completions", json=body, headers=headers) for _ in range(3)]
    assert [answer.status for answer in bad] == [404, 404, 429]
