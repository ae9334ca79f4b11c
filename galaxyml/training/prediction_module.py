"""Predictions of a net for images, averaged over views."""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import islice
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from galaxyml.data.images.views import plain, scaled
from galaxyml.models.backbone_with_head import PART, BackboneWithHead, in_parts, one_thread
from galaxyml.models.symmetry import Symmetric, Symmetries, view_set

TRAINING = 1  # which of the loaders of predictions has the training objects
TEST = 2


class PredictionModule(lightning.LightningModule):
    """A net, and what makes outputs of its scores.

    Args:
        net: (N, C, H, W) -> (N, K).
        final: What makes outputs of the net's scores; None to take them as they are.
        predict_views: Views of each image that predictions are averaged over: 1 (the plain one) to 8 symmetries of
            the square, or what `galaxyml.models.symmetry.Views` takes.
        symmetry: Views that the net itself averages its features over, in training too; None for the image as it is.
        embedded: Test objects of each survey whose features are written; 0 for none.
        channels_last: Whether convolutions see channels last, which is faster on CPUs and on tensor cores.
        size: Side in pixels of what the net sees, with which stored images can be given as they are.

    Attributes:
        gives_features: Whether predictions have `features`, the mean over the views.
    """

    def __init__(
        self,
        net: nn.Module,
        final: nn.Module | None = None,
        predict_views: Any = 1,
        symmetry: Any = None,
        embedded: int = 0,
        channels_last: bool = True,
        size: int | None = None,
    ) -> None:
        super().__init__()
        net = net if symmetry is None else Symmetric(net, view_set(symmetry, "symmetry"))
        self.channels_last = channels_last
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self.final = final if final is not None else nn.Identity()
        self.predict_views = view_set(predict_views)
        self.embedded = embedded
        self.size = size
        self.gives_features = False

    def forward(self, images: Tensor | dict[str, Tensor]) -> Tensor:
        """Outputs in single precision, shape (N, K).

        Args:
            images: Views in [0, 1], shape (N, C, size, size); or stored images, uint8 of shape (N, side, side, C), of
                which the central view is taken; or a batch that has either as `image`.
        """
        images = images["image"] if isinstance(images, dict) else images
        if images.dtype == torch.uint8:
            images = plain(images, self.size if self.size is not None else images.shape[1])
        images = images if self.channels_last else images.contiguous()
        return self.final(self.net(images).float())  # a sigmoid in half precision would be 1 from 9 on

    def classify(self, features: Tensor) -> Tensor:
        """Outputs in single precision, shape (N, K), of what the net's head sees, shape (N, F).

        They are the same to the last bit on however many threads of a CPU.
        """
        assert isinstance(self.net, BackboneWithHead)
        with one_thread(features.device):
            return self.final(self.net.head(features).float())

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Row by row the same, to the last bit, whichever rows share a batch.

        Args:
            batch: `index`, `image` (B, C, size, size), the plain view, and `pixels` (B, S, S, C), the stored images
                with their rim; or `features` (B, V, F) of the views in their place.
            batch_idx: Number of the batch.
            dataloader_idx: 0 for validation objects, 1 for training ones, 2 for test ones.

        Returns:
            `index` (B,); `output` (B, K), the mean over the views; with several views `spread` (B, K), their standard
            deviation; and of nets that have them `feature` (B, F), what the head sees of the plain view, and `features`
            (B, F), its mean over the views, if they are asked for (`gives_features`). Of training
            objects the plain view alone is predicted, and of test objects, which may be many, features are given only
            for `embedded`.
        """
        views = Symmetries(1) if dataloader_idx == TRAINING else self.predict_views
        feature = None
        of_views: list[Tensor] = []
        if "features" in batch:
            features = [batch["features"][:, view] for view in range(len(views))]
            outputs, feature = [in_parts(self.classify, view) for view in features], features[0]
        else:
            outputs = []
            only_plain = len(views) == 1 and views.begins_plain
            images = batch["image"] if only_plain else scaled(batch["pixels"])
            for seen in _grouped(views.see(images, batch["image"].shape[-1]), len(images)):
                if not isinstance(self.net, BackboneWithHead):
                    outputs += in_parts(self, seen).split(len(images))
                    continue
                features_seen = in_parts(self.net.features, seen).float()
                outputs += in_parts(self.classify, features_seen).split(len(images))
                if self.gives_features:
                    of_views += features_seen.split(len(images))
                if feature is None:
                    first = features_seen[: len(images)]
                    feature = first if views.begins_plain else in_parts(self.net.features, batch["image"]).float()
        mean = _mean(outputs)
        predicted = {"index": batch["index"], "output": mean}
        if len(views) > 1:
            predicted["spread"] = _mean([(output - mean).square() for output in outputs]).sqrt()
        if of_views:
            predicted["features"] = _mean(of_views)
        if feature is not None and (dataloader_idx != TEST or self.embedded):
            predicted["feature"] = feature
        return predicted


def _mean(parts: Sequence[Tensor]) -> Tensor:
    """Mean of tensors, element by element: `Tensor.mean` adds up in an order that depends on the number of rows."""
    return reduce(torch.add, parts) / len(parts)


def _grouped(views: Iterator[Tensor], count: int) -> Iterator[Tensor]:
    """Views of `count` images, as many together as `in_parts` computes at once: 8 of one image take the time of one."""
    while group := list(islice(views, max(PART // max(count, 1), 1))):
        yield torch.cat(group) if len(group) > 1 else group[0]
