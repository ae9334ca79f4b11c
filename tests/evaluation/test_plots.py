import pandas as pd
import pytest

from galaxyml.evaluation.plots import loss_curves


@pytest.mark.parametrize(("lowest", "scale"), [(0.5, "log"), (-0.5, "linear"), (0.0, "linear")])
def test_losses_are_logarithmic_where_all_have_a_logarithm(lowest: float, scale: str) -> None:
    history = pd.DataFrame({"epoch": [0, 1], "train/loss": [3.0, 1.0], "val/loss": [3.0, lowest]})
    of_training, of_validation = loss_curves({"one": history, "other": history + 1}).axes
    assert of_training.get_yscale() == "log"
    assert of_validation.get_yscale() == scale
