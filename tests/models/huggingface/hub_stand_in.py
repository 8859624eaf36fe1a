"""A server that speaks as much of the hub's API as fetching a model takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

REVISION = "c0ffee" + "0" * 34


class HubStandIn:
    """Repositories by owner and name: the contents of their files by path.

    Attributes:
        gated: Repositories whose files take the token.
        token: That opens them.
        requests: Methods, paths and ranges of the requests for files.
        cut_off: How many bytes of a file the next answer breaks off after; 0: it is whole.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.token = "secret"  # noqa: S105 - of the tests
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut_off = 0

    def got(self) -> list[str]:
        """The paths of the files that were fetched."""
        return [path.partition(f"{REVISION}/")[2] for way, path, _ in self.requests if way == "GET"]

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serves it at the address that is given."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, hub: HubStandIn, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            self.describe(path.removeprefix("/api/models/"))
            return
        repository, _, rest = path.strip("/").partition("/resolve/")
        if repository not in self.hub.repositories:
            self.refuse(404, "RepoNotFound")
            return
        self.hub.requests.append((self.command, path, self.headers["Range"]))
        opened = self.headers["Authorization"] == f"Bearer {self.hub.token}"
        if repository in self.hub.gated and not opened:
            self.refuse(403, "GatedRepo")
            return
        self.send_file(self.hub.repositories[repository][rest.partition("/")[2]])

    def describe(self, repository: str) -> None:
        if repository not in self.hub.repositories:
            self.refuse(404, "RepoNotFound")
            return
        files = self.hub.repositories[repository].items()
        siblings = [{"rfilename": file, "size": len(content)} for file, content in files]
        about = {"id": repository, "sha": REVISION, "siblings": siblings}
        self.send(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"{}", {"X-Error-Code": code})

    def send_file(self, content: bytes) -> None:
        asked, start = self.headers["Range"], 0
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": REVISION,
        }
        if asked:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        kept = None
        if self.command == "GET" and self.hub.cut_off:
            kept, self.hub.cut_off = self.hub.cut_off, 0
        self.send(206 if asked else 200, content[start:], headers, kept)

    def send(
        self, status: int, body: bytes, headers: dict[str, str], kept: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:kept])
