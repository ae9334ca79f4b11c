"""The command: `python -m galaxyml task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4`.

Nothing heavy is imported before the configuration is composed, so that help and typing errors answer at once.
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from galaxyml import commandline, ranks
from galaxyml.errors import DataError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("galaxyml")


def main() -> None:
    """Runs the command line."""
    # Before torch is imported: on a machine that does anything else, threads that spin for long while they wait slow
    # a training step down up to ten times (2 cores).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        place = ranks.outside()
        if place.rank:  # it is started beside another that reads the command line
            from galaxyml.training import processes

            processes.serve_met()
            return
        sys.argv[1:] = commandline.prepare(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    if commandline.wants_help(sys.argv[1:]):
        print(commandline.help_text())
        return

    import hydra

    import galaxyml.sweep  # noqa: F401 - registers the name of a run's folder

    command = hydra.main(version_base="1.3", config_path=str(commandline.CONF), config_name="config")(job)
    try:
        command()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
    finally:
        if place.size > 1:
            from galaxyml.training import processes

            processes.dismiss()


def job(config: "DictConfig") -> float | None:
    """One run of a sweep. What fails is told at once, and the other runs go on; bad files end all of them."""
    from hydra.core.hydra_config import HydraConfig

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        from galaxyml import experiment

        return experiment.run(config, folder, list(hydra_config.overrides.task))
    except KeyboardInterrupt:
        print(f"\nThe same command with name={config.name} carries on.", file=sys.stderr)
        raise
    except Exception as error:
        told = _user_error(error)
        if told is None:
            log.exception("%s failed", folder.name)
            return None
        log.error("error: %s", told)
        if isinstance(told, DataError):
            sys.exit(1)
    return None


def _user_error(error: BaseException | None) -> UserError | None:
    """The user's part in an error; Hydra wraps what a constructor raises."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


if __name__ == "__main__":
    main()
