"""Searches, with a launcher that computes a known function in the place of runs."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, RunMode
from hydra.utils import instantiate

from galaxyml.cli import overrides
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError

optuna = pytest.importorskip("optuna", reason="galaxyml[optuna] is not installed")

from galaxyml.runs import search_storage as studies  # noqa: E402
from galaxyml.sweeps.search import OptunaSweeper, _first, _last, read_space  # noqa: E402

Command = Callable[..., tuple[int, str]]
Values = dict[str, str]
LOADER = ConfigLoaderImpl(create_config_search_path(str(CONF)))
SPACE = ("optim.lr=tag(log,interval(1e-5,1e-1))", "optim.weight_decay=interval(0,1)")


def N(count: int) -> str:
    return f"hydra.sweeper.n_trials={count}"


def bowl(values: Values) -> float:
    """Lowest, 0, at a learning rate of 1e-3 and a weight decay of 0.3."""
    return (math.log10(float(values["optim.lr"])) + 3) ** 2 + 4 * (float(values["optim.weight_decay"]) - 0.3) ** 2


class Stub:
    """A launcher that runs a function of the overrides.

    Args:
        function: Takes overrides as a dict; what it raises is the launcher's end.
        slots: How many runs it claims to have side by side.
    """

    def __init__(self, function: Callable[[Values], float | None] = bowl, slots: int = 1) -> None:
        self.function, self.slots = function, slots
        self.launched: list[list[Values]] = []

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        batch: list[Values] = [dict(override.split("=", 1) for override in job) for job in jobs]
        self.launched.append(batch)
        return [JobReturn(_return_value=self.function(values), status=JobStatus.COMPLETED) for values in batch]

    @property
    def runs(self) -> list[Values]:
        return [values for batch in self.launched for values in batch]


def searched(folder: Path, launcher: Any, *arguments: str) -> None:
    """Runs a search in a folder, as the command would."""
    setup_globals()
    args = ["task=galaxyzoo", "model=tiny", "name=here", *arguments, f"hydra.sweep.dir={folder}"]
    flags_first = overrides.prepare(args)
    config = LOADER.load_configuration("config", flags_first, RunMode.MULTIRUN)
    part = config.hydra.sweeper
    options: dict[str, Any] = {str(key): part[key] for key in part if not str(key).startswith("_")}
    sweeper = OptunaSweeper(**options)
    sweeper.hydra_context = HydraContext(config_loader=LOADER, callbacks=Callbacks())
    sweeper.config, sweeper.launcher = config, launcher
    sweeper.sweep(list(config.hydra.overrides.task))


def study_in(folder: Path, url: str | None = None) -> Any:
    return optuna.load_study(study_name="galaxyzoo/here", storage=studies.open_storage(url, folder))


def best(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "best.yaml").read_text())


def test_a_search_finds_the_minimum_of_a_bowl_better_than_chance_does(tmp_path: Path) -> None:
    found: dict[str, list[float]] = {"tpe": [], "random": []}
    for sampler, values in found.items():
        for seed in range(3):
            folder = tmp_path / f"{sampler}{seed}"
            searched(folder, Stub(), *SPACE, f"seed={seed}", f"hydra/sweeper/sampler={sampler}", N(40))
            values.append(best(folder)["val/rmse"])
            assert values[-1] == min(trial.value for trial in study_in(folder).trials)
    assert max(found["tpe"]) < 0.05
    assert sum(found["tpe"]) < sum(found["random"]) / 2


def test_the_best_is_the_highest_where_the_configuration_says_so(tmp_path: Path) -> None:
    searched(tmp_path, Stub(), *SPACE, "mode=max", N(12))
    study = study_in(tmp_path)
    assert best(tmp_path)["val/rmse"] == max(trial.value for trial in study.trials)


def test_a_search_that_was_broken_goes_on_as_an_unbroken_one(tmp_path: Path) -> None:
    batches = ("hydra.sweeper.n_jobs=3", N(14))
    searched(tmp_path / "unbroken", Stub(), *SPACE, *batches)

    def killed(values: Values) -> float:
        if values["hydra.sweeper.trial"] == "7":
            raise KeyboardInterrupt
        return bowl(values)

    launcher = Stub(killed)
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "broken", launcher, *SPACE, *batches)
    stopped = launcher.launched[-1]
    launcher = Stub()
    searched(tmp_path / "broken", launcher, *SPACE, *batches)
    assert launcher.launched[0] == stopped  # the same values, trials and with them folders
    broken, unbroken = (study_in(tmp_path / name).trials for name in ("broken", "unbroken"))
    assert [(t.number, t.params, t.value, t.state) for t in broken] == [
        (t.number, t.params, t.value, t.state) for t in unbroken
    ]
    assert best(tmp_path / "broken") == best(tmp_path / "unbroken")


def test_the_number_of_trials_is_that_of_all_commands(tmp_path: Path) -> None:
    launcher = Stub()
    searched(tmp_path, launcher, *SPACE, N(4))
    searched(tmp_path, launcher, *SPACE, N(4))
    assert len(launcher.runs) == 4
    searched(tmp_path, launcher, *SPACE, N(6))
    assert [run["hydra.sweeper.trial"] for run in launcher.runs] == list("012345")


def test_batches_fill_the_launcher(tmp_path: Path) -> None:
    launcher = Stub(slots=4)
    searched(tmp_path / "alone", launcher, *SPACE, N(10))
    assert [len(batch) for batch in launcher.launched] == [4, 4, 2]
    launcher = Stub(slots=4)
    searched(tmp_path / "folds", launcher, *SPACE, N(3), "fold=0,1")
    assert [len(batch) for batch in launcher.launched] == [4, 2]


def test_a_trial_is_the_mean_over_the_folds(tmp_path: Path) -> None:
    launcher = Stub(lambda values: bowl(values) + int(values["fold"]))
    searched(tmp_path, launcher, *SPACE, "fold=0,1,2", N(3))
    assert [run["fold"] for run in launcher.runs] == ["0", "1", "2"] * 3
    for place, trial in enumerate(study_in(tmp_path).trials):
        runs = launcher.runs[3 * place : 3 * place + 3]
        assert len({run["optim.lr"] for run in runs}) == 1
        assert trial.value == pytest.approx(bowl(runs[0]) + 1)


def test_trials_that_fail_are_told_so_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def function(values: Values) -> float | None:
        return {"1": None, "2": math.nan}.get(values["hydra.sweeper.trial"], bowl(values))

    searched(tmp_path, Stub(function), *SPACE, N(5))
    assert [trial.state.name for trial in study_in(tmp_path).trials] == ["COMPLETE", "FAIL", "FAIL"] + 2 * ["COMPLETE"]
    assert "2 failed" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="none of 2 trials came to its end"):
        searched(tmp_path / "all", Stub(lambda values: None), *SPACE, N(2))


def test_values_are_of_their_kinds_and_within_their_bounds(tmp_path: Path) -> None:
    launcher = Stub(lambda values: 1 / int(values["batch_size"]))
    space = ("batch_size=range(8,33,8)", "top_k=int(interval(1,3))", "loss=choice(mse,smooth_l1)", "size=32,48")
    searched(tmp_path, launcher, *space, N(30))
    assert {run["batch_size"] for run in launcher.runs} == {"8", "16", "24", "32"}
    assert {run["top_k"] for run in launcher.runs} == {"1", "2", "3"}
    assert {(run["loss"], run["size"]) for run in launcher.runs} == {
        (loss, size) for loss in ("mse", "smooth_l1") for size in ("32", "48")
    }
    assert best(tmp_path)["overrides"][0] == "batch_size=32"
    importance = best(tmp_path)["importance"]
    assert importance["batch_size"] == max(importance.values())


def test_all_combinations_are_tried_once(tmp_path: Path) -> None:
    launcher = Stub(lambda values: float(values["size"]))
    searched(tmp_path, launcher, "size=32,48", "loss=mse,bce", "hydra/sweeper/sampler=all", N(9))
    assert len(launcher.runs) == 4
    assert len({(run["size"], run["loss"]) for run in launcher.runs}) == 4


@pytest.mark.parametrize("sampler", ["gaussian", "sobol"])
@pytest.mark.parametrize("pruner", ["hyperband", "none"])
def test_samplers_and_pruners_go_by_one_word(tmp_path: Path, sampler: str, pruner: str) -> None:
    words = (f"hydra/sweeper/sampler={sampler}", f"hydra/sweeper/pruner={pruner}")
    searched(tmp_path, Stub(), *SPACE, *words, N(12))
    assert best(tmp_path)["val/rmse"] < 4


def test_the_command_that_is_told_makes_the_best_configuration(tmp_path: Path) -> None:
    searched(tmp_path, Stub(), "hparams=supervised", "epochs=7", N(3), "batch_size=16", "fold=0,1")
    found = best(tmp_path)
    words = found["command"].split()
    assert words[:3] == ["python", "-m", "galaxyml"]
    assert words[-3:] == ["name=here_best", "-m", "fold=0,1,2,3,4"]
    config = LOADER.load_configuration("config", words[3:-2], RunMode.RUN)
    params = study_in(tmp_path).best_trial.params
    assert (config.epochs, config.batch_size, config.optim.lr) == (7, 16, params["optim.lr"])
    assert "batch_size" not in params  # the command line wins


def test_a_database_keeps_a_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    for count in (2, 5):
        searched(tmp_path, Stub(), *SPACE, f"hydra.sweeper.storage={url}", N(count))
    assert len(study_in(tmp_path, url).trials) == 5
    assert not (tmp_path / "search.log").exists()


@pytest.mark.parametrize("storage", ["null", "sqlite:///{}/search.db"])
def test_two_commands_share_a_study(tmp_path: Path, storage: str) -> None:
    url = storage.format(tmp_path)
    script = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_search import N, SPACE, Stub, bowl, searched

        def slow(values):
            time.sleep(0.05)
            return bowl(values)

        launcher = Stub(slow)
        searched(Path({str(tmp_path)!r}), launcher, *SPACE, N(20), "hydra.sweeper.storage={url}")
        print("mine", *[run["hydra.sweeper.trial"] for run in launcher.runs])
        """
    )
    commands = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [command.communicate()[0] for command in commands]
    assert [command.returncode for command in commands] == [0, 0], said
    mine = [line.split()[1:] for text in said for line in text.splitlines() if line.startswith("mine")]
    assert sorted(int(number) for numbers in mine for number in numbers) == list(range(20))
    trials = study_in(tmp_path, None if url == "null" else url).trials
    assert all(trial.value == pytest.approx(bowl(trial.params)) for trial in trials)


