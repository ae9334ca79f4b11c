"""Averaged weights and early ends: what validates, what is saved, and how a broken fit goes on."""

import copy
import itertools
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.averaging import EarlyStopping, WeightEMA, warmed_up
from galaxyml.training.callbacks import EpochProgress, EpochSeeds, History, checkpoints
from galaxyml.training.dashboard import Figures
from galaxyml.training.loggers import TensorBoard
from galaxyml.training.quiet import quiet

Command = Callable[..., tuple[int, str]]
Weights = dict[str, Tensor]
STEPS = 6  # an epoch
ZERO = torch.zeros(())


class Fitted(lightning.LightningModule):
    """A net with batch norm and dropout; what its validation saw is kept in `seen`."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))
        self.net[0].requires_grad_(not frozen)
        self.seen: list[Weights] = []
        self.drawn: list[Weights] = []
        self.scripted: list[float] = []

    def figures(self, trainer: lightning.Trainer) -> dict[str, Any]:
        self.drawn.append(weights(self))
        return {}

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        loss = nn.functional.mse_loss(self.net(batch), truth(batch))
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.seen.append(weights(self))
        loss = nn.functional.mse_loss(self.net(batch), truth(batch))
        self.log("val/loss", loss)
        if self.scripted:
            self.log("val/script", self.scripted[self.current_epoch])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW([value for value in self.parameters() if value.requires_grad], lr=0.03)


class Steps(Callback):
    """Keeps the plain weights after each step; it stands first, and so sees them before anyone takes them away."""

    def __init__(self) -> None:
        self.after: list[Weights] = []
        self.before: list[Weights] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.before.append(weights(pl_module))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.after.append(weights(pl_module))


class Cut(Callback):
    """Ends the process's fit in the second batch of an epoch, as a person would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.current_epoch == self.epoch and arguments[-1] == 1:
            raise RuntimeError("cut")


def truth(x: Tensor) -> Tensor:
    return x[:, :1] * x[:, 1:2] + x[:, 2:]


def numbers(count: int = 16 * STEPS) -> Tensor:
    """Numbers far from 0, so that batch norm without its statistics would be far off."""
    return 2 + torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def weights(module: nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def loss_of(module: Fitted, state: Weights) -> float:
    """Validation loss of a module with other weights."""
    other = copy.deepcopy(module).eval()
    other.load_state_dict(state)
    with torch.no_grad():
        return float(nn.functional.mse_loss(other.net(numbers()[:40]), truth(numbers()[:40])))


def fit(
    folder: Path,
    *callbacks: Callback,
    module: Fitted | None = None,
    epochs: int = 3,
    monitor: str = "val/loss",
    resume: bool = False,
    **options: Any,
) -> Fitted:
    """A fit with all that a run does beside it, and `callbacks` where a run has those of its configuration."""
    quiet()
    run = RunDir(folder)
    folder.mkdir(parents=True, exist_ok=True)
    module = Fitted() if module is None else module
    usual = [EpochSeeds(0), History(run), EpochProgress("fit", monitor), Figures(epochs), *callbacks]
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=TensorBoard(run, run, OmegaConf.create({})),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        callbacks=[*usual, *checkpoints(run, monitor, "min")],
        **options,
    )
    data: Any = numbers()
    own = torch.Generator()  # loaders draw a number when they begin, which is not to come from the epoch's
    batches, val = (DataLoader(part, size, generator=own) for part, size in ((data, 16), (data[:40], 20)))
    path = str(run.checkpoints / "last.ckpt") if resume else None
    trainer.fit(module, batches, val, ckpt_path=path, weights_only=True)
    return module


