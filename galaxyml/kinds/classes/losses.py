"""Losses of classes: (scores, class indices) -> a scalar. The index -1 marks an object whose class is not known."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from galaxyml.runs.errors import UserError, shorten

Weights = Sequence[float] | Literal["balanced"] | None


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights by which each class counts the same, N / (K n_c), as scikit-learn's `balanced`.

    The rule goes back to King & Zeng 2001 (doi:10.1093/oxfordjournals.pan.a004868).

    Args:
        labels: Class indices, 0 to K - 1, shape (N,); -1 where not known, which counts nowhere.
        classes: Number of classes, K.

    Returns:
        Positive weights, shape (K,), whose mean over the labelled objects is 1.

    Raises:
        UserError: If a label is no class, or a class has no object.

    >>> balanced_weights(torch.tensor([0, 0, 0, 1]), classes=2)
    tensor([0.6667, 2.0000])
    """
    labels = labels[labels != -1]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(
            f"Labels go from {labels.min()} to {labels.max()}, but there are {classes} classes; "
            f"give 0 to {classes - 1}, or -1 where not known."
        )
    counts = labels.bincount(minlength=classes)
    if empty := (counts == 0).nonzero()[:, 0].tolist():
        raise UserError(
            f"No training object has class {shorten(empty)}, so it cannot be balanced. Give training objects of every "
            "class, or weights as numbers."
        )
    return len(labels) / (classes * counts)


