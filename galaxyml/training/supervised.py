"""Fits a net to known targets; knows no task."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import lightning.pytorch as lightning
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from galaxyml.data.module import ImageData
from galaxyml.data.views import symmetric
from galaxyml.models.parts import TwoParts, in_parts
from galaxyml.plots import picture_grid
from galaxyml.runs import RunDir
from galaxyml.training import predictions, preparing
from galaxyml.training.optimizers import optimization
from galaxyml.training.tuning import Tuning, enter, phases

SHOWN = 8  # pictures in a figure


class SupervisedModule(lightning.LightningModule):
    """A net, its loss, its metrics and its optimizer, all handed in.

    Args:
        net: (N, 3, H, W) -> (N, K).
        loss: (outputs, targets) -> scalar.
        metrics: Collects outputs and targets of the validation split; computes a dict of numbers, and draws figures.
        optimizer: Takes parameter groups.
        schedule: Takes the optimizer and `total_steps`, and is stepped every step; None for a constant learning rate.
        final: What makes outputs of the net's scores; None to take them as they are.
        tune: `all` of the net, its `head` alone (the rest stays as it is, in evaluation mode), or `lora` (small
            matrices beside its layers, and the head); several are phases, one after the other.
        predict_views: How many symmetries of the square predictions are averaged over, 1 (the plain view) to 8.
        views: Of each picture, that a head alone learns from, 1 (the plain view) to 8.
        allow_double_weighting: Whether a balanced sampler and class weights may be used together.
        tuning: How the phases go.
        embedded: Objects of each survey whose features are kept with the run, for its figures; 0 for none.
        channels_last: Whether convolutions see channels last, which is faster on CPUs and on tensor cores.

    Attributes:
        phases: What is tuned, one after the other.
        phase: The one that the module is in.

    Raises:
        UserError: If the head is to be tuned of a net that does not say what its head is.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        metrics: Metric,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., Any] | None = None,
        final: nn.Module | None = None,
        tune: str | Sequence[str] = "all",
        predict_views: int = 1,
        views: int = 8,
        allow_double_weighting: bool = False,
        tuning: Tuning | None = None,
        embedded: int = 0,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self.loss = loss
        self.metrics = metrics
        self.optimizer = optimizer
        self.schedule = schedule
        self.final = final if final is not None else nn.Identity()
        self.predict_views, self.views = predict_views, views
        self.allow_double_weighting = allow_double_weighting
        self.embedded = embedded
        self.tuning = tuning if tuning is not None else Tuning()
        self.phases = phases(tune, net)
        self.enter(self.phases[0])

    def check(self, data: ImageData) -> None:
        """Refuses to make rare classes count twice."""
        preparing.check_weighing(self, data)

    def prepare(self, trainer: lightning.Trainer, data: ImageData, here: RunDir) -> None:
        """Makes sure that net and pictures fit, and tells the loss of the classes."""
        preparing.probe(self, data)
        preparing.weigh_classes(self, data)

    def enter(self, phase: str) -> None:
        """Makes trainable what a phase tunes."""
        self.phase = phase
        enter(phase, self.net, self.tuning)

    def begin(self, phase: str, trainer: lightning.Trainer, data: ImageData, here: RunDir) -> None:
        """Makes a phase ready: what is trained, and on pictures or on their features."""
        self.enter(phase)
        preparing.begin(trainer, self, data, here)

    def end(self, trainer: lightning.Trainer, data: ImageData, here: RunDir) -> None:
        """Writes what the net says after a phase that another follows."""
        if self.tuning.progression:
            predictions.write_tables(trainer, self, data, here, by=f"net_{self.phase}")

    def write_predictions(self, trainer: lightning.Trainer, data: ImageData, here: RunDir) -> None:
        """Writes what the net says of validation and test pictures."""
        predictions.write_predictions(trainer, self, data, here)

    def epochs(self, phase: str, last: int) -> int:
        """Epochs of a phase, where `last` is how many the last one has."""
        return last if phase == self.phases[-1] else self.tuning.head_epochs

    def backbone_rates(self) -> tuple[float, float]:
        """Of the current phase, the backbone's learning rate relative to the head's, and its decay by layer."""
        return (self.tuning.backbone_rate, self.tuning.layer_decay) if self.phase == "all" else (1.0, 1.0)

    @torch.no_grad()
    def figures(self, trainer: lightning.Trainer) -> dict[str, Figure]:
        """The metric's figures, and some validation pictures with what the net says of them."""
        attached: Any = trainer  # Lightning sets its datamodule without declaring it
        data: ImageData = attached.datamodule
        batch = trainer.strategy.batch_to_device(data.pictures[data.rows("val")[:SHOWN]], self.device)
        with trainer.precision_plugin.forward_context():
            outputs = self(batch["image"]).float().cpu().numpy()
        targets = batch["target"].cpu().numpy()
        pictures = batch["image"].permute(0, 2, 3, 1).clamp(0, 1).mul(255).byte().cpu().numpy()
        captions = [data.caption(said, true) for said, true in zip(outputs, targets, strict=True)]
        collected: Any = self.metrics
        return {**collected.figures(), "galaxies": picture_grid(list(pictures), captions)}

    def forward(self, images: Tensor) -> Tensor:
        """Outputs in single precision, shape (N, K)."""
        return self.final(self.net(images)).float()

    def classify(self, features: Tensor) -> Tensor:
        """Outputs in single precision, shape (N, K), of what the net's head sees, shape (N, F)."""
        assert isinstance(self.net, TwoParts)
        return self.final(self.net.head(features)).float()

    def outputs(self, batch: dict[str, Tensor]) -> Tensor:
        """Outputs for a batch of images, or of their features (the first view's)."""
        return self.classify(batch["features"][:, 0]) if "features" in batch else self(batch["image"])

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.phase == "head" and isinstance(self.net, TwoParts):
            # In training mode batch norm would go on adapting, and dropout would blur what is to stay fixed.
            self.net.eval()
            self.net.head.train(mode)
        return self

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(self.outputs(batch), batch["target"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["index"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        outputs = self.outputs(batch)
        self.metrics.update(outputs, batch["target"])
        self.log("val/loss", self.loss(outputs, batch["target"]), batch_size=len(batch["index"]))

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()})
        self.metrics.reset()

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Row by row the same, to the last bit, whichever rows share a batch.

        Returns:
            `index` (B,); `output` (B, K), the mean over the views; and of nets that have them `feature` (B, F), what
            the head sees of the plain view. Of the second loader's objects (training ones) the plain view alone is
            looked at, and of the third's (test ones), which may be many, features are kept only for `embedded`.
        """
        views = range(1 if dataloader_idx == 1 else self.predict_views)
        if not isinstance(self.net, TwoParts):
            outputs = [in_parts(self, symmetric(batch["image"], view)) for view in views]
            return {"index": batch["index"], "output": torch.stack(outputs).mean(0)}
        if "features" in batch:
            features = [batch["features"][:, view] for view in views]
        else:
            features = [in_parts(self.net.features, symmetric(batch["image"], view)).float() for view in views]
        outputs = [in_parts(self.classify, feature) for feature in features]
        said = {"index": batch["index"], "output": torch.stack(outputs).mean(0)}
        return said if dataloader_idx == 2 and not self.embedded else {**said, "feature": features[0]}

    def configure_optimizers(self) -> Any:
        follow = self.phase != self.phases[-1]
        return optimization(self, self.tuning.optimizer(self.phase, follow, self.optimizer), self.schedule)
