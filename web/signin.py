"""Signing in with an API key, for browsers where the server requires one: a plain form and a cookie.

The cookie holds the key itself, out of reach of scripts, and is checked at every request like a Bearer header.
"""

from urllib.parse import parse_qs

from aiohttp.web import HTTPSeeOther, Request, Response, RouteDef, get, post

from core.errors import InputError
from core.store import Store

from .bodies import read_bytes
from .visitors import KEY_COOKIE, VISITOR, set_cookie

_MOST_BYTES, _MOST_FIELDS = 4096, 8  # of the form, which has one field

_FORM = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Sign in – Fablewright</title>
<h1>Fablewright</h1>
{note}
<form method="post" action="/signin">
<p><label for="key">API key</label> <input id="key" name="key" type="password" autocomplete="current-password" required>
<p><button>Sign in</button>
</form>
"""


class SignIn:
    """The routes /signin and /signout."""

    def __init__(self, store: Store, *, timeout_s: float) -> None:
        self._keys = store.keys
        self._timeout_s = timeout_s

    def routes(self) -> list[RouteDef]:
        """Return the routes."""
        return [get("/signin", self.form), post("/signin", self.sign_in), post("/signout", self.sign_out)]

    async def form(self, request: Request) -> Response:
        """Ask for the key."""
        return _page("<p>The owner of this server gives out the keys.")

    async def sign_in(self, request: Request) -> Response:
        """Remember a good key in a cookie."""
        # Not request.post(): it would take multipart forms too, which ours never is, and fails at broken ones.
        content = await read_bytes(request, timeout_s=self._timeout_s, most_bytes=_MOST_BYTES)
        try:
            fields = parse_qs(content.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS)
        except ValueError:
            raise InputError(f"the form must have at most {_MOST_FIELDS} fields", "key") from None
        key = fields.get("key", [""])[0].strip()
        if await self._keys.find(key) is None:
            return _page('<p role="alert">This key is unknown or has been revoked.', status=401)
        response = Response(status=303, headers={"Location": "/"})
        set_cookie(response, KEY_COOKIE, key, is_secure=request[VISITOR].is_secure)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget the key."""
        response = HTTPSeeOther("/signin")
        response.del_cookie(KEY_COOKIE, path="/")
        raise response


def _page(note: str, status: int = 200) -> Response:
    return Response(text=_FORM.format(note=note), content_type="text/html", status=status)