def by_hand(steps: list[Weights], decay: float) -> list[Weights]:
    """Averages after each step, as sums of all weights so far times their shares, in double precision."""
    decays = [0.0, *(min(decay, (1 + step) / (10 + step)) for step in range(1, len(steps)))]
    averages_after: list[Weights] = []
    for count in range(1, len(steps) + 1):
        shares = [(1 - decays[step]) * math.prod(decays[step + 1 : count]) for step in range(count)]
        assert sum(shares) == pytest.approx(1)
        averages = dict(steps[count - 1])
        for name in (name for name, value in averages.items() if value.is_floating_point()):
            averages[name] = sum((s * step[name].double() for s, step in zip(shares, steps, strict=False)), ZERO)
        averages_after.append(averages)
    return averages_after


def test_the_decay_rises_from_a_tenth_to_what_is_asked() -> None:
    assert warmed_up(0.999, 0) == 0.1
    rising = [warmed_up(0.999, updates) for updates in range(10000)]
    assert all(before <= after for before, after in itertools.pairwise(rising))
    assert rising.index(0.999) == 8990
    assert rising[8989] < 0.999
    assert rising[-1] == 0.999
    assert warmed_up(0.05, 0) == 0.05


@pytest.mark.parametrize("decay", [0.6, 0.999])
def test_the_average_is_the_sum_of_each_steps_weights_times_their_shares(tmp_path: Path, decay: float) -> None:
    steps = Steps()
    fit(tmp_path, steps, WeightEMA(decay), epochs=2)
    assert len(steps.after) == 2 * STEPS
    expected = by_hand(steps.after, decay)[-1]
    saved = read(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    assert saved.keys() == expected.keys()
    for name, value in saved.items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-6)
    assert int(saved["net.1.num_batches_tracked"]) == 2 * STEPS  # a count is no average


def test_validation_and_its_figures_see_the_average_and_training_the_plain_weights(tmp_path: Path) -> None:
    steps = Steps()
    module = fit(tmp_path, steps, WeightEMA(0.9))
    averages = by_hand(steps.after, 0.9)
    assert len(module.seen) == 2 * len(module.drawn) == 6  # batches
    for epoch in range(3):
        expected = averages[(epoch + 1) * STEPS - 1]
        for seen in (*module.seen[2 * epoch : 2 * epoch + 2], module.drawn[epoch]):
            for name, value in seen.items():
                torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-6)
    for after, before in zip(steps.after, steps.before[1:], strict=False):
        assert same(after, before)


@pytest.mark.parametrize("which", ["best", "last"])
def test_what_is_saved_to_predict_is_what_validated(tmp_path: Path, which: str) -> None:
    steps = Steps()
    module = fit(tmp_path, steps, WeightEMA(0.9), epochs=4)
    losses = pd.read_csv(tmp_path / "history.csv")["val/loss"]
    epoch = int(losses.argmin()) if which == "best" else 3
    saved = read(tmp_path / "checkpoints" / f"{which}.ckpt")
    assert saved["epoch"] == epoch
    assert same(saved["state_dict"], module.seen[2 * epoch])
    assert same(saved["current_model_state"], steps.after[(epoch + 1) * STEPS - 1])
    assert not same(saved["state_dict"], saved["current_model_state"])

    other = Fitted()
    other.load_state_dict(RunDir(tmp_path).weights(which))
    assert loss_of(module, weights(other)) == pytest.approx(losses[epoch], rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}])
