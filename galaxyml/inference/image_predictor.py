"""A finished run of images, or a bundle, that can be asked about other images."""

import logging
import math
import os
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
from torch import Tensor, nn
from torch.utils.data import DataLoader

from galaxyml.data.images.decode import choice
from galaxyml.data.images.decoding import as_decoding
from galaxyml.data.images.store import Framing, frame_all
from galaxyml.data.images.views import central_pixels
from galaxyml.data.inputs import are_paths, find, image_of, listed, names_of, several, with_given
from galaxyml.evaluation.joined import NetOutputs
from galaxyml.evaluation.out_of_distribution import OutOfDistribution, appearance
from galaxyml.inference.interval import ALL, with_interval
from galaxyml.inference.predictor import Predictor, fitted_weights
from galaxyml.kinds import CombiningStage, Kind
from galaxyml.models import build_model
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs.errors import DataError, UserError, shorten
from galaxyml.runs.progress import track
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.hardware import trainer
from galaxyml.training.prediction_module import PredictionModule, PredictionModules
from galaxyml.training.predictions import gather

log = logging.getLogger(__name__)

BATCH = 64
HELD = 4096  # images that are held at a time
BYTES = 2**26  # of these, if they are more than a batch
SEEN = 2**23  # bytes of a batch of images in single precision, if it has more than BATCH
MANY = 2_000  # images from which on a compiled loop pays, which takes up to a second to be there
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
        self.looked_at = 0  # images so far
        # Of the run's trainer only what changes numbers: it may have run on other hardware, or on much more of it.
        self.trainers = {
            precision: trainer(description["accelerator"], precision, logger=False, enable_checkpointing=False)
            for precision in {member.precision for member in self.members}
        }

    def predict(self, inputs: Any, bad: list[str] | None = None, interval: int | str = ALL) -> pd.DataFrame:
        """Predictions for images.

        Args:
            inputs: Files (JPEG, PNG, TIFF, FITS, HDF5), folders, patterns, tables of paths, or a DataFrame with
                a column `path`; or images themselves, an array of shape (N, H, W, C) or (H, W, C), or a list of
                arrays and of Pillow's images of any size, of as many channels as the run's own. Values of arrays
                count as `galaxyml.data.images.decode.from_array` says: uint8 up to 255, floats up to 1.
            bad: Gets a sentence for each image that cannot be read, which is then left out; None to raise.
            interval: As for `Predictor`.

        Returns:
            One row an image: `id`, a name that does not depend on where this runs, and `path`; of images that are given
            as they are both are that of the file that Pillow has opened, or else their number, from 0; the other
            columns of the table that named it, as `<column>_given` where a prediction has that name; the outputs as the
            run's stages have them; `ood_distance`, how unlike the training set it is, by its looks or to the net (1 is
            what at most 1 % of validation images exceed; of several models their mean), and `ood`, whether it is above
            1.

        Raises:
            UserError: If there are no images, none can be read, or the run has no such interval.
            DataError: If an image cannot be read and `bad` is None.
        """
        is_table = isinstance(inputs, pd.DataFrame)
        given = [] if is_table else several(inputs, [decoding.channels for decoding in self.decodings])
        listing = listed(inputs) if is_table else find(given) if are_paths(given) else None
        if listing is not None:
            self.say_choice(Path(next(iter(listing.paths))))
            self.say_learnt(list(listing.paths))
            beside, count = listing.beside(), len(listing.paths)
            parts = self.predict_files(list(listing.paths), list(listing.paths.values()), bad)
        else:
            names, beside = names_of(given)
            count = len(given)
            parts = (
                (rows, self.predict_framed([names[row] for row in rows], pixels))
                for rows, pixels in self._frame_in_batches(given, bad)
            )
        readable: list[int] = []
        tables = []
        for rows, part in parts:
            readable += rows
            tables.append(part)
        if not tables:
            said = f"None of the {count:,} images can be read" if count > 1 else "The image cannot be read"
            raise UserError(f"{said}: {(bad or [''])[0]}.")
        table = with_given(pd.concat(tables, ignore_index=True), beside.iloc[readable])
        return with_interval(table, interval)

    @property
    def held(self) -> int:
        """How many images are held at a time."""
        size = sum(math.prod(framing.shape) for framing in self.framings)
        return max(BATCH, min(HELD, BYTES // size))

    @property
    def networks(self) -> list[nn.Module]:
        return [member.model for member in self.members]

    def summary(self, table: pd.DataFrame) -> str:
        """The number of images, and of those that are out of distribution."""
        count = f"{len(table):,} images"
        if "ood" not in table:
            return count
        return f"{count}, {int(table['ood'].sum()):,} of them out of distribution (unlike the training set)"

    def predict_files(
        self,
        images: Sequence[str],
        names: Sequence[str],
        bad: list[str] | None = None,
        features: bool = False,
        title: str | None = "Predicting",
        threads: int | None = None,
    ) -> Iterator[tuple[list[int], pd.DataFrame]]:
        """Predictions for images in files, some at a time; otherwise as `predict`.

        Args:
            images: Where each of N images is.
            names: What each is called.
            bad: Gets a sentence for each image that cannot be read, in their order; None to raise.
            features: Whether there is a column `features`; see `predict_framed`.
            title: Of the progress bar; None for none.
            threads: That decode; None for as many as cores.

        Yields:
            Positions of some images that can be read, and a row for each.
        """
        for rows, pixels in frames_in_batches(Path(), images, self.framings, self.held, title, bad, threads):
            yield rows, self.predict_framed([names[row] for row in rows], pixels, features)

    def predict_framed(self, names: Sequence[Any], pixels: Sequence[Tensor], features: bool = False) -> pd.DataFrame:
        """Predictions for images that are decoded and framed already; otherwise as `predict`.

        Args:
            names: What each of the N images is called.
            pixels: For each of `framings` what it keeps of them, uint8 of shape (N, side, side, C).
            features: Whether there is a column `features`, arrays of float16: what the heads of the nets see, the mean
                over the views, one net's behind the other's.

        Raises:
            UserError: If features are asked for and a net has none.
        """
        for member in self.members:
            if features and not isinstance(member.model.net, BackboneWithHead):
                raise UserError(
                    f"{self.run.path}: its net, {type(member.model.net).__name__}, has no separate head, and so no "
                    "features. Leave --features out."
                )
            member.model.gives_features = features
        outputs = self._outputs(pixels)
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
        if features:
            table["features"] = list(torch.cat([net["features"] for net in outputs], dim=1).numpy().astype(np.float16))
        return table

    def predict_blank(self, features: bool = False) -> pd.DataFrame:
        """Predictions for one black image, which show whether all parts fit each other."""
        blank = [torch.zeros(1, *framing.shape, dtype=torch.uint8) for framing in self.framings]
        return self.predict_framed(["blank"], blank, features)

    def say_choice(self, path: Path) -> None:
        """Says what is read of the first image, where there is a choice."""
        with suppress(DataError):  # which is told when it is read
            if chosen := choice(path, self.framings[0].decoding):
                log.info("Of the first image: %s", chosen)

    def say_learnt(self, images: Sequence[str]) -> None:
        """Says how many images the models have learnt from, known by their paths; nothing of a bundle.

        Args:
            images: Where each is.
        """
        if not (self.run.path / "catalog.parquet").is_file():
            return
        catalog, folder = self.run.catalog(), self.run.provenance()["data"]["folder"]
        if not folder or "image" not in catalog:
            return
        held_out = {member.fold for member in self.members}
        trained_on = catalog["split"].isin(["train", "val"])
        learnt = catalog[trained_on & ((len(held_out) > 1) | ~catalog["fold"].isin(held_out))]
        known = {os.path.realpath(Path(folder) / image) for image in learnt["image"]}
        if count := sum(os.path.realpath(image) in known for image in images):
            log.info(
                "note: %s has learnt from %s of these %s images, whose predictions are better for it than those of new "
                "ones; predictions/ in its folder has those of models that have not seen them.",
                *(self.run.path, f"{count:,}", f"{len(images):,}"),
            )

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

        return in_batches(readable(), self.held)

    def _outputs(self, pixels: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """What each member says of images, of which `pixels` has what each of `framings` keeps."""
        said: list[dict[str, Tensor]] = [{} for _ in self.members]
        for numbers in _seeing_alike(self.members):
            first = self.members[numbers[0]]
            models = PredictionModules([self.members[number].model for number in numbers])
            batches = batches_of(pixels[self.framings.index(first.framing)])
            for name, values in gather(self.trainers[first.precision].predict(models.eval(), batches)).items():
                if name != "index":
                    kind, _, place = name.partition("/")
                    said[numbers[int(place)]][kind] = values
        return said

    def _distances(self, pixels: Sequence[Tensor], outputs: list[dict[str, Tensor]]) -> Iterator[np.ndarray]:
        """Distance of the images from each net's training set, shape (N,)."""
        self.looked_at += len(pixels[0])
        many = self.looked_at > MANY
        looks = {
            framing: np.concatenate(
                [appearance(central_pixels(batch, framing.size), many) for batch in of_framing.split(BATCH)]
            )
            for framing, of_framing in zip(self.framings, pixels, strict=True)
        }
        for member, net in zip(self.members, outputs, strict=True):
            if member.training_set is not None:
                features = net["feature"].numpy() if "feature" in net else None
                yield member.training_set.distance(looks[member.framing], features)


def _seeing_alike(members: Sequence[Member]) -> list[list[int]]:
    """Numbers of members, those together that see the same views of an image in the same precision."""
    alike: dict[Any, list[int]] = {}
    for number, member in enumerate(members):
        alike.setdefault((member.framing, member.precision, repr(member.model.predict_views)), []).append(number)
    return list(alike.values())


def batches_of(pixels: Tensor) -> DataLoader[Any]:
    """Stored images in batches, of small ones more at a time."""
    size = max(BATCH, SEEN // max(pixels[0].numel(), 1) // 4)

    def batch(start: Any) -> dict[str, Tensor]:
        some = pixels[start : start + size]
        return {"index": torch.arange(start, start + len(some)), "pixels": some}

    starts: Any = range(0, len(pixels), size)
    return DataLoader(starts, batch_size=None, collate_fn=batch)


def weights_of(run: RunDir) -> dict[str, Tensor]:
    """The weights of a fitted run that predict; errors as for `fitted_weights`."""
    return {name: value for name, value in fitted_weights(run).items() if name.startswith(PREDICTS)}


def frames_in_batches(
    folder: Path,
    images: Sequence[str],
    framings: Sequence[Framing],
    size: int,
    title: str | None,
    bad: list[str] | None = None,
    threads: int | None = None,
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Images decoded and framed, some at a time.

    Args:
        folder: Of the images.
        images: Their paths in it, or addresses of rows of files there.
        framings: What is kept of each image.
        size: How many images are held at a time.
        title: Of the progress bar; None for none.
        bad: Gets a sentence for each image that cannot be read, which is then left out; None to raise.
        threads: That decode; None for as many as cores.

    Returns:
        Positions of at most `size` images, and for each framing their pixels, uint8 of shape (n, side, side, C).

    Raises:
        DataError: If an image cannot be read and `bad` is None.
    """

    def readable() -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
        framed = zip(*(frame_all(folder, images, framing, threads) for framing in framings), strict=True)
        for row, frames in enumerate(track(framed, title, len(images)) if title else framed):
            pixels = tuple(frame for frame in frames if not isinstance(frame, str))
            if len(pixels) == len(frames):
                yield row, pixels
                continue
            reason = next(frame for frame in frames if isinstance(frame, str))
            if bad is None:
                raise DataError(
                    f"An image cannot be read: {reason}. --on-error skip, in Python bad=[], leaves such images out."
                )
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
    model = PredictionModule(net, head, described["views"], described["symmetry"], size=framing.size)
    if described["lora"] is not None:
        from galaxyml.models.lora import lora

        assert isinstance(model.net, BackboneWithHead)  # as the run has found
        lora(model.net, **described["lora"])
    model.load_state_dict(dict(weights))
    arrays = fitted.arrays(LOOKS)
    training_set = OutOfDistribution.of_arrays(arrays) if arrays else None
    return Member(model.eval(), framing, described["fold"], described["precision"], training_set)
