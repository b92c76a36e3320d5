"""Process logs as a collector reads them, without what visitors wrote."""

import asyncio
import json
import logging

import pytest

from tests.web.conftest import Site
from web.logs import JsonFormatter, set_up_logging


def test_a_record_is_one_json_object_on_one_line() -> None:
    record = logging.LogRecord("web.serve", logging.WARNING, "serve.py", 1, "two\nlines of=%s", ("text",), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"]) == ("warning", "web.serve", "two\nlines of=text")
    assert entry["time"].endswith("+00:00")


def test_a_traceback_stays_in_its_record() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        caught = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("web", logging.ERROR, "x.py", 1, "failed", (), caught)
    assert "ValueError: no" in json.loads(JsonFormatter().format(record))["exception"]


async def test_nothing_that_a_visitor_wrote_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with site.connect() as desk:
        written = await desk.write(prompt="A secret of mine", seed=1)
        await desk.write(prompt="A secret of mine", temperature=9)
        await desk.socket.send_str('{"prompt": "A secret of mine"')
        await desk.receive()
    await site.call("POST", "/v1/completions", 400, json={"model": "tiny", "prompt": "A secret of mine", "n": 0})
    ours = "\n".join(
        record.getMessage() for record in caplog.records if record.name.partition(".")[0] in ("web", "core", "aiohttp")
    )
    assert "secret" not in ours
    assert written.text not in ours


async def test_bytes_that_are_no_http_are_logged_in_one_line_without_them(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    set_up_logging(as_json=False)
    caplog.set_level(logging.INFO)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rpartition(":")[2]))
    writer.write(b"GET / HTTP/1.1\r\nAuthorization: Bearer fw-secret\x01\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert (record.levelname, record.getMessage()) == ("INFO", "refused what is not HTTP: status=400")
    assert "fw-secret" not in caplog.text
