"""The WebSocket messages: what is taken, what is refused, and in which words."""

import pytest
from pydantic import ValidationError

from web.invalid import explain
from web.protocol import Accepted, Done, Error, Resume, Start, Stop, Text, client_messages, encode


def refusal(frame: str) -> tuple[str, str | None]:
    with pytest.raises(ValidationError) as caught:
        client_messages.validate_json(frame)
    error = explain(caught.value, is_tagged=True)
    return str(error), error.field


def test_a_start_needs_only_an_id_and_a_prompt() -> None:
    message = client_messages.validate_json('{"type": "start", "id": "a", "prompt": ""}')
    assert isinstance(message, Start)
    assert message.model_dump(exclude_defaults=True) == {"id": "a", "prompt": ""}


def test_whole_numbers_are_taken_where_a_number_is_expected() -> None:
    message = client_messages.validate_json('{"type": "start", "id": "a", "prompt": "", "temperature": 1, "pace": 30}')
    assert isinstance(message, Start)
    assert (message.temperature, message.pace) == (1.0, 30.0)


def test_one_stop_string_is_taken_as_a_list_of_one() -> None:
    message = client_messages.validate_json('{"type": "start", "id": "a", "prompt": "", "stop": "The End"}')
    assert isinstance(message, Start)
    assert message.stop == ["The End"]


def test_stop_and_resume_are_told_apart_by_type() -> None:
    assert client_messages.validate_json('{"type": "stop", "id": "a"}') == Stop(id="a")
    resume = '{"type": "resume", "id": "a", "stream": "k3y", "received": 12}'
    assert client_messages.validate_json(resume) == Resume(id="a", stream="k3y", received=12)


@pytest.mark.parametrize(
    ("frame", "message", "field"),
    [
        ('{"type": "start", "id": "a"}', "prompt is missing", "prompt"),
        ('{"type": "start", "prompt": ""}', "id is missing", "id"),
        ('{"type": "stop", "id": ""}', 'id must have at least 1 character, got ""', "id"),
        ('{"type": "stop", "id": 7}', "id must be a string, got 7", "id"),
        ('{"type": "stop", "id": "a", "now": true}', "now is not a known field", "now"),
        ('{"type": "go", "id": "a"}', 'type must be "start" or "stop" or "resume" or "ping", got "go"', None),
        ('{"type": "ping", "id": "a"}', "id is not a known field", "id"),
        ('{"id": "a"}', 'expected an object with a type, got {"id": "a"}', None),
        ("[1]", "the message must be an object, got [1]", None),
        ("7", "the message must be an object, got 7", None),
        (
            '{"type": "resume", "id": "a", "stream": "s", "received": -1}',
            "received must be greater than or equal to 0, got -1",
            "received",
        ),
    ],
)
def test_a_malformed_message_is_refused_with_its_reason(frame: str, message: str, field: str | None) -> None:
    assert refusal(frame) == (message, field)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('"temperature": "0.8"', 'temperature must be a number, got "0.8"'),
        ('"temperature": NaN', "temperature must be a finite number, got NaN"),
        ('"temperature": 1e999', "temperature must be a finite number, got Infinity"),
        ('"temperature": true', "temperature must be a number, got true"),
        ('"temperature": [0.8]', "temperature must be a number, got [0.8]"),
        ('"max_tokens": 12.5', "max_tokens must be a whole number, got 12.5"),
        ('"max_tokens": "200"', 'max_tokens must be a whole number, got "200"'),
        ('"top_k": false', "top_k must be a whole number, got false"),
        ('"stop": 3', "stop must be a list, got 3"),
        ('"stop": ["a", null]', "stop.1 must be a string, got null"),
        ('"checkpoint": {}', "checkpoint must be a string, got {}"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused_by_name(setting: str, message: str) -> None:
    assert refusal(f'{{"type": "start", "id": "a", "prompt": "", {setting}}}')[0] == message


@pytest.mark.parametrize("frame", ["", "{", "hello", '{"type": "stop", "id": "\\ud800"}', "[" * 10_000])
def test_text_that_is_not_json_is_refused_as_such(frame: str) -> None:
    message, field = refusal(frame)
    assert message.startswith("expected JSON, got text that is not: ")
    assert field is None


def test_a_long_value_is_cut_short_in_the_refusal() -> None:
    message, _ = refusal('{"type": "stop", "id": "%s"}' % ("x" * 5000))
    assert len(message) < 150


def test_fields_without_a_value_are_left_out_of_what_is_sent() -> None:
    assert encode(Text(id="a", text="Once")) == '{"type":"text","id":"a","text":"Once"}'
    assert encode(Error(code="invalid_json", message="no")) == '{"type":"error","code":"invalid_json","message":"no"}'
    accepted = encode(Accepted(id="a", seed=7, checkpoint="tiny"))
    assert accepted == '{"type":"accepted","id":"a","seed":7,"checkpoint":"tiny"}'


def test_done_says_why_and_how_much() -> None:
    done = Done(
        id="a",
        reason="length",
        prompt_tokens=3,
        completion_tokens=200,
        time_to_first_token_s=0.01,
        duration_s=0.5,
        tokens_per_second=400.0,
    )
    assert '"reason":"length","prompt_tokens":3,"completion_tokens":200' in encode(done)
