"""The command without a subcommand: overrides to Hydra, and from there to the launcher. Raises what goes wrong."""

import os
import sys
from collections.abc import Sequence

from galaxyml.cli import overrides
from galaxyml.runs import progress
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError, config_error
from galaxyml.runs.run_lock import WAIT


def train(arguments: Sequence[str]) -> None:
    """Makes the run, or the runs, that a command line describes.

    Args:
        arguments: Such as `["task=galaxyzoo", "model=tiny", "-m", "fold=0,1"]`.

    Raises:
        UserError: If they cannot be used.
        SystemExit: If a run fails, after the reason was printed.
        Stop: If a signal ended it.
    """
    _check_processes()
    if overrides.QUIET & set(arguments):
        os.environ[progress.CONSOLE] = "WARNING"
    prepared = overrides.prepare(arguments)
    if overrides.HELP & set(prepared):
        from galaxyml.cli.help import help_text

        print(help_text())
        return

    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from galaxyml import sweeps
    from galaxyml.sweeps.serial import job

    sweeps.register()
    full, argv = os.environ.get("HYDRA_FULL_ERROR", "0"), sys.argv  # 1: the user wants to see tracebacks
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to this function
    wait = os.environ.get(WAIT, "0")
    if overrides.WAIT & set(arguments):
        os.environ[WAIT] = "1"
    sys.argv = [argv[0], *prepared]  # where Hydra reads its arguments
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        if full == "1":
            raise
        raise UserError(config_error(error)) from error
    finally:
        os.environ["HYDRA_FULL_ERROR"], os.environ[WAIT], sys.argv = full, wait, argv


def _check_processes() -> None:
    """Refuses to be one of several: a sweep is made by one process.

    Raises:
        UserError: If torchrun or srun has started several.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        program = "torchrun … -m"
    elif os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        program = "srun … python -m"
    else:
        return
    raise UserError(
        "This command is one process, which starts others by itself where trainer=ddp asks for them. Several start the "
        f"job of one run: {program} galaxyml job FOLDER, with a run's folder, which this command makes."
    )
