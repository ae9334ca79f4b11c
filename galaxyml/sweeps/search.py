"""A search: Hydra's sweeper that lets Optuna choose the values of each trial. Imports nothing heavy by itself.

Trials are asked for in batches that fill the launcher. The study lies in a file or a database that several commands, on
several machines, share; each of them carries on what is there (see `galaxyml.runs.search_storage`).
"""

import math
import random
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from galaxyml.runs.errors import UserError, config_error

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from galaxyml.sweeps.search_space import Space

RESEEDED = ("TPESampler", "RandomSampler")  # draw anew for each trial; others keep a plan that their seed makes


class OptunaSweeper(Sweeper):
    """Runs trials until there are `n_trials`, and tells the best.

    Args:
        params: Key -> what it may be, in Hydra's words.
        n_trials: How many trials the study has in the end, whoever began them.
        n_jobs: How many are asked for together; None for as many as the launcher runs side by side.
        storage: URL of a database; None for a file in the sweep's folder.
        study_name: Its name in the storage.
        sampler: Optuna's, to be instantiated.
        pruner: Optuna's, to be instantiated.
        trial: Given to each run, for which this class is not made.
    """

    def __init__(
        self,
        params: DictConfig,
        n_trials: int,
        n_jobs: int | None,
        storage: str | None,
        study_name: str,
        sampler: DictConfig,
        pruner: DictConfig,
        trial: None = None,
    ) -> None:
        self.params, self.n_trials, self.n_jobs = params, n_trials, n_jobs
        self.storage, self.study_name = storage, study_name
        self.sampler, self.pruner = sampler, pruner
        self.launcher: Launcher | None = None
        self.exhausted = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Searches; what the user has to put right ends the command with status 1."""
        try:
            return self._search(arguments)
        except UserError as error:
            sys.exit(f"error: {error}")

    def _search(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from galaxyml.runs import search_storage as studies
        from galaxyml.runs.files import write_text
        from galaxyml.sweeps.search_space import read_space

        optuna = studies.require_optuna()
        for key, value in {"n_trials": self.n_trials, "n_jobs": self.n_jobs}.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"hydra.sweeper.{key}={value}: it must be a whole number, 1 or more.")
        assert self.hydra_context is not None
        assert self.config is not None
        space = read_space(self.params, arguments, self.hydra_context.config_loader)
        folder = Path(self.config.hydra.sweep.dir)
        self._check(space)
        direction = {"min": "minimize", "max": "maximize"}.get(self.config.mode)
        if direction is None:
            raise UserError(f"mode={self.config.mode}: it must be min or max.")
        folder.mkdir(parents=True, exist_ok=True)
        with studies.file_lock(folder):  # two commands that begin together would both make the tables of a database
            storage = studies.open_storage(self.storage, folder)
            study = optuna.create_study(
                storage=storage, study_name=self.study_name, direction=direction, load_if_exists=True
            )
            studies.check_same_study(study, direction, {key: repr(way) for key, way in space.keys.items()}, space.folds)
        self._check_kept(study, space, folder)
        # A sampler that has tried everything stops the study, which Optuna allows in its own loop alone.
        study.stop = lambda: setattr(self, "exhausted", True)
        study.pruner, study.sampler = _made("pruner", self.pruner), _made("sampler", self.sampler)
        write_text(folder / "multirun.yaml", OmegaConf.to_yaml(self.config))
        returns: list[Sequence[JobReturn]] = []
        with studies.alive(study) as me:
            while batch := self._batch(study, space, folder, me):
                returns.append(self._launch(study, space, batch))
        self._end(study, space, folder)
        return returns

    def _check(self, space: "Space") -> None:
        """Refuses a space that names what is not there, before anything is launched."""
        for end in (_first, _last):
            self._composed(space, space.overrides({key: end(way) for key, way in space.keys.items()}))

    def _check_kept(self, study: "Study", space: "Space", folder: Path) -> None:
        """Refuses a configuration that differs from that of earlier trials in more than what is searched."""
        from galaxyml.runs import search_storage as studies
        from galaxyml.runs.run_dir import RunDir, check_same

        trials = {trial.number: trial for trial in studies.launched(study)}
        for run in RunDir(folder).children():
            search = run.config.get("search")
            if search is not None and run.has_progress and search.trial in trials:
                chosen = trials[search.trial].user_attrs[studies.OVERRIDES]
                check_same(run, self._composed(space, chosen), besides=("fold",))
                return

    def _composed(self, space: "Space", chosen: list[str]) -> DictConfig:
        """The configuration of a trial's first run."""
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        try:
            composed = loader.load_sweep_config(self.config, space.runs(chosen)[0])
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"The space cannot be searched. {config_error(error)}") from error
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        return composed

    def _batch(self, study: "Study", space: "Space", folder: Path, me: str) -> list[int]:
        """The numbers of the trials to be launched next: those that others left behind, then new ones."""
        from galaxyml.runs import search_storage as studies

        slots = self.n_jobs or max(getattr(self.launcher, "slots", 1) // max(len(space.folds), 1), 1)
        with studies.file_lock(folder):
            numbers = [trial.number for trial in studies.orphaned_trials(study, me)]
            room = 0 if self.exhausted else min(slots - len(numbers), self.n_trials - len(studies.launched(study)))
            for _ in range(room):
                self._seed(study)
                trial = study.ask(fixed_distributions=space.keys)
                trial.set_user_attr(studies.OWNER, me)
                trial.set_user_attr(studies.OVERRIDES, space.overrides(trial.params))
                numbers.append(trial.number)
        return numbers

    def _seed(self, study: "Study") -> None:
        """Lets what a trial draws depend on its number alone, so that a broken search goes on as an unbroken one."""
        name = self.sampler["_target_"].rpartition(".")[2]
        if name in RESEEDED and self.sampler.get("seed") is not None:
            number = len(study.get_trials(deepcopy=False))
            study.sampler = _made(
                "sampler", self.sampler, seed=random.Random(f"{self.sampler.seed} {number}").getrandbits(32)
            )

    def _launch(self, study: "Study", space: "Space", numbers: list[int]) -> Sequence[JobReturn]:
        """Runs trials, and tells the study what came of them."""
        from optuna.trial import TrialState

        from galaxyml.runs import search_storage as studies

        assert self.config is not None
        assert self.launcher is not None
        trials = study.get_trials(deepcopy=False)
        jobs = [
            [*overrides, f"hydra.sweeper.trial={number}"]
            for number in numbers
            for overrides in space.runs(trials[number].user_attrs[studies.OVERRIDES])
        ]
        each = len(jobs) // len(numbers)
        results = self.launcher.launch(jobs, initial_job_idx=numbers[0] * each)
        for place, number in enumerate(numbers):
            values = [_value(result) for result in results[place * each : (place + 1) * each]]
            if any(value is None for value in values):
                study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            elif studies.PRUNED in study.get_trials(deepcopy=False)[number].user_attrs:
                study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                study.tell(number, math.fsum(value for value in values if value) / each, skip_if_finished=True)
            print(self._line(study, number), flush=True)
        return results

    def _line(self, study: "Study", number: int) -> str:
        """What came of a trial."""
        from galaxyml.runs import search_storage as studies

        assert self.config is not None
        trial = study.get_trials(deepcopy=False)[number]
        value = f"{trial.value:.4f}" if trial.value is not None else ""
        told = {
            "COMPLETE": f"{self.config.monitor} {value}",
            "PRUNED": f"ended early at {self.config.monitor} {value}",
            "FAIL": "failed",
        }[trial.state.name]
        return f"trial {number}: {told} ({' '.join(trial.user_attrs[studies.OVERRIDES])})"

    def _end(self, study: "Study", space: "Space", folder: Path) -> None:
        """Prints the best trial, and writes `best.yaml`.

        Raises:
            UserError: If there is none.
        """
        from optuna.trial import TrialState

        from galaxyml.runs import search_storage as studies
        from galaxyml.runs.files import write_text

        assert self.config is not None
        trials = studies.launched(study)
        counts = {state: sum(trial.state is state for trial in trials) for state in TrialState}
        if counts[TrialState.RUNNING]:
            print(f"{counts[TrialState.RUNNING]} trials still run, begun by other commands.")
        if not counts[TrialState.COMPLETE]:
            raise UserError(
                f"{folder}: none of {len(trials)} trials came to its end; galaxyml.log in their folders says why. "
                "Choose another name=… to start anew."
            )
        best = study.best_trial
        chosen = best.user_attrs[studies.OVERRIDES]
        content = {
            "trial": best.number,
            self.config.monitor: best.value,
            "overrides": chosen,
            "command": self._command(space, chosen),
            "importance": _importance(study, space),
            "trials": {state.name.lower(): count for state, count in counts.items() if count},
        }
        told = f"The best of {len(trials)} trials of {self.study_name}, by {self.config.monitor} ({self.config.mode})."
        write_text(folder / "best.yaml", f"# {told}\n" + OmegaConf.to_yaml(OmegaConf.create(content)))
        print(f"\n{told[:-1]}: trial {best.number}, {best.value:.4f}")
        for override in chosen:
            share = content["importance"].get(override.partition("=")[0])
            print(f"  {override}" + (f"   (importance {share:.2f})" if share is not None else ""))
        if counts[TrialState.PRUNED] or counts[TrialState.FAIL]:
            print(f"{counts[TrialState.PRUNED]} trials were ended early, {counts[TrialState.FAIL]} failed.")
        print(f"all of it    {folder / 'best.yaml'}\non all folds:\n  {content['command']}\n")

    def _command(self, space: "Space", chosen: list[str]) -> str:
        """What trains with the best values on all folds."""
        assert self.config is not None
        kept = [arg for arg in space.fixed if arg.partition("=")[0] not in ("hparams", "name", "fold")]
        folds = ",".join(str(fold) for fold in range(self.config.folds))
        words = [*kept, *chosen, f"name={self.config.name}_best", "-m", f"fold={folds}"]
        return "python -m galaxyml " + " ".join(map(shlex.quote, words))


def _made(key: str, part: DictConfig, **options: Any) -> Any:
    """A sampler or pruner of Optuna's.

    Raises:
        UserError: If there is none of that name, or it does not take what it is given.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(part, **options)
    except InstantiationException as error:
        raise UserError(
            f"hydra.sweeper.{key}: {str(error.__cause__ or error).splitlines()[0]} "
            f"Give one by hydra/sweeper/{key}=…, or the name of a class by hydra.sweeper.{key}._target_=optuna.{key}s.…"
        ) from error


def _value(result: JobReturn) -> float | None:
    """What a run has reached; None if it failed."""
    if result.status is not JobStatus.COMPLETED:
        return None
    value = result.return_value
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _first(way: Any) -> Any:
    return way.choices[0] if hasattr(way, "choices") else way.low


def _last(way: Any) -> Any:
    return way.choices[-1] if hasattr(way, "choices") else way.high


def _importance(study: "Study", space: "Space") -> dict[str, float]:
    """How much each key matters, summing to 1; {} where there are too few trials to tell."""
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    complete: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2 * len(space.keys) or len({trial.value for trial in complete}) < 2:
        return {}
    return {key: round(float(share), 3) for key, share in get_param_importances(study).items()}
