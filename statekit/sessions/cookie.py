"""The session cookie: its name, its attributes, and when a browser would refuse them.

Follows the OWASP Session Management Cheat Sheet: ``__Host-``, ``Secure``, ``HttpOnly``, ``SameSite``, ``Path=/``,
no ``Domain``, gone with the browser. Browsers drop ``__Host-`` and ``Secure`` cookies that arrive over plain HTTP,
and some do so even from localhost; so there, and only there, the cookie is called plainly and is not ``Secure``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from statekit.errors import UsageError

__all__ = ["STANDARD", "CookiePolicy"]

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
_PATH = re.compile(r"/[A-Za-z0-9!#$%&'()*+,./:=?@_~-]*\Z")
_LOCAL = re.compile(r"(localhost|.*\.localhost|127(\.\d{1,3}){3}|\[::1\]|::1)(:\d+)?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CookiePolicy:
    """How the session id travels. Pure: each method is told about the request, and returns text.

    ``secure``: True always, False never (an app that really is served over plain HTTP, such as a load test
    inside a private network), None, the default: always but for plain HTTP on localhost. Behind a proxy that
    ends TLS the request looks like plain HTTP while the browser's is not, so other hosts are taken for secure.

    >>> policy = CookiePolicy()
    >>> policy.header("v", secure_request=True, host="shop.example")
    '__Host-session=v; Path=/; Secure; HttpOnly; SameSite=Lax'
    >>> policy.header("v", secure_request=False, host="localhost:5000")
    'session=v; Path=/; HttpOnly; SameSite=Lax'
    """

    name: str = "session"
    secure: bool | None = None
    same_site: Literal["Strict", "Lax", "None"] = "Lax"
    path: str = "/"
    max_age: int | None = None
    """Seconds the browser keeps the cookie; None: until it closes. The store's deadlines hold either way."""
    partitioned: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.match(self.name) or self.name.startswith("__"):
            raise UsageError(
                f"cookie name {self.name!r}: use 1 to 64 of the characters cookies allow, without a __ prefix "
                "(__Host- is added where it holds)"
            )
        if not isinstance(self.path, str) or not _PATH.match(self.path):
            raise UsageError(
                f"cookie path {self.path!r}: begin with / and use the characters of a URL's path"
            )
        if self.same_site not in ("Strict", "Lax", "None"):
            raise UsageError(f"same_site={self.same_site!r}: use 'Strict', 'Lax' or 'None'")
        if self.secure is False and (self.same_site == "None" or self.partitioned):
            raise UsageError(
                "browsers take SameSite=None and Partitioned only with Secure: drop secure=False"
            )
        if self.max_age is not None and (not isinstance(self.max_age, int) or self.max_age < 1):
            raise UsageError(f"max_age={self.max_age!r}: give whole seconds, or None")

    def is_secure(self, *, secure_request: bool, host: str) -> bool:
        """Whether the cookie of this request is ``Secure``."""
        if self.secure is not None:
            return self.secure
        return secure_request or not _is_local(host)

    def name_for(self, *, secure_request: bool, host: str) -> str:
        """The cookie's name in this request. ``__Host-`` asks for ``Path=/``; a narrower path: ``__Secure-``."""
        if not self.is_secure(secure_request=secure_request, host=host):
            return self.name
        return f"{'__Host-' if self.path == '/' else '__Secure-'}{self.name}"

    def pick(self, cookies: Mapping[str, str], *, secure_request: bool, host: str) -> str | None:
        """The value a request's cookies carry for us; under the one name that counts for this request.

        An unprefixed cookie is never read where a prefixed one is due: any subdomain could have planted it.
        """
        return cookies.get(self.name_for(secure_request=secure_request, host=host))

    def header(self, value: str, *, secure_request: bool, host: str) -> str:
        """The ``Set-Cookie`` value that hands out an id."""
        return self._written(value, self.max_age, secure_request=secure_request, host=host)

    def removal(self, *, secure_request: bool, host: str) -> str:
        """The ``Set-Cookie`` value that takes the cookie away."""
        return self._written("", 0, secure_request=secure_request, host=host)

    def _written(self, value: str, max_age: int | None, *, secure_request: bool, host: str) -> str:
        secure = self.is_secure(secure_request=secure_request, host=host)
        parts = [f"{self.name_for(secure_request=secure_request, host=host)}={value}", f"Path={self.path}"]
        parts += [] if max_age is None else [f"Max-Age={max_age}"]
        parts += ["Secure"] if secure else []
        parts += ["HttpOnly", f"SameSite={self.same_site if secure or self.same_site != 'None' else 'Lax'}"]
        parts += ["Partitioned"] if self.partitioned and secure else []
        return "; ".join(parts)


@lru_cache(maxsize=256)
def _is_local(host: str) -> bool:
    return _LOCAL.match(host) is not None


STANDARD = CookiePolicy()
