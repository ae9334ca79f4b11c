"""A server on this machine in the hub's place, and nets that fetch their weights from it: prints what they got.

    python hub.py FOLDER

Run as a program, as the hub's client reads its address when it is imported.
"""

import http.server
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

HAS = "/timm/test_vit.r160_in1k/resolve/main/model.safetensors"


class Hub(http.server.BaseHTTPRequestHandler):
    """Has one file, and says of others what the hub does."""

    weights = b""
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: Any) -> None:
        Hub.asked.append(f"{self.command} {self.path}")

    def _answer(self, with_body: bool) -> None:
        found = self.path == HAS
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"weights"')
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(self.weights) if found else 0))
        self.end_headers()
        if with_body and found:
            self.wfile.write(self.weights)


def main(folder: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(folder),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
    }

    import timm
    import torch
    from safetensors.torch import save

    from galaxyml.models.backbones import timm_net
    from galaxyml.runs.errors import UserError

    def refused(name: str) -> tuple[str, float]:
        start = time.monotonic()
        try:
            timm_net(name, outputs=5, size=96, pretrained=True)
        except UserError as error:
            return str(error), time.monotonic() - start
        raise AssertionError

    torch.manual_seed(0)
    state = timm.create_model("test_vit").state_dict()
    Hub.weights, Hub.asked = save(state), []
    fetched = timm_net("test_vit", outputs=5, size=96, pretrained=True)
    missing, _ = refused("test_vit2")
    asked = list(Hub.asked)
    server.shutdown()
    server.server_close()
    kept = timm_net("test_vit", outputs=5, size=96, pretrained=True)
    unreachable, seconds = refused("test_vit3")
    same = [key for key, value in state.items() if torch.equal(value, fetched.net.state_dict().get(key, value[:0]))]
    again = all(torch.equal(value, kept.net.state_dict()[key]) for key, value in fetched.net.state_dict().items())
    other = sorted(set(state) - set(same))
    print(json.dumps([other, again, missing, unreachable, seconds, asked]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
