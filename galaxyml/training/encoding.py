"""What a net sees of images, with a decoder fitted to it, and what the net itself says of how odd they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor, nn

from galaxyml.data.images.views import plain
from galaxyml.evaluation.morphology import asymmetry, half_light_radius, thumbnails
from galaxyml.models import build_model
from galaxyml.models.backbone_with_head import BackboneWithHead, in_parts
from galaxyml.models.symmetry import Symmetric
from galaxyml.runs.errors import UserError
from galaxyml.training.prediction_module import mean_of_views, see
from galaxyml.training.specs import build
from galaxyml.training.start import Start, read_start
from galaxyml.training.supervised import UNFILLED, SupervisedModule
from galaxyml.training.transfer import take

HEAD = ("head",)  # phases in which the rest of a net stays what the start's head was fitted to


class EncodingModule(SupervisedModule):
    """A net whose head decodes a small grey image from the features of an image.

    With `tune=head` the net stays as it is, and the decoder tells how much of an image its features hold. With
    `tune=all` both are fitted: an autoencoder, of augmented views. A start that answers whether something is odd, or no
    galaxy at all, keeps its own head beside the decoder, as long as the net that it was fitted to stays.

    Args:
        net: As for SupervisedModule; it has a separate head.
        answers: The kind of target that the start's own head answers, as plain values: of a checkpoint.
        start: As for SupervisedModule.
        **options: As for SupervisedModule.

    Attributes:
        answers: What the start's own head makes of features; None without one.

    Raises:
        UserError: If the net has no separate head.

    Example:
        Features of all images of a folder, by a net that knows simulated galaxies::

            data = UnlabelledImages("images", size=64)
            module = EncodingModule.for_data(data, net="winner_small", start="sky", tune="head")
            lightning.Trainer(max_epochs=10).fit(module, datamodule=data)
    """

    keeps_head: ClassVar[bool] = True  # of the start, which is read again where a run carries on

    def __init__(
        self,
        net: nn.Module | Mapping[str, Any] | str,
        *,
        answers: Mapping[str, Any] | None = None,
        start: Path | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(net, start=start, **{**options, "views": 1})  # what is decoded is the plain view
        if not isinstance(self.net, BackboneWithHead):
            raise UserError(
                f"model: {type(self.net).__name__} has no separate head, so that there are no features to compare "
                "images by. Choose another model=…, such as tiny or resnet50."
            )
        self.gives_features = True
        begun = read_start(start, type(_inner(self.net)).__name__) if start is not None else None
        self.answered: Any = begun.kind if begun is not None else build(answers)
        self.answers: nn.Module | None = None
        stays = self.phases == HEAD and not isinstance(net, nn.Module)
        if stays and self.answered is not None and self.answered.says_odd:
            self.answers = self._head_of(net, begun).eval().requires_grad_(False)
        self.save_hyperparameters({"answers": self.answered.spec if self.answers is not None else None}, logger=False)

    def _head_of(self, net: Any, start: Start | None) -> nn.Module:
        """The start's own head, with what makes outputs of its scores."""
        names, head = self.answered.score_names, self.answered.head()
        if not isinstance(net, str):
            net = {key: UNFILLED.get(key, value) for key, value in net.items()} | {"outputs": len(names)}
        other = build_model(net, len(names), self.size, self.channels)
        if start is not None:
            take(other, start, names, head)
        return nn.Sequential(_inner(other).head, head if head is not None else nn.Identity())

    def train(self, mode: bool = True) -> "EncodingModule":
        super().train(mode)
        answers = getattr(self, "answers", None)  # not there yet while the base class is made
        if answers is not None:
            answers.eval()
        return self

    @torch.no_grad()
    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """What images are compared by; row by row the same, whichever rows share a batch.

        Args:
            batch: As for PredictionModule, with `pixels`.
            batch_idx: Number of the batch.
            dataloader_idx: Not used.

        Returns:
            `index` (B,); `features` (B, F), what the head sees, the mean over the views; `odds` (B,), the logarithm of
            the odds that an image is odd, of a net that says it; `residual` (B,), the root mean square of what the
            decoder leaves of the small image; that itself as `thumbnail` (B, P); `asymmetry`, `brightness` (the mean)
            and `size` (radius of half the light, in pixels of the small image), (B,).
        """
        (seen,) = see([self], self.predict_views, batch)
        assert seen.feature is not None
        image = batch["image"] if "image" in batch else plain(batch["pixels"], self.size or batch["pixels"].shape[1])
        small = thumbnails(image)
        net: Any = self.net
        decoded = in_parts(net.head, seen.feature).float()
        predicted = {
            "index": batch["index"],
            "features": mean_of_views(seen.features),
            "residual": (decoded - small).square().mean(dim=1).sqrt(),
            "asymmetry": asymmetry(image),
            "brightness": image.mean(dim=(1, 2, 3)),
            "size": half_light_radius(small),
            "thumbnail": small,
        }
        if self.answers is not None:
            outputs = mean_of_views([in_parts(self.answers, features).float() for features in seen.features])
            table = pd.DataFrame(outputs.cpu().numpy(), columns=self.answered.outputs)
            predicted["odds"] = torch.from_numpy(self.answered.odds_of_odd(table))
        return predicted

    @property
    def predicts_from_features(self) -> bool:
        """False: images are looked at themselves, too."""
        return False


def _inner(net: Any) -> Any:
    """The net whose features are averaged over views, where they are."""
    return net.net if isinstance(net, Symmetric) else net
