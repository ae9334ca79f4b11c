"""A finished run of images, or a bundle, that can be asked about other images."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.utils.data import DataLoader

from galaxyml.data.images.decode import choice
from galaxyml.data.images.decoding import as_decoding
from galaxyml.data.images.store import Framing, frame_all
from galaxyml.data.images.views import plain
from galaxyml.evaluation.joined import NetOutputs
from galaxyml.evaluation.out_of_distribution import OutOfDistribution, appearance
from galaxyml.inference.inputs import are_paths, find, image_of, listed, several, with_given
from galaxyml.inference.predictor import Predictor, fitted_weights
from galaxyml.kinds import CombiningStage, Kind
from galaxyml.models import build_model
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs.errors import DataError, UserError, shorten
from galaxyml.runs.progress import track
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.hardware import trainer
from galaxyml.training.prediction_module import PredictionModule
from galaxyml.training.predictions import gather

log = logging.getLogger(__name__)

BATCH = 64
HELD = 1024  # images that are held at a time
LOOKS = "familiar"  # arrays of what the training set looks like
PREDICTS = ("net.", "final.")  # beginnings of the names of weights that predict


@dataclass(frozen=True)
class Member:
    """One model of a run.

    Attributes:
        model: The net and its head.
        framing: What it sees of an image.
        fold: The fold that it was fitted without.
        precision: In which precision it was fitted, as Lightning names it.
        training_set: What its training set looks like, or None.
    """

    model: PredictionModule
    framing: Framing
    fold: int
    precision: Any
    training_set: OutOfDistribution | None


class ImagePredictor(Predictor):
    """A predictor of images.

    Args:
        run: The run, or a bundle.
        description: What it is made of.
        weights: Of each model, by name.
        fitted: Of each model where it was fitted.

    Attributes:
        members: Its models.
        framings: What the models see of an image, each once.
        decodings: How images are decoded for them, each once.
        columns: Outputs of the models, K names.
        stages: What is made of the outputs.

    Raises:
        UserError: If the weights do not fit.
    """

    def __init__(
        self,
        run: RunDir,
        description: Mapping[str, Any],
        weights: Sequence[Mapping[str, Tensor]],
        fitted: Sequence[RunDir],
    ) -> None:
        kind: Kind = instantiate(description["kind"], _convert_="all")
        super().__init__(run, description, kind)
        self.columns = list(fitted[0].fitted_values("outputs")["columns"])
        if self.columns != list(kind.outputs):
            raise UserError(f"its model has the outputs {shorten(self.columns)}, its kind of target others")
        nets = description["nets"]
        self.members = [_member(kind, *of_net) for of_net in zip(nets, weights, fitted, strict=True)]
        self.shares = [float(net["share"]) for net in nets]
        self.framings = list(dict.fromkeys(member.framing for member in self.members))
        self.decodings = list(dict.fromkeys(framing.decoding for framing in self.framings))
        stages = [*kind.stages(), *instantiate(list(description["stages"]), _convert_="all")]
        self.stages = [stage for stage in stages if isinstance(stage, CombiningStage)]
        # Of the run's trainer only what changes numbers: it may have run on other hardware, or on much more of it.
        self.trainers = {
            precision: trainer(description["accelerator"], precision, logger=False, enable_checkpointing=False)
            for precision in {member.precision for member in self.members}
        }

    def predict(self, inputs: Any, bad: list[str] | None = None) -> pd.DataFrame:
        """Predictions for images.

        Args:
            inputs: Files (JPEG, PNG, TIFF, FITS, HDF5), folders, patterns, tables of paths, or a DataFrame with
                a column `path`; or images themselves, an array of shape (N, H, W, C) or (H, W, C), or a list of
                arrays and of Pillow's images of any size, of as many channels as the run's own. Values of arrays
                count as `galaxyml.data.images.decode.from_array` says: uint8 up to 255, floats up to 1.
            bad: Gets a sentence for each image that cannot be read, which is then left out; None to raise.

        Returns:
            One row an image: `id`, a name that does not depend on where this runs, and `path`, or the number of an
            image that has none, from 0; the other columns of the table that named it, as `<column>_given` where a
            prediction has that name; the outputs as the run's stages have them; `ood_distance`, how unlike the training
            set it is, by its looks or to the net (1 is what at most 1 % of validation images exceed; of several models
            their mean), and `ood`, whether it is above 1.

        Raises:
            UserError: If there are no images, or none can be read.
            DataError: If an image cannot be read and `bad` is None.
        """
        is_table = isinstance(inputs, pd.DataFrame)
        given = [] if is_table else several(inputs, [decoding.channels for decoding in self.decodings])
        listing = listed(inputs) if is_table else find(given) if are_paths(given) else None
        if listing is not None:
            self._say_choice(Path(next(iter(listing.paths))))
            names: list[Any] = list(listing.paths.values())
            batches = frames_in_batches(Path(), list(listing.paths), self.framings, HELD, "Predicting", bad)
        else:
            names = list(range(len(given)))
            batches = self._frame_in_batches(given, bad)
        readable: list[int] = []
        tables = []
        for rows, pixels in batches:
            readable += rows
            tables.append(self.predict_framed([names[row] for row in rows], pixels))
        if not tables:
            raise UserError(f"None of the {len(names):,} images can be read: {(bad or [''])[0]}.")
        table = pd.concat(tables, ignore_index=True)
        return table if listing is None else with_given(table, listing.beside().iloc[readable])

    def summary(self, table: pd.DataFrame) -> str:
        """The number of images, and of those that are out of distribution."""
        count = f"{len(table):,} images"
        if "ood" not in table:
            return count
        return f"{count}, {int(table['ood'].sum()):,} of them out of distribution (unlike the training set)"

    def predict_framed(self, names: Sequence[Any], pixels: Sequence[Tensor]) -> pd.DataFrame:
        """Predictions for images that are decoded and framed already; otherwise as `predict`.

        Args:
            names: What each of the N images is called.
            pixels: For each of `framings` what it keeps of them, uint8 of shape (N, side, side, C).
        """
        outputs = [self._outputs(member, pixels[self.framings.index(member.framing)]) for member in self.members]
        spreads = [pd.DataFrame(net["spread"].numpy(), columns=self.columns) for net in outputs if "spread" in net]
        nets = NetOutputs(
            [pd.DataFrame(net["output"].numpy(), columns=self.columns) for net in outputs],
            self.shares,
            [member.fold for member in self.members],
            spreads if len(spreads) == len(outputs) else [],  # as where the runs were joined
        )
        table = nets.mean
        for stage in self.stages:
            table = stage.combine(self.run, nets, table)
        table.insert(0, "path", names)
        if distances := list(self._distances(pixels, outputs)):
            table["ood_distance"] = np.mean(distances, axis=0)
            table["ood"] = table["ood_distance"] > 1
        return table

    def predict_blank(self) -> pd.DataFrame:
        """Predictions for one black image, which show whether all parts fit each other."""
        return self.predict_framed(
            ["blank"], [torch.zeros(1, *framing.shape, dtype=torch.uint8) for framing in self.framings]
        )

    def _say_choice(self, path: Path) -> None:
        """Says what is read of the first image, where there is a choice."""
        with suppress(DataError):  # which is told when it is read
            if chosen := choice(path, self.framings[0].decoding):
                log.info("Of the first image: %s", chosen)

    def _frame_in_batches(
        self, given: Sequence[Any], bad: list[str] | None
    ) -> Iterator[tuple[list[int], list[Tensor]]]:
        """Images that are given as they are, framed some at a time; as `frames_in_batches` for others."""

        def readable() -> Iterator[tuple[int, list[np.ndarray]]]:
            for row, item in enumerate(given):
                try:
                    images = {decoding: image_of(item, row, decoding) for decoding in self.decodings}
                except DataError as error:
                    if bad is None:
                        raise
                    bad.append(str(error).rstrip("."))
                else:
                    yield row, [framing.frame(images[framing.decoding]) for framing in self.framings]

        return in_batches(readable(), HELD)

    def _outputs(self, member: Member, pixels: Tensor) -> dict[str, Tensor]:
        def batch(rows: Any) -> dict[str, Tensor]:
            return {"index": rows, "image": plain(pixels[rows], member.framing.size), "pixels": pixels[rows]}

        rows: Any = torch.arange(len(pixels)).split(BATCH)
        batches = DataLoader(rows, batch_size=None, collate_fn=batch)
        return gather(self.trainers[member.precision].predict(member.model, batches))

    def _distances(self, pixels: Sequence[Tensor], outputs: list[dict[str, Tensor]]) -> Iterator[np.ndarray]:
        """Distance of the images from each net's training set, shape (N,)."""
        looks = {
            framing: np.concatenate([appearance(plain(batch, framing.size)) for batch in of_framing.split(BATCH)])
            for framing, of_framing in zip(self.framings, pixels, strict=True)
        }
        for member, net in zip(self.members, outputs, strict=True):
            if member.training_set is not None:
                features = net["feature"].numpy() if "feature" in net else None
                yield member.training_set.distance(looks[member.framing], features)


