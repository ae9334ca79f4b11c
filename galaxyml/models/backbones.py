"""Any net of timm by name, from scratch or from weights (Wightman 2019, doi:10.5281/zenodo.4414861)."""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from galaxyml.errors import UserError, near, some
from galaxyml.models.parts import TwoParts


class Normalised(nn.Module):
    """A net that takes images in [0, 1] and normalises them the way its weights expect.

    Args:
        net: Takes normalised images.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net: Any = net
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Images as the net takes them; (N, 3, H, W) -> (N, 3, H, W)."""
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], shape (N, 3, H, W) -> scores (N, K)."""
        return self.net(self.normalised(images))


class Backbone(Normalised, TwoParts):
    """A net of timm whose last layer, or layers in its place, can be tuned alone.

    Args:
        net: Of timm, with a linear last layer.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        head: Takes the place of the net's own last layer; None for that layer.
    """

    def __init__(
        self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], head: nn.Module | None = None
    ) -> None:
        super().__init__(net, mean, std)
        self.new_head = head

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees: images in [0, 1], shape (N, 3, H, W) -> (N, F)."""
        return self.net.forward_head(self.net.forward_features(self.normalised(images)), pre_logits=True)

    @property
    def head(self) -> nn.Module:  # type: ignore[override] # timm keeps it under a name of each net's own
        """The last layer, or the layers in its place."""
        return self.new_head if self.new_head is not None else self.net.get_classifier()

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], shape (N, 3, H, W) -> scores (N, K)."""
        return self.head(self.features(images))


def timm_net(
    name: str,
    outputs: int,
    size: int | None = None,
    pretrained: bool = False,
    weights: str | None = None,
    hidden: int | None = None,
    dropout: float = 0.5,
    **options: Any,
) -> Normalised:
    """A net of timm with a new last layer.

    Args:
        name: Its name in timm, such as `resnet50` or `vit_small_patch14_dinov2`.
        outputs: Number of outputs, K.
        size: Side of the images in pixels, for nets that must know it (ViT, Swin).
        pretrained: Whether to start from timm's weights, which come from the Hugging Face hub.
        weights: A file with weights to start from instead: a state dict, `.pth` or `.safetensors`; its last layer is
            left out if it has another number of outputs.
        hidden: Units of a hidden layer before the outputs; None for a single linear layer.
        dropout: Probability of leaving a hidden unit out.
        **options: More arguments of the net, such as `drop_path_rate`.

    Raises:
        UserError: If timm has no such net, or the weights cannot be had or do not fit.
    """
    if not timm.is_model(name):
        raise UserError(f"model.name={name}: timm has no such net. {near(name, timm.list_models())[:300]}")
    known = timm.get_pretrained_cfg(name)
    if size is not None and known is not None and known.fixed_input_size:
        options = {"img_size": size} | options
    try:
        net: Any = timm.create_model(name, pretrained=pretrained and weights is None, num_classes=outputs, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise UserError(
            f"model.pretrained=true: the weights of {name} cannot be fetched from the hub ({type(error).__name__}). "
            "Go online once, or give a file with model.weights=FILE."
        ) from error
    if weights is not None:
        _load(net, name, Path(weights).expanduser())
    mean, std = net.pretrained_cfg["mean"], net.pretrained_cfg["std"]
    last = net.get_classifier()
    if not isinstance(last, nn.Linear):  # two heads, a convolution, …
        if hidden:
            raise UserError(
                f"model.hidden={hidden}: the last layer of {name} is not a single linear one. Leave it out."
            )
        return Normalised(net, mean, std)
    if hidden:
        net.reset_classifier(0)
        head = nn.Sequential(
            nn.Linear(last.in_features, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, outputs)
        )
        return Backbone(net, mean, std, head)
    if pretrained or weights is not None:
        # A random last layer would begin far from any fraction, and its first gradients would spoil the features.
        nn.init.zeros_(last.weight)
    return Backbone(net, mean, std)


def _load(net: nn.Module, name: str, path: Path) -> None:
    if not path.is_file():
        raise UserError(f"model.weights={path}: there is no such file.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch.load raises anything from KeyError to UnpicklingError
        raise UserError(f"model.weights={path} is no state dict of weights: {str(error).splitlines()[0]}") from error
    wanted = net.state_dict()
    classifier = tuple(f"{layer}." for layer in _classifiers(net))
    state = {
        key: value
        for key, value in state.items()
        if not (key.startswith(classifier) and (key not in wanted or wanted[key].shape != value.shape))
    }
    missing = [key for key in wanted if key not in state and not key.startswith(classifier)]
    unknown = [key for key in state if key not in wanted]
    other = [key for key, value in state.items() if key in wanted and wanted[key].shape != value.shape]
    if missing or unknown or other:
        raise UserError(
            f"model.weights={path} does not fit {name}: {len(missing)} tensors are missing ({some(missing, shown=2)}), "
            f"{len(unknown)} are unknown ({some(unknown, shown=2)}), {len(other)} have another shape "
            f"({some(other, shown=2)}). Give weights of {name}."
        )
    net.load_state_dict(state, strict=False)


def _classifiers(net: Any) -> tuple[str, ...]:
    found = net.pretrained_cfg["classifier"]
    return (found,) if isinstance(found, str) else tuple(found)
