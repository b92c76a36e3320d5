"""What browsers are told about our pages, and which other sites' pages may talk to us (none, unless allowed)."""

from urllib.parse import SplitResult, urlsplit

from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import Request, StreamResponse, middleware

from .listen import is_loopback
from .problems import RefusedError
from .settings import WebSettings
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


def own_names_only(settings: WebSettings) -> Middleware:
    """Refuse requests by other names than this machine's, where nothing but loopback keeps strangers out.

    Any site can let its name lead to 127.0.0.1, and its pages are then of the server's own origin (DNS rebinding).
    """
    is_open = is_loopback(settings.host) and not settings.require_key and not settings.trusted_proxies
    allowed = {_split(origin).hostname for origin in settings.allowed_origins}

    @middleware
    async def check(request: Request, handler: Handler) -> StreamResponse:
        host = request.headers.get("Host")
        if is_open and host is not None:  # every browser sends one
            name = _split(f"//{host}").hostname or ""
            if not is_loopback(name) and name not in allowed:
                message = f"this server answers to localhost alone, not to {host[:100]!r}; see allowed_origins, or "
                raise RefusedError("forbidden", f"{message}trusted_proxies, in config.toml")
        return await handler(request)

    return check


def same_origin_only(allowed_origins: tuple[str, ...]) -> Middleware:
    """Refuse WebSockets and changes asked for by other sites' pages; a browser always names the page's origin."""

    @middleware
    async def check(request: Request, handler: Handler) -> StreamResponse:
        origin = request.headers.get("Origin")
        changes = request.method not in _HARMLESS or request.path == "/ws"
        # Behind a proxy we may not know our own scheme, but the browser's Host reaches us unchanged.
        is_ours = origin is None or _split(origin).netloc == request.host or origin in allowed_origins
        if changes and not is_ours:
            message = f"pages of {origin} may not use this server; see allowed_origins in config.toml"
            raise RefusedError("forbidden", message)
        return await handler(request)

    return check


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:  # http://[
        return urlsplit("")
