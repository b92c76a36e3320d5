"""Tokens are told as what they are in their place."""

import math

from core.checkpoint import Checkpoint
from core.logprobs import describe
from core.requests import Candidate
from core.tokenizer import IncrementalDecoder


def test_a_byte_is_told_as_the_character_that_it_completes(tiny: Checkpoint) -> None:
    first, second = tiny.tokenizer.encode("é")
    end = tiny.tokenizer.document_id
    decoder = IncrementalDecoder(tiny.tokenizer)
    token = describe(decoder, first, -1.0, [(first, -1.0), (end, -2.0)])
    assert (token.text, token.bytes, token.id, token.logprob) == ("", b"\xc3", first, -1.0)
    assert token.top == (
        Candidate(text="\ufffd", bytes=b"\xc3", logprob=-1.0),
        Candidate(text="", bytes=b"", logprob=-2.0),
    )
    decoder.push(first)
    token = describe(decoder, second, -0.1, [(second, -0.1), (end, -4.0)])
    assert (token.text, token.bytes) == ("é", b"\xa9")
    assert [other.text for other in token.top] == ["é", ""]


def test_a_space_that_the_prompt_has_and_tokens_that_cannot_come_are_left_out(tiny: Checkpoint) -> None:
    (donkey,) = tiny.tokenizer.encode(" donkey")
    decoder = IncrementalDecoder(tiny.tokenizer)
    token = describe(decoder, donkey, -0.5, [(donkey, -0.5), (0, -math.inf)], skips_space=True)
    assert (token.text, token.bytes) == ("donkey", b"donkey")
    assert [other.text for other in token.top] == ["donkey"]
