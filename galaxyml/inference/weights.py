"""The weights of a finished run alone, as safetensors: `galaxyml bundle RUN weights.safetensors`."""

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from safetensors.torch import save

from galaxyml import __version__
from galaxyml.runs.files import atomic_write
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.weights_about import KEY
from galaxyml.training.start import member, read_start

OTHERS = ("_target_", "weights", "pretrained", "outputs", "in_chans")  # arguments of a net that a start does not decide


def write_weights(path: Path, out: Path, half: bool = False) -> None:
    """Writes what `start=` takes of a run on images or on light curves, and what timm or torch can load.

    Args:
        path: Folder of a finished run; of a sweep the first fold is taken.
        out: Appears when all is written.
        half: Whether numbers have 16 bits, not 32.

    Raises:
        UserError: If no run in the folder was fitted to its end, or nothing can be written there.
    """
    run = RunDir(member(path))
    start, config = read_start(run.path), run.config
    net: Any = OmegaConf.to_container(config.model, resolve=True)
    provenance = run.provenance()
    about = {
        "version": __version__,
        "task": config.task,
        "net": {"class": str(net["_target_"]).rpartition(".")[2]}
        | {key: value for key, value in net.items() if key not in OTHERS},
        "size": config.get("size"),
        "channels": config.get("channels"),
        "scores": start.outputs,
        "head": start.head,
        "provenance": {key: provenance[key] for key in ("commit", "dirty", "seed")},
    }
    weights = {name: start.weights[name].detach().contiguous() for name in sorted(start.weights)}
    if half:
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    with atomic_write(out) as draft:
        draft.write_bytes(save(weights, metadata={"format": "pt", KEY: json.dumps(about)}))
