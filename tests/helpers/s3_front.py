"""Proxy of an S3 server that can be killed while the stored objects remain.

`python s3_front.py BACKEND PORT FOLDER [ADDRESS]` forwards requests to 127.0.0.1:BACKEND, and
prints the port that it listens on, at ADDRESS (default 127.0.0.1). Files in FOLDER script it.
``throttle``: number of requests to answer with 503 SlowDown. ``die``: number of requests after
which the process exits during the last one. ``log``: one line per request, written by the proxy.
"""

import http.client
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SLOW = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: int
    folder: Path
    lock = threading.Lock()

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        if self.count_down("die", last=True):
            os._exit(9)
        if self.count_down("throttle"):
            self.send(503, {}, SLOW)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.backend, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        self.send(response.status, dict(response.getheaders()), response.read())
        connection.close()

    def send(self, status, headers, content):
        with self.lock, (self.folder / "log").open("a") as log:
            log.write(f"{self.command} {self.path} {status}\n")
        self.send_response_only(status)
        dropped = {"connection", "transfer-encoding", "content-length"}
        length = len(content)
        if self.command == "HEAD":
            length = headers.get("Content-Length", headers.get("content-length", 0))
        for name, value in headers.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def count_down(self, name, last=False):
        """Whether a scripted fault is due: in each of the next requests, or in the last of them."""
        path = self.folder / name
        with self.lock:
            if not path.exists():
                return False
            left = int(path.read_text()) - 1
            if left > 0:
                path.write_text(str(left))
            else:
                path.unlink()
            return left <= 0 if last else True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    Front.backend, Front.folder = int(sys.argv[1]), Path(sys.argv[3])
    address = sys.argv[4] if len(sys.argv) > 4 else "127.0.0.1"
    server = ThreadingHTTPServer((address, int(sys.argv[2])), Front)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
