"""The command without a subcommand: overrides to Hydra, and from there to the launcher. Raises what goes wrong."""

import os
import sys
from collections.abc import Sequence

import galaxyml
from galaxyml.cli import conf, overrides, slips
from galaxyml.runs import progress
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UsageError, UserError, config_error
from galaxyml.runs.run_lock import WAIT


def train(arguments: Sequence[str]) -> None:
    """Makes the run, or the runs, that a command line describes; answers one that describes none.

    Args:
        arguments: Such as `["task=galaxyzoo", "model=tiny", "-m", "fold=0,1"]`.

    Raises:
        UsageError: If they cannot be used; then nothing was written.
        SystemExit: If a run fails, after the reason was printed.
        Stop: If a signal ended it.
    """
    try:
        conf.read_also(overrides.config_dir(arguments))
        if (answer := _answer(arguments)) is not None:
            print(answer)
        else:
            _run(arguments)
    except UsageError:
        raise
    except UserError as error:  # of a check, as a run keeps its own errors
        raise UsageError(str(error)) from error


def _answer(arguments: Sequence[str]) -> str | None:
    """What is printed where nothing is to be trained or composed."""
    given = set(arguments)
    if overrides.HELP & given or list(arguments) == ["help"]:
        from galaxyml.cli.help import help_text

        return help_text()
    if overrides.VERSION & given:
        return f"galaxyml {galaxyml.__version__}"
    if given <= overrides.SWEEP | overrides.QUIET | overrides.WAIT:
        from galaxyml.cli.help import GREETING

        return GREETING
    return None


def _run(arguments: Sequence[str]) -> None:
    """Makes the runs, by Hydra and a launcher."""
    _check_processes()
    slips.check_words(arguments)
    prepared = overrides.prepare(arguments)

    import hydra
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from galaxyml import sweeps
    from galaxyml.sweeps.serial import job

    sweeps.register()
    full, argv = os.environ.get("HYDRA_FULL_ERROR", "0"), sys.argv  # 1: the user wants to see tracebacks
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to this function
    wait, console = os.environ.get(WAIT, "0"), os.environ.get(progress.CONSOLE, "INFO")
    if overrides.WAIT & set(arguments):
        os.environ[WAIT] = "1"
    if overrides.QUIET & set(arguments):
        os.environ[progress.CONSOLE] = "WARNING"
    sys.argv = [argv[0], *prepared]  # where Hydra reads its arguments
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except yaml.YAMLError as error:
        raise UsageError(f"A configuration file is no YAML: {' '.join(str(error).split())}.") from error
    except (HydraException, OmegaConfBaseException) as error:
        if full == "1":
            raise
        raise UsageError(config_error(error)) from error
    finally:
        os.environ["HYDRA_FULL_ERROR"], os.environ[WAIT], os.environ[progress.CONSOLE] = full, wait, console
        sys.argv = argv


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
