"""A gateway on loopback whose every word is meant to do harm, and whose jobs come to every kind of end."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ESC, BIDI, NUL, HALF = "\x1b[2J\x1b]0;owned\x07\x9b31m", "\u202egnp.\u2066exe", "\x00", "\ud800"
FORGED = "\r\n2026-11-20 12:00:00 INFO job paid\u2028\x85\n"
MARKUP = "[/nope][link=https://e.com]x[/link]<script>alert(1)</script>"
FORMULA = "=1+cmd|' /C calc'!A0"
EVIL = f"{FORMULA}{ESC}{BIDI}{NUL}{HALF}{FORGED}{MARKUP}"
STEERING = {*"\x00\x1b\x07\x9b\r\x85\x7f", "\u202e", "\u2066", "\u2028", "\u2029", HALF}
"""Characters that no terminal, no log and no file may be given as they are."""

_RAW = {EVIL: EVIL, "request": {"prompt": EVIL, HALF: [HALF, {BIDI: NUL}]}, "type": EVIL, "x" * 300: "y" * 3000}


def _submit(kind: str) -> tuple[int, object]:
    if kind == "rejected":
        return 400, {"code": EVIL, "message": EVIL, "request_id": EVIL}
    if kind == "doubted":
        return 200, {"code": 200, "message": EVIL, "data": {"task_id": EVIL, **_RAW}}
    return 200, {"code": 200, "message": EVIL, "data": {"task_id": kind, "status": EVIL, **_RAW}}


def _look(kind: str) -> object:
    told = {"task_id": kind, "consumed_credits": 5, "created_at": EVIL, "error_message": EVIL, **_RAW}
    if kind == "failed":
        return {"code": 200, "data": {**told, "status": "FAILED", "error_message": {"code": EVIL, "message": EVIL}}}
    urls = [f"https://e.com/{EVIL}", EVIL] + (["https://e.com/a.mp4"] if kind == "made" else [])
    return {"code": 200, "data": {**told, "status": "SUCCESS", "response": urls}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer(*_submit(asked["prompt"]))

    def do_GET(self) -> None:
        self._answer(200, _look(parse_qs(urlsplit(self.path).query)["task_id"][0]))

    def _answer(self, status: int, told: object) -> None:
        body = json.dumps(told).encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-Id", "\x1b[31m\xff\xfe")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


KINDS = ("made", "urlless", "failed", "rejected", "doubted")
"""Prompts: each names what becomes of its job."""


@contextmanager
def hostile_gateway() -> Iterator[str]:
    """Serve until the block ends; yields the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
