"""What a frozen backbone says of each picture, computed once and kept, not once an epoch."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from galaxyml.data.images.store import ImageStore
from galaxyml.data.images.views import dihedral
from galaxyml.models.backbone_with_head import BackboneWithHead, in_parts
from galaxyml.runs.files import atomic_write, check_space, digest
from galaxyml.runs.progress import track

VERSION = 1  # of what is kept; raise it when the features of the same pictures would change
PART = 256  # pictures between two steps of the progress bar


@torch.no_grad()
def open_features(
    store: ImageStore, net: BackboneWithHead, size: int, views: int, cache: Path, device: torch.device, precision: str
) -> Tensor:
    """Features of several views of all pictures of a store, computed first if that has not been done yet.

    Args:
        store: Pictures.
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
    count = len(store.pixels)
    if not path.is_file():
        net.to(device)
        advice = "Free some space, or choose another folder with cache_dir=..., then run the same command."
        first = net.features(torch.zeros(1, 3, size, size, device=device))
        check_space(path, count * views * first.shape[1] * 4, advice)
        with atomic_write(path, advice) as draft, draft.open("wb") as file:
            for start in track(range(0, count, PART), "Features of the frozen backbone", -(-count // PART)):
                pixels = store.gather(torch.arange(start, min(start + PART, count))).to(device)
                found = [
                    in_parts(net.features, dihedral(pixels, size, torch.full((len(pixels),), view)))
                    for view in range(views)
                ]
                file.write(torch.stack(found, dim=1).float().cpu().numpy().tobytes())
    numbers = path.stat().st_size // 4
    flat = torch.from_file(str(path), shared=False, size=numbers, dtype=torch.float32)
    return flat.view(count, views, numbers // (count * views))


def _weights(net: BackboneWithHead) -> str:
    """A digest of all that the features depend on: layers, weights and statistics, but for the head's."""
    of_head = {id(part) for part in net.head.modules()}
    found = hashlib.blake2b(digest_size=16)
    for name, part in net.named_modules():
        if id(part) in of_head or isinstance(part, nn.Identity):
            continue
        found.update(f"{name} {type(part).__name__} {part.extra_repr()}".encode())
        for key, value in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            found.update(key.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
