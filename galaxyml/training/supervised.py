"""Fits a net to known targets; knows no task."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import lightning.pytorch as lightning
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from galaxyml.data.batches import rows_of_all
from galaxyml.data.images.data_module import ImageData
from galaxyml.evaluation.plots import picture_grid
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.models.symmetry import Symmetries
from galaxyml.runs import ranks
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import predictions, preparing
from galaxyml.training.optimizers import optimization
from galaxyml.training.phases import Tuning, enter, phases
from galaxyml.training.prediction_module import PredictionModule

SHOWN = 8  # pictures in a figure


class SupervisedModule(PredictionModule):
    """A net, its loss, its metrics and its optimizer, all handed in.

    Args:
        net: (N, 3, H, W) -> (N, K).
        loss: (outputs, targets) -> scalar.
        metrics: Collects outputs and targets of the validation split; computes a dict of numbers, and draws figures.
        optimizer: Takes parameter groups.
        schedule: Takes the optimizer and `total_steps`, and is stepped every step; None for a constant learning rate.
        tune: `all` of the net, its `head` alone (the rest stays as it is, in evaluation mode), or `lora` (small
            matrices beside its layers, and the head); several are phases, one after the other.
        views: Of each picture, that a head alone learns from, 1 (the plain view) to 8.
        allow_double_weighting: Whether a balanced sampler and class weights may be used together.
        tuning: How the phases go.
        **options: As for PredictionModule.

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
        tune: str | Sequence[str] = "all",
        views: int = 8,
        allow_double_weighting: bool = False,
        tuning: Tuning | None = None,
        **options: Any,
    ) -> None:
        super().__init__(net, **options)
        self.loss = loss
        self.metrics = metrics
        self.optimizer = optimizer
        self.schedule = schedule
        self.views = views
        self.allow_double_weighting = allow_double_weighting
        self.tuning = tuning if tuning is not None else Tuning()
        self.phases = phases(tune, self.net)
        self.enter(self.phases[0])

    def check(self, data: ImageData) -> None:
        """Refuses to make rare classes count twice."""
        preparing.check_weighing(self, data)

    def prepare(self, trainer: lightning.Trainer, data: ImageData, here: RunDir) -> None:
        """Makes sure that net and pictures fit, and shows the loss the targets."""
        preparing.probe(self, data)
        preparing.show_targets(self, data)

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

    @property
    def predicts_from_features(self) -> bool:
        """Whether all views that predictions are averaged over are among those whose features are kept."""
        views = self.predict_views
        return self.phase == "head" and isinstance(views, Symmetries) and len(views) <= self.views

    def backbone_rates(self) -> tuple[float, float]:
        """Of the current phase, the backbone's learning rate relative to the head's, and its decay by layer."""
        return (self.tuning.backbone_rate, self.tuning.layer_decay) if self.phase == "all" else (1.0, 1.0)

    @torch.no_grad()
    def baseline(self, data: ImageData) -> dict[str, float]:
        """The metrics of the validation split that a predictor reaches which sees no picture, by name."""
        targets = data.targets_of_rows[data.rows("val")]
        collected = copy.deepcopy(self.metrics).cpu()
        collected.reset()
        collected.update(data.trivial().float().expand(len(targets), -1), targets)
        return {name: float(value) for name, value in collected.compute().items() if "/" not in name}

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
        collected.compute()  # of all processes, and kept: within the next line none could ask the others
        with collected.sync_context(should_unsync=True):
            return {**collected.figures(), "objects": picture_grid(list(pictures), captions)}

    def outputs(self, batch: dict[str, Tensor]) -> Tensor:
        """Outputs for a batch of images, or of their features (the first view's)."""
        return self.classify(batch["features"][:, 0]) if "features" in batch else self(batch["image"])

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.phase == "head" and isinstance(self.net, BackboneWithHead):
            # In training mode batch norm would go on adapting, and dropout would blur what is to stay fixed.
            self.net.eval()
            self.net.head.train(mode)
        return self

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        of = rows_of_all(batch)
        loss = self._loss(self.outputs(batch), batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=of)
        return ranks.scale_for_mean(loss, of)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        of = rows_of_all(batch)
        outputs = self.outputs(batch)
        counted = ranks.counted(of)
        self.metrics.update(outputs[counted], batch["target"][counted])
        self.log("val/loss", self._loss(outputs, batch), batch_size=of)

    def _loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a whole batch, of which other processes may have their share: a loss need not be a mean."""
        of = rows_of_all(batch)
        return self.loss(ranks.gather(outputs, of), ranks.gather(batch["target"], of))

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()})
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        follow = self.phase != self.phases[-1]
        return optimization(self, self.tuning.optimizer(self.phase, follow, self.optimizer), self.schedule)
