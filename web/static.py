"""The page's files: read once, sent compressed, and revalidated by ETag so that a new version is seen at once."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ETag
from aiohttp.web import HTTPNotFound, Request, Response, RouteDef, get

FOLDER = Path(__file__).parent / "static"
_PAGES = ("/", "/models", "/shared/{share}")  # views of one page, told apart by its script
_WORTH_COMPRESSING = 512  # bytes
_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2", ".webmanifest": "application/json"}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes | None
    content_type: str
    etag: str


class StaticFiles:
    """Serves `folder` under /static/, and its index.html as the page."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Read every file. A server that runs keeps what it has read, so that a page never mixes two versions."""
        self._files = {
            path.relative_to(folder).as_posix(): _read(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }

    def routes(self) -> list[RouteDef]:
        """Return the routes of the page and its files."""
        pages = [get(path, self._page) for path in _PAGES]
        return [*pages, get("/static/{path:.+}", self._file), get("/favicon.ico", self._favicon)]

    async def _page(self, request: Request) -> Response:
        return self._respond(request, "index.html")

    async def _file(self, request: Request) -> Response:
        return self._respond(request, request.match_info["path"])

    async def _favicon(self, request: Request) -> Response:
        return self._respond(request, "favicon.svg")

    def _respond(self, request: Request, path: str) -> Response:
        file = self._files.get(path)
        if file is None:
            raise HTTPNotFound
        headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if any(etag.value in (file.etag, "*") for etag in request.if_none_match or ()):
            response = Response(status=304, headers=headers)
        elif file.compressed is not None and _takes_gzip(request.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
            response = Response(body=file.compressed, content_type=file.content_type, headers=headers)
        else:
            response = Response(body=file.content, content_type=file.content_type, headers=headers)
        if file.content_type.startswith("text/") and response.status == 200:
            response.charset = "utf-8"
        response.etag = ETag(file.etag)
        return response


def _takes_gzip(accepted: str) -> bool:
    codings = (coding.replace(" ", "").partition(";") for coding in accepted.lower().split(","))
    return any(name == "gzip" and quality.rstrip("0.") != "q=" for name, _, quality in codings)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    content_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    compressed = gzip.compress(content, 9, mtime=0) if len(content) > _WORTH_COMPRESSING else b""
    is_smaller = 0 < len(compressed) < 0.9 * len(content)
    etag = hashlib.sha256(content).hexdigest()[:16]
    return _File(content, compressed if is_smaller else None, content_type, etag)
