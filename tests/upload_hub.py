"""A server on this machine that takes repositories as the Hugging Face hub does: creation, large files, commits."""

import base64
import hashlib
import http.server
import json
import re
from collections.abc import Callable
from typing import Any

from encoder_hub import LocalHub

TOKEN = "hf_of_ada"
COMMIT = "c" * 40


class UploadHub(LocalHub):
    """Repositories that were sent, and what is refused.

    Attributes:
        repositories: By `OWNER/NAME` their files; only whole commits are in it.
        private: Of each whether it is.
        refused: By a pattern of the path the status and the words of the answer to requests of it.
        asked: Method and path of all requests.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        super().__init__(Answering)


class Answering(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: UploadHub
    body: bytes

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        for pattern, (status, words) in self.server.refused.items():
            if re.search(pattern, self.path):
                return self._send(status, {"error": words})
        if not self.path.startswith("/large/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid username or password."})
        routes: dict[str, Callable[..., None]] = {
            r"POST /api/repos/create": self._create,
            r"POST /api/validate-yaml": self._validate,
            r"POST /api/models/([^/]+/[^/]+)/preupload/main(?:\?.*)?": self._preupload,
            r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch": self._batch,
            r"PUT /large/(\w+)": self._store,
            r"POST /large/verify": self._verify,
            r"POST /api/models/([^/]+/[^/]+)/commit/main(?:\?.*)?": self._commit,
        }
        for pattern, answer in routes.items():
            if match := re.fullmatch(pattern, f"{self.command} {self.path}"):
                return answer(*match.groups())
        return self._send(404, {"error": "Not Found"})

    def _create(self) -> None:
        given = json.loads(self.body)
        name = f"{given['organization']}/{given['name']}"
        if name in self.server.repositories:
            return self._send(409, {"error": "You already created this model repo"})
        self.server.repositories[name] = {}
        self.server.private[name] = given.get("private") or given.get("visibility") == "private"
        return self._send(200, {"url": f"{self.server.address}/{name}", "name": name})

    def _validate(self) -> None:
        given = json.loads(self.body)
        assert given["repoType"] == "model"
        has_yaml = given["content"].startswith("---\n")
        errors = [] if has_yaml else [{"message": "there is no YAML"}]
        self._send(200 if has_yaml else 400, {"errors": errors, "warnings": []})

    def _preupload(self, name: str) -> None:
        if name not in self.server.repositories:
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith((".zip", ".safetensors")) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        return self._send(200, {"files": files})

    def _batch(self, _: str) -> None:
        objects = [
            {
                **about,
                "actions": {
                    "upload": {"href": f"{self.server.address}/large/{about['oid']}"},
                    "verify": {"href": f"{self.server.address}/large/verify"},
                },
            }
            for about in json.loads(self.body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _store(self, digest: str) -> None:
        fits = hashlib.sha256(self.body).hexdigest() == digest
        if fits:
            self.server.large[digest] = self.body
        self._send(200 if fits else 400, {})

    def _verify(self) -> None:
        given = json.loads(self.body)
        self._send(200 if len(self.server.large.get(given["oid"], b"")) == given["size"] else 400, {})

    def _commit(self, name: str) -> None:
        files = {}
        for line in self.body.splitlines():
            given = json.loads(line)
            value = given["value"]
            if given["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif given["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        self.server.repositories[name] |= files
        address = f"{self.server.address}/{name}/commit/{COMMIT}"
        self._send(200, {"success": True, "commitOid": COMMIT, "commitUrl": address, "hookOutput": ""})

    def _send(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
