"""Any net of timm by name, from scratch or from weights (Wightman 2019, doi:10.5281/zenodo.4414861)."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled
from safetensors.torch import load_file
from timm.layers import PatchEmbed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from galaxyml.models.backbone_with_head import BackboneWithHead, hidden_layer
from galaxyml.runs.errors import UserError, did_you_mean, shorten

# Seconds for the hub to answer, asked once; its own client would ask for 47 s before it says that there is no network.
REQUEST_TIMEOUT = 10
RGB = 3  # channels that published weights have seen
SAFE = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


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
        """Images as the net takes them; (N, C, H, W) -> (N, C, H, W)."""
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], shape (N, C, H, W) -> scores (N, K)."""
        return self.net(self.normalised(images))


class Backbone(BackboneWithHead, Normalised):
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
        """Input of the last layer: images in [0, 1], shape (N, C, H, W) -> (N, F)."""
        return self.net.forward_head(self.net.forward_features(self.normalised(images)), pre_logits=True)

    @property
    def head(self) -> nn.Module:  # type: ignore[override] # timm keeps it under a name of each net's own
        """The last layer, or the layers in its place."""
        return self.new_head if self.new_head is not None else self.net.get_classifier()


def timm_net(
    name: str,
    outputs: int,
    size: int | None = None,
    pretrained: bool = False,
    weights: str | None = None,
    hidden: int | None = None,
    dropout: float = 0.5,
    in_chans: int = 3,
    **options: Any,
) -> Normalised:
    """A net of timm with a new last layer.

    Args:
        name: Its name in timm, such as `resnet50` or `vit_small_patch14_dinov2`.
        outputs: Number of outputs, K.
        size: Side of the images in pixels, for nets that must know it (ViT, Swin).
        pretrained: Whether to start from timm's weights, which come from the Hugging Face hub.
        weights: A file with weights to start from instead: a state dict, `.pth` or `.safetensors`, under timm's names
            or those of the net's authors, as far as timm knows them (DINOv2's). Its last layer is left out if it has
            another number of outputs, and position embeddings are resampled to the size of the images.
        hidden: Units of a hidden layer before the outputs; None for a single linear layer.
        dropout: Probability of leaving a hidden unit out.
        in_chans: Channels of the images. Weights of a net of three are adapted as timm does: its first convolution's
            weights are repeated channel by channel and scaled by 3 / `in_chans`, or summed for one channel.
        **options: More arguments of the net, such as `drop_path_rate`.

    Raises:
        UserError: If timm has no such net, the images cannot be cut into its patches, or the weights cannot be had or
            do not fit.
    """
    if not timm.is_model(name):
        raise UserError(f"model.name={name}: timm has no such net. {did_you_mean(name, timm.list_models())[:300]}")
    published = timm.get_pretrained_cfg(name)
    if size is not None and published is not None and published.fixed_input_size:
        options = {"img_size": size} | options
    if in_chans != RGB:
        options = {"in_chans": in_chans} | options
    net: Any = timm.create_model(name, num_classes=outputs, **options)
    _check_size(net, name, size)  # before anything is fetched
    if weights is not None:
        _load(net, name, Path(weights).expanduser(), in_chans)
    elif pretrained:
        net = _fetched(name, published, num_classes=outputs, **options)
    mean, std = (_of_channels(net.pretrained_cfg[name], in_chans) for name in ("mean", "std"))
    last = net.get_classifier()
    if not isinstance(last, nn.Linear):  # two heads, a convolution, …
        if hidden:
            raise UserError(
                f"model.hidden={hidden}: the last layer of {name} is not a single linear one. Leave it out."
            )
        return Normalised(net, mean, std)
    if hidden:
        net.reset_classifier(0)
        return Backbone(net, mean, std, hidden_layer(last.in_features, hidden, dropout, outputs))
    if pretrained or weights is not None:
        # A random last layer would begin far from any fraction, and its first gradients would spoil the features.
        nn.init.zeros_(last.weight)
    return Backbone(net, mean, std)


