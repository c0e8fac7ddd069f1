"""A model hub on 127.0.0.1: the parts of its HTTP API that huggingface_hub uses to fetch and to commit files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
MODEL = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<verb>preupload|commit|branch)/(?P<revision>.+)")
TOKEN = "hf_secret"
"""The one that private and gated repositories are open to."""


@dataclass
class Repo:
    """A repository."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Commit -> file name -> content."""
    branches: dict[str, str] = field(default_factory=dict)
    """Name -> commit."""
    access: str = "public"
    """`public`, `private` or `gated`."""
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit with these files changed. Returns its name."""
        before = self.commits.get(self.branches.get(branch, ""), {})
        name = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[name], self.branches[branch] = {**before, **files}, name
        return name

    def find(self, revision: str) -> str | None:
        """The commit of a branch or commit; None if there is none."""
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class Hub:
    """The server's state, and what it was asked."""

    url: str
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Method and path of each request, in order."""
    agents: list[str] = field(default_factory=list)
    """User agents."""
    broken: bool = False
    """Whether it answers everything with status 503."""

    @property
    def downloads(self) -> list[str]:
        """The names of the files that were downloaded, in order."""
        paths = [line.partition(" ")[2] for line in self.requests if line.startswith("GET ")]
        return [match["name"] for path in paths if (match := FILE.fullmatch(path))]


@contextmanager
def run_hub() -> Iterator[Hub]:
    """Serve a hub without repositories until the block ends."""

    class Handler(_Handler):
        hub: Hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Handler.hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve_file()

    def do_GET(self) -> None:
        self._serve_file()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self._note()
        if path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif not self._is_known():
            self._fail(401, "", "Invalid username or password.")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := MODEL.fullmatch(path):
            self._change(match["repo"], match["verb"], unquote(match["revision"]), body)
        else:
            self._fail(404, "", "no such route")

    def _note(self) -> str:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.agents.append(self.headers.get("User-Agent", ""))
        return path

    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _serve_file(self) -> None:
        match = FILE.fullmatch(self._note())
        if self.hub.broken:
            self._fail(503, "", "down")
        elif match is None:
            self._fail(404, "", "no such route")
        elif (repo := self.hub.repos.get(match["repo"])) is None or (repo.access == "private" and not self._is_known()):
            self._fail(401, "RepoNotFound", "Repository not found")
        elif repo.access == "gated" and not self._is_known():
            self._fail(403, "GatedRepo", "Access to the model is restricted")
        elif (commit := repo.find(unquote(match["revision"]))) is None:
            self._fail(404, "RevisionNotFound", "Invalid rev id")
        elif (content := repo.commits[commit].get(match["name"])) is None:
            self._fail(404, "EntryNotFound", "Entry not found")
        else:
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def _create(self, wanted: dict[str, str]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        known = name in self.hub.repos
        if not known:
            self.hub.repos[name] = Repo(access="private" if "private" in wanted else wanted.get("visibility", "public"))
            self.hub.repos[name].commit({".gitattributes": b""})
        answer = {"url": f"{self.hub.url}/{name}", "id": "1", "error": "You already created this model repo" * known}
        self._send(409 if known else 200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _change(self, name: str, verb: str, revision: str, body: bytes) -> None:
        repo = self.hub.repos[name]
        if verb == "branch":
            repo.branches.setdefault(revision, repo.branches["main"])
            self._send_json({})
        elif verb == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            self._send_json({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif revision not in repo.branches:
            self._fail(404, "RevisionNotFound", "Invalid rev id")
        else:
            header, *lines = map(json.loads, body.splitlines())
            repo.messages.append(header["value"]["summary"])
            files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines}
            commit = repo.commit(files, revision)
            self._send_json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _fail(self, status: int, code: str, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
