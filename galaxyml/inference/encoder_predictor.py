"""Encoders by name as predictors of features, without a run: `galaxyml predict hf-hub:OWNER/NAME … --features-only`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxyml.data.images.decoding import as_decoding
from galaxyml.data.images.store import Framing
from galaxyml.inference.image_predictor import ImagePredictor, Member
from galaxyml.models import build_model
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.models.hub import read_encoder
from galaxyml.models.sources import Source
from galaxyml.runs.errors import UsageError, UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.hardware import trainer
from galaxyml.training.prediction_module import PredictionModule

SIZE = 224  # where the encoder does not say
EXAMPLES = {"size": 224, "crop": 0.5, "views": 8, "channels": 3}  # settings


class EncoderPredictor(ImagePredictor):
    """What an encoder makes of images: features, and nothing else.

    Args:
        name: `hf-hub:OWNER/NAME[@REVISION]` or `local-dir:FOLDER`.
        size: Side in pixels of what it sees; None for what its `config.json` says.
        crop: Side of the central square that it sees, as a share of the image's shorter side.
        views: Views that features are averaged over, 1 to 8.
        channels: Channels of the images.

    Raises:
        UserError: If there is no such encoder, or a setting is impossible.
    """

    def __init__(
        self, name: str, size: int | None = None, crop: float = 1.0, views: int = 1, channels: int = 3
    ) -> None:
        source = Source.read(name)
        assert source is not None
        if size is None:
            said = read_encoder(source).pretrained_cfg.get("input_size") or [channels, SIZE, SIZE]
            size = int(said[-1])
        net = build_model(name, 1, size, channels)
        if not isinstance(net, BackboneWithHead):
            raise UserError(f"{name} has no separate head, and so no features that could be given.")
        framing = Framing(size, crop, decoding=as_decoding(channels))
        model = PredictionModule(net, predict_views=views, size=framing.size).eval()
        self.run = RunDir(Path(name))
        self.description: Mapping[str, Any] = {
            "task": "features",
            "nets": [{"net": {"name": name, "size": size, "crop": crop, "views": views, "channels": channels}}],
        }
        # Of kinds of targets what a folder of predictions says of one.
        nothing = {"questions": lambda: None, "odds_of_odd": lambda table: None}
        self.kind: Any = SimpleNamespace(name="features", output_names=dict, **nothing)
        self.task = "features"
        self.columns = []
        self.members = [Member(model, framing, 0, "32-true", None)]
        self.framings, self.decodings = [framing], [framing.decoding]
        precision: Any = "32-true"
        self.trainers = {precision: trainer("auto", precision, logger=False, enable_checkpointing=False)}

    def predict_framed(self, names: Sequence[Any], pixels: Sequence[Tensor], features: bool = True) -> pd.DataFrame:
        (member,) = self.members
        member.model.gives_features = True
        found = self._outputs(pixels)[0]["features"]
        return pd.DataFrame({"path": list(names), "features": list(found.numpy().astype(np.float16))})


def open_encoder(name: str, settings: Mapping[str, Any]) -> EncoderPredictor:
    """An encoder with the settings of a command.

    Args:
        name: See `EncoderPredictor`.
        settings: Its other arguments.

    Raises:
        UsageError: If there is no such setting.
    """
    if wrong := [key for key in settings if key not in EXAMPLES]:
        raise UsageError(f"--encoder {wrong[0]}=…: encoders have {', '.join(EXAMPLES)}.")
    for key, value in settings.items():
        if not isinstance(value, int | float if key == "crop" else int) or isinstance(value, bool):
            raise UsageError(f"--encoder {key}={value}: it must be a number, such as {key}={EXAMPLES[key]}.")
    torch.manual_seed(0)  # of a head that nothing asks
    return EncoderPredictor(name, **settings)
