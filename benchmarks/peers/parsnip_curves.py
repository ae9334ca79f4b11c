"""How ParSNIP reads light curves: a table by lcdata, its preprocessing, and the padded batches that it fits."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lcdata
import numpy as np
import pandas as pd
import torch
from astropy.table import Table
from parsnip.light_curve import preprocess_light_curve
from parsnip.parsnip import ParsnipModel
from parsnip.settings import default_settings

BANDS = [f"lsst{band}" for band in "ugrizy"]
# What a model derives from its bands it asks of the network; here it is given: no dust, and a background to subtract.
SETTINGS: dict[str, Any] = {
    **default_settings,
    "bands": BANDS,
    "band_mw_extinctions": np.zeros(len(BANDS)),
    "band_correct_background": [True] * len(BANDS),
}


def parsnip_batches(curves: Path, objects: Path) -> list[dict[str, torch.Tensor]]:
    """All light curves of PLAsTiCC's files as ParSNIP's batches: on a grid of bands and days, and as observations."""
    table, known = pd.read_csv(curves), pd.read_csv(objects)
    observations = Table(
        {
            "object_id": table["object_id"].to_numpy().astype(str),
            "time": table["mjd"].to_numpy(),
            "band": np.array(BANDS)[table["passband"]],
            "flux": table["flux"].to_numpy(),
            "fluxerr": table["flux_err"].to_numpy(),
        }
    )
    meta = Table(
        {
            "object_id": known["object_id"].to_numpy().astype(str),
            "ra": known["ra"].to_numpy(),
            "dec": known["decl"].to_numpy(),
            "redshift": known["hostgal_specz"].to_numpy(),
        }
    )
    dataset = lcdata.from_observations(meta, observations)
    ready = [preprocess_light_curve(curve, SETTINGS, raise_on_invalid=False) for curve in dataset.light_curves]
    ready = [curve for curve in ready if curve is not None]
    model: Any = SimpleNamespace(settings=SETTINGS, device="cpu")
    size = SETTINGS["batch_size"]
    return [ParsnipModel._get_data(model, ready[start : start + size]) for start in range(0, len(ready), size)]
