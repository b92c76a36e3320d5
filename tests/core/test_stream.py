"""What a stream shows: whole characters, no part of a stop string, nothing lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.checkpoint import Checkpoint
from core.errors import InputError
from core.requests import Finished, GenerationRequest, SamplingDefaults, Text, sampling_params
from core.stream import UNREAD_TOKENS, Stream, TextWriter
from core.stream_state import StreamState

FINGERPRINT = b"sixteen letters."


def shown(tiny: Checkpoint, text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    writer, out = TextWriter(tiny.tokenizer, stops), ""
    for id in tiny.tokenizer.encode(text):
        out += writer.push([id])
        if writer.is_stopped:
            break
    return out + writer.flush(), writer.is_stopped


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("the donkey and the fox", ("fox",), ("the donkey and the ", True)),
        ("the donkey and the fo", ("fox",), ("the donkey and the fo", False)),
        ("aab", ("ab",), ("a", True)),
        ("abcabd", ("abd", "bca"), ("a", True)),
        ("no stop here", ("x" * 200,), ("no stop here", False)),
        ("naïve 🦊 fox", ("🦊",), ("naïve ", True)),
    ],
)
def test_a_stop_string_is_cut_wherever_its_pieces_fall(
    tiny: Checkpoint, text: str, stops: tuple[str, ...], expected: tuple[str, bool]
) -> None:
    assert shown(tiny, text, stops) == expected


@given(
    text=st.text("abc ", max_size=40), stops=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3)
)
def test_text_before_the_first_stop_is_shown_and_nothing_else(tiny: Checkpoint, text: str, stops: list[str]) -> None:
    out, is_stopped = shown(tiny, text, tuple(stops))
    assert is_stopped == any(stop in text for stop in stops)
    assert not any(stop in out for stop in stops)
    assert text.startswith(out)
    if not is_stopped:
        assert out == text


def test_tokens_without_text_are_told_with_the_last_event(tiny: Checkpoint) -> None:
    params = sampling_params(SamplingDefaults(), seed=1, max_tokens=10)
    stream = Stream(
        request=GenerationRequest(prompt="Once", sampling=params), restored=None, writer=TextWriter(tiny.tokenizer, ())
    )
    stream.begin(tiny.tokenizer)
    half = tiny.tokenizer.encode("🦊")[:2]  # bytes of one character
    for id in half:
        stream.accept(id, None)
    assert stream.take_text() == []
    text, end = stream.finish("cancelled")
    assert isinstance(text, Text)
    assert (text.text, text.tokens) == ("\ufffd", 2)
    assert isinstance(end, Finished)
    assert end.completion_tokens == 2


def test_tokens_that_a_long_stop_string_holds_back_are_not_unread(tiny: Checkpoint) -> None:
    """A stream with too many unread tokens pauses, and nobody can read these before it goes on."""
    params = sampling_params(SamplingDefaults(), seed=1, max_tokens=1000, stop=("龍" * 200,))
    stream = Stream(
        request=GenerationRequest(prompt="Once", sampling=params),
        restored=None,
        writer=TextWriter(tiny.tokenizer, params.stop),
    )
    stream.begin(tiny.tokenizer)
    held = tiny.tokenizer.encode("龍" * 199)
    assert len(held) > UNREAD_TOKENS
    for id in held:
        assert stream.accept(id, None) is None
    assert (stream.take_text(), stream.unread) == ([], 0)
    for id in tiny.tokenizer.encode("x"):
        stream.accept(id, None)
    (event,) = stream.take_text()
    assert isinstance(event, Text)
    assert stream.unread == event.tokens == stream.generated


def test_a_state_survives_packing() -> None:
    values = np.arange(6, dtype=np.float32)
    packed = StreamState(offset=3, recent=(5, 6), state=values).pack(FINGERPRINT)
    back = StreamState.unpack(packed, fingerprint=FINGERPRINT, state_size=6, vocab_size=10)
    assert (back.offset, back.recent, back.state.tolist()) == (3, (5, 6), values.tolist())


@pytest.mark.parametrize("place", [0, 4, 30, -1])
def test_one_changed_byte_is_noticed(place: int) -> None:
    packed = bytearray(StreamState(offset=0, recent=(1,), state=np.zeros(6, np.float32)).pack(FINGERPRINT))
    packed[place] ^= 1
    with pytest.raises(InputError, match="state must"):
        StreamState.unpack(bytes(packed), fingerprint=FINGERPRINT, state_size=6, vocab_size=10)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (StreamState(offset=0, recent=(99,), state=np.zeros(6, np.float32)), "known tokens"),
        (StreamState(offset=0, recent=(1,), state=np.full(6, np.nan, np.float32)), "finite numbers"),
        (StreamState(offset=0, recent=(1,), state=np.zeros(5, np.float32)), "must hold 6 numbers, got 5"),
    ],
)
def test_a_state_that_cannot_be_is_refused(state: StreamState, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StreamState.unpack(state.pack(FINGERPRINT), fingerprint=FINGERPRINT, state_size=6, vocab_size=10)
