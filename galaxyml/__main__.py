"""The command: `python -m galaxyml task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4`.

Nothing heavy is imported before the configuration is composed, so that help and typing errors answer at once.
"""

import os
import sys

from galaxyml.cli import commands, overrides
from galaxyml.runs import progress, ranks
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
        place = ranks.rank_from_env()
        if place.rank:  # it is started beside another that reads the command line
            from galaxyml.training import processes

            processes.serve_met()
            return
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
    from galaxyml.sweeps.run_job import job

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
        if place.size > 1:
            from galaxyml.training import processes

            processes.dismiss()


if __name__ == "__main__":
    main()