class ClassLoss(nn.Module):
    """A loss of scores against class indices that may weigh the classes.

    Weights are part of the state, so that a checkpoint brings them to a loss that has seen no labels.

    Args:
        key: What the loss calls its weights, for messages.
        weights: A positive number for each class; None for 1 each; or `balanced`, which `fit_targets` fills in.
        classes: Number of classes, K; None to take what comes, which `balanced` cannot.

    Raises:
        UserError: If the weights are none of these.
    """

    class_weights: Tensor | None

    def __init__(self, key: str, weights: Weights, classes: int | None) -> None:
        super().__init__()
        self.classes = classes
        self.key = key
        self.balanced = weights == "balanced"
        self.reweights = weights is not None  # a sampler that draws rare classes more often would count them twice
        values: Tensor | None = None
        if self.balanced:
            if classes is None:
                raise UserError(f"loss.{key}=balanced needs the number of classes; give classes=… beside it.")
            values = torch.full((classes,), math.nan)
        elif weights is not None:
            values = torch.tensor(_numbers(weights, classes, key))
        self.register_buffer("class_weights", values)

    def fit_targets(self, targets: Tensor) -> None:
        """Sets the weights from the training labels if they are to be `balanced`; does nothing otherwise.

        Args:
            targets: Class indices of the training objects, -1 where not known, shape (N,).

        Raises:
            UserError: If these are no class indices, or a class has no object.
        """
        _check_classes(targets)
        if self.class_weights is not None and self.balanced:
            self.class_weights.copy_(balanced_weights(targets, len(self.class_weights)))

    def prepared(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Scores in at least single precision, shape (N, K), and the classes' weights in the same, shape (K,).

        Raises:
            UserError: If the targets are no class indices of shape (N,), or the weights wait for `fit_targets`.
        """
        _check_classes(targets)
        classes = outputs.shape[1]
        known = self.classes if self.class_weights is None else len(self.class_weights)
        if known is not None and classes != known:
            raise UserError(f"loss.classes={known}, but the net has {classes} outputs; make them equal.")
        scores = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        if self.class_weights is None:
            return scores, scores.new_ones(classes)
        if self.balanced and self.class_weights.isnan().any():
            raise UserError(
                f"loss.{self.key}=balanced follows from training labels, which this loss has not seen (fit_targets). "
                f"Give {classes} numbers, or null."
            )
        return scores, self.class_weights.to(scores.dtype)


def _check_classes(targets: Tensor) -> None:
    if targets.ndim != 1 or targets.is_floating_point():
        raise UserError(
            f"This loss takes class indices, one an object, but the targets have shape {tuple(targets.shape)} and "
            f"type {targets.dtype}. Give a loss for such targets, such as loss=mse, or loss=dirichlet for votes."
        )


def _numbers(weights: Sequence[Any], classes: int | None, key: str) -> list[float]:
    try:
        numbers = [float(weight) for weight in weights]
    except (TypeError, ValueError) as error:
        raise UserError(f"loss.{key}={weights}: give null, balanced, or a positive number for each class.") from error
    if classes is not None and len(numbers) != classes:
        raise UserError(f"loss.{key} has {len(numbers)} numbers for {classes} classes; give one for each class.")
    for number, weight in enumerate(numbers):
        if not 0 < weight < math.inf:
            raise UserError(f"loss.{key}: the weight of class {number} is {weight:g}; weights are positive and finite.")
    return numbers


class FocalLoss(ClassLoss):
    """Focal loss: cross-entropy that counts what is already well classified for less.

    The mean of -alpha_t (1 - p_t)^gamma log p_t over the objects whose class is known, where p_t is the softmax
    probability of the true class and alpha_t that class's weight (Lin et al. 2017, arXiv:1708.02002, eq. 5). The best
    value is 0.

    Args:
        gamma: How much less, at least 0; at 0 this is cross-entropy.
        alpha: A positive weight for each class, None for 1 each, or `balanced`, which `fit_targets` fills in.
        classes: Number of classes, K; None to take what comes, which `balanced` cannot.

    Raises:
        UserError: If gamma or alpha are none of these.

    Two objects of classes 0 and 1; at gamma 0 it is cross-entropy:

    >>> scores, classes = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    >>> [round(float(FocalLoss(gamma)(scores, classes)), 4) for gamma in (0.0, 2.0)]
    [0.41, 0.0875]
    """

    def __init__(self, gamma: float = 2.0, alpha: Weights = None, classes: int | None = None) -> None:
        super().__init__("alpha", alpha, classes)
        if not 0 <= gamma < math.inf:
            raise UserError(f"loss.gamma={gamma:g}: gamma is finite and at least 0; 2 is common.")
        self.gamma = gamma

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Scores of shape (N, K), class indices of shape (N,) with -1 where not known."""
        scores, alpha = self.prepared(outputs, targets)
        known = targets != -1
        classes = torch.where(known, targets, 0)
        log_p = scores.log_softmax(1).gather(1, classes[:, None])[:, 0]
        # Kept above 0, where a power below 1 has no slope.
        others = (-log_p.expm1()).clamp_min(torch.finfo(scores.dtype).tiny)
        losses = -alpha[classes] * others**self.gamma * log_p
        return torch.where(known, losses, 0).sum() / known.sum().clamp_min(1)


class CrossEntropyLoss(ClassLoss):
    """Cross-entropy: the weighted mean of -log p_t over the objects whose class is known, as torch's.

    p_t is the softmax probability of the true class; an object counts by the weight of its class. The best value is 0
    without label smoothing.

    Args:
        weights: A positive weight for each class, None for 1 each, or `balanced`, which `fit_targets` fills in.
        label_smoothing: Share of each target that is spread over all classes, at least 0 and below 1 (Szegedy et al.
            2016, doi:10.1109/CVPR.2016.308, section 7).
        classes: Number of classes, K; None to take what comes, which `balanced` cannot.

    Raises:
        UserError: If the weights or the smoothing are none of these.
    """

    def __init__(self, weights: Weights = None, label_smoothing: float = 0.0, classes: int | None = None) -> None:
        super().__init__("weights", weights, classes)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"loss.label_smoothing={label_smoothing:g}: the smoothing is at least 0 and below 1.")
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Scores of shape (N, K), class indices of shape (N,) with -1 where not known."""
        scores, weights = self.prepared(outputs, targets)
        # torch's mean over no objects is NaN, so the sum is divided here.
        summed = F.cross_entropy(
            scores, targets, weights, ignore_index=-1, reduction="sum", label_smoothing=self.label_smoothing
        )
        known = targets != -1
        counted = torch.where(known, weights[torch.where(known, targets, 0)], 0).sum()
        return summed / torch.where(counted > 0, counted, 1)
