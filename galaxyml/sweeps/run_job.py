"""One run of a sweep, wherever it is run: what fails is told in one message, and kept with the run."""

import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from galaxyml.runs.errors import DataError, UserError
from galaxyml.runs.signals import Stop, watched

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("galaxyml")

PLACE = "GALAXYML_PLACE"  # environment variable in which a launcher says where a job runs, such as `GPU 1`
failures: dict[str, str] = {}  # of this process: name of a run's folder -> why it failed
MEMORY = "out of memory on the GPU"  # how the reason begins of a failure that a smaller batch may mend


def job(config: "DictConfig") -> float | None:
    """Runs one run, or carries on with it.

    Args:
        config: Its composed configuration.

    Returns:
        The metric that it monitors; None if it failed, which is told.

    Raises:
        SystemExit: If the data's files cannot be used: all runs on them would fail alike.
        Stop: If a signal ended it.
    """
    from hydra.core.hydra_config import HydraConfig

    from galaxyml.runs.run_dir import RunDir

    hydra_config = HydraConfig.get()
    here, began = RunDir(Path(hydra_config.runtime.output_dir)), time.time()
    try:
        with watched():
            from galaxyml import experiment

            return experiment.run(config, here.path, list(hydra_config.overrides.task))
    except Stop as stop:
        if here.status():
            here.update_status(state="stopped", reason=str(stop), ended=time.time())
        print(f"\n{here.name}: {stop}. The same command with name={config.name} carries on.", file=sys.stderr)
        raise
    except Exception as error:  # whatever ends one run must not end the others
        told = _user_error(error)
        reason = failures[here.name] = _reason(error, told)
        if not here.has_progress or here.status().get("began", 0) >= began:  # else it was refused, and stays
            here.update_status(state="failed", reason=reason, ended=time.time())
        if told is None:
            log.exception("%s failed", here.name)
            return None
        log.error("error: %s", told)
        if isinstance(told, DataError):
            sys.exit(1)
    return None


def where() -> dict[str, object]:
    """Where this process runs, for a run's status."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    place = os.environ.get(PLACE) or (f"GPU {gpus.replace(',', '+')}" if gpus else "")
    return {"place": place, "host": socket.gethostname(), "pid": os.getpid()}


def _reason(error: Exception, told: UserError | None) -> str:
    """Why a run failed, in one line."""
    if told is not None:
        return str(told)
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return MEMORY if kind == "OutOfMemoryError" else f"{kind}: {lines[0]}" if lines else kind


def _user_error(error: BaseException | None) -> UserError | None:
    """The user's part in an error; Hydra wraps what a constructor raises."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error