def test_what_a_living_command_runs_is_left_to_it(tmp_path: Path) -> None:
    study = optuna.create_study()
    trials = [study.ask() for _ in range(4)]
    process = subprocess.Popen(["sleep", "60"])
    signs: dict[str, Any] = {}
    try:
        owners = {
            f"{studies.socket.gethostname()} {process.pid} a": time.time(),
            "elsewhere 1 b": time.time() - studies.DEAD_AFTER / 2,
            "elsewhere 1 c": time.time() - studies.DEAD_AFTER * 2,
        }
        for trial, (owner, at) in zip(trials, owners.items(), strict=False):
            trial.set_user_attr(studies.OWNER, owner)
            trial.set_user_attr(studies.OVERRIDES, [])
            study.set_user_attr(f"{studies.ALIVE} {owner}", at)
            signs[f"{studies.ALIVE} {owner}"] = at
        assert [studies.is_alive(owner, signs) for owner in owners] == [True, True, False]
        assert [trial.number for trial in studies.orphaned_trials(study, "me 1 d")] == [2]
        assert study.trials[2].user_attrs[studies.OWNER] == "me 1 d"
        assert study.trials[3].state.name == "FAIL"  # it was never launched
    finally:
        process.terminate()
        process.wait()
    assert [trial.number for trial in studies.orphaned_trials(study, "me 1 d")] == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("optim.lrr=interval(0,1)",), "The space cannot be searched. There is no key 'optim.lrr'. Did you mean lr"),
        (("loss=choice(mse,nope)",), "There is no loss 'nope'"),
        ((), "There is nothing to search. Give hparams="),
        (("optim.lr=interval(0,1)", "seed=0,1"), "seed=0,1: a search cannot choose a seed"),
        (("optim.lr=tag(log,interval(0,1))",), r"optim.lr=tag\(log,interval\(0,1\)\): .*low"),
        (("optim.lr=interval(0,1)", N(0)), "hydra.sweeper.n_trials=0: it must be a whole number, 1 or more"),
        (("optim.lr=interval(0,1)", "mode=least"), "mode=least: it must be min or max"),
        (
            ("optim.lr=interval(0,1)", "hydra.sweeper.sampler._target_=optuna.samplers.Nope"),
            "hydra.sweeper.sampler: .*Nope.* Give one by hydra/sweeper/sampler=",
        ),
        (
            ("optim.lr=interval(0,1)", "hydra.sweeper.storage=nosuch://there"),
            "hydra.sweeper.storage=nosuch://there cannot be opened",
        ),
    ],
)
def test_mistakes_are_answered(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    launcher = Stub()
    with pytest.raises(UserError, match=message):
        searched(tmp_path, launcher, "hydra/sweeper=optuna", *arguments)
    assert not launcher.launched


def test_a_study_is_not_carried_on_with_another_space(tmp_path: Path) -> None:
    searched(tmp_path, Stub(), *SPACE, N(1))
    for arguments, message in {
        (SPACE[0],): "begun otherwise: optim.weight_decay .* not there now",
        (SPACE[0], "optim.weight_decay=interval(0,2)"): r"optim.weight_decay .*high=1.0.* then, .*high=2.0.* now",
        (*SPACE, "fold=0,1"): r"fold \(one then, 0,1 now\)",
    }.items():
        with pytest.raises(UserError, match=message):
            searched(tmp_path, Stub(), *arguments, N(2))
    with pytest.raises(UserError, match=r"direction \(minimize then, maximize now\)"):
        searched(tmp_path, Stub(), *SPACE, "mode=max", N(2))


def test_without_optuna_the_command_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'galaxyml\[optuna\]'"):
        searched(tmp_path, Stub(), *SPACE)


def test_the_end_of_a_range_is_not_part_of_it() -> None:
    space = read_space({}, ["a=range(1,4)", "b=range(0.1,0.35,0.1)"])
    whole: Any = space.keys["a"]
    steps: Any = space.keys["b"]
    assert (whole.low, whole.high) == (1, 3)
    assert [float(value) for value in steps.choices] == pytest.approx([0.1, 0.2, 0.3])


# --- real runs

REAL = ("model=tiny", "hydra/sweeper/sampler=all")
KILLED = ("callbacks={stop:{_target_:interrupting.InterruptAt,epoch:2}}", "epochs=4", SPACE[0], N(1))


def test_a_killed_trial_goes_on_from_its_checkpoint_and_reports_each_epoch_once(
    command: Command, sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(Path(__file__).parents[1] / "training")
    monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", path)
    small = ("task=galaxyzoo", "model=tiny", "size=32", "batch_size=16", "trainer=cpu", "figures=false")
    killed = subprocess.run(
        [sys.executable, "-m", "galaxyml", *small, f"data_dir={sky.parent}", *KILLED, "name=broken"],
        env={**os.environ, "INTERRUPT_WITH": "SIGKILL"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    status, said = command(*KILLED, "name=broken")
    assert status == 0, said
    assert "fold-0_trial-000: carries on from its last checkpoint" in said
    assert "Warning" not in said
    assert command(*KILLED, "name=unbroken")[0] == 0
    broken, unbroken = (
        optuna.load_study(
            study_name=f"galaxyzoo/{name}",
            storage=studies.open_storage(None, tmp_path / "multirun" / "galaxyzoo" / name),
        ).trials
        for name in ("broken", "unbroken")
    )
    assert [(t.params, t.value, t.intermediate_values) for t in broken] == [
        (t.params, t.value, t.intermediate_values) for t in unbroken
    ]
    assert [list(t.intermediate_values) for t in broken] == [[0, 1, 2, 3]]


class Fit:
    """As much of a trainer as ending a run early needs."""

    is_global_zero = True

    def __init__(self) -> None:
        self.strategy, self.current_epoch = self, 0
        self.callback_metrics: dict[str, float] = {}

    def broadcast(self, value: bool) -> bool:
        return value


def test_all_folds_of_a_trial_end_with_its_first(tmp_path: Path) -> None:
    from galaxyml.training.pruning import Pruned, Pruning

    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1.0, n_warmup_steps=1))
    trial = study.ask()
    fit: Any = Fit()
    module: Any = None
    first, second = (Pruning(trial, "val/loss", judged) for judged in (True, False))
    first.on_fit_start(fit, module)
    for fold in (first, second):
        fit.callback_metrics["val/loss"] = 5.0
        fold.on_train_epoch_end(fit, module)
    assert trial.storage.get_trial(trial._trial_id).intermediate_values == {0: 5.0}
    fit.callback_metrics["val/loss"] = 4.0
    first.on_train_epoch_end(fit, module)  # a repeated epoch
    assert trial.storage.get_trial(trial._trial_id).intermediate_values == {0: 5.0}
    fit.current_epoch = 1
    second.on_train_epoch_end(fit, module)  # not judged
    with pytest.raises(Pruned) as ended:
        first.on_train_epoch_end(fit, module)
    assert ended.value.value == 4.0
    fit.callback_metrics["val/loss"] = 0.5
    with pytest.raises(Pruned) as ended:
        second.on_train_epoch_end(fit, module)
    assert ended.value.value == 0.5
    with pytest.raises(Pruned):  # one that has not begun
        Pruning(trial, "val/loss", False).on_fit_start(fit, module)


@pytest.mark.parametrize(("name", "task"), [("supervised", "galaxy10"), ("light_curves", "plasticc")])
def test_both_ends_of_a_space_can_be_built(tmp_path: Path, name: str, task: str) -> None:
    params = yaml.safe_load((CONF / "hparams" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    space = read_space(params, [f"task={task}", f"cache_dir={tmp_path}"])
    for end in (_first, _last):
        chosen = space.overrides({key: end(way) for key, way in space.keys.items()})
        model = [] if task == "plasticc" else ["model=tiny"]
        config = LOADER.load_configuration("config", [*space.runs(chosen)[0], *model], RunMode.RUN)
        instantiate(config.module)
        assert instantiate(config.data).batch_size == config.batch_size


def runs_of(folder: Path) -> dict[str, Any]:
    return {path.name: path for path in sorted(folder.glob("fold-*"))}


def test_a_bad_trial_is_ended_early(command: Command, tmp_path: Path) -> None:
    pruner = ("hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=1")
    status, said = command(*REAL, "optim.lr=choice(1e-2,1e-8)", "seed=1", "epochs=6", "name=early", N(2), *pruner, "-m")
    assert status == 0, said
    folder = tmp_path / "multirun" / "galaxyzoo" / "early"
    study = optuna.load_study(study_name="galaxyzoo/early", storage=studies.open_storage(None, folder))
    good, bad = study.trials
    assert (good.params["optim.lr"], good.state.name, bad.state.name) == ("0.01", "COMPLETE", "PRUNED")
    runs = runs_of(folder)
    assert list(runs) == ["fold-0_trial-000", "fold-0_trial-001"]
    history = [line.split(",") for line in (runs["fold-0_trial-001"] / "history.csv").read_text().splitlines()]
    reported = [float(row[history[0].index("val/rmse")]) for row in history[1:]]
    assert list(bad.intermediate_values.values()) == pytest.approx(reported)
    assert 2 <= len(reported) < 6
    assert bad.value == pytest.approx(reported[-1])
    assert list(good.intermediate_values) == list(range(6))
    assert yaml.safe_load((runs["fold-0_trial-001"] / "status.json").read_text())["state"] == "pruned"
    assert (runs["fold-0_trial-000"] / "metrics.json").is_file()
    assert "ended early" in said
    assert "Warning" not in said
    assert best(folder)["overrides"] == ["optim.lr=0.01"]
    status, said = command(*REAL, "optim.lr=choice(1e-2,1e-8)", "seed=1", "epochs=5", "name=early", N(3), *pruner)
    assert status == 2
    assert "epochs (6 then, 5 now)" in said
