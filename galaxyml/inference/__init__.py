"""Finished runs, sweeps, ensembles and bundles that predict new objects."""

from pathlib import Path
from typing import TYPE_CHECKING

from galaxyml.runs.errors import UsageError

if TYPE_CHECKING:
    from galaxyml.inference.predictor import Predictor


def load(path: Path | str, for_features: bool = False) -> "Predictor":
    """The predictor of a finished run, of a sweep whose folds were joined, of an ensemble, or of a bundle.

    Args:
        path: Folder of a run, sweep or ensemble, the `.zip` of a bundle, or `sky`, which comes with the package.
        for_features: Whether a run that ranks images will do, whose nets see images and predict nothing.

    Returns:
        `.predict(inputs)` gives a table, as `galaxyml predict` writes it. Its inputs are paths, arrays, Pillow's images
        or a DataFrame of paths; of light curves a folder or DataFrames.

    Raises:
        UserError: If it is none of these, not finished, or a bundle that cannot be used.

    Example:
        Probabilities of two images, and of those of an array `pixels` of shape (N, H, W, C), of the run's channels::

            model = galaxyml.load("multirun/galaxy10/mine")
            model.predict(["a.jpg", "b.fits"])
            model.predict(pixels)
    """
    from galaxyml.training.quiet import quiet

    quiet()
    from hydra.utils import get_class

    from galaxyml.data.light_curves.data_module import CurveData
    from galaxyml.inference import bundle
    from galaxyml.inference.encoding_predictor import EncodingPredictor
    from galaxyml.inference.image_predictor import ImagePredictor, weights_of
    from galaxyml.inference.light_curve_predictor import LightCurvePredictor
    from galaxyml.kinds.image_anomalies import ImageAnomalies
    from galaxyml.runs.packaged import packaged
    from galaxyml.runs.run_dir import RunDir
    from galaxyml.training.description import describe
    from galaxyml.training.hardware import keep_memory

    keep_memory()
    path = packaged(path)
    if path.is_file():
        return bundle.read(path)
    if path.suffix.lower() == ".zip":
        raise UsageError(f"{path} is not there. Give a bundle, or the folder of a run.")
    run = RunDir(path)
    data = run.config.data
    run.metrics()  # only of a finished run
    description = describe(run)
    if issubclass(get_class(run.config.kind._target_), ImageAnomalies):
        if for_features:
            return EncodingPredictor(run, description)
        raise UsageError(
            f"{path} ranks the images of its own folder among each other, and predicts nothing of others. Rank others "
            "by a command of their own (galaxyml task=anomalies data_dir=FOLDER); galaxyml alike and galaxyml label "
            "take this run."
        )
    if issubclass(get_class(data._target_), CurveData):
        return LightCurvePredictor(run, description)
    nets = run.nets()
    return ImagePredictor(run, description, [weights_of(net) for net in nets], nets)
