"""The only room that knows aiohttp: it sends plain requests, returns plain responses, and says whether bytes left."""

import asyncio
import errno
import io
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from attrs import define
from yarl import URL

from kling_async._version import __version__
from kling_async.addresses import is_public
from kling_async.errors import DownloadError, KlingError, ProtocolError
from kling_async.flow.backoff import retry_after
from kling_async.flow.decision import unanswered
from kling_async.network import Fence, Fetched
from kling_async.wire import HttpRequest, HttpResponse

MAX_BODY = 1024 * 1024
MAX_ANSWER = 8 * MAX_BODY
"""Bytes of one answer as they come in: heads, chunks with their framing, and all that means nothing."""
CHUNK = 256 * 1024
USER_AGENT = f"kling-async/{__version__}"


class _Metered(ResponseHandler):
    """Hangs up on an answer that is longer than any that would be read.

    Nothing else ends interim answers and extensions of chunks, which aiohttp swallows without a count.
    """

    room = MAX_ANSWER
    used = False

    def data_received(self, data: bytes) -> None:
        self.room -= len(data)
        if self.room >= 0:
            super().data_received(data)
        elif self.transport is not None:
            self.transport.abort()


@define
class _Ahead:
    """One request on its way: the fence before it, what its answer comes through, and the status that was read."""

    fence: Fence | None
    protocol: _Metered | None = None
    status: int | None = None

    @property
    def flooded(self) -> bool:
        """Whether the answer was longer than any that would be read."""
        return self.protocol is not None and self.protocol.room < 0


_ahead: ContextVar[_Ahead] = ContextVar("ahead")


