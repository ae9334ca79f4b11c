"""The command: `python -m galaxyml task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4`.

Nothing heavy is imported before the configuration is composed, so that help and typing errors answer at once.
"""

import os
import sys

from galaxyml.cli import commands, overrides
from galaxyml.runs import progress
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError, config_error
from galaxyml.runs.signals import Stop


def main() -> None:
    """Runs the command line."""
    # Before torch is imported: on a machine that does anything else, threads that spin for long while they wait slow
    # a training step down up to ten times (2 cores).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if commands.subcommand(sys.argv[1:]):
        return
    try:
        _check_processes()
        if overrides.wants_quiet(sys.argv[1:]):
            os.environ[progress.CONSOLE] = "WARNING"
        sys.argv[1:] = overrides.prepare(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    if overrides.wants_help(sys.argv[1:]):
        from galaxyml.cli.help import help_text

        print(help_text())
        return

    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from galaxyml import sweeps
    from galaxyml.sweeps.serial import job

    sweeps.register()
    full = os.environ.get("HYDRA_FULL_ERROR", "0")  # 1 is the wish of a person to see all of a traceback
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, where they are told
    command = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)
    try:
        command()
    except (HydraException, OmegaConfBaseException) as error:
        if full == "1":
            raise
        sys.exit(f"error: {config_error(error)}")
    except Stop as stop:
        sys.exit(stop.status)
    except KeyboardInterrupt:  # before a run has begun, or after all of them
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = full


def _check_processes() -> None:
    """Refuses to be one of several: a sweep is made by one process.

    Raises:
        UserError: If torchrun or srun has started several.
    """
    found = os.environ
    if "TORCHELASTIC_RUN_ID" in found and found.get("WORLD_SIZE", "1") != "1":
        program = "torchrun … -m"
    elif found.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        program = "srun … python -m"
    else:
        return
    raise UserError(
        "this command is one process, which starts others by itself where trainer=ddp asks for them. Several start the "
        f"job of one run: {program} galaxyml job FOLDER, with a run's folder, which this command makes."
    )


if __name__ == "__main__":
    main()
