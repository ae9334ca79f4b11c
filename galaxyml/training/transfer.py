"""Weights of a start put into a net: the trunk, and of the last layer the scores that mean the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.models.symmetry import Symmetric
from galaxyml.runs.errors import UserError, shorten
from galaxyml.training.start import PREFIX, Start, class_of

RGB = 3
HEADS = ("new_head.", "head.", "classes.")  # where nets keep layers that depend on what is predicted


@dataclass(frozen=True)
class Taken:
    """What of a start a net has taken.

    Attributes:
        start: It.
        tensors: How many tensors were taken, adapted ones among them.
        of: How many the net has.
        adapted: What was adapted, in words.
        new: What begins anew, in words.
    """

    start: Start
    tensors: int
    of: int
    adapted: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        net = f" ({self.start.net})" if self.start.net else ""
        more = [*(f"adapted: {part}" for part in self.adapted), *(f"new: {part}" for part in self.new)]
        return "; ".join([f"starts from {self.start.path}{net}, {self.tensors} of {self.of} tensors", *more])

    def record(self) -> dict[str, Any]:
        """It as plain values, for the provenance."""
        counts = {"tensors": self.tensors, "of": self.of}
        origin = {"path": str(self.start.path), "net": self.start.net, "sha256": self.start.sha256}
        return origin | counts | {"adapted": list(self.adapted), "new": list(self.new)}


def overlap(taken: Taken, data: Any) -> str | None:
    """A sentence on objects that a run is judged by and its start has learnt from; None if there are none.

    Args:
        taken: What was taken of the start.
        data: The run's DataModule.
    """
    if not taken.start.objects or not hasattr(data, "digests"):
        return None
    if not set(data.digests().values()) & set(taken.start.data.values()):  # ids of other tables are other objects
        return None
    catalog = data.catalog
    known = catalog["id"].astype(str).isin(taken.start.objects)
    found = {split: int((known & (catalog["split"] == split)).sum()) for split in ("val", "test")}
    words = [f"{count:,} {split} objects" for split, count in found.items() if count]
    if not words:
        return None
    return (
        f"start={taken.start.path} has learnt from {' and '.join(words)} of this run, whose numbers are better for it "
        "than they should be. Start from a run of the same fold and split, or from one of other objects."
    )


@torch.no_grad()
def take(net: nn.Module, start: Start, names: Sequence[str] | None, head: nn.Module | None = None) -> Taken:
    """Puts the weights of a start into a net: its trunk, and of the last layer the scores that mean the same.

    The first convolution is adapted to other channels as timm does, position embeddings to another size of the images.
    What the last layer does not take scores 0, as random scores would begin far from any answer and spoil the trunk.

    Args:
        net: Whose weights are replaced.
        start: The weights.
        names: What each score of the net means; None if that depends on the training set.
        head: What makes outputs of the scores; None if these are the outputs.

    Raises:
        UserError: If the start is of another net; the message has the first differences.
    """
    net = net.net if isinstance(net, Symmetric) else net
    wanted = net.state_dict()
    given = _renamed(start.weights, wanted)
    last, linear = _last_layer(net)
    layers = _head_names(net)
    taken: dict[str, Tensor] = {}
    adapted: list[str] = []
    wrong: list[str] = []
    for name, own in wanted.items():
        value = given.get(name)
        if name.startswith(last):
            continue
        if value is not None and value.shape == own.shape:
            taken[name] = value
        elif value is not None and (fitting := _fitting(name, value, own, net)) is not None:
            taken[name] = fitting
            adapted.append(f"{name} from {_shape(value)} to {_shape(own)}")
        elif name not in layers:
            wrong.append(f"{name} is {_shape(value) if value is not None else 'not there'} instead of {_shape(own)}")
    free = (*HEADS, last, *layers)
    unknown = [name for name in given if name not in wanted and not name.removeprefix(PREFIX).startswith(free)]
    if wrong or unknown:
        differences = wrong + [f"{name} is of another net" for name in unknown]
        of = f" ({start.net})" if start.net else ""
        advice = "Leave model=… and size=… out, so that they are those of the start, or give those."
        advice = advice if start.net else "Give the model=… that these are weights of."
        raise UserError(
            f"start={start.path}{of} does not fit {_name(net)}: {len(wrong)} of {len(wanted)} tensors do not fit, "
            f"{len(unknown)} are unknown: {shorten(differences, '; ', shown=3)}. {advice}"
        )
    new = list(dict.fromkeys(name.rpartition(".")[0] for name in wanted if name in layers and name not in taken))
    new = [name for name in new if not f"{name}.".startswith(last)]
    count = len(taken)
    if linear is not None:
        same = not start.head or start.head == class_of(head)
        scores, words, is_shared = _last(last, linear, given, start.outputs if same else None, names)
        count += len(scores) if is_shared else 0
        taken |= scores
        new += [words] if words else []
    net.load_state_dict(taken, strict=False)
    return Taken(start, count, len(wanted), tuple(adapted), tuple(new))


def _last(
    last: str, linear: nn.Linear, given: Mapping[str, Tensor], there: Sequence[str] | None, names: Sequence[str] | None
) -> tuple[dict[str, Tensor], str, bool]:
    """Tensors of the last layer with the scores of a start that mean the same, in words what is new, and if any are."""
    many = linear.out_features
    own = {f"{last}{name}": value for name, value in linear.state_dict().items()}
    fresh = {name: torch.zeros_like(value) if value.ndim > 1 else value.clone() for name, value in own.items()}
    if names is None or there is None or len(names) != many:
        return fresh, f"the last layer of {many} scores", False
    fits = all(
        name in given and len(given[name]) == len(there) and given[name].shape[1:] == value.shape[1:]
        for name, value in own.items()
    )
    shared = [score for score in names if fits and score in there and not score.isdecimal()]  # 3 may be any class
    for name, value in fresh.items():
        for score in shared:
            value[names.index(score)] = given[name][there.index(score)]
    without = [score for score in names if score not in shared]
    new = f"{len(without)} of {many} scores ({shorten(without, shown=3)})" if without else ""
    return fresh, new, bool(shared)


def _renamed(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of a net that is wrapped otherwise: with or without a first `net.`."""
    forms: list[dict[str, Tensor]] = [
        dict(given),
        {f"{PREFIX}{name}": value for name, value in given.items()},
        {name.removeprefix(PREFIX): value for name, value in given.items()},
    ]
    return max(forms, key=lambda form: len(form.keys() & wanted.keys()))


