"""What the OpenAI-compatible routes make of a body, and of events, before anything is sent."""

from typing import Any

import pytest
from pydantic import ValidationError

from core.requests import Text, TokenLogprob
from web.openai import _joined
from web.openai_answers import Choice
from web.openai_bodies import CompletionBody


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": [*[1] * 1000, "a"]},
        {"prompt": [*["a"] * 1000, 1]},
        {"prompt": [[1]] * 1000 + [["a"]]},
        {"prompt": "Once", "stop": [1] * 1000},
    ],
)
def test_a_long_list_is_read_to_its_first_fault_alone(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        CompletionBody.model_validate({"model": "tiny"} | body)
    assert refused.value.error_count() < 10


def test_where_a_token_stands_does_not_depend_on_text_held_back() -> None:
    def token(text: str) -> TokenLogprob:
        return TokenLogprob(text=text, bytes=text.encode(), logprob=-1.0, id=9)

    choice = Choice(index=0, prompt="", seed=1)
    events = [
        Text(text="", tokens=1, logprobs=(token(" the"),)),
        Text(text="", tokens=1, logprobs=(token(" lots"),)),
        Text(text=" the lots came", tokens=1, logprobs=(token(" came"),)),
    ]
    assert [piece.offset for event in events for piece in _joined([(choice, event)])] == [0, 4, 9]
