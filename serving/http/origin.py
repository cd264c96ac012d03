"""Requests that another web site's page makes in somebody's browser are refused.

A page on any site can make a browser send a form to this server: without keys it would use the service through its
visitors. Browsers say where a request comes from (`Sec-Fetch-Site`, `Origin`) and pages cannot change it;
programs send neither. The studio keeps no cookie, and its key travels in a header that other sites cannot set.

A site can also give its own name the address 127.0.0.1 (DNS rebinding): the browser takes this server for that site.
So a service on the loopback address without keys answers only to names that no public site can have.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.config import HttpConfig
from serving.errors import ApiError

_SAFE = ("GET", "HEAD", "OPTIONS")
_OWN = ("same-origin", "none")  # none: typed in, or a bookmark


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        http: where the service listens, and which other sites may use it.
        keys: it has keys, so a page without one gets nothing.
    """

    def __init__(self, app: ASGIApp, http: HttpConfig, keys: bool) -> None:
        self.app, self.origins = app, frozenset(origin.lower() for origin in http.origins)
        self.hosts = frozenset(urlsplit(origin).hostname for origin in self.origins)
        self.local_only = http.loopback and not keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or hand on."""
        if scope["type"] == "http":
            problem = self.problem(scope["method"], Headers(scope=scope))
            if problem is not None:
                error = ApiError(403, problem, code="cross_site")
                return await JSONResponse(error.body(), error.status)(scope, receive, send)
        return await self.app(scope, receive, send)

    def problem(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused; None: it is not."""
        host = headers.get("host", "").lower()
        if self.local_only and not (is_local(name := _name(host)) or name in self.hosts):
            return f"this service is for this machine and not for the name {host[:80]!r}; http.origins can allow it"
        origin, site = headers.get("origin", "").lower(), headers.get("sec-fetch-site")
        if method in _SAFE or origin in self.origins and origin:
            return None
        if site is None:
            site = "same-origin" if not origin or urlsplit(origin).netloc == host else "cross-site"
        other = origin[:80] or "another site"
        return None if site in _OWN else f"pages of {other} may not use this service; http.origins can allow it"


def is_local(name: str) -> bool:
    """Whether no public site can have this name: an address of the loopback, or a name without dots."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return "." not in name or name.endswith(".localhost")


def _name(host: str) -> str:
    """Without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return host
