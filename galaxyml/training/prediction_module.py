"""Predictions of a net for images, averaged over views."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import islice
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from galaxyml.data.images.views import plain
from galaxyml.models.backbone_with_head import PART, BackboneWithHead, in_parts, one_thread, rows_at_once
from galaxyml.models.folding import folded
from galaxyml.models.symmetry import Symmetric, Symmetries, ViewSet, view_set

TRAINING = 1  # which of the loaders of predictions has the training objects
TEST = 2
SCORES = 256  # rows of scores that outputs are made of at once


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
        # The last one, with the weights that it was made of; no part of the module's own state.
        self._at_rest: dict[Any, tuple[nn.Module, int, list[Tensor]]] = {}

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

    def at_rest(self, images: Tensor) -> tuple[Any, int]:
        """The net as it predicts in single precision, and how many images it computes at once.

        Its batch norms are parts of its convolutions (`galaxyml.models.folding`), which costs EfficientNet a quarter
        less. With half precision it is the net itself.

        Args:
            images: Views in [0, 1], shape (N, C, H, W).
        """
        state = [*self.net.parameters(), *self.net.buffers()]
        halved = torch.is_autocast_enabled(images.device.type)
        key = images.shape[1:], images.device, halved, tuple((value.data_ptr(), value._version) for value in state)
        if key not in self._at_rest:
            single = not halved and all(value.dtype == torch.float32 for value in self.net.parameters())
            net = folded(self.net, images.shape[-1], images.shape[1]) if single else self.net
            self._at_rest = {key: (net, rows_at_once(net, images), state)}  # so that nothing takes their addresses
        return self._at_rest[key][:2]

    def features_of(self, images: Tensor) -> Tensor:
        """What the net's head sees of views in [0, 1], in single precision, (N, C, size, size) -> (N, F)."""
        net, rows = self.at_rest(images)
        return in_parts(net.features, images, rows).float()

    def outputs_of(self, images: Tensor) -> Tensor:
        """Outputs for views in [0, 1], in single precision, (N, C, size, size) -> (N, K)."""
        net, rows = self.at_rest(images)
        return in_parts(lambda some: self.final(net(some).float()), images, rows)

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
            batch: `index`, and `pixels` (B, S, S, C), the stored images with their rim, or `image` (B, C, size, size),
                the plain view, or both; or `features` (B, V, F) of the views in their place.
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
        if "features" in batch:
            own = PredictedViews(self)
            for view in range(len(views)):
                own.add_features(batch["features"][:, view], len(batch["index"]))
        else:
            (own,) = see([self], views, batch)
        predicted = {"index": batch["index"], **own.joined()}
        if dataloader_idx == TEST and not self.embedded:
            predicted.pop("feature", None)
        return predicted


class PredictionModules(lightning.LightningModule):
    """Several models that see the same views of the same images, which are made once for all.

    Args:
        models: Of one size and one set of views.
    """

    def __init__(self, models: Sequence[PredictionModule]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """What `PredictionModule.predict_step` gives of each model, as `output/0` for the first."""
        models: list[Any] = list(self.models)
        predictions = see(models, models[0].predict_views, batch)
        named = {
            f"{name}/{number}": values
            for number, own in enumerate(predictions)
            for name, values in own.joined().items()
        }
        return {"index": batch["index"], **named}


class PredictedViews:
    """What one model says of some images, of one view after another.

    Args:
        model: The model.

    Attributes:
        outputs: Of each view, shape (N, K).
        features: What the head sees of each view, shape (N, F), if the model `gives_features`.
        feature: The same of the plain view; None of a net without a separate head.
    """

    def __init__(self, model: PredictionModule) -> None:
        self.model = model
        self.outputs: list[Tensor] = []
        self.features: list[Tensor] = []
        self.feature: Tensor | None = None

    def add(self, images: Tensor, count: int) -> None:
        """Takes one view of `count` images, or several views one behind the other."""
        net = self.model.net
        if isinstance(net, BackboneWithHead):
            self.add_features(self.model.features_of(images), count)
        else:
            self.outputs += self.model.outputs_of(images).split(count)

    def knows(self, views: ViewSet) -> bool:
        """Whether the plain view tells the net's features of all others."""
        net = self.model.net
        return (
            isinstance(net, BackboneWithHead)
            and isinstance(views, Symmetries)
            and 1 < len(views) <= net.known_symmetries
        )

    def add_known(self, images: Tensor, views: ViewSet) -> None:
        """Takes the plain view, and with it all others."""
        net: Any = self.model.net
        features = self.model.features_of(images)
        for number in range(len(views)):
            self.add_features(net.symmetric_features(features, number), len(images))

    def add_features(self, features: Tensor, count: int) -> None:
        """Takes what the head sees of views of `count` images, one behind the other."""
        net: Any = self.model.net
        with one_thread(features.device):
            scores = in_parts(net.head, features).float()
            self.outputs += in_parts(self.model.final, scores, SCORES).split(count)
        if self.model.gives_features:
            self.features += features.split(count)
        if self.feature is None:
            self.feature = features[:count]

    def joined(self) -> dict[str, Tensor]:
        """`output`, and what else there is; see `PredictionModule.predict_step`."""
        mean = mean_of_views(self.outputs)
        predicted = {"output": mean}
        if len(self.outputs) > 1:
            predicted["spread"] = mean_of_views([(output - mean).square() for output in self.outputs]).sqrt()
        if self.features:
            predicted["features"] = mean_of_views(self.features)
        if self.feature is not None:
            predicted["feature"] = self.feature
        return predicted


def see(models: Sequence[PredictionModule], views: ViewSet, batch: Mapping[str, Tensor]) -> list[PredictedViews]:
    """What models say of images of which they see the same views."""
    predictions = [PredictedViews(model) for model in models]
    count = len(batch["index"])
    size = batch["image"].shape[-1] if "image" in batch else models[0].size or batch["pixels"].shape[1]
    known = [own for own in predictions if own.knows(views)]
    seeing = [own for own in predictions if not own.knows(views)]
    is_plain = len(views) == 1 and views.begins_plain
    if known or is_plain or not views.begins_plain:
        image = batch["image"] if "image" in batch else plain(batch["pixels"], size)
    for own in known:
        own.add_known(image, views)
    if not seeing:
        return predictions
    for seen in [image] if is_plain else _grouped(views.see_stored(batch["pixels"], size), count):
        for own in seeing:
            own.add(seen, count)
    if not views.begins_plain:
        for own in seeing:
            if own.feature is not None:
                own.feature = own.model.features_of(image)
    return predictions


def mean_of_views(parts: Sequence[Tensor]) -> Tensor:
    """Mean of tensors, element by element: `Tensor.mean` adds up in an order that depends on the number of rows."""
    return reduce(torch.add, parts) / len(parts)


def _grouped(views: Iterator[Tensor], count: int) -> Iterator[Tensor]:
    """Views of `count` images, as many together as `in_parts` computes at once: 8 of one image take the time of one."""
    while group := list(islice(views, max(PART // max(count, 1), 1))):
        yield torch.cat(group) if len(group) > 1 else group[0]
