"""Features of a frozen backbone, computed once instead of once an epoch."""

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from galaxyml.data.images.store import ImageStore
from galaxyml.data.images.views import symmetries
from galaxyml.data.mapped import map_file
from galaxyml.models.backbone_with_head import BackboneWithHead, in_parts, rows_at_once
from galaxyml.models.folding import folded
from galaxyml.runs import ranks
from galaxyml.runs.files import atomic_write, check_space, digest
from galaxyml.runs.progress import track

VERSION = 2  # of the files; raise it when the features of the same images would change
PART = 256  # images between two steps of the progress bar


@torch.no_grad()
def open_features(
    store: ImageStore, net: BackboneWithHead, size: int, views: int, cache: Path, device: torch.device, precision: str
) -> Tensor:
    """Features of several views of all images of a store, computed first if that has not been done yet.

    Args:
        store: Images.
        net: Its features are computed.
        size: Side of what the net sees, pixels.
        views: How many of the 8 symmetries of the square, 1 to 8; the first is the plain view.
        cache: Folder of all features.
        device: Where the net runs.
        precision: In which precision, as Lightning names it.

    Returns:
        Features, float32 of shape (N, views, F), mapped from disk.
    """
    net.eval()
    name = digest([VERSION, store.name, size, views, device.type, precision, _weights(net)])
    path = cache / "features" / f"{name}.f32"
    count = len(store)
    if not path.is_file():
        net.to(device)
        channels = store.framing.decoding.channels
        fast: Any = folded(net, size, channels) if precision in ("32-true", "32") else net
        advice = "Free some space, or choose another folder with cache_dir=..., then run the same command."
        image = torch.zeros(1, channels, size, size, device=device)
        first, rows = fast.features(image), rows_at_once(fast, image)
        check_space(path, count * views * first.shape[1] * 4, advice)
        with atomic_write(path, advice) as draft, draft.open("wb") as file:
            for start in track(range(0, count, PART), "Features of the frozen backbone", -(-count // PART)):
                pixels = store.gather(torch.arange(start, min(start + PART, count))).to(device)
                features = [in_parts(fast.features, seen, rows) for seen in symmetries(pixels, size, views)]
                file.write(torch.stack(features, dim=1).float().cpu().numpy().tobytes())
    width = path.stat().st_size // (4 * count * views)
    return map_file(path, (count, views, width), torch.float32)[1]


def _weights(net: BackboneWithHead) -> str:
    """A digest of all that the features depend on: layers, weights and statistics, but for the head's."""
    of_head = {id(module) for module in net.head.modules()}
    state = hashlib.blake2b(digest_size=16)
    for name, module in net.named_modules():
        if id(module) in of_head or isinstance(module, nn.Identity):
            continue
        state.update(f"{name} {type(module).__name__} {module.extra_repr()}".encode())
        for key, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            state.update(key.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


class FrozenFeatures(Callback):
    """Trains the head of a frozen backbone on features that are computed once, in the place of images."""

    def __init__(self) -> None:
        self.predicting = ExitStack()  # within which batches are of images

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring it
        if not hasattr(data, "use_features"):
            return
        if stage == "fit":
            data.use_images()
            if getattr(pl_module, "phase", "all") == "head":
                self._use_features(trainer, pl_module, data)
        elif stage == "predict" and not getattr(pl_module, "predicts_from_features", False):
            self.predicting.enter_context(data.images_shown())

    def teardown(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        if stage == "predict":
            self.predicting.close()

    def _use_features(self, trainer: lightning.Trainer, module: Any, data: Any) -> None:
        with ranks.rank_zero_first(), trainer.precision_plugin.forward_context():
            features = open_features(
                data.store,
                module.net,
                data.framing.size,
                module.views,
                data.cache,
                trainer.strategy.root_device,
                trainer.precision,
            )
        data.use_features(features, len(module.predict_views) if module.predicts_from_features else 1)
