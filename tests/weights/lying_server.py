"""A server of files that lies, as told, about what it sends."""

import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LyingServer:
    """A server of one file that misbehaves.

    ``faults`` holds for each path what becomes of its next requests, in turn; one that ends in ``!``
    holds for all that follow. A number is a status to respond with. ``drop`` breaks off after half,
    ``longer`` and ``shorter`` give a wrong Content-Length, ``whole`` ignores the range, ``html`` and
    ``nameless html`` send a page in place of the file (the latter without its type), ``loop`` redirects
    to itself, ``wrong`` sends other bytes of the same length, ``drip`` sends a few bytes and waits,
    ``endless`` never stops.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"1"'
        self.faults: defaultdict[str, list[int | str]] = defaultdict(list)
        self.asked: list[tuple[str, str | None]] = []  # path and range
        self.go_on = threading.Event()
        lying = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lying.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append((request.path, request.headers["Range"]))
        fault = self._next_fault(request.path)
        if isinstance(fault, int):
            self._send(request, fault, b"", {"Retry-After": "0"})
        elif fault == "loop":
            self._send(request, 302, b"", {"Location": request.path})
        elif fault in ("html", "nameless html"):
            kind = {"Content-Type": "text/html; charset=utf-8"} if fault == "html" else {}
            self._send(request, 200, b"<html><body>Please log in.</body></html>", kind)
        else:
            self._send_file(request, fault)

    def _next_fault(self, path: str) -> int | str | None:
        if not self.faults[path]:
            return None
        first = self.faults[path][0]
        if isinstance(first, str) and first.endswith("!"):
            return int(first[:-1]) if first[:-1].isdigit() else first[:-1]
        return self.faults[path].pop(0)

    def _send_file(self, request: BaseHTTPRequestHandler, fault: str | None) -> None:
        content = bytes(len(self.content)) if fault == "wrong" else self.content
        asked = request.headers["Range"]
        if asked and request.headers["If-Range"] not in (None, self.etag):
            asked = None
        first = int(asked[len("bytes=") : -1]) if asked and fault != "whole" else 0
        if first >= len(content):
            self._send(request, 416, b"", {})
            return
        rest = content[first:]
        headers = {"ETag": self.etag} if self.etag else {}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        wrong = {"longer": 1000, "shorter": len(rest) // 2 - len(rest), "endless": 1 << 40}.get(str(fault), 0)
        headers["Content-Length"] = str(len(rest) + wrong)
        half = {"drop": len(rest) // 2, "drip": 10}.get(str(fault), len(rest))
        self._send(request, 206 if first else 200, rest[:half], headers)
        if fault == "drip":
            self.go_on.wait(30)
        while fault == "endless" and not self.go_on.is_set():
            try:
                request.wfile.write(bytes(1 << 16))
            except OSError:
                return

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
        request.wfile.flush()