def _of_channels(constants: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """Constants of each channel; of images other than those that the weights have seen, their mean for each."""
    if len(constants) == in_chans:
        return tuple(constants)
    return (sum(constants) / len(constants),) * in_chans


def _check_size(net: Any, name: str, size: int | None) -> None:
    """Refuses images whose last pixels would belong to no patch."""
    patches = getattr(net, "patch_embed", None)
    if size is None or not isinstance(patches, PatchEmbed) or patches.dynamic_img_pad:
        return
    side = max(patches.patch_size)
    if size % side:
        near_ones = [str(side * count) for count in (size // side, size // side + 1) if count]
        raise UserError(
            f"size={size}: {name} sees patches of {side} px, so the size must be a multiple of {side}. Set "
            f"size={' or size='.join(near_ones)}."
        )


def _fetched(name: str, published: Any, **options: Any) -> Any:
    """A net of timm with its weights, from the hub's cache or else from the hub."""
    if published is None or not (published.hf_hub_id or published.url):
        raise UserError(f"model.pretrained=true: timm has no weights of {name}. Give a file with model.weights=FILE.")
    if published.hf_hub_id:
        file = _hub_file(name, published)
        # custom_load tells how to read other formats.
        custom = published.custom_load if file.suffix not in (".safetensors", ".bin") else False
        options["pretrained_cfg_overlay"] = {"file": str(file), "custom_load": custom}
    try:
        return timm.create_model(name, pretrained=True, **options)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"model.pretrained=true: the weights of {name} cannot be had ({_reason(error)}). Give a file with "
            "model.weights=FILE."
        ) from error


def _hub_file(name: str, published: Any) -> Path:
    """A net's weights in the hub's cache, fetched first if they are not there."""
    repository, _, revision = published.hf_hub_id.partition("@")
    given = published.hf_hub_filename or "pytorch_model.bin"
    files = [SAFE[given], given] if given in SAFE else [given]
    for file in files:
        if isinstance(cached := try_to_load_from_cache(repository, file, revision=revision or None), str):
            return Path(cached)
    urls = [hf_hub_url(repository, file, revision=revision or None) for file in files]
    reason = ""
    for file, url in zip(files, urls, strict=True):
        try:
            get_hf_file_metadata(url, timeout=REQUEST_TIMEOUT)
            return Path(hf_hub_download(repository, file, revision=revision or None))
        except Exception as error:  # the hub's client raises those of its HTTP library, which has changed
            offline = isinstance(error, OfflineModeIsEnabled)
            reason = reason or ("HF_HUB_OFFLINE is set" if offline else _reason(error))
            if not isinstance(error, EntryNotFoundError):
                break
    url = str(published.url)
    also = f" (or {url})" if url.startswith("https:") and url.endswith(".pth") else ""
    folder = f"models--{repository.replace('/', '--')}"
    raise UserError(
        f"model.pretrained=true: the weights of {name} cannot be fetched from the hub, nor are they in its cache "
        f"({reason}). Download {urls[0]}{also} where there is a network, and give it with model.weights=FILE; or run "
        f"there `hf download {repository}`, and copy {folder} from its cache to {constants.HF_HUB_CACHE}. Nothing else "
        "has been read or written yet."
    )


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _converted(state: dict[str, Tensor], net: nn.Module, name: str) -> dict[str, Tensor]:
    """Weights under timm's names, with position embeddings for the size of the net's images."""
    module = sys.modules[timm.models.model_entrypoint(name).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return convert(dict(state), net)
    except Exception:  # it stumbles over weights of another net, of which is then told what does not fit
        return state


def _with_stem(state: dict[str, Tensor], wanted: dict[str, Tensor], in_chans: int) -> dict[str, Tensor]:
    """Weights of which those that see three channels are adapted to the net's, as timm does with its own."""
    adapted = dict(state)
    for name, weight in state.items():
        own = wanted.get(name)
        if own is not None and own.ndim == 4 and own.shape != weight.shape and own.shape[1] == in_chans:
            sees_three = weight.shape == (own.shape[0], RGB, *own.shape[2:])
            adapted[name] = adapt_input_conv(in_chans, weight) if sees_three else weight
    return adapted


def _load(net: Any, name: str, path: Path, in_chans: int) -> None:
    if not path.is_file():
        raise UserError(f"model.weights={path}: there is no such file.")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch.load raises anything from KeyError to UnpicklingError
        raise UserError(f"model.weights={path} is no state dict of weights: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"model.weights={path} is no state dict of weights: names and tensors, no more. Save only these."
        )
    wanted = net.state_dict()
    state = _with_stem(_converted(state, net, name), wanted, in_chans)
    layers = net.pretrained_cfg["classifier"]
    classifier = tuple(f"{layer}." for layer in ([layers] if isinstance(layers, str) else layers))
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
            f"model.weights={path} does not fit {name}: {len(missing)} tensors are missing "
            f"({shorten(missing, shown=2)}), {len(unknown)} are unknown ({shorten(unknown, shown=2)}), {len(other)} "
            f"have another shape ({shorten(other, shown=2)}). Give weights of {name}."
        )
    net.load_state_dict(state, strict=False)
