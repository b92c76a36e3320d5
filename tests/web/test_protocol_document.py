"""docs/protocol.md, run: every example is sent to a real server, and what comes back is what the document says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import Site
from web.problems import _STATUS
from web.protocol import Start

DOCUMENT = Path("docs/protocol.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^```(ws|http)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [(match[1], match[2]) for match in EXAMPLE.finditer(DOCUMENT)]
TOLD_EXACTLY = {
    "type",
    "code",
    "message",
    "field",
    "param",
    "reason",
    "object",
    "model",
    "title",
    "finish_reason",
    "own",
}


def assert_told(told: Any, got: Any, name: str = "the answer") -> None:
    """Check that an answer has the document's shape, and its very words where these do not differ from run to run."""
    if told is None or (name in TOLD_EXACTLY and isinstance(told, str)):
        assert got == told, name
    elif isinstance(told, dict) and told:
        assert isinstance(got, dict), name
        assert got.keys() == told.keys(), name
        for key, value in told.items():
            assert_told(value, got[key], key)
    elif isinstance(told, list) and told:
        assert isinstance(got, list) and got, name  # noqa: PT018 -- one thing: a list with something in it
        assert_told(told[0], got[0], name)
    else:
        assert type(got) is type(told), name


@pytest.mark.parametrize("example", [text for kind, text in EXAMPLES if kind == "ws"])
async def test_a_conversation_goes_as_it_is_told(site: Site, example: str) -> None:
    async with site.connect() as desk:
        got: dict[str, Any] = {}
        for line in example.splitlines():
            direction, _, message = line.partition(" ")
            told = json.loads(message)
            if direction == ">":
                await desk.socket.send_json(told)
                continue
            got = await desk.receive()
            while got["type"] == "text" != told["type"]:  # how a text is cut into pieces is not told
                got = await desk.receive()
            assert_told(told, got)


@pytest.mark.parametrize("example", [text for kind, text in EXAMPLES if kind == "http"])
async def test_an_exchange_goes_as_it_is_told(site: Site, example: str) -> None:
    lines = example.splitlines()
    for asked, told in zip(lines[::2], lines[1::2], strict=True):
        _, method, path, *body = asked.split(" ", 3)
        _, status, *answer = told.split(" ", 2)
        options = {"json": json.loads(body[0])} if body else {}
        got = await site.call(method, path, int(status), **options)
        if answer:
            assert_told(json.loads(answer[0]), got)


def test_there_are_examples_of_both_kinds() -> None:
    kinds = [kind for kind, _ in EXAMPLES]
    assert kinds.count("ws") >= 4
    assert kinds.count("http") >= 4


def test_every_error_code_is_explained_with_its_status() -> None:
    table = DOCUMENT[DOCUMENT.index("## Error codes") :]
    for code, status in _STATUS.items():
        row = next((line for line in table.splitlines() if f"`{code}`" in line), "")
        assert row.rstrip(" |").endswith(str(status)), code


def test_every_field_of_a_start_is_explained() -> None:
    for name in Start.model_fields.keys() - {"type"}:
        assert f"| `{name}` |" in DOCUMENT, name
