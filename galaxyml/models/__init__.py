"""Nets: images in [0, 1] to scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_model"]


def build_model(
    spec: "str | Mapping[str, Any] | nn.Module",
    outputs: int | None = None,
    size: int | None = None,
    in_chans: int | None = None,
    **options: Any,
) -> "nn.Module":
    """A net by its name, by its class, or as it is.

    Args:
        spec: Name of a file in conf/model (`tiny`, `resnet50`, `light_curve_vae`), of any net of timm, or of an encoder
            (`hf-hub:OWNER/NAME`, `local-dir:FOLDER`); a mapping with the class as `_target_` and its arguments; or a
            net, which is returned unchanged.
        outputs: Number of outputs, K; None for the net's own default.
        size: Side of the images in pixels, for nets that must know it; None for the net's own default.
        in_chans: Channels of the images; None for the net's own default.
        **options: More arguments of the net, such as `pretrained=True`, which win over those of the file. `encoder`, of
            a net of light curves, may be the name of a file in conf/encoder.

    Raises:
        UserError: If there is no such net, or it does not take these arguments.

    >>> build_model("tiny", outputs=3).head[-1].out_features
    3
    >>> build_model({"_target_": "galaxyml.models.galaxycnn.GalaxyCNN", "hidden": 16}, outputs=3).head[0].out_features
    16
    """
    from torch import nn  # here, as importing it takes a second

    from galaxyml.models.building import built

    return spec if isinstance(spec, nn.Module) else built(spec, outputs, size, in_chans, options)