class _ApiConnector(aiohttp.TCPConnector):
    """Hands a connection out only once the fence ahead has let the request pass; nothing is written before that.

    A pooled one that holds something already is not handed out: nobody asked for it, and it would be taken for the
    answer to the next request.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        factory: partial[Any] = partial(_Metered, loop=self._loop)
        self._factory = factory

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while _speaks_first(connection := await super().connect(req, traces, timeout)):
            connection.close()
        ahead = _ahead.get()
        try:
            ahead.protocol = _metered(connection)
            ahead.protocol.room, ahead.protocol.used = MAX_ANSWER, True
            if ahead.fence is not None:
                await ahead.fence.pass_through()
        except BaseException:
            connection.close()
            raise
        return connection


def _metered(connection: Connection) -> _Metered:
    protocol = connection.protocol
    assert isinstance(protocol, _Metered)  # noqa: S101 - made by our factory
    return protocol


def _speaks_first(connection: Connection) -> bool:
    """Tell whether something has come in on a connection since its last answer."""
    protocol = _metered(connection)
    if not protocol.used or protocol.transport is None:
        return False
    file = protocol.transport.get_extra_info("socket")
    if protocol.should_close or file is None or not hasattr(select, "poll"):
        return protocol.should_close
    waiting = select.poll()
    waiting.register(file.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


class AiohttpTransport:
    """HTTP over aiohttp: a fresh connection for each paid request, pooled ones for looking, guarded ones for files.

    Args:
        base_url: the gateway's origin, with its prefix if it has one.
        connect: seconds to reach a host.
        connections: the most sockets per purpose.
    """

    def __init__(self, base_url: str, *, connect: float, connections: int) -> None:
        base = urlsplit(base_url)
        self._scheme, self._host, self._prefix = base.scheme, base.netloc, base.path.rstrip("/")
        self._connect = connect
        self._connections = connections
        # A reused connection may be closing, or hold an answer that nobody asked for: a paid request gets its own.
        fresh = aiohttp.ClientTimeout(total=None, connect=connect)
        self._fresh = self._session(_ApiConnector(limit=connections, force_close=True), fresh)
        # Nobody waits for a pooled connection: there are as many as requests in flight.
        pooled = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        self._pooled = self._session(_ApiConnector(limit=connections), pooled)
        self._downloads: dict[bool, aiohttp.ClientSession] = {}

    def _session(self, connector: aiohttp.TCPConnector, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        return _counted(connector, headers=headers, timeout=timeout)

    async def send(self, request: HttpRequest, *, timeout: float, fence: Fence | None, fresh: bool) -> HttpResponse:
        """Send one request; see `Transport.send`."""
        session = self._fresh if fresh or fence is not None else self._pooled
        ahead = _Ahead(fence)
        before = _ahead.set(ahead)
        failure: KlingError | asyncio.CancelledError
        try:
            async with asyncio.timeout(timeout):
                response = await session.request(
                    request.method,
                    self._url(request),
                    data=_payload(request),
                    headers=_headers(request),
                    allow_redirects=False,
                )
                ahead.status = response.status
                try:
                    if fence is not None and not fence.sent:
                        fence.sent = True
                        raise RuntimeError("this aiohttp writes before its connector has handed a connection out")
                    return _plain(response, await _capped(response))
                finally:
                    if not response.closed:  # the last byte of a whole answer has closed it
                        response.close()
        except asyncio.CancelledError as error:
            failure = asyncio.CancelledError(*error.args)
        except Exception as error:  # noqa: BLE001 - whatever it is, only the fence tells what it means
            failure = self._failure(error, ahead)
        finally:
            _ahead.reset(before)
        # A new one, raised outside the handlers: the locals of aiohttp's frames hold the request's headers, and so do
        # its exceptions. A traceback or a context would show them, that of a cancellation too.
        raise failure

    def _url(self, request: HttpRequest) -> URL:
        path = self._prefix + request.path
        return URL.build(
            scheme=self._scheme, authority=self._host, path=path, query_string=request.query_string(), encoded=True
        )

    def _failure(self, error: Exception, ahead: _Ahead) -> KlingError:
        if isinstance(error, KlingError):
            return error.evolve()
        if ahead.flooded:
            words = f"the answer takes more than {MAX_ANSWER} bytes"
            return ProtocolError(words, http_status=ahead.status, code="too_large")
        fence = ahead.fence
        sent = fence.sent if fence is not None else not isinstance(error, _NO_CONNECTION)
        code, words = _lost_reason(error) if sent else _connect_reason(error)
        return unanswered(self._host, code, words, sent=sent)

    @asynccontextmanager
    async def fetch(
        self, url: str, headers: Mapping[str, str], *, guarded: bool, stall: float
    ) -> AsyncIterator[Fetched]:
        """Open a download; see `Transport.fetch`. A guarded one connects to public addresses only."""
        session = self._download_session(guarded=guarded)
        timeout = aiohttp.ClientTimeout(total=None, connect=self._connect, sock_connect=self._connect, sock_read=stall)
        failure: DownloadError | None = None
        try:
            async with asyncio.timeout(self._connect + stall):
                response = await session.get(
                    URL(url, encoded=True), headers=dict(headers), allow_redirects=False, timeout=timeout
                )
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            failure = _download_failure(error)
        if failure is not None:
            raise failure
        async with response:
            found = {name.lower(): value for name, value in response.headers.items()}
            yield Fetched(response.status, found, _chunks(response, stall))

    def _download_session(self, *, guarded: bool) -> aiohttp.ClientSession:
        if guarded not in self._downloads:
            factory = _guarded_socket if guarded else None
            connector = aiohttp.TCPConnector(limit=self._connections, force_close=True, socket_factory=factory)
            headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
            self._downloads[guarded] = _counted(connector, headers=headers)
        return self._downloads[guarded]

    async def close(self) -> None:
        """Close every session and its connections."""
        for session in (self._fresh, self._pooled, *self._downloads.values()):
            await session.close()


def _counted(connector: aiohttp.TCPConnector, **settings: Any) -> aiohttp.ClientSession:
    """Return a session without cookies, proxies and netrc, that sends each request once.

    aiohttp repeats a GET by itself, which no limit of ours would count; we try again ourselves.
    """
    jar = aiohttp.DummyCookieJar()
    session = aiohttp.ClientSession(connector=connector, cookie_jar=jar, trust_env=False, **settings)
    session._retry_connection = False
    return session


def _headers(request: HttpRequest) -> Mapping[str, str]:
    return request.headers if request.json is None else {"Content-Type": "application/json", **request.headers}


def _plain(response: aiohttp.ClientResponse, body: bytes) -> HttpResponse:
    headers = {name.lower(): value for name, value in response.headers.items()}
    wait = retry_after(headers["retry-after"], time.time()) if "retry-after" in headers else None
    return HttpResponse(response.status, headers, body, wait)


def _payload(request: HttpRequest) -> bytes | io.BytesIO | aiohttp.FormData | None:
    if not request.parts:
        body = request.body()
        # In one piece a large body holds the event loop up, of which aiohttp warns.
        return body if body is None or len(body) <= CHUNK else io.BytesIO(body)
    form = aiohttp.FormData()
    for part in request.parts:
        form.add_field(part.name, part.data, filename=part.filename, content_type=part.content_type)
    return form


async def _capped(response: aiohttp.ClientResponse) -> bytes:
    """Read the decompressed body while it streams, so that a bomb stops at the cap.

    In a label that nobody knows, aiohttp hands the bytes on as they came: what they would mean unpacked is not known.
    """
    label = response.headers.get("Content-Encoding", "").strip().lower()
    if label not in _LABELS and response.status < 400:
        raise ProtocolError(
            "the answer is packed in a way that nobody knows", http_status=response.status, code="encoding"
        )
    length = response.content_length
    if length is not None and length <= MAX_BODY and "Content-Encoding" not in response.headers:
        return await response.read()
    pieces = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > MAX_BODY and response.status >= 400:
            break  # the status says enough
        if size > MAX_BODY:
            raise ProtocolError(
                f"the answer is larger than {MAX_BODY} bytes", http_status=response.status, code="too_large"
            )
        pieces.append(piece)
    return b"".join(pieces)


# What aiohttp unpacks, and what is seen in the field on bodies that are not packed at all.
_LABELS = frozenset({"", "identity", "none", "utf-8", "gzip", "deflate", "br", "zstd"})


async def _chunks(response: aiohttp.ClientResponse, stall: float) -> AsyncIterator[bytes]:
    """Yield the decompressed body in pieces, each within `stall` seconds, with the network's errors as ours."""
    failure: DownloadError | None = None
    try:
        while True:
            async with asyncio.timeout(stall):
                chunk = await response.content.read(CHUNK)
            if not chunk and response.content.at_eof():
                return
            yield chunk
    except (aiohttp.ClientError, OSError, ValueError) as error:
        failure = _download_failure(error)
    if failure is not None:
        raise failure


_NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


_ERRNO_REASONS = {
    errno.EMFILE: ("resources", "too many open files"),
    errno.ENFILE: ("resources", "too many open files"),
    errno.ECONNREFUSED: ("refused", "connection refused"),
    errno.ENETUNREACH: ("unreachable", "the network is unreachable"),
    errno.EHOSTUNREACH: ("unreachable", "the host is unreachable"),
}


def _connect_reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "tls", "the TLS handshake failed"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns", "the host name cannot be resolved"
    if isinstance(error, TimeoutError):
        return "timeout", "it took too long"
    return _ERRNO_REASONS.get(getattr(error, "errno", None) or 0, ("connect", type(error).__name__))


def _lost_reason(error: Exception) -> tuple[str, str]:
    match error:
        case TimeoutError():
            return "timeout", "it took too long"
        case aiohttp.ClientPayloadError():
            return "cut", "its body is not whole"
        case aiohttp.ServerDisconnectedError():
            return "disconnected", "the connection was closed"
        case aiohttp.ClientResponseError():
            return "protocol", "it is not HTTP"  # aiohttp calls any malformed answer a 400; no status was read
        case OSError():
            return "reset", "the connection broke"
    return "lost", type(error).__name__


def _download_failure(error: Exception) -> DownloadError:
    if _NOT_PUBLIC in str(error):  # the class is lost where several addresses were tried
        return DownloadError("the video's host is not on the public internet", code="blocked", stage="download")
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return DownloadError("the video's URL cannot be used", code="blocked", stage="download")
    code, words = _connect_reason(error) if isinstance(error, _NO_CONNECTION) else _lost_reason(error)
    return DownloadError(f"the video's host: {words} ({code})", code="network", stage="download")


_NOT_PUBLIC = "the address is not public"


def _guarded_socket(info: Any) -> socket.socket:
    """Make a socket only for a public address; every attempt passes here, whatever name or redirect led to it."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise OSError(errno.EACCES, _NOT_PUBLIC)
    return socket.socket(family=family, type=kind, proto=protocol)
