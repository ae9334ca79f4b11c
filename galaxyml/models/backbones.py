"""Any net of timm by name, from scratch or from weights (Wightman 2019, doi:10.5281/zenodo.4414861)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from galaxyml.models.backbone_with_head import BackboneWithHead, hidden_layer
from galaxyml.models.hub import commit_of, fetched, in_short, read_encoder, weights_file
from galaxyml.models.origin import Origin, input_scaling, known_weights
from galaxyml.models.sources import Source
from galaxyml.models.weight_files import RGB, load_weights, other_channels
from galaxyml.runs.errors import UserError, did_you_mean

SAFE = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


class Normalised(nn.Module):
    """A net that takes images in [0, 1] and normalises them the way its weights expect.

    Args:
        net: Takes normalised images.
        mean: Mean of each channel.
        std: Standard deviation of each channel.

    Attributes:
        origin: Where the weights come from, and which images they expect; None where that is not known.
    """

    mean: Tensor
    std: Tensor
    origin: Origin | None = None

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
    pretrained: bool | str = False,
    weights: str | None = None,
    hidden: int | None = None,
    dropout: float = 0.5,
    in_chans: int = 3,
    scaling: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    **options: Any,
) -> Normalised:
    """A net of timm with a new last layer.

    Args:
        name: Its name in timm, such as `resnet50` or `vit_small_patch14_dinov2`.
        outputs: Number of outputs, K.
        size: Side of the images in pixels, for nets that must know it (ViT, Swin).
        pretrained: Whether to start from timm's weights, which come from the Hugging Face hub; or an encoder's, by name
            (`galaxyml.models.sources`): `hf-hub:OWNER/NAME[@REVISION]`, `local-dir:FOLDER`.
        weights: A file with weights to start from instead: a state dict, or a checkpoint that holds one, `.pth`,
            `.ckpt` or `.safetensors`, under timm's names or those of the net's authors, as far as they are known
            (DINOv2's). Its last layer is left out if it has another number of outputs, and position embeddings are
            resampled to the size of the images.
        hidden: Units of a hidden layer before the outputs; None for a single linear layer.
        dropout: Probability of leaving a hidden unit out.
        in_chans: Channels of the images. Weights of a net of three are adapted as timm does: its first convolution's
            weights are repeated channel by channel and scaled by 3 / `in_chans`, or summed for one channel.
        scaling: What the net sees of images in [0, 1]: `unit` (as they are), `imagenet` (normalised by ImageNet's
            constants) or `checkpoint` (by those of the weights' own configuration); None for what is known of the
            weights (`conf/known_weights.yaml`), else `checkpoint`.
        mean: Mean by which images are normalised, in the place of `scaling`'s: one number, or one a channel.
        std: Standard deviation, likewise.
        **options: More arguments of the net, such as `drop_path_rate`.

    Raises:
        UserError: If timm has no such net, the images cannot be cut into its patches, or the weights cannot be had or
            do not fit.
    """
    if Source.read(name) is not None:
        raise UserError(f"model.name={name}: timm has no such net. An encoder is chosen as a whole, by model={name}.")
    if not timm.is_model(name):
        raise UserError(f"model.name={name}: timm has no such net. {did_you_mean(name, timm.list_models())[:300]}")
    if Source.read(weights) is not None:
        pretrained, weights = str(weights), None
    encoder = Source.read(pretrained)
    if encoder is None and not isinstance(pretrained, bool):
        raise UserError(f"model.pretrained={pretrained}: give true, false, hf-hub:OWNER/NAME or local-dir:FOLDER.")
    published = timm.get_pretrained_cfg(name)
    if size is not None and published is not None and published.fixed_input_size:
        options = {"img_size": size} | options
    if in_chans != RGB:
        options = {"in_chans": in_chans} | options
    net: Any = timm.create_model(name, num_classes=outputs, **options)
    _check_size(net, name, size)  # before anything is fetched
    begins_with = str(encoder) if encoder is not None else _of_timm(published) if pretrained else None
    source, known = weights or begins_with, known_weights(weights, begins_with)
    if known.get("channels", RGB) not in (RGB, in_chans):
        raise other_channels(str(source), known["channels"], in_chans)
    config, commit = {key: net.pretrained_cfg[key] for key in ("mean", "std")}, None
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise UserError(f"model.weights={path}: there is no such file.")
        load_weights(net, name, path, in_chans, f"model.weights={path}")
    elif encoder is not None:
        described = read_encoder(encoder)
        config, commit = config | {"license": "unknown"} | described.pretrained_cfg, described.commit
        load_weights(net, name, weights_file(encoder, commit), in_chans, str(encoder))
    elif pretrained:
        net = _fetched(name, published, num_classes=outputs, **options)
        config, commit = net.pretrained_cfg, commit_of(Path(net.pretrained_cfg.get("file") or ""))
    word, means, stds = input_scaling(config, known.get("scaling"), scaling, mean, std)
    means, stds = _of_channels(means, in_chans), _of_channels(stds, in_chans)
    model = _with_head(net, name, means, stds, outputs, hidden, dropout, source is not None)
    facts: dict[str, Any] = {"licence": config.get("license")} | known | {"scaling": word, "mean": means, "std": stds}
    model.origin = Origin(source, commit=commit, **facts)
    return model


def _with_head(
    net: Any,
    name: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    outputs: int,
    hidden: int | None,
    dropout: float,
    begun: bool,
) -> Normalised:
    """A net of timm, normalising its images, with its last layer or a head in its place; `begun` from weights."""
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
    if begun:
        # A random last layer would begin far from any fraction, and its first gradients would spoil the features.
        nn.init.zeros_(last.weight)
    return Backbone(net, mean, std)


def _of_timm(published: Any) -> str | None:
    """Where timm has the weights of a net."""
    hub_id = published.hf_hub_id if published is not None else None
    return f"hf-hub:{hub_id}" if hub_id else getattr(published, "url", None)


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
            f"model.pretrained=true: the weights of {name} cannot be had ({in_short(error)}). Give a file with "
            "model.weights=FILE."
        ) from error


def _hub_file(name: str, published: Any) -> Path:
    """The weights that timm has of a net, in the hub's cache, fetched first if they are not there."""
    repository, _, revision = published.hf_hub_id.partition("@")
    given = published.hf_hub_filename or "pytorch_model.bin"
    files = (SAFE[given], given) if given in SAFE else (given,)
    url = str(published.url)
    also = f" (or {url})" if url.startswith("https:") and url.endswith(".pth") else ""
    advice = (
        f"Download {{url}}{also} where there is a network, and give it with model.weights=FILE; model=tiny tune=all"
    )
    advice += " needs none"
    what = f"model.pretrained=true: the file of the weights of {name}"
    return fetched(repository, files, revision or None, what=what, advice=advice)
