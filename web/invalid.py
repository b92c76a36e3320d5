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


def explain(error: ValidationError) -> InputError:
    """Return the first finding as an InputError; the rest usually follow from it."""
    findings = error.errors(include_url=False, include_context=True)
    path = _path(findings[0])
    field = ".".join(str(part) for part in path) or None
    alternatives = [finding for finding in findings if _path(finding) == path]
    return InputError(_sentence(alternatives, field or "the message"), field)


def show(value: object, limit: int = 60) -> str:
    """Write a JSON value shortly enough for an error message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _path(finding: ErrorDetails) -> list[int | str]:
    """Drop what pydantic adds to a path that the sender never wrote: union tags and the names of types tried."""
    path: list[int | str] = []
    for position, part in enumerate(finding["loc"]):
        is_tag = position == 0 and part in ("start", "stop", "resume") and len(finding["loc"]) > 1
        is_type = isinstance(part, str) and (part in ("str", "int", "float") or not part.isidentifier())
        if not is_tag and not is_type:
            path.append(part)
    return path


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
