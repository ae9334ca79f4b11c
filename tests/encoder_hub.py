"""A server on this machine that speaks as the Hugging Face hub does of repositories with encoders."""

import hashlib
import http.server
import json
import re
import threading
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf

COMMIT, BEFORE = "a" * 40, "b" * 40
REVISIONS = {"main": COMMIT, "v1": BEFORE, COMMIT: COMMIT, BEFORE: BEFORE}


def write_encoder(folder: Path, name: str = "test_convnext", seed: int = 0, **options: Any) -> Any:
    """Writes a folder as timm does for the hub, with ImageNet's mean and std as Zoobot's have it; gives the net."""
    torch.manual_seed(seed)
    net = timm.create_model(name, num_classes=0, **options).eval()
    save_for_hf(net, str(folder), safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (folder / "config.json").write_text(json.dumps(config))
    return net


class LocalHub(http.server.ThreadingHTTPServer):
    """A server on this machine, which answers from its beginning until it is closed."""

    daemon_threads = True

    def __init__(self, answering: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), answering)
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        """Takes it off the network."""
        self.shutdown()
        self.server_close()


class EncoderHub(LocalHub):
    """Repositories, and what is refused.

    Attributes:
        folders: The files of each repository, by `OWNER/NAME`.
        refused: By `OWNER/NAME` the status and the hub's code of it, such as `(403, "GatedRepo")`.
        asked: Method and path of all requests.
    """

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        super().__init__(Answering)


class Answering(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: EncoderHub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if match is None:  # the client asks of other things, too
            return self._refuse(404, "EntryNotFound")
        repository, revision, file = match.groups()
        if repository in self.server.refused:
            return self._refuse(*self.server.refused[repository])
        if repository not in self.server.folders:
            return self._refuse(401, "RepoNotFound")
        if revision not in REVISIONS:
            return self._refuse(404, "RevisionNotFound")
        path = self.server.folders[repository] / file
        if not path.is_file():
            return self._refuse(404, "EntryNotFound", REVISIONS[revision])
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", REVISIONS[revision])
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
        return None

    def _refuse(self, status: int, code: str, commit: str | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()
