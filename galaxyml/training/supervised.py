"""Fits a model to known targets; knows no task."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as lightning
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric, MetricCollection

from galaxyml.data.batches import rows_of_all
from galaxyml.evaluation.plots import image_grid
from galaxyml.models import build_model
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.models.backbones import Normalised
from galaxyml.models.origin import Origin
from galaxyml.models.symmetry import Symmetric, Symmetries
from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.training.optimizers import optimization
from galaxyml.training.phases import Tuning, phases, start_phase
from galaxyml.training.prediction_module import PredictionModule
from galaxyml.training.specs import ADAMW, COSINE, adamw, arguments, build, check_parts, own_weights
from galaxyml.training.start import read_start
from galaxyml.training.transfer import take

UNFILLED = {"weights": None, "pretrained": False}  # of a net whose weights come from elsewhere
SHOWN = 8  # images in a figure
UNSUITABLE = (RuntimeError, AssertionError, ValueError, TypeError, IndexError)  # what torch says of wrong shapes


class SupervisedModule(PredictionModule):
    """A net, its loss, its metrics and its optimizer, all handed in, or taken from the kind of target.

    What may be a module may also be a mapping `{_target_: …}` with its arguments; with mappings alone
    `load_from_checkpoint` needs nothing else.

    Args:
        net: (N, C, H, W) -> (N, K); a module, a mapping, or a name as `galaxyml.models.build_model` takes it.
        loss: (outputs, targets) -> scalar; None for the kind's.
        metrics: Any torchmetrics metric or collection, which collects outputs and targets of the validation split;
            it may have `figures()`. None for the kind's.
        optimizer: Takes parameter groups, such as `functools.partial(torch.optim.SGD, lr=0.05)`.
        schedule: Takes the optimizer and `total_steps`, and is stepped every step; None for a constant learning rate.
        kind: The kind of target (`galaxyml.kinds`); None if loss and metrics are given.
        final: What makes outputs of the net's scores; None for the kind's.
        tune: `all` of the net, its `head` alone (the rest stays as it is, in evaluation mode), or `lora` (small
            matrices beside its layers, and the head); several are phases, one after the other.
        views: Of each image, that a head alone learns from, 1 (the plain view) to 8.
        allow_double_weighting: Whether a balanced sampler and class weights may be used together.
        tuning: How the phases go.
        size: As for PredictionModule.
        channels: Channels of the images, C.
        start: What the net begins with: a run, a sweep, a bundle, a checkpoint or a file of weights, as for
            `galaxyml.training.start.read_start`; None for weights of its own.
        **options: As for PredictionModule.

    Attributes:
        taken: What the net has taken of the start.
        phases: What is tuned, one after the other.
        phase: The one that the module is in.

    Raises:
        UserError: If the head is to be tuned of a net that has no separate head, or loss or metrics are missing.

    Example:
        Any net under any Trainer; loss, head and metrics are those of the data's kind of target::

            model = SupervisedModule.for_data(data, net=MyNet(outputs=len(data.kind.outputs)))
            lightning.Trainer(max_epochs=5).fit(model, datamodule=data)
            model(images)  # outputs (N, K) of images in [0, 1], (N, C, size, size)
    """

    def __init__(
        self,
        net: nn.Module | Mapping[str, Any] | str,
        loss: nn.Module | Mapping[str, Any] | None = None,
        metrics: Metric | MetricCollection | Mapping[str, Any] | None = None,
        optimizer: Callable[..., Optimizer] | Mapping[str, Any] = ADAMW,
        schedule: Callable[..., Any] | Mapping[str, Any] | None = COSINE,
        *,
        kind: Any = None,
        final: nn.Module | Mapping[str, Any] | None = None,
        tune: str | Sequence[str] = "all",
        views: int = 8,
        allow_double_weighting: bool = False,
        tuning: Tuning | Mapping[str, Any] | None = None,
        size: int | None = None,
        channels: int = 3,
        start: Path | str | None = None,
        **options: Any,
    ) -> None:
        given = arguments(locals()) | {"start": None}
        known = [name for name in inspect.signature(PredictionModule.__init__).parameters if name != "self"]
        check_parts("SupervisedModule", options, known, loss=loss, optimizer=optimizer, schedule=schedule)
        kind = build(kind)
        if kind is None and (loss is None or metrics is None):
            raise UserError("SupervisedModule: give loss and metrics, or kind, which has both; or use for_data(data).")
        outputs = len(kind.outputs) if kind else None
        if start is not None and not isinstance(net, str | nn.Module):
            net = {**net, **{key: value for key, value in UNFILLED.items() if key in net}}  # which the start replaces
        if net is None:  # as checkpoints have it that hold a net of the user's own
            raise UserError(
                "This checkpoint is of a net of your own, which is no part of it: give the net, as in "
                "SupervisedModule.load_from_checkpoint(FILE, net=net)."
            )
        built = net if isinstance(net, nn.Module) else build_model(net, outputs, size, channels)
        given["net"] = own_weights(net, built)
        head = build(final) if final is not None else kind.head() if kind is not None else None
        options = {name: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for name, v in options.items()}
        self.taken = None
        if start is not None:
            inner = built.net if isinstance(built, Symmetric) else built
            self.taken = take(inner, read_start(start, type(inner).__name__), kind and kind.score_names, head)
        super().__init__(built, head, size=size, **options)
        self.save_hyperparameters(given, logger=False)
        self.kind = kind
        self.channels = channels
        self.loss = kind.loss(build(loss)) if kind is not None else build(loss)
        self.metrics = build(metrics) if metrics is not None else kind.metrics()
        self.test_metrics = copy.deepcopy(self.metrics)
        self.optimizer = build(optimizer)
        self.schedule = build(schedule)
        self.views = views
        self.allow_double_weighting = allow_double_weighting
        self.tuning = build(tuning) if tuning is not None else Tuning()
        self.phases = phases(tune, self.net)
        self.start_phase(self.phases[0])

    @classmethod
    def for_data(
        cls, data: Any, net: nn.Module | Mapping[str, Any] | str = "resnet50", lr: float | None = None, **options: Any
    ) -> Self:
        """A module whose loss, outputs and metrics suit the kind of target of a DataModule.

        Args:
            data: Such as `galaxyml.GalaxyZoo("data/galaxyzoo")`.
            net: As for SupervisedModule.
            lr: Learning rate of AdamW; None for 1e-3. `optimizer=` takes any other.
            **options: As for SupervisedModule.
        """
        framing = data.framing
        own: dict[str, Any] = {"size": framing.size, "channels": framing.decoding.channels}
        own |= {} if lr is None else {"optimizer": adamw(lr)}
        return cls(net, kind=data.kind, **{**own, **options})

    def setup(self, stage: str) -> None:
        if stage != "fit":
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        if data is not None:
            self.check_data(data)
        self.rehearse()
        learners: list[Any] = [module for module in (self.final, self.loss) if hasattr(module, "fit_targets")]
        if not learners:
            return
        if not hasattr(data, "training_targets"):
            raise UserError(
                f"{type(learners[0]).__name__} learns from the training targets: call "
                "trainer.fit(model, datamodule=data) with a DataModule of galaxyml, or one with training_targets()."
            )
        for learner in learners:
            learner.fit_targets(data.training_targets())

    def check_data(self, data: Any) -> None:
        """Refuses to make rare classes count twice.

        Raises:
            UserError: If a balanced sampler and class weights are used together, and nobody insists.
        """
        balance = getattr(data, "balance", 0.0)
        loss: Any = self.loss
        if balance and getattr(loss, "reweights", False) and not self.allow_double_weighting:
            raise UserError(
                f"balance={balance} draws rare classes more often, and the loss weighs them more as well: they count "
                "twice, and the net then sees them everywhere (recall 0.90 at precision 0.23 in a published run). Set "
                f"balance=0, or loss.{loss.key}=null; allow_double_weighting=true insists."
            )

    @torch.no_grad()
    def rehearse(self) -> None:
        """Makes sure, on images and targets of objects that do not exist, that net, loss and targets go together.

        Raises:
            UserError: If the net does not take images of the given size, or has not as many outputs as there is to
                predict; if the loss does not take such outputs, or such targets.
        """
        if self.size is None or self.kind is None:
            return
        outputs, targets = self._trial_outputs(self.size), self.kind.example_targets().to(self.device)
        loss = copy.deepcopy(self.loss)  # which is to see real objects alone
        if hasattr(loss, "fit_targets"):
            loss.fit_targets(targets)
        try:
            loss(outputs[torch.arange(len(targets)) % len(outputs)], targets)
        except UserError:
            raise
        except UNSUITABLE as error:
            raise UserError(
                f"{type(loss).__name__} cannot take the targets of kind={self.kind.name}, {targets.dtype} of shape "
                f"{tuple(targets.shape)} ({str(error).splitlines()[0]}). Choose another loss=…."
            ) from error

    def _trial_outputs(self, size: int) -> Tensor:
        """Outputs for two images without light."""
        training = self.training
        try:
            outputs: Tensor = self.eval()(torch.zeros(2, self.channels, size, size, device=self.device))
        except UNSUITABLE as error:
            why = str(error).splitlines()[0]
            if (takes := _channels_of(self.net)) not in (None, self.channels):
                raise UserError(
                    f"channels={self.channels}: this model takes images of {takes} ({why}). Give it in_chans, as "
                    f"galaxyml's own models have it, or set channels={takes}."
                ) from error
            raise UserError(f"size={size}: this model cannot take it ({why}). Choose another size=….") from error
        finally:
            self.train(training)
        if outputs.shape[1] != len(self.kind.outputs):
            raise UserError(f"outputs={outputs.shape[1]}: this task predicts {len(self.kind.outputs)} columns.")
        return outputs

    @property
    def origin(self) -> Origin | None:
        """Where the net's first weights come from, and which images they expect; None where that is not known."""
        found = (module.origin for module in self.net.modules() if isinstance(module, Normalised))
        return next(found, None)

    @torch.no_grad()
    def logged_names(self) -> set[str]:
        """Names of the numbers that each epoch logs, any of which can be monitored; empty where there is no kind."""
        if self.kind is None:
            return set()
        targets = self.kind.example_targets()
        outputs = self.kind.baseline(targets).float()
        metrics = copy.deepcopy(self.metrics).cpu()
        metrics.update(outputs.expand(len(targets), *outputs.shape), targets)
        return {"train/loss", "val/loss", *(f"val/{name}" for name in named(metrics))}

    def start_phase(self, phase: str) -> None:
        """Makes trainable what a phase tunes."""
        self.phase = phase
        start_phase(phase, self.net, self.tuning)

    def phase_epochs(self, phase: str, last: int) -> int:
        """Epochs of a phase, where `last` is how many the last one has."""
        return last if phase == self.phases[-1] else self.tuning.head_epochs

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["phase"] = self.phase

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if (phase := checkpoint.get("phase", self.phase)) != self.phase:
            self.start_phase(phase)  # the matrices of `lora` have to be there

    @property
    def predicts_from_features(self) -> bool:
        """Whether all views that predictions are averaged over are among those whose features are computed once."""
        views = self.predict_views
        return self.phase == "head" and isinstance(views, Symmetries) and len(views) <= self.views

    @torch.no_grad()
    def baseline(self, data: Any) -> dict[str, float]:
        """The metrics of the validation split that a predictor reaches which sees no image, by name."""
        if self.kind is None:
            return {}
        targets = data.targets[data.rows("val")]
        metrics = copy.deepcopy(self.metrics).cpu()
        metrics.reset()
        outputs = self.kind.baseline(data.training_targets()).float()
        metrics.update(outputs.expand(len(targets), *outputs.shape), targets)
        return {name: float(value) for name, value in named(metrics).items() if "/" not in name}

    @torch.no_grad()
    def figures(self, trainer: lightning.Trainer) -> dict[str, Figure]:
        """The metric's figures, and some validation images with their predictions and targets."""
        collected: Any = self.metrics
        drawn: dict[str, Figure] = {}
        if hasattr(collected, "figures"):
            collected.compute()  # of all processes, and cached: within the next line none could gather from the others
            with collected.sync_context(should_unsync=True):
                drawn = collected.figures()
        data = trainer.datamodule  # type: ignore[attr-defined]  # as above
        if self.kind is None or not hasattr(data, "images"):
            return drawn
        batch = trainer.strategy.batch_to_device(data.images[data.rows("val")[:SHOWN]], self.device)
        with trainer.precision_plugin.forward_context():
            outputs = self(batch["image"]).float().cpu().numpy()
        targets = batch["target"].cpu().numpy()
        images = batch["image"].permute(0, 2, 3, 1).clamp(0, 1).mul(255).byte().cpu().numpy()
        captions = [self.kind.caption(output, target) for output, target in zip(outputs, targets, strict=True)]
        return {**drawn, "objects": image_grid(list(images), captions)}

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
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=of)
        return ranks.scale_for_mean(loss, of)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._judge(batch, self.metrics, "val/loss")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._judge(batch, self.test_metrics, "test/loss")

    def _judge(self, batch: dict[str, Tensor], metrics: Any, name: str) -> None:
        of = rows_of_all(batch)
        outputs = self.outputs(batch)
        counted = ranks.counted(of)
        metrics.update(outputs[counted], batch["target"][counted])
        self.log(name, self._loss(outputs, batch), prog_bar=name == "val/loss", batch_size=of)

    def _loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a whole batch, of which other processes may have their share: a loss need not be a mean."""
        of = rows_of_all(batch)
        return self.loss(ranks.gather(outputs, of), ranks.gather(batch["target"], of))

    def on_validation_epoch_end(self) -> None:
        self._log_metrics(self.metrics, "val")

    def on_test_epoch_end(self) -> None:
        self._log_metrics(self.test_metrics, "test")

    def _log_metrics(self, metrics: Any, split: str) -> None:
        self.log_dict({f"{split}/{name}": value for name, value in named(metrics).items()})
        metrics.reset()

    def configure_optimizers(self) -> Any:
        tuning, optimizer = self.tuning, self.optimizer
        if self.phase != self.phases[-1] and tuning.head_lr is not None:  # the head's, which another phase follows
            optimizer = partial(optimizer, lr=tuning.head_lr)
        rates = (tuning.backbone_rate, tuning.layer_decay) if self.phase == "all" else (1.0, 1.0)
        return optimization(self, optimizer, self.schedule, *rates)


def _channels_of(net: nn.Module) -> int | None:
    """Channels that a net's first convolution takes; None if it has none."""
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    return first.in_channels if first is not None else None


def named(metrics: Any) -> dict[str, Tensor]:
    """The numbers of a metric or a collection by name; of several, such as one a class, also by their index.

    >>> from torchmetrics.classification import MulticlassF1Score
    >>> metric = MulticlassF1Score(2)
    >>> metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    >>> named(metric)
    {'MulticlassF1Score': tensor(1.)}
    """
    computed = metrics.compute()
    if not isinstance(computed, Mapping):
        computed = {type(metrics).__name__: computed}
    numbers: dict[str, Tensor] = {}
    for name, value in computed.items():
        if isinstance(value, Tensor) and value.ndim:
            numbers |= {f"{name}/{index}": number for index, number in enumerate(value.flatten())}
        else:
            numbers[name] = value
    return numbers
