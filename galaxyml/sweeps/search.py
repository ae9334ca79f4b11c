"""A search: Hydra's sweeper that lets Optuna choose the values of each trial. Imports nothing heavy by itself.

Trials are asked for in batches that fill the launcher. The study lies in a file or a database that several commands, on
several machines, share; each of them carries on what is there (see `galaxyml.runs.search_storage`).
"""

import math
import random
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, InstantiationException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from galaxyml.runs import search_storage as studies
from galaxyml.runs.errors import UserError, config_error
from galaxyml.runs.files import write_text
from galaxyml.runs.progress import pace, say
from galaxyml.sweeps.checks import check_jobs
from galaxyml.sweeps.search_space import Space, read_space

if TYPE_CHECKING:
    from optuna import Study

RESEEDED = ("TPESampler", "RandomSampler")  # draw anew for each trial; others keep a plan that their seed makes


class OptunaSweeper(Sweeper):
    """Runs trials until there are `n_trials`, and prints the best.

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

    hydra_context: HydraContext  # from `setup` on
    config: DictConfig
    study: "Study"  # from `sweep` on
    space: Space

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
        self.exhausted = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @property
    def folder(self) -> Path:
        """The sweep's."""
        return Path(self.config.hydra.sweep.dir)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Searches.

        Raises:
            UserError: If what is to be searched, or how, cannot be.
            SystemExit: If no trial came to its end, after that was printed.
        """
        optuna = studies.require_optuna()
        for key, value in {"n_trials": self.n_trials, "n_jobs": self.n_jobs}.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"hydra.sweeper.{key}={value}: it must be a whole number, 1 or more.")
        self.space = space = read_space(self.params, arguments, self.hydra_context.config_loader)
        # A space that names what is not there, or ends where no run can begin, is refused before anything is written.
        for end in (_first, _last):
            chosen = space.overrides({key: end(values) for key, values in space.keys.items()})
            self._composed(chosen)
            check_jobs(self.launcher, space.runs(chosen))
        pruner, sampler = _instantiated("pruner", self.pruner), _instantiated("sampler", self.sampler)
        direction = {"min": "minimize", "max": "maximize"}.get(self.config.mode)
        if direction is None:
            raise UserError(f"mode={self.config.mode}: it must be min or max.")
        self.folder.mkdir(parents=True, exist_ok=True)
        with studies.file_lock(self.folder):  # two commands that begin together would both make a database's tables
            storage = studies.open_storage(self.storage, self.folder)
            self.study = study = optuna.create_study(
                storage=storage, study_name=self.study_name, direction=direction, load_if_exists=True
            )
            texts = {key: repr(values) for key, values in space.keys.items()}
            studies.check_same_study(study, direction, texts, space.folds)
        self._check_earlier_trials()
        # A sampler that has tried everything stops the study, which Optuna allows in its own loop alone.
        study.stop = lambda: setattr(self, "exhausted", True)
        study.pruner, study.sampler = pruner, sampler
        returns: list[Sequence[JobReturn]] = []
        began, done = time.monotonic(), 0
        with studies.alive(study) as owner:
            while batch := self._batch(owner):
                returns.append(self._launch(batch))
                done, begun = done + len(batch), len(studies.launched(study))
                speed = pace(done, self.n_trials - begun, time.monotonic() - began)
                say(f"{begun} of {self.n_trials} trials{speed}")
        self._write_best()
        return returns

    def _check_earlier_trials(self) -> None:
        """Refuses a configuration that differs from that of earlier trials in more than what is searched."""
        from galaxyml.runs.run_config import check_same
        from galaxyml.runs.run_dir import RunDir

        trials = {trial.number: trial for trial in studies.launched(self.study)}
        for run in RunDir(self.folder).children():
            search = run.config.get("search")
            if search is not None and run.has_progress and search.trial in trials:
                chosen = trials[search.trial].user_attrs[studies.OVERRIDES]
                check_same(run.path, run.config, self._composed(chosen), besides=("fold",))
                return

    def _composed(self, chosen: list[str]) -> DictConfig:
        """The configuration of a trial's first run."""
        loader = self.hydra_context.config_loader
        try:
            composed = loader.load_sweep_config(self.config, self.space.runs(chosen)[0])
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"The space cannot be searched. {config_error(error)}") from error
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        return composed

    def _batch(self, owner: str) -> list[int]:
        """The numbers of the trials to be launched next: those that others left behind, then new ones."""
        slots = self.n_jobs or max(getattr(self.launcher, "slots", 1) // max(len(self.space.folds), 1), 1)
        with studies.file_lock(self.folder):
            numbers = [trial.number for trial in studies.orphaned_trials(self.study, owner)]
            missing = self.n_trials - len(studies.launched(self.study))
            for _ in range(0 if self.exhausted else min(slots - len(numbers), missing)):
                self._seed()
                trial = self.study.ask(fixed_distributions=self.space.keys)
                trial.set_user_attr(studies.OWNER, owner)
                trial.set_user_attr(studies.OVERRIDES, self.space.overrides(trial.params))
                numbers.append(trial.number)
        return numbers

    def _seed(self) -> None:
        """Lets what a trial draws depend on its number alone, so that a broken search goes on as an unbroken one."""
        name = self.sampler["_target_"].rpartition(".")[2]
        if name in RESEEDED and self.sampler.get("seed") is not None:
            number = len(self.study.get_trials(deepcopy=False))
            seed = random.Random(f"{self.sampler.seed} {number}").getrandbits(32)
            self.study.sampler = _instantiated("sampler", self.sampler, seed=seed)

    def _launch(self, numbers: list[int]) -> Sequence[JobReturn]:
        """Runs trials, and tells the study their values."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        jobs = [
            [*overrides, f"hydra.sweeper.trial={number}"]
            for number in numbers
            for overrides in self.space.runs(trials[number].user_attrs[studies.OVERRIDES])
        ]
        folds = len(jobs) // len(numbers)
        results = self.launcher.launch(jobs, initial_job_idx=numbers[0] * folds)
        trials = self.study.get_trials(deepcopy=False)
        for index, number in enumerate(numbers):
            values = [_value(result) for result in results[index * folds : (index + 1) * folds]]
            if any(value is None for value in values):
                self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            elif studies.PRUNED in trials[number].user_attrs:
                self.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                mean = math.fsum(value for value in values if value) / folds
                self.study.tell(number, mean, skip_if_finished=True)
            print(self._line(number), flush=True)
        return results

    def _line(self, number: int) -> str:
        """The result of a trial, in a line."""
        trial = self.study.get_trials(deepcopy=False)[number]
        value = f"{self.config.monitor} {trial.value:.4f}" if trial.value is not None else self.config.monitor
        ends = {"COMPLETE": value, "PRUNED": f"ended early at {value}", "FAIL": "failed"}
        return f"trial {number}: {ends[trial.state.name]} ({' '.join(trial.user_attrs[studies.OVERRIDES])})"

    def _write_best(self) -> None:
        """Prints the best trial, and writes `best.yaml`; where there is none, ends the command with status 1."""
        from optuna.trial import TrialState

        trials = studies.launched(self.study)
        counts = Counter(trial.state.name for trial in trials)
        if counts["RUNNING"]:
            print(f"{counts['RUNNING']} trials still run, begun by other commands.")
        if not counts["COMPLETE"]:
            sys.exit(
                f"error: {self.folder}: none of {len(trials)} trials came to its end; galaxyml.log in their folders "
                "says why. Choose another name=… to start anew."
            )
        best = self.study.best_trial
        chosen = best.user_attrs[studies.OVERRIDES]
        importance = self._importance()
        content = {
            "trial": best.number,
            self.config.monitor: best.value,
            "overrides": chosen,
            "command": self._command(chosen),
            "importance": importance,
            "trials": {state.name.lower(): counts[state.name] for state in TrialState if counts[state.name]},
        }
        title = f"The best of {len(trials)} trials of {self.study_name}, by {self.config.monitor} ({self.config.mode})"
        write_text(self.folder / "best.yaml", f"# {title}.\n" + OmegaConf.to_yaml(OmegaConf.create(content)))
        print(f"\n{title}: trial {best.number}, {best.value:.4f}")
        for override in chosen:
            share = importance.get(override.partition("=")[0])
            print(f"  {override}" + (f"   (importance {share:.2f})" if share is not None else ""))
        if counts["PRUNED"] or counts["FAIL"]:
            print(f"{counts['PRUNED']} trials were ended early, {counts['FAIL']} failed.")
        print(f"all of it    {self.folder / 'best.yaml'}\non all folds:\n  {content['command']}\n")

    def _command(self, chosen: list[str]) -> str:
        """The command that trains with the best values on all folds."""
        fixed = [arg for arg in self.space.fixed if arg.partition("=")[0] not in ("hparams", "name", "fold")]
        folds = ",".join(str(fold) for fold in range(self.config.folds))
        words = [*fixed, *chosen, f"name={self.config.name}_best", "-m", f"fold={folds}"]
        return "python -m galaxyml " + " ".join(map(shlex.quote, words))

    def _importance(self) -> dict[str, float]:
        """How much each key matters, summing to 1; {} where there are too few trials to tell."""
        from optuna.importance import get_param_importances

        values = [trial.value for trial in self.study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        if len(values) < 2 * len(self.space.keys) or len(set(values)) < 2:
            return {}
        return {key: round(float(share), 3) for key, share in get_param_importances(self.study).items()}


def _instantiated(key: str, config: DictConfig, **options: Any) -> Any:
    """A sampler or pruner of Optuna's.

    Raises:
        UserError: If there is none of that name, or it does not take what it is given.
    """
    try:
        return instantiate(config, **options)
    except InstantiationException as error:
        raise UserError(
            f"hydra.sweeper.{key}: {str(error.__cause__ or error).splitlines()[0]} "
            f"Give one by hydra/sweeper/{key}=…, or the name of a class by hydra.sweeper.{key}._target_=optuna.{key}s.…"
        ) from error


def _value(result: JobReturn) -> float | None:
    """The metric that a run has reached; None if it failed."""
    if result.status is not JobStatus.COMPLETED:
        return None
    value = result.return_value
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _first(values: Any) -> Any:
    return values.choices[0] if hasattr(values, "choices") else values.low


def _last(values: Any) -> Any:
    return values.choices[-1] if hasattr(values, "choices") else values.high
