"""What views cost: predictions averaged over more and more of them, and training a net that is symmetric itself.

All are run alternately in one process, and medians are compared, so that a noisy machine is unfair to none:

    .venv/bin/python benchmarks/views.py

AstroCNN at 128 px; the goal is a cost that grows as the number of views does.
"""

from collections.abc import Callable
from typing import Any

import torch
from data_path import BATCH, IMAGES, ROUNDS, alternate, constant_epoch, training_step

from galaxyml.data.images.views import plain
from galaxyml.kinds.losses import MSELoss
from galaxyml.models.astrocnn import AstroCNN
from galaxyml.models.symmetry import Symmetric, Symmetries, Views
from galaxyml.training.hardware import keep_memory
from galaxyml.training.prediction_module import PredictionModule

SIZE, SIDE, FRACTIONS = 128, 182, 37
SETS: dict[str, Any] = {
    "1 view": Symmetries(1),
    "8 symmetries": Symmetries(8),
    "4 turns, resampled": Views(rotations=[0, 22, 45, 67]),
    "8 turns, resampled": Views(rotations=[0, 11, 22, 33, 45, 56, 67, 78]),
    "16 turns and mirror images": Views(rotations=[0, 11, 22, 33, 45, 56, 67, 78], mirrored=True),
}


def predicting(views: Any) -> Callable[[], None]:
    """Predictions of one batch of stored images."""
    pixels = torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), dtype=torch.uint8)
    batch = {"index": torch.arange(BATCH), "image": plain(pixels, SIZE), "pixels": pixels}
    predictor = PredictionModule(AstroCNN(FRACTIONS), predict_views=views).eval()

    @torch.inference_mode()
    def predict() -> None:
        predictor.predict_step(batch, 0)

    return predict


def main() -> None:
    """Measures both."""
    keep_memory()
    print(f"{torch.get_num_threads()} threads, {SIZE} px, medians of {ROUNDS} rounds")
    found = alternate({name: predicting(views) for name, views in SETS.items()})
    print("\nPredicting by AstroCNN")
    for name, seconds in found.items():
        each = seconds / found["1 view"] / len(SETS[name])
        print(f"  {name:<28}{1000 * seconds / BATCH:8.2f} ms an image, {each:.2f} of the plain view's for each view")
    targets = torch.rand(IMAGES, FRACTIONS)
    nets = {"AstroCNN": AstroCNN(FRACTIONS), "with symmetry=8": Symmetric(AstroCNN(FRACTIONS), Symmetries(8))}
    found = alternate(
        {name: constant_epoch(SIZE, training_step(net, MSELoss()), targets) for name, net in nets.items()}
    )
    print("\nTraining")
    for name, seconds in found.items():
        print(f"  {name:<28}{1000 * seconds / IMAGES:8.2f} ms an image, {seconds / found['AstroCNN']:.2f} times")


if __name__ == "__main__":
    main()
