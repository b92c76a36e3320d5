"""Who is asking: an API key, or an anonymous browser known by a cookie; and from which address.

The log and the stories know a visitor only by an opaque key made from the cookie or from the API key's id, never by the
secret itself.
"""

import ipaddress
import secrets
from dataclasses import dataclass
from http.cookies import SimpleCookie

from aiohttp.typedefs import Handler
from aiohttp.web import HTTPSeeOther, Request, RequestKey, StreamResponse, middleware

from core.store import Store
from core.store.keys import PREFIX

from .problems import RefusedError
from .settings import WebSettings

COOKIE = "fablewright"
KEY_COOKIE = "fablewright_key"
_COOKIE_LASTS_S = 400 * 24 * 3600  # the longest that browsers allow
_BEHIND_A_PROXY = "behind a proxy that is not trusted"  # on this machine: whoever it is, not the machine's owner
_NEEDS_NO_KEY = ("/healthz", "/readyz", "/metrics", "/sign", "/static/", "/favicon", "/shared/", "/api/shared/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """One client as the rest of the server knows it. `client` is what limits count by; None is not limited."""

    address: str
    user_key: str | None
    client: str | None
    is_secure: bool
    key_id: str | None = None
    new_cookie: str | None = None


VISITOR: RequestKey[Visitor] = RequestKey("visitor", Visitor)


class Visitors:
    """Tells visitors apart, and turns away those without a key where one is required."""

    def __init__(self, settings: WebSettings, store: Store) -> None:
        self._settings = settings
        self._store = store

    @middleware
    async def recognise(self, request: Request, handler: Handler) -> StreamResponse:
        """Attach the Visitor to the request. Raises RefusedError `invalid_api_key`."""
        visitor = await self._visitor(request)
        request[VISITOR] = visitor
        return await handler(request)

    async def recheck_key(self, request: Request) -> None:
        """Raise RefusedError `invalid_api_key` where a socket's key has been revoked since its request came."""
        if await self._key_id(request) != request[VISITOR].key_id:
            raise _bad_key()

    async def _visitor(self, request: Request) -> Visitor:
        """Find out who asks; a browser not seen before gets a cookie."""
        address, is_secure = self._origin(request)
        key_id = await self._key_id(request)
        if key_id is not None:
            client = f"key {key_id}"
            user_key = self._store.opaque.key("api key", key_id)
            return Visitor(address=address, user_key=user_key, client=client, is_secure=is_secure, key_id=key_id)
        if self._settings.require_key and not request.path.startswith(_NEEDS_NO_KEY):
            if request.path in ("/", "/models"):
                raise HTTPSeeOther("/signin")
            raise RefusedError(
                "invalid_api_key",
                "this server needs an API key, sent as: Authorization: Bearer fw-…",
                headers={"WWW-Authenticate": "Bearer"},
            )
        cookie = request.cookies.get(COOKIE, "")
        new_cookie = None
        if _wants_cookie(request.path) and len(cookie) < 32:
            cookie = new_cookie = secrets.token_urlsafe(32)
        return Visitor(
            address=address,
            user_key=self._store.opaque.key("browser", cookie) if cookie else None,
            client=_client_of(address),
            is_secure=is_secure,
            new_cookie=new_cookie,
        )

    async def _key_id(self, request: Request) -> str | None:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        key = bearer.strip() if scheme.lower() == "bearer" else request.cookies.get(KEY_COOKIE, "")
        # Clients of other servers send keys of other makers; only one that claims to be ours must be good.
        if not key.startswith(PREFIX):
            return None
        found = await self._store.keys.find(key)
        if found is None and scheme.lower() == "bearer":
            raise _bad_key()
        return found.id if found else None

    def _origin(self, request: Request) -> tuple[str, bool]:
        """Return the client's address and whether it came by https, believing only proxies we trust."""
        address, is_secure = _plain(request.remote or ""), request.secure
        trusted, forwarded = self._settings.proxy_networks, request.headers.getall("X-Forwarded-For", [])
        if address not in trusted:
            return _BEHIND_A_PROXY if forwarded and _client_of(address) is None else address, is_secure
        is_secure = is_secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        hops = [_plain(hop.strip()) for hop in ",".join(forwarded).split(",")]
        for hop in reversed(hops):  # the last one not ours is the client; what stands before it, it may have made up
            if hop and hop not in trusted:
                return hop, is_secure
        return address, is_secure


def user_of(request: Request) -> str:
    """Return the visitor's opaque key, on a route where every visitor has one."""
    user_key = request[VISITOR].user_key
    assert user_key is not None
    return user_key


async def send_new_cookie(request: Request, response: StreamResponse) -> None:
    """Give a new visitor their cookie with the first response, whatever it is."""
    visitor = request.get(VISITOR)
    if visitor and visitor.new_cookie is not None:
        set_cookie(response, COOKIE, visitor.new_cookie, is_secure=visitor.is_secure)


def set_cookie(response: StreamResponse, name: str, value: str, *, is_secure: bool) -> None:
    """Set a cookie that scripts cannot read and other sites' forms cannot send."""
    cookie = SimpleCookie({name: value})[name]
    cookie.update({"max-age": str(_COOKIE_LASTS_S), "path": "/", "samesite": "Lax"})
    cookie["httponly"] = True
    cookie["secure"] = is_secure
    # response.set_cookie comes too late in on_response_prepare: the headers have been put together by then.
    response.headers.add("Set-Cookie", cookie.OutputString())


def _bad_key() -> RefusedError:
    return RefusedError("invalid_api_key", "this API key is unknown or has been revoked")


def _wants_cookie(path: str) -> bool:
    return path in ("/", "/ws") or (path.startswith("/api/") and not path.startswith("/api/shared/"))


def _plain(address: str) -> str:
    """Return an address alone, as IPv4 where it is one.

    A socket for both kinds gives 203.0.113.5 as ::ffff:203.0.113.5, some proxies as 203.0.113.5:40312.
    """
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return str(mapped or address)


def _client_of(address: str) -> str | None:
    """Return what to count an address by. Loopback is the machine's owner; one IPv6 client owns a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.is_loopback:
        return None
    return address if parsed.version == 4 else str(ipaddress.ip_network(f"{address}/64", strict=False))
