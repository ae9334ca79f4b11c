"""Attributions: how much each pixel of an image has to do with one of a net's outputs."""

import matplotlib as mpl
import numpy as np
import torch
from captum.attr import IntegratedGradients
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from galaxyml.data.images.visible import visible
from galaxyml.evaluation.out_of_distribution import RIM
from galaxyml.training.prediction_module import PredictionModule

STEPS = 8  # between sky and image; more change the smoothed map little
SMOOTH = 1 / 28  # of the image's side: below it, gradients are noise
SHOWN = 360  # pixels, side of the images in the page
STRONGEST = 99.5  # per cent of the pixels that are weaker than what is shown brightest
METHOD = (
    f"Integrated gradients (Sundararajan et al. 2017) in {STEPS} steps from empty sky to the image, of one net and "
    "the plain view, smoothed. It shows which light the number depends on, not whether the net is right."
)


def attribution(predictor: PredictionModule, image: Tensor, output: int, steps: int = STEPS) -> Tensor:
    """Integrated gradients of one output (Sundararajan et al. 2017, arXiv:1703.01365, eq. 3) from empty sky.

    Their sum is what the output gains from sky to image, as far as the steps are fine enough.

    Args:
        predictor: The net, in evaluation mode.
        image: In [0, 1], shape (1, C, H, W).
        output: Which of the K outputs.
        steps: Points of the Gauss-Legendre rule.

    Returns:
        Shape (C, H, W).
    """
    device = next(predictor.parameters()).device
    method = IntegratedGradients(predictor, multiply_by_inputs=True)
    with torch.enable_grad():
        attributed = method.attribute(
            image.to(device), empty_sky(image).to(device), target=output, n_steps=steps, method="gausslegendre"
        )
    return attributed[0].detach().float().cpu()


def empty_sky(image: Tensor) -> Tensor:
    """An image all of whose pixels have the median colour of the upper and lower rim, (1, C, H, W) -> the same."""
    rim = torch.cat([image[:, :, :RIM], image[:, :, -RIM:]], 2)
    return rim.flatten(2).median(2).values[:, :, None, None].expand_as(image).contiguous()


def heat(attributed: Tensor) -> np.ndarray:
    """Strength of each pixel's attribution, smoothed, (C, H, W) -> (H, W) in [0, 1]."""
    strength = attributed.sum(0).abs().double().numpy()
    smooth = gaussian_filter(strength, SMOOTH * strength.shape[0])
    return np.clip(smooth / max(float(np.percentile(smooth, STRONGEST)), 1e-30), 0, 1)


def shown(image: Tensor) -> Image.Image:
    """An image as the net saw it, its colours as `visible` shows them, enlarged; (1, C, H, W) in [0, 1]."""
    pixels = visible((image[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))
    return Image.fromarray(pixels).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)


def overlaid(image: Tensor, strength: np.ndarray) -> Image.Image:
    """The image in grey, and on it in colour how much each pixel counts, (H, W) in [0, 1]."""
    wide = Image.fromarray(strength.astype(np.float32)).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    amount = np.clip(np.asarray(wide), 0, 1)[..., None]
    grey = np.asarray(shown(image).convert("L").convert("RGB")) / 255
    colour = mpl.colormaps["inferno"](0.25 + 0.75 * amount[..., 0])[..., :3]
    mixed = grey * (1 - 0.8 * amount) + colour * 0.8 * amount
    return Image.fromarray((mixed * 255 + 0.5).astype(np.uint8))
