"""Features of frozen ImageNet nets, computed once for all folds and seeds and kept in the work folder."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from filelock import FileLock
from lesson import Lesson, squares
from PIL import Image
from torch import Tensor, nn

# Mean and standard deviation that each net was trained with.
SCALES = {
    "tf_efficientnet_lite0": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "resnet50": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
AT_ONCE = 32
Views = Callable[[list[Image.Image], np.random.Generator], Sequence[np.ndarray]]


def load_net(name: str, weights: Path) -> nn.Module:
    """A net of timm's with ImageNet's weights from a file, without its classifier."""
    net = timm.create_model(name, pretrained=False, num_classes=0)
    learnt = torch.load(weights / f"{name}.pth", weights_only=True)
    net.load_state_dict({key: learnt[key] for key in net.state_dict()})
    return net


def scaled(images: np.ndarray, net: str) -> Tensor:
    """Images, uint8 of shape (N, H, W, 3), as a net takes them: float32 of shape (N, 3, H, W)."""
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in SCALES[net])
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def rotations(crop: float, size: int) -> Views:
    """The central part of images, turned by 0, 90, 180 and 270 degrees."""

    def views(images: list[Image.Image], rng: np.random.Generator) -> list[np.ndarray]:
        upright = squares(images, crop, size)
        return [np.ascontiguousarray(np.rot90(upright, turns, axes=(1, 2))) for turns in range(4)]

    return views


def features(lesson: Lesson, net: str, name: str, views: Views) -> tuple[np.ndarray, np.ndarray]:
    """Features of the objects to learn from and of those to predict.

    Args:
        lesson: The fold; what its work folder keeps under the same name is read.
        net: Name of the net.
        name: Of the views, in file names.
        views: Gives V views of images, each uint8 of shape (N, H, W, 3).

    Returns:
        Shape (N, V, D) each.
    """
    rows = pd.concat([lesson.train, lesson.held])
    file = lesson.work / "features" / f"{lesson.task}_{net}_{name}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        known = dict(np.load(file)) if file.is_file() else {}
        if missing := [index for index, key in enumerate(rows["id"].astype(str)) if key not in known]:
            began = time.monotonic()
            known |= _compute(lesson, rows.iloc[missing], net, views)
            np.savez(file, **known)
            seconds = file.with_suffix(".json")
            before = json.loads(seconds.read_text(encoding="utf-8")) if seconds.is_file() else 0.0
            seconds.write_text(json.dumps(before + time.monotonic() - began), encoding="utf-8")
    train, held = (np.stack([known[key] for key in part["id"].astype(str)]) for part in (lesson.train, lesson.held))
    return train, held


def _compute(lesson: Lesson, rows: pd.DataFrame, name: str, views: Views) -> dict[str, np.ndarray]:
    """Features of rows by id, shape (V, D) each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # other folds wait for these features
    net = load_net(name, lesson.weights).eval()
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(rows), AT_ONCE):
        batch = rows.iloc[start : start + AT_ONCE]
        with torch.inference_mode():
            seen = [net(scaled(view, name)).numpy() for view in views(lesson.images(batch), rng)]
        found |= dict(zip(batch["id"].astype(str), np.stack(seen, axis=1), strict=True))
    torch.set_num_threads(threads)
    return found
