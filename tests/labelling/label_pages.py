"""A few objects that are asked about, without a run; and a page of them, with and without a browser."""

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from galaxyml.data.images.decoding import Decoding
from galaxyml.inference.embedded import Embedded
from galaxyml.inference.galleries import Images
from galaxyml.kinds.classes import Classes
from galaxyml.labelling.choose import Chooser
from galaxyml.labelling.label_file import OF_IMAGES, Named, opened
from galaxyml.labelling.labeller import Labeller
from galaxyml.labelling.question import Question
from galaxyml.labelling.server import TOKEN, LabelServer, served

COUNT = 40
ANSWERS = ("smooth", "spiral", "odd")
QUESTION = Question("What is it?", ANSWERS)


def some_objects(folder: Path) -> Embedded:
    """Writes small images that differ; gives them with features, and with what a run of classes might predict."""
    folder.mkdir()
    for number in range(COUNT):
        pixels = np.full((24, 24, 3), 20, np.uint8)
        pixels[6 : 8 + number // 3, 6:18] = 60 + 4 * number
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    paths = sorted(folder.iterdir())
    spiral = np.linspace(0.02, 0.98, COUNT)
    predicted = np.where(spiral > 0.5, "spiral", "smooth")
    table = pd.DataFrame(
        {
            "id": [path.name for path in paths],
            "path": [str(path) for path in paths],
            "smooth": 1 - spiral,
            "spiral": spiral,
            "class": predicted,
            "confidence": np.maximum(spiral, 1 - spiral),
            "classes": predicted,
        }
    )
    features = np.random.default_rng(0).normal(size=(COUNT, 4)).astype(np.float32)
    features[:, 0] += 3 * spiral
    gallery = Images(list(table["path"]), Decoding())
    return Embedded(list(table["id"]), features, table, "features of a test", gallery)


@contextmanager
def serving(
    objects: Embedded, table: Path, every: int = 10, of: type[Chooser] = Chooser, port: int | None = None
) -> Iterator[LabelServer]:
    """Serves the page of objects, in random order, as the command does."""
    with ExitStack() as stack:
        file = stack.enter_context(opened(table, OF_IMAGES, QUESTION, "Ada"))
        chooser = of(objects, ANSWERS, "random")
        named, kind = Named.of(objects, table.parent), Classes(["smooth", "spiral"])
        labeller = stack.enter_context(closing(Labeller(objects, kind, named, file, chooser, every)))
        yield stack.enter_context(served(labeller, "random: in words", port))


class Page:
    """What a window of a browser asks of the command."""

    def __init__(self, port: int, window: str = "first") -> None:
        self.port, self.window = port, window
        self.token = re.findall(r'name="token" content="([^"]+)"', self.get("/")[2].decode())[0]

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.send("GET", path, None, headers)

    def post(self, path: str, headers: dict[str, str] | None = None, **given: Any) -> tuple[int, dict[str, Any]]:
        body = json.dumps({"window": self.window, **given}).encode()
        status, _, content = self.send("POST", path, body, {TOKEN: self.token} if headers is None else headers)
        return status, json.loads(content)

    def ask(self, path: str, **given: Any) -> dict[str, Any]:
        status, content = self.post(path, **given)
        assert status == 200, content
        return content

    def send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
