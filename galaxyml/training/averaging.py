"""Averages of weights, and early stopping: Lightning's, with what a resumed or a short fit needs besides."""

from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import Callback, WeightAveraging
from omegaconf import DictConfig
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from galaxyml.runs.errors import UserError


def warmed_up(decay: float, updates: int) -> float:
    """Decay of a moving average that is young, so that its first weights do not rule a short fit.

    min(decay, (1 + updates) / (10 + updates)), which is what TensorFlow's `tf.train.ExponentialMovingAverage` makes of
    `num_updates`; Tan & Le 2019 (EfficientNet) trained with it. The least is 0.1; 0.999 is reached after 8,990 updates.

    Args:
        decay: What it rises to, in (0, 1).
        updates: Of the average so far, 0 or more.
    """
    return min(decay, (1 + updates) / (10 + updates))


class WeightEMA(WeightAveraging):
    """Lightning's moving average of the weights, with a decay that is warmed up and one copy of frozen weights.

    After each step of the optimizer, average = d average + (1 - d) weights, where d is warmed up, and the first step's
    weights are the first average. Statistics of batch norm go the same way; whole numbers and truths are copied.
    Validation sees the average, `state_dict` of a checkpoint and the fitted module have it; the fit goes on with the
    plain weights. (Lightning's `EMAWeightAveraging` has a constant decay, whose first weights rule a short fit.)

    In the list of callbacks it stands after those that look at the validating net, such as `Figures`, as it puts the
    plain weights back when their `on_validation_epoch_end` has come.

    Args:
        decay: Of the average at each step, in (0, 1).

    Raises:
        UserError: If it is not.
    """

    def __init__(self, decay: float) -> None:
        if not isinstance(decay, float) or not 0 < decay < 1:
            raise UserError(
                f"ema={decay}: it must be a number above 0 and below 1, such as ema=0.999; ema=null averages nothing."
            )
        super().__init__(multi_avg_fn=self._update)
        self.decay = decay

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Lightning has no public name for the average.
        assert self._average_model is not None
        self._average_model.to(pl_module.device)  # it was copied before the net went there
        for average, weight in zip(self._average_model.module.parameters(), pl_module.parameters(), strict=True):
            if not weight.requires_grad:
                average.data = weight.data  # one memory, so that what is frozen is neither held nor saved twice

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self._average_model = None  # else it would validate in the place of weights that were loaded later

    def _update(self, averages: Any, weights: Any, updates: Tensor | int) -> None:
        """Moves averages towards weights, lists of tensors of one type, in place."""
        # Where both are in one memory, frozen, a step would only take time.
        pairs = [pair for pair in zip(averages, weights, strict=True) if pair[0].data_ptr() != pair[1].data_ptr()]
        if pairs and pairs[0][0].is_floating_point():
            moved, towards = map(list, zip(*pairs, strict=True))
            # Its lerp leaves equal numbers equal, to the last bit, where d a + (1 - d) a would not.
            get_ema_multi_avg_fn(warmed_up(self.decay, int(updates)))(moved, towards, updates)
        else:
            for average, weight in pairs:
                average.copy_(weight)


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, but a fit that had ended so stays ended when it is carried on.

    NaN is no improvement. What nobody logs is left for the checkpoints to complain of.

    Args:
        monitor: The metric.
        mode: Whether it is to be `min` or `max`.
        patience: Epochs without improvement that end the fit, at least 1.

    Raises:
        UserError: If `patience` is not a whole number, or is less.
    """

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise UserError(
                f"patience={patience}: it must be a whole number of epochs, 1 or more; patience=null fits all epochs."
            )
        super().__init__(monitor, patience=patience, mode=mode, strict=False, check_finite=False)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Lightning would fit one more epoch before it looks (Lightning-AI/pytorch-lightning#8278).
        trainer.should_stop = self.wait_count >= self.patience


def ending_callbacks(config: DictConfig) -> list[Callback]:
    """Callbacks that decide how a fit ends, by `ema` and `patience` of a configuration."""
    average: list[Callback] = [WeightEMA(config.ema)] if config.ema is not None else []
    stop = [EarlyStopping(config.monitor, config.mode, config.patience)] if config.patience is not None else []
    return [*average, *stop]
