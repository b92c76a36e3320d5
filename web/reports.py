"""Comparisons of recipes, as `python -m trainer compare` writes them, for the models page; there need not be any."""

import asyncio
import logging
from pathlib import Path

from aiohttp.web import HTTPNotFound, Request, Response, RouteDef, get
from pydantic import BaseModel

from .bodies import respond

log = logging.getLogger(__name__)

REPORT = "report.md"


class ReportView(BaseModel):
    """A comparison in the list."""

    name: str
    title: str


class ReportList(BaseModel):
    """Every comparison, by name."""

    reports: list[ReportView]


class ReportDetails(ReportView):
    """A comparison in Markdown; its drawings are at /api/reports/{name}/{drawing}."""

    markdown: str


class Reports:
    """The routes /api/reports. Looks on disk each time, so a new report appears by itself."""

    def __init__(self, folder: Path) -> None:
        """Each folder in `folder` that holds a report.md is a report."""
        self._folder = folder

    def routes(self) -> list[RouteDef]:
        """Return the routes, in the order of docs/protocol.md."""
        return [
            get("/api/reports", self.list),
            get("/api/reports/{name}", self.read),
            get(r"/api/reports/{name}/{drawing:[\w-]+\.svg}", self.draw),
        ]

    async def list(self, request: Request) -> Response:
        """List the reports."""
        reports = await asyncio.to_thread(lambda: [_report(path) for path in self._paths().values()])
        return respond(ReportList(reports=[ReportView(name=one.name, title=one.title) for one in reports if one]))

    async def read(self, request: Request) -> Response:
        """Return one report."""
        path = self._path(request)
        report = await asyncio.to_thread(_report, path)
        if report is None:
            raise HTTPNotFound
        return respond(report)

    async def draw(self, request: Request) -> Response:
        """Return a drawing that lies beside a report."""
        content = await asyncio.to_thread(_read, self._path(request).parent / request.match_info["drawing"])
        if content is None:
            raise HTTPNotFound
        return Response(body=content, content_type="image/svg+xml")

    def _paths(self) -> dict[str, Path]:
        return {path.parent.name: path for path in sorted(self._folder.glob(f"*/{REPORT}"))}

    def _path(self, request: Request) -> Path:
        path = self._paths().get(request.match_info["name"])
        if path is None:
            raise HTTPNotFound
        return path


def _report(path: Path) -> ReportDetails | None:
    content = _read(path)
    if content is None:
        return None
    markdown = content.decode("utf-8", "replace")
    first = markdown.partition("\n")[0]
    name = path.parent.name
    return ReportDetails(name=name, title=first[2:].strip() if first.startswith("# ") else name, markdown=markdown)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("report_unreadable path=%s error=%s", path, error.strerror)
        return None
