"""Turns pydantic's findings into one sentence fit to show: what was expected, what came, and where.

Used wherever this border reads JSON: the WebSocket, the OpenAI-compatible routes and our own.
"""

import json
import re
from collections.abc import Mapping
from itertools import islice

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core.errors import InputError

_EXPECTED = {
    "string_type": "be a string",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "finite_number": "be a finite number",
    "bool_type": "be true or false",
    "list_type": "be a list",
    "dict_type": "be an object",
    "model_type": "be an object",
    "model_attributes_type": "be an object",
}
_MOST_FINDINGS = 1000  # pydantic gives all or none, and 400,000 take seconds
_LONGEST_NAME = 60

_encoder = json.JSONEncoder(ensure_ascii=False, default=str)

_Path = list[int | str]


def explain(error: ValidationError, *, is_tagged: bool = False) -> InputError:
    """Return the first finding as an InputError; the rest usually follow from it.

    With `is_tagged`, what was checked is a tagged union, whose tag pydantic puts before the path.
    """
    if error.error_count() > _MOST_FINDINGS:
        return InputError(f"expected what the documentation describes, got {error.error_count():,} faults")
    findings = [
        (_path(finding, is_tagged=is_tagged), finding)
        for finding in error.errors(include_url=False, include_context=True)
    ]
    first, _ = findings[0]
    path, _ = max((found for found in findings if found[0][: len(first)] == first), key=_reach)
    field = ".".join(str(part)[:_LONGEST_NAME] for part in path) if path else None
    name = "the message" if field is None else field or '""'
    return InputError(_sentence([finding for other, finding in findings if other == path], name), field)


def show(value: object, limit: int = 60) -> str:
    """Write a JSON value shortly enough for an error message, and no more of it than that."""
    text = "".join(islice(_encoder.iterencode(value), limit + 1))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _path(finding: ErrorDetails, *, is_tagged: bool) -> _Path:
    """Drop what pydantic adds to a path that the sender never wrote: union tags and the names of types tried."""
    path = list(finding["loc"][is_tagged:])
    unknown = [path.pop()] if finding["type"] == "extra_forbidden" else []  # may be named like anything
    return [part for part in path if not _is_type(part)] + unknown


def _is_type(part: int | str) -> bool:
    return isinstance(part, str) and (part in ("str", "int", "float") or not part.isidentifier())


def _reach(found: tuple[_Path, ErrorDetails]) -> tuple[bool, int, list[int]]:
    """Order a union's alternatives by how much of what came they fit: the one that was meant fits the most."""
    path, finding = found
    return finding["type"] == "too_long", len(path), [part for part in path if isinstance(part, int)]


def _sentence(alternatives: list[ErrorDetails], name: str) -> str:
    finding = alternatives[0]
    kind, got = finding["type"], finding["input"]
    context: Mapping[str, object] = finding.get("ctx", {})
    match kind:
        case "json_invalid":
            return f"expected JSON, got text that is not: {context['error']}"
        case "union_tag_not_found":
            return f"expected an object with a type, got {show(got)}"
        case "union_tag_invalid":
            return f"type must be {_quoted(context['expected_tags'])}, got {show(context['tag'])}"
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not a known field"
        case "literal_error" | "enum":
            return f"{name} must be {_quoted(context['expected'])}, got {show(got)}"
        case "value_error":
            return f"{name}: {context['error']}"
    expected = dict.fromkeys(_expected(alternative) for alternative in alternatives)
    return f"{name} must {' or '.join(expected)}, got {show(got)}"


def _expected(finding: ErrorDetails) -> str:
    return _EXPECTED.get(finding["type"]) or re.sub(r"^\w+ should ", "", finding["msg"])


def _quoted(expected: object) -> str:
    return str(expected).replace("'", '"').replace('", "', '" or "')
