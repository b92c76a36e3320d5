"""What the OpenAI-compatible routes make of a body, and of events, before anything is sent."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from core.requests import Text, TokenLogprob
from web.invalid import explain
from web.openai import _joined
from web.openai_answers import Choice
from web.openai_bodies import ChatBody, CompletionBody


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


@pytest.mark.parametrize(
    ("model", "body", "message"),
    [
        (
            CompletionBody,
            {"prompt": [[]] * 5000},
            "prompt must be a string or have at most 4096 items after validation",
        ),
        (ChatBody, {"messages": [{"role": "user", "content": ""}] * 5000}, "messages must have at most 4096 items"),
        (
            CompletionBody,
            {"logit_bias": {str(i): "" for i in range(5000)}},
            "expected what the documentation describes",
        ),
        (
            CompletionBody,
            {str(i): 1 for i in range(5000)},
            "expected what the documentation describes, got 5,000 faults",
        ),
    ],
)
def test_a_body_of_very_many_parts_is_refused_without_looking_at_each(
    model: type[BaseModel], body: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"model": "tiny"} | body)
    assert str(explain(refused.value)).startswith(message)


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
