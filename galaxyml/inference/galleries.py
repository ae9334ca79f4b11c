"""Objects as a person sees them: images in files, and light curves."""

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from galaxyml.data.images.decode import open_image
from galaxyml.data.images.decoding import Decoding
from galaxyml.data.images.visible import visible
from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.evaluation.curve_plots import Curve, draw_curve
from galaxyml.runs.errors import DataError

LABELLED = 200  # pixels from which on there is room for the names of axes


class Gallery(ABC):
    """Shows objects to a person."""

    @abstractmethod
    def picture(self, row: int, side: int) -> Image.Image:
        """An object as an image of at most so many pixels a side; a grey one if it cannot be shown."""


class Images(Gallery):
    """Images in files.

    Args:
        paths: Where each is.
        decoding: How they are decoded.
        crop: Central part that is shown, as a share of the shorter side.
    """

    def __init__(self, paths: Sequence[str], decoding: Decoding, crop: float = 1.0) -> None:
        self.paths, self.decoding, self.crop = list(paths), decoding, crop

    def picture(self, row: int, side: int) -> Image.Image:
        try:
            pixels = visible(open_image(Path(self.paths[row]), self.decoding))
        except DataError:
            return missing(side)
        height, width = pixels.shape[:2]
        shown = max(round(self.crop * min(height, width)), 1)
        top, left = (height - shown) // 2, (width - shown) // 2
        square = Image.fromarray(np.ascontiguousarray(pixels[top : top + shown, left : left + shown])).convert("RGB")
        return square.resize((side, side), Image.Resampling.LANCZOS)


class LightCurves(Gallery):
    """Light curves, with their passbands and errors.

    Args:
        data: Has them.
        rows: Of its catalog.
    """

    def __init__(self, data: CurveData, rows: np.ndarray) -> None:
        self.data, self.rows = data, rows

    def picture(self, row: int, side: int) -> Image.Image:
        batch = self.data.batches[torch.tensor([int(self.rows[row])])]
        observed: dict[str, Any] = {
            name: batch[name][0][batch["mask"][0]].numpy() for name in ("time", "band", "flux", "error")
        }
        figure = Figure(figsize=(side / 100, side / 100), layout="constrained")
        axes = figure.add_subplot()
        draw_curve(axes, Curve(**observed, title=""))
        axes.tick_params(labelsize=6, length=2, pad=1)
        axes.xaxis.set_major_locator(MaxNLocator(2))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        if side >= LABELLED:
            axes.set_xlabel("time (days)", fontsize=8)
            axes.set_ylabel("flux (FLUXCAL units)", fontsize=8)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=200)
        return Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def missing(side: int) -> Image.Image:
    """What is shown in the place of an image that cannot be read."""
    blank = Image.new("RGB", (side, side), (160, 166, 176))
    ImageDraw.Draw(blank).text((side / 2, side / 2), "cannot be shown", (40, 46, 56), anchor="mm")
    return blank
