"""The comparison of recipes that `python -m trainer compare` has written, for the models page; it need not exist."""

import asyncio
import logging
from pathlib import Path

from aiohttp.web import HTTPNotFound, Request, Response, RouteDef, get
from pydantic import BaseModel

from .bodies import respond

log = logging.getLogger(__name__)


class ReportView(BaseModel):
    """The report in Markdown; null where there is none. Its drawings are at /api/report/{drawing}."""

    markdown: str | None


class Report:
    """The routes /api/report. Looks on disk each time, so a new report appears by itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def routes(self) -> list[RouteDef]:
        """Return the routes, in the order of docs/protocol.md."""
        return [get("/api/report", self.read), get(r"/api/report/{drawing:[\w-]+\.svg}", self.draw)]

    async def read(self, request: Request) -> Response:
        """Return the report."""
        content = await asyncio.to_thread(_read, self._path)
        return respond(ReportView(markdown=None if content is None else content.decode("utf-8", "replace")))

    async def draw(self, request: Request) -> Response:
        """Return a drawing that lies beside the report."""
        content = await asyncio.to_thread(_read, self._path.parent / request.match_info["drawing"])
        if content is None:
            raise HTTPNotFound
        return Response(body=content, content_type="image/svg+xml")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("report_unreadable path=%s error=%s", path, error.strerror)
        return None
