"""Stage 0 of a manifest of URLs: fetch the photos, politely and suspiciously (paper section 3.3, "Image downloading").

Politely: few connections a host, `Retry-After` obeyed, photos that are there already not fetched again, and those whose
server asks not to be used for machine learning (`X-Robots-Tag: noai`) left alone. Suspiciously: a manifest is other
people's text, so no address inside the cluster's own network is called, also not by redirect or by a
name that resolves to it, and no answer is read beyond its cap.
"""

import contextlib
import hashlib
import ipaddress
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout, exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.retry import Retry

from pm.data.records import Photo
from pm.data.source.store import read_bytes, size_of, write_bytes
from pm.errors import WriteError
from pm.files import is_full

STAGE = "download"
_CHUNK = 2**16
_WORTH_RETRYING = (429, 500, 502, 503, 504)
_LONGEST_WAIT = 60  # seconds, for a Retry-After
_REFUSALS = ("noai", "noimageai", "none")


@dataclass(frozen=True)
class DownloadConfig:
    """How the photos of a manifest of URLs are fetched."""

    connections: Annotated[int, Ge(1)]  # at a time, in all
    per_host: Annotated[int, Ge(1)]  # at a time, to one host
    timeout: Annotated[float, Ge(0.001)]  # seconds without an answer
    total_timeout: Annotated[float, Ge(0.001)]  # seconds for one photo, in one attempt
    retries: Annotated[int, Ge(0)]  # after the first attempt
    backoff: Annotated[float, Ge(0)]  # seconds before the second attempt, twice as long before each further one
    max_bytes: Annotated[int, Ge(1)]  # of one photo
    user_agent: str
    respect_robots_tag: bool  # leave photos alone whose server says `X-Robots-Tag: noai`
    allow_private: bool  # also call addresses of private networks


class DownloadError(Exception):
    """A photo that is not to be had; `reason` is what the reject row says."""

    def __init__(self, reason: str, detail: str = "", value: float | None = None, threshold: float | None = None):
        super().__init__(detail or reason)
        self.reason, self.detail, self.value, self.threshold = reason, detail, value, threshold