def test_a_fit_that_was_cut_off_and_resumed_ends_with_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    unbroken = fit(tmp_path / "unbroken", WeightEMA(0.9), epochs=4, **options)
    with pytest.raises(RuntimeError, match="cut"):
        fit(tmp_path / "broken", WeightEMA(0.9), Cut(2), epochs=4, **options)
    resumed = fit(tmp_path / "broken", WeightEMA(0.9), epochs=4, resume=True, **options)
    ends = [read(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("unbroken", "broken")]
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert same(ends[0][part], ends[1][part]), part
    assert int(ends[0]["averaging_state"]["n_averaged"]) == ends[0]["global_step"]
    assert ends[0]["global_step"] == 4 * STEPS / options.get("accumulate_grad_batches", 1)
    assert same(weights(unbroken), weights(resumed))
    assert same(weights(resumed), ends[0]["state_dict"])
    assert (tmp_path / "unbroken" / "history.csv").read_text() == (tmp_path / "broken" / "history.csv").read_text()


def test_what_is_frozen_keeps_its_bits_and_is_saved_once(tmp_path: Path) -> None:
    class Wide(Fitted):
        def __init__(self) -> None:
            super().__init__(frozen=True)
            self.wide = nn.Linear(500, 500).requires_grad_(False)
            self.wide.bias.fill_(-math.inf)  # as of a mask: a step towards itself would make it NaN
            self.register_buffer("constant", torch.rand(100))

    module = Wide()
    before = weights(module)
    steps = Steps()
    fit(tmp_path / "averaged", steps, WeightEMA(0.9), module=module)
    saved = read(tmp_path / "averaged" / "checkpoints" / "last.ckpt")
    for name in ("wide.weight", "wide.bias", "net.0.weight", "net.0.bias", "constant"):
        assert torch.equal(saved["state_dict"][name], before[name])
        assert torch.equal(saved["current_model_state"][name], before[name])
    expected = by_hand(steps.after, 0.9)[-1]["net.4.weight"]
    torch.testing.assert_close(saved["state_dict"]["net.4.weight"].double(), expected, rtol=1e-5, atol=1e-6)
    fit(tmp_path / "plain", module=Wide())
    sizes = [(tmp_path / name / "checkpoints" / "last.ckpt").stat().st_size for name in ("averaged", "plain")]
    assert 1e6 < sizes[0] < 1.1 * sizes[1]


def test_weights_that_are_loaded_after_a_fit_are_not_replaced_by_its_average(tmp_path: Path) -> None:
    ema = WeightEMA(0.9)
    module = fit(tmp_path, ema)
    plain = read(tmp_path / "checkpoints" / "last.ckpt")["current_model_state"]
    module.load_state_dict(plain)
    data: Any = numbers()
    module.trainer.validate(module, DataLoader(data, 32), verbose=False)
    assert same(module.seen[-1], plain)
    assert same(weights(module), plain)


@pytest.mark.parametrize("decay", [0, 1, 0.0, 1.0, -0.1, 1.5, math.nan, True, "0.9", None])
def test_a_decay_out_of_range_is_refused(decay: Any) -> None:
    with pytest.raises(UserError, match=rf"ema={decay}: it must be a number above 0 and below 1"):
        WeightEMA(decay)


@pytest.mark.parametrize("patience", [0, -1, 1.5, True, "3", None])
def test_an_impossible_patience_is_refused(patience: Any) -> None:
    with pytest.raises(UserError, match=rf"patience={patience}: it must be a whole number of epochs"):
        EarlyStopping("val/loss", "min", patience)


SCRIPT = [3.0, 2.0, 2.5, 2.0, 1.0, 1.5, math.nan, 1.2, 0.0, 0.0]  # better at epochs 0, 1 and 4; three worse; too late


def scripted(values: list[float]) -> Fitted:
    module = Fitted()
    module.scripted = values
    return module


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_a_fit_ends_when_patience_does(tmp_path: Path, mode: str, sign: int) -> None:
    module = scripted([sign * value for value in SCRIPT])
    fit(tmp_path, EarlyStopping("val/script", mode, 3), module=module, epochs=10)
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["epoch"].tolist() == list(range(8))
    assert read(tmp_path / "checkpoints" / "last.ckpt")["epoch"] == 7


@pytest.mark.parametrize("cut", [1, 3, 6, 7])
def test_patience_goes_on_where_it_was(tmp_path: Path, cut: int) -> None:
    """It has waited for none, two, two and three epochs when the fit is cut off, each time after a checkpoint."""

    def callbacks() -> list[Callback]:
        return [WeightEMA(0.9), EarlyStopping("val/script", "min", 3)]

    unbroken = fit(tmp_path / "unbroken", *callbacks(), module=scripted(SCRIPT), epochs=10)
    with pytest.raises(RuntimeError, match="cut"):
        fit(tmp_path / "broken", *callbacks(), Cut(cut), module=scripted(SCRIPT), epochs=10)
    resumed = fit(tmp_path / "broken", *callbacks(), module=scripted(SCRIPT), epochs=10, resume=True)
    assert same(weights(unbroken), weights(resumed))
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("unbroken", "broken")]
    assert histories[0] == histories[1]