def _last_layer(net: nn.Module) -> tuple[str, nn.Linear | None]:
    """The linear layer that scores, and what its tensors' names begin with."""
    within = net.modules()
    if isinstance(net, BackboneWithHead):
        within = net.head.modules()
    elif isinstance(
        classes := getattr(net, "classes", None), nn.Module
    ):  # of an autoencoder, whose decoder comes after
        within = classes.modules()
    inside = set(within)
    linear = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    scoring = [(f"{name}.", module) for name, module in linear if module in inside]
    return scoring[-1] if scoring else ("no layer", None)


def _head_names(net: nn.Module) -> set[str]:
    """Names of the tensors of a net's head."""
    if not isinstance(net, BackboneWithHead):
        return set()
    own = {id(value) for value in (*net.head.parameters(), *net.head.buffers())}
    return {name for name, value in (*net.named_parameters(), *net.named_buffers()) if id(value) in own}


def _fitting(name: str, value: Tensor, own: Tensor, net: nn.Module) -> Tensor | None:
    """A tensor adapted to other channels, or to another size, of the images; None if that is not what differs."""
    if value.ndim == own.ndim == 4 and value.shape[0] == own.shape[0] and value.shape[2:] == own.shape[2:]:
        channels = own.shape[1]
        if name != _first_convolution(net):
            return None
        if value.shape[1] == RGB:
            return adapt_input_conv(channels, value)
        return value.mean(1, keepdim=True).repeat(1, channels, 1, 1) * (value.shape[1] / channels)
    if name.endswith("pos_embed") and value.ndim == own.ndim == 3 and value.shape[2] == own.shape[2]:
        inner: Any = getattr(net, "net", net)
        prefix = 0 if getattr(inner, "no_embed_class", False) else int(getattr(inner, "num_prefix_tokens", 1))
        return resample_abs_pos_embed(value, list(inner.patch_embed.grid_size), num_prefix_tokens=prefix)
    return None


def _first_convolution(net: nn.Module) -> str:
    names = (f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    return next(names, "")


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


def _name(net: nn.Module) -> str:
    inner = getattr(net, "net", net)
    return type(inner).__name__