class Downloader:
    """Fetches photos into `root`; called with the photos of a shard, whose `source` is their URL.

    Args:
        share: of the connections to a host, where several downloaders share them.
    """

    def __init__(self, config: DownloadConfig, root: str, share: float = 1.0):
        self.config, self.root = config, root
        per_host = max(1, int(config.per_host * share))
        guard = (_InTime,) if config.allow_private else (_InTime, _Guarded)
        self._pool = PoolManager(
            num_pools=1000,
            maxsize=per_host,
            block=True,  # never more than maxsize connections to one host
            headers={"User-Agent": config.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"},
            timeout=Timeout(connect=config.timeout, read=config.timeout),
        )
        self._pool.pool_classes_by_scheme = {
            "http": _pool_class(HTTPConnectionPool, HTTPConnection, guard, config),
            "https": _pool_class(HTTPSConnectionPool, HTTPSConnection, guard, config),
        }
        self._threads = ThreadPoolExecutor(config.connections)

    def __call__(self, photos: Sequence[Photo]) -> list[Photo]:
        """Rejects photos that are not to be had; the reason says why, `detail` in the library's words."""
        return list(self._threads.map(self._one, photos))

    def _one(self, photo: Photo) -> Photo:
        if photo.reject:
            return photo
        try:
            if not self._is_there(photo):
                data = self.fetch(photo.source)
                self._check(photo, data)
                write_bytes(self.root, photo.photo, data)
        except DownloadError as error:
            return photo.rejected(STAGE, error.reason, error.value, error.threshold, error.detail)
        except (OSError, WriteError) as error:
            if is_full(error):  # so would all that come after
                raise
            return photo.rejected(STAGE, "not_written", detail=str(error))
        return replace(photo, expected_sha256="")

    def _is_there(self, photo: Photo) -> bool:
        try:
            if not photo.expected_sha256:
                return size_of(self.root, photo.photo) > 0
            self._check(photo, read_bytes(self.root, photo.photo))
        except (OSError, DownloadError):
            return False
        return True

    @staticmethod
    def _check(photo: Photo, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        if photo.expected_sha256 and digest != photo.expected_sha256:
            raise DownloadError("checksum", f"expected {photo.expected_sha256[:12]}…, got {digest[:12]}…")

    def fetch(self, url: str) -> bytes:
        """The body of an http(s) URL.

        Raises:
            DownloadError: with the reason.
        """
        for attempt in range(self.config.retries + 1):
            try:
                return self._fetch(url)
            except (exceptions.ProtocolError, exceptions.ReadTimeoutError) as error:  # broke off half-way
                if attempt == self.config.retries:
                    raise DownloadError("broken_off", str(error)) from error
                time.sleep(self.config.backoff * 2**attempt)
            except (exceptions.LocationParseError, exceptions.URLSchemeUnknown, UnicodeError) as error:
                raise DownloadError("bad_url", str(error)) from error
            except exceptions.MaxRetryError as error:
                raise DownloadError(_reason(error.reason), str(error.reason)) from error
            except exceptions.HTTPError as error:
                raise DownloadError(_reason(error), str(error)) from error
        raise AssertionError("unreachable")

    def _fetch(self, url: str) -> bytes:
        config, deadline = self.config, time.monotonic() + self.config.total_timeout
        retries = Retry(
            config.retries,
            redirect=5,
            status_forcelist=_WORTH_RETRYING,
            backoff_factor=config.backoff,
            raise_on_status=False,
            retry_after_max=_LONGEST_WAIT,
        )
        response = self._pool.request("GET", url, retries=retries, preload_content=False)
        try:
            if response.status != 200:
                raise DownloadError(f"http_{response.status}", response.reason or "", response.status, 200)
            tags = response.headers.get("X-Robots-Tag", "").lower().replace(",", " ").replace(":", " ").split()
            if config.respect_robots_tag and any(tag in _REFUSALS for tag in tags):
                raise DownloadError("refused_by_owner", f"X-Robots-Tag: {' '.join(tags)}")
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and int(length) > config.max_bytes:
                raise DownloadError("too_large", "", int(length), config.max_bytes)
            data = bytearray()
            while chunk := response.read1(_CHUNK, decode_content=False):  # `read` would wait for a whole chunk
                data += chunk
                if len(data) > config.max_bytes:
                    raise DownloadError("too_large", "", len(data), config.max_bytes)
                if time.monotonic() > deadline:
                    raise DownloadError("timeout", "too slow in all", config.total_timeout, config.total_timeout)
            return bytes(data)
        finally:
            # Read to its end, the connection is back already; else it is closed and its place given back: the pool
            # would wait for it for ever.
            if not response.closed:
                response.close()
            response.release_conn()


if TYPE_CHECKING:
    _Connection = HTTPConnection
else:  # what follows is mixed into two kinds of connections
    _Connection = object


class PrivateAddressError(exceptions.HTTPError):
    """An address that is not on the public internet."""


class _InTime(_Connection):
    """A connection whose server must have sent the head of its answer in time: a byte now and then is no answer."""

    total_timeout: float

    def getresponse(self) -> Any:
        late = threading.Event()

        def hang_up() -> None:
            late.set()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        sock, timer = self.sock, threading.Timer(self.total_timeout, hang_up)
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if late.is_set():
                raise TimeoutError(f"no answer within {self.total_timeout} s")


class _Guarded(_Connection):
    """A connection that goes to public addresses only, checked before and, against names that change, after."""

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []  # the library's own attempt will say it better
        for _, _, _, _, address in found:
            _require_public(str(address[0]))
        connection = super()._new_conn()
        try:
            _require_public(connection.getpeername()[0])
        except PrivateAddressError:
            connection.close()
            raise
        return connection


def is_public(address: str) -> bool:
    """Is an IP address on the public internet? Addresses that wrap an IPv4 one are judged by that too."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        wrapped = [v for v in inner if v is not None]
        if wrapped:
            return all(is_public(str(v)) for v in wrapped)
    return ip.is_global and not ip.is_multicast


def _require_public(address: str) -> None:
    if not is_public(address):
        raise PrivateAddressError(f"{address} is a private address (dataset.download.allow_private)")


def _pool_class(pool: type, connection: type, guard: tuple[type, ...], config: DownloadConfig) -> type[Any]:
    guarded = type(f"Photo{connection.__name__}", (*guard, connection), {"total_timeout": config.total_timeout})
    return type(f"Photo{pool.__name__}", (pool,), {"ConnectionCls": guarded})


def _reason(error: BaseException | None) -> str:
    """One word for what went wrong, to count by."""
    kinds = (
        (PrivateAddressError, "private_address"),
        (exceptions.NameResolutionError, "unknown_host"),
        (exceptions.NewConnectionError, "no_connection"),  # to urllib3 it is a time-out too
        (exceptions.TimeoutError, "timeout"),
        (exceptions.SSLError, "bad_certificate"),
        (exceptions.ResponseError, "too_many_redirects"),
    )
    return next((reason for kind, reason in kinds if isinstance(error, kind)), "no_connection")
