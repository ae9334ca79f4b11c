"""Which predictor a folder or a file has."""

from pathlib import Path

from hydra.utils import get_class

from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.inference import bundle
from galaxyml.inference.description import describe
from galaxyml.inference.image_predictor import ImagePredictor, weights_of
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.inference.predictor import Predictor
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.hardware import keep_memory


def load_predictor(path: Path) -> Predictor:
    """See `galaxyml.inference.load`."""
    from galaxyml.training.quiet import quiet

    quiet()
    keep_memory()
    if path.is_file() or path.suffix.lower() == ".zip":
        if not path.is_file():
            raise UserError(f"{path} is not there. Give a bundle, or the folder of a run.")
        return bundle.read(path)
    run = RunDir(path)
    data = run.config.data
    run.metrics()  # only of a finished run
    description = describe(run)
    if issubclass(get_class(data._target_), CurveData):
        return LightCurvePredictor(run, description)
    nets = run.nets()
    return ImagePredictor(run, description, [weights_of(net) for net in nets], nets)
