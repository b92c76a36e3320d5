"""Turns pydantic's findings into one sentence fit to show: what was expected, what came, and where.

Used wherever this border reads JSON: the WebSocket, the OpenAI-compatible routes and our own.
"""

import json
import re
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core.errors import InputError

_EXPECTED = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def explain(error: ValidationError) -> InputError:
    """Return the first finding as an InputError; the rest usually follow from it."""
    finding = error.errors(include_url=False, include_context=True)[0]
    field = ".".join(str(part) for part in _path(finding)) or None
    return InputError(_sentence(finding, field or "the message"), field)


def show(value: object, limit: int = 60) -> str:
    """Write a JSON value shortly enough for an error message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _path(finding: ErrorDetails) -> list[int | str]:
    """Drop what pydantic adds to a path that the sender never wrote: union tags and the names of validators."""
    value, path = finding["loc"], []
    for position, part in enumerate(value):
        is_tag = position == 0 and part in ("start", "stop", "resume") and len(value) > 1
        is_validator = isinstance(part, str) and not part.isidentifier()
        if not is_tag and not is_validator:
            path.append(part)
    return path


def _sentence(finding: ErrorDetails, name: str) -> str:
    kind, got = finding["type"], finding["input"]
    context: Mapping[str, object] = finding.get("ctx", {})
    match kind:
        case "json_invalid":
            return f"expected JSON, got text that is not: {context['error']}"
        case "union_tag_not_found":
            return f"expected an object with a type, got {show(got)}"
        case "union_tag_invalid":
            return f"type must be {_alternatives(context['expected_tags'])}, got {show(context['tag'])}"
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not a known field"
        case "literal_error" | "enum":
            return f"{name} must be {_alternatives(context['expected'])}, got {show(got)}"
        case "value_error":
            return f"{name}: {context['error']}"
    expected = _EXPECTED.get(kind) or re.sub(r"^\w+ should", "must", finding["msg"])
    return f"{name} {expected}, got {show(got)}"


def _alternatives(expected: object) -> str:
    return str(expected).replace("'", '"').replace('", "', '" or "')
