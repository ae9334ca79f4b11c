"""Runs that rank images, as predictors of features: what `galaxyml alike` and `galaxyml label` compare images by."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from torch import Tensor

from galaxyml.data.images.decoding import as_decoding
from galaxyml.data.images.store import Framing
from galaxyml.inference.image_predictor import ImagePredictor, Member, batches_of
from galaxyml.inference.predictor import Predictor
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.encoding import EncodingModule
from galaxyml.training.hardware import trainer
from galaxyml.training.predictions import gather

NUMBERS = ("odds", "residual", "asymmetry", "brightness", "size")


class EncodingPredictor(ImagePredictor):
    """What the nets of a run of `task=anomalies` see of images.

    Args:
        run: The run, or a sweep whose folds were joined.
        description: What it is made of.
    """

    def __init__(self, run: RunDir, description: Mapping[str, Any]) -> None:
        Predictor.__init__(self, run, description, instantiate(description["kind"], _convert_="all"))
        self.columns = []
        self.members = [_member(net, described) for net, described in zip(run.nets(), description["nets"], strict=True)]
        self.shares = [float(net["share"]) for net in description["nets"]]
        self.framings = list(dict.fromkeys(member.framing for member in self.members))
        self.decodings = list(dict.fromkeys(framing.decoding for framing in self.framings))
        self.stages = []
        self.trainers = {
            precision: trainer(description["accelerator"], precision, logger=False, enable_checkpointing=False)
            for precision in {member.precision for member in self.members}
        }

    def predict_framed(self, names: Sequence[Any], pixels: Sequence[Tensor], features: bool = False) -> pd.DataFrame:
        """`path`, and the numbers of `EncodingModule.predict_step` as the mean over the nets; otherwise as its base."""
        outputs = []
        for member in self.members:
            batches = batches_of(pixels[self.framings.index(member.framing)])
            outputs.append(gather(self.trainers[member.precision].predict(member.model.eval(), batches)))
        table = pd.DataFrame({"path": list(names)})
        for name in NUMBERS:
            if all(name in net for net in outputs):
                values = [share * net[name].double() for share, net in zip(self.shares, outputs, strict=True)]
                table[name] = torch.stack(values).sum(dim=0).numpy()
        if features:
            table["features"] = list(torch.cat([net["features"] for net in outputs], dim=1).numpy().astype(np.float16))
        return table


def _member(run: RunDir, described: Mapping[str, Any]) -> Member:
    """The net of a fitted run, with the head of its start."""
    decoding = as_decoding(**described["decoding"])
    framing = Framing(**described["framing"], decoding=decoding)
    which = run.config.predict_with
    if missing := run.missing_weights(which):
        raise UserError(missing)
    path = run.checkpoints / f"{which}.ckpt"
    module = EncodingModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    return Member(module.eval(), framing, described["fold"], described["precision"], None)