def weights_of(run: RunDir) -> dict[str, Tensor]:
    """The weights of a fitted run that predict; errors as for `fitted_weights`."""
    return {name: value for name, value in fitted_weights(run).items() if name.startswith(PREDICTS)}


def frames_in_batches(
    folder: Path,
    images: Sequence[str],
    framings: Sequence[Framing],
    size: int,
    title: str,
    bad: list[str] | None = None,
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Images decoded and framed, some at a time.

    Args:
        folder: Of the images.
        images: Their paths in it, or addresses of rows of an HDF5 file there.
        framings: What is kept of each image.
        size: How many images are held at a time.
        title: Of the progress bar.
        bad: Gets a sentence for each image that cannot be read, which is then left out; None to raise.

    Returns:
        Positions of at most `size` images, and for each framing their pixels, uint8 of shape (n, side, side, C).

    Raises:
        DataError: If an image cannot be read and `bad` is None.
    """

    def readable() -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
        framed = zip(*(frame_all(folder, images, framing) for framing in framings), strict=True)
        for row, frames in enumerate(track(framed, title, len(images))):
            pixels = tuple(frame for frame in frames if not isinstance(frame, str))
            if len(pixels) == len(frames):
                yield row, pixels
                continue
            reason = next(frame for frame in frames if isinstance(frame, str))
            if bad is None:
                raise DataError(f"An image cannot be read: {reason}. --on-error skip leaves such images out.")
            bad.append(reason)

    return in_batches(readable(), size)


def in_batches(
    framed: Iterator[tuple[int, Sequence[np.ndarray]]], size: int
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Positions of at most `size` images, and for each framing their pixels, stacked."""
    while batch := list(islice(framed, size)):
        rows, frames = zip(*batch, strict=True)
        yield list(rows), [torch.from_numpy(np.stack(of_framing)) for of_framing in zip(*frames, strict=True)]


def _member(kind: Kind, described: Mapping[str, Any], weights: Mapping[str, Tensor], fitted: RunDir) -> Member:
    """A model as it is described, with its weights."""
    decoding = as_decoding(**described["decoding"])
    framing = Framing(**described["framing"], decoding=decoding)
    net = build_model(described["net"], len(kind.outputs), framing.size, decoding.channels)
    head = instantiate(described["head"], _convert_="all") if described["head"] is not None else kind.head()
    model = PredictionModule(net, head, described["views"], described["symmetry"])
    if described["lora"] is not None:
        from galaxyml.models.lora import lora

        assert isinstance(model.net, BackboneWithHead)  # as the run has found
        lora(model.net, **described["lora"])
    model.load_state_dict(dict(weights))
    arrays = fitted.arrays(LOOKS)
    training_set = OutOfDistribution.of_arrays(arrays) if arrays else None
    return Member(model.eval(), framing, described["fold"], described["precision"], training_set)