def test_a_fit_that_had_ended_early_does_not_train_on(tmp_path: Path) -> None:
    """As where a process is killed after its last checkpoint, but before its folder says that it is fitted."""
    callbacks = [WeightEMA(0.9), EarlyStopping("val/script", "min", 3)]
    ended = fit(tmp_path, *callbacks, module=scripted(SCRIPT), epochs=10)
    files = [tmp_path / "checkpoints" / f"{which}.ckpt" for which in ("best", "last")]
    before = [file.read_bytes() for file in (*files, tmp_path / "history.csv")]
    steps = Steps()
    again = fit(
        tmp_path,
        steps,
        WeightEMA(0.9),
        EarlyStopping("val/script", "min", 3),
        module=scripted(SCRIPT),
        epochs=10,
        resume=True,
    )
    assert steps.before == []
    assert same(weights(ended), weights(again))
    assert before == [file.read_bytes() for file in (*files, tmp_path / "history.csv")]


def test_nothing_is_said_beside_the_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def callbacks() -> list[Callback]:
        return [WeightEMA(0.9), EarlyStopping("val/script", "min", 3)]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet()
        with pytest.raises(RuntimeError, match="cut"):
            fit(tmp_path, *callbacks(), Cut(5), module=scripted(SCRIPT), epochs=10)
        fit(tmp_path, *callbacks(), module=scripted(SCRIPT), epochs=10, resume=True)
        fit(tmp_path, *callbacks(), module=scripted(SCRIPT), epochs=10, resume=True)
    printed = capfd.readouterr()
    lines = [line for line in (printed.out + printed.err).splitlines() if line and not line.startswith("fit: epoch")]
    assert lines == []


def test_a_metric_that_nobody_logs_is_for_the_checkpoints_to_refuse(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="val/nope"):
        fit(tmp_path, EarlyStopping("val/nope", "min", 3), monitor="val/nope")


EMA = "callbacks={ema:{_target_:galaxyml.training.averaging.WeightEMA,decay:0.9}%s}"
STOP = ",stop:{_target_:interrupting.InterruptAt,epoch:1}"
LINE = ("task=spirals", "model=test_resnet", "tune=[head,all]", "views=2", "epochs=3", "tuning.head_epochs=3")


def test_a_run_in_phases_averages_each_and_resumes_exactly(
    command: Command, spirals_sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    line = (*LINE, EMA % STOP)
    status, printed = command(*line, "name=unbroken")
    assert status == 0, printed
    monkeypatch.setenv("INTERRUPT_WITH", "SIGINT")
    statuses = [command(*line, "name=broken")[0]]
    monkeypatch.setenv("INTERRUPT_PHASE", "all")
    statuses.append(command(*line, "name=broken")[0])
    monkeypatch.delenv("INTERRUPT_WITH")
    statuses.append(command(*line, "name=broken")[0])
    assert statuses == [130, 130, 0]
    runs = [tmp_path / "multirun" / "spirals" / name / "fold-0" for name in ("unbroken", "broken")]
    for part in ("checkpoints/last.ckpt", "phases/head/checkpoints/last.ckpt"):
        states = [read(run / part) for run in runs]
        for state in ("state_dict", "current_model_state", "averaging_state"):
            assert same(states[0][state], states[1][state]), (part, state)
        assert not same(states[0]["state_dict"], states[0]["current_model_state"])
    tables = [pd.read_parquet(run / "predictions" / "val.parquet") for run in runs]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
