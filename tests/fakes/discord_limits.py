"""Rate limits as Discord counts and announces them, and scripted faults. Knows nothing of what a request means."""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Bucket:
    """At most `limit` requests in any `window_s` seconds, counted from the first of each window."""

    name: str
    limit: int = 5
    window_s: float = 5.0
    used: int = 0
    opened_at: float = float("-inf")

    def take(self) -> float:
        """Take one place; the seconds to wait where there is none (0 when taken)."""
        now = time.monotonic()
        if now >= self.opened_at + self.window_s:
            self.opened_at, self.used = now, 0
        if self.used >= self.limit:
            return self.opened_at + self.window_s - now
        self.used += 1
        return 0.0

    def headers(self) -> dict[str, str]:
        reset_after = max(0.0, self.opened_at + self.window_s - time.monotonic())
        return {
            "X-RateLimit-Bucket": self.name,
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.limit - self.used),
            "X-RateLimit-Reset": f"{time.time() + reset_after:.3f}",
            "X-RateLimit-Reset-After": f"{reset_after:.3f}",
        }


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD path" matches `pattern`."""

    pattern: str
    times: int = 1
    status: int | None = None  # None: answered as usual, only late
    delay_s: float = 0.0
    after: bool = False  # the request is carried out, and then its answer is lost to `status`
    retry_after: float = 0.2  # for 429
    via: bool = True  # without a Via header discord.py takes a 429 for a ban and does not retry


@dataclass
class Limits:
    """All buckets and faults of one fake Discord."""

    per_second: int = 50  # for the bot's own routes; interaction routes do not count
    edits: int = 5  # in five seconds, of a message by one token or in a channel
    buckets: dict[str, Bucket] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    _recent: deque[float] = field(default_factory=deque)

    def bucket(self, name: str, key: str, *, limit: int = 5, window_s: float = 5.0) -> Bucket:
        return self.buckets.setdefault(f"{name}:{key}", Bucket(name, limit, window_s))

    def global_wait_s(self) -> float:
        now = time.monotonic()
        while self._recent and now - self._recent[0] >= 1.0:
            self._recent.popleft()
        if len(self._recent) >= self.per_second:
            return 1.0 - (now - self._recent[0])
        self._recent.append(now)
        return 0.0

    def fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.pattern, f"{method} {path}"):
                fault.times -= 1
                return fault
        return None


def too_many_requests(retry_after: float, *, is_global: bool = False, via: bool = True) -> web.Response:
    """Answer 429 the way Discord's own proxy does."""
    body = {"message": "You are being rate limited.", "retry_after": round(retry_after, 3), "global": is_global}
    headers = {"Retry-After": f"{retry_after:.3f}", "X-RateLimit-Scope": "global" if is_global else "user"}
    if via:
        headers["Via"] = "1.1 google"
    return json_response(body, status=429, headers=headers)


def json_response(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer JSON as `application/json` with no charset: discord.py compares the whole header."""
    text = web.json_response(body).text or ""
    headers = {**(headers or {}), "Content-Type": "application/json"}
    return web.Response(body=text.encode(), status=status, headers=headers)
