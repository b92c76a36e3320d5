"""What browsers are told about our pages, and which other sites' pages may talk to us (none, unless allowed)."""

from urllib.parse import urlsplit

from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import Request, StreamResponse, middleware

from .problems import RefusedError
from .visitors import VISITOR

_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "font-src 'self'",
            "connect-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # A share link's id must not travel to other sites. Not "no-referrer": browsers then hide our own forms' Origin too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_HARMLESS = ("GET", "HEAD", "OPTIONS")


async def send_headers(request: Request, response: StreamResponse) -> None:
    """Add the headers to every response, just before it is sent."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.pop("Server", None)  # which version runs here is nobody's business
    visitor = request.get(VISITOR)
    if visitor and visitor.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")


def same_origin_only(allowed_origins: tuple[str, ...]) -> Middleware:
    """Refuse WebSockets and changes asked for by other sites' pages; a browser always names the page's origin."""

    @middleware
    async def check(request: Request, handler: Handler) -> StreamResponse:
        origin = request.headers.get("Origin")
        changes = request.method not in _HARMLESS or request.path == "/ws"
        # Behind a proxy we may not know our own scheme, but the browser's Host reaches us unchanged.
        is_ours = origin is None or _host_of(origin) == request.host or origin in allowed_origins
        if changes and not is_ours:
            message = f"pages of {origin} may not use this server; see allowed_origins in config.toml"
            raise RefusedError("forbidden", message)
        return await handler(request)

    return check


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # http://[
        return None
