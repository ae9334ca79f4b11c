import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from galaxyml.runs.errors import UserError
from galaxyml.training import choosing, trials
from galaxyml.training.choosing import Fit, Measured, wishes
from galaxyml.training.tempo import settle
from galaxyml.training.trials import Ways

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def fitted(command: Command) -> Command:
    """Runs a fit and little of what follows it."""
    return lambda *line: command("stages=[]", *([] if "task=plasticc" in line else ["predict_views=1"]), *line)


def folder(tmp_path: Path, name: str, fold: int = 0) -> Path:
    return tmp_path / "multirun" / "galaxyzoo" / name / f"fold-{fold}"


def hardware(run: Path, phase: str = "all") -> dict[str, Any]:
    return json.loads((run / "provenance.json").read_text())["hardware"][phase]


def last(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints' states are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Lets short fits be measured, with choices in a cache of their own; gives the arguments for that."""
    monkeypatch.setattr(choosing, "SHARE", float("inf"))
    monkeypatch.setattr(choosing, "SHORT", 0.0)
    return [f"cache_dir={tmp_path / 'cache'}"]


def times(monkeypatch: pytest.MonkeyPatch, **speed: float) -> list[str]:
    """Makes steps so many times as fast with a way as without it; gives the ways that are tried, as they are."""
    tried = []

    def alternately(without: trials.Trial, with_it: trials.Trial) -> list[float]:
        (key,) = {key for key in speed if differ(without, with_it, key)}
        tried.append(key)
        return [speed[key], 1.0]

    def differ(one: trials.Trial, other: trials.Trial, key: str) -> bool:
        if key == "fused":
            return one.optimizer.defaults["fused"] != other.optimizer.defaults["fused"]
        return one.module.channels_last != other.module.channels_last

    monkeypatch.setattr(choosing, "alternately", alternately)
    return tried


@pytest.mark.parametrize("task", ["galaxyzoo", "spirals", "plasticc"])
def test_measuring_leaves_no_trace_in_a_run(
    fitted: Command,
    tmp_path: Path,
    measuring: list[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    task: str,
) -> None:
    line, tried = {
        "galaxyzoo": (["callbacks={ema:{_target_:galaxyml.training.averaging.WeightEMA,decay:0.9}}"], 2),
        "spirals": (["model=test_resnet", "tune=[head,all]", "views=2", "tuning.head_epochs=2", "optim=sgd"], 2),
        "plasticc": (["batch_size=64"], 1),
    }[task]
    line = [f"task={task}", *line, *measuring]
    if task != "galaxyzoo":
        request.getfixturevalue(f"{task}_sky")
    monkeypatch.setattr(choosing, "GAIN", float("inf"))  # nothing is ever so much faster
    status, said = fitted("name=measured", *line)
    assert status == 0, said
    runs = [tmp_path / "multirun" / task / name / "fold-0" for name in ("measured", "not")]
    assert len(hardware(runs[0])["measured"]["speed"]) == tried
    assert "plain optimizer (measured: " in said
    monkeypatch.setattr(choosing, "SHARE", 0.0)
    status, said = fitted("name=not", *line)
    assert status == 0, said
    assert "plain optimizer\n" in said
    states = [last(run) for run in runs]
    for key in {"state_dict", "optimizer_states", "lr_schedulers", "current_model_state"} & states[0].keys():
        assert same(states[0][key], states[1][key]), key
    tables = [[path.read_bytes() for path in sorted((run / "predictions").rglob("*.parquet"))] for run in runs]
    assert len(tables[0]) > 1
    assert tables[0] == tables[1]


def test_folds_go_the_same_ways_and_a_run_goes_on_as_it_began(
    fitted: Command, tmp_path: Path, measuring: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    line = ["callbacks={stop:{_target_:interrupting.InterruptAt,epoch:1}}", "epochs=3", *measuring]
    assert times(monkeypatch, channels_last=0.5, fused=1.5) == []
    status, said = fitted("name=unbroken", *line)
    assert status == 0, said
    assert "channels first, fused optimizer (measured: channels_last 0.50x, fused 1.50x)" in said
    ways = {"tf32": False, "channels_last": False, "fused": True, "compile": False}
    assert hardware(folder(tmp_path, "unbroken"))["ways"] == ways
    (group, *_) = last(folder(tmp_path, "unbroken"))["optimizer_states"][0]["param_groups"]
    assert group["fused"] is True

    tried = times(monkeypatch, channels_last=2.0, fused=0.7)  # the other way round from now on
    monkeypatch.setenv("INTERRUPT_WITH", "SIGINT")
    status, said = fitted("name=broken", *line)
    assert status == 130, said
    assert "channels first, fused optimizer (measured before: channels_last 0.50x, fused 1.50x)" in said
    monkeypatch.delenv("INTERRUPT_WITH")
    for kept in (tmp_path / "cache" / "hardware").glob("*.json"):
        kept.unlink()
    status, said = fitted("name=broken", *line)
    assert status == 0, said
    assert "channels first, fused optimizer (as it began: channels_last 0.50x, fused 1.50x)" in said
    assert tried == []
    states = [last(folder(tmp_path, name)) for name in ("unbroken", "broken")]
    for key in ("state_dict", "optimizer_states"):
        assert same(states[0][key], states[1][key]), key

    status, said = fitted("name=fresh", *line)
    assert status == 0, said
    assert tried == ["channels_last", "fused"]
    assert hardware(folder(tmp_path, "fresh"))["ways"]["channels_last"] is True


def test_ways_differ_in_the_last_bits_alone(fitted: Command, tmp_path: Path) -> None:
    line = ["model.dropout=0", f"cache_dir={tmp_path / 'cache'}"]
    status, said = fitted("name=plain", *line)
    assert status == 0, said
    assert "fold-0: CPU, 1 threads; 32-true, channels_last, plain optimizer\n" in said
    assert hardware(folder(tmp_path, "plain"))["measured"]["step"] is None  # as the fit is short
    status, said = fitted("name=other", *line, "trainer.fused=true", "trainer.channels_last=false")
    assert status == 0, said
    assert "channels first, fused optimizer\n" in said
    assert not (tmp_path / "cache" / "hardware").exists()
    plain, other = (last(folder(tmp_path, name))["state_dict"] for name in ("plain", "other"))
    assert not same(plain, other)
    for key in plain:
        torch.testing.assert_close(plain[key], other[key], rtol=1e-3, atol=1e-3)


def test_a_run_can_be_carried_on_with_other_ways(
    fitted: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    line = ["callbacks={stop:{_target_:interrupting.InterruptAt,epoch:1}}", "epochs=3", "model.dropout=0"]
    status, said = fitted("name=unbroken", *line)
    assert status == 0, said
    monkeypatch.setenv("INTERRUPT_WITH", "SIGINT")
    assert fitted("name=broken", *line, "trainer.channels_last=false")[0] == 130
    monkeypatch.delenv("INTERRUPT_WITH")
    status, said = fitted("name=broken", *line, "trainer.fused=true")
    assert status == 0, said
    assert "channels_last, fused optimizer" in said
    states = [last(folder(tmp_path, name)) for name in ("unbroken", "broken")]
    assert states[1]["optimizer_states"][0]["param_groups"][0]["fused"] is True
    for key in states[0]["state_dict"]:
        torch.testing.assert_close(states[0]["state_dict"][key], states[1]["state_dict"][key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("was", "fused"), [(False, True), (True, False), (True, True), (False, False)])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_state_of_a_fit_that_went_other_ways_is_taken_over(
    kind: Any, was: bool, fused: bool, layout: torch.memory_format
) -> None:
    options = {"lr": 0.1} | ({"momentum": 0.9} if kind is torch.optim.SGD else {})

    def steps(weight: nn.Parameter, optimizer: torch.optim.Optimizer, seed: int) -> None:
        for step in range(3):
            drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed + step))
            weight.grad = torch.empty_like(weight).copy_(drawn)
            optimizer.step()

    start = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(9))
    true = nn.Parameter(start.clone())
    never_broken = kind([true], **options)
    steps(true, never_broken, 0)
    steps(true, never_broken, 10)

    first = nn.Parameter(start.clone())
    before = kind([first], fused=was or None, **options)
    steps(first, before, 0)
    second = nn.Parameter(first.detach().to(memory_format=layout))
    after = kind([second], fused=fused or None, **options)
    after.load_state_dict(before.state_dict())
    settle(after, fused)
    assert all(group["fused"] == (fused or None) or group["fused"] == fused for group in after.param_groups)
    steps(second, after, 10)
    torch.testing.assert_close(second.detach(), true.detach(), rtol=1e-5, atol=1e-6)


def compiler(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    """Puts a backend in the place of the default one, which takes long."""
    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: plain(model, backend=backend, **options))


def test_a_compiled_net_is_compiled_once_and_leaves_the_names_of_its_weights(
    fitted: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def counting(graph: Any, inputs: list[torch.Tensor]) -> Any:
        shapes.extend([tuple(given.shape) for given in inputs if given.shape[1:] == (3, 32, 32)])
        return graph.forward

    compiler(monkeypatch, counting)
    line = ["callbacks={ema:{_target_:galaxyml.training.averaging.WeightEMA,decay:0.9}}", "batch_size=17"]
    status, said = fitted("name=eager", *line)
    assert status == 0, said
    assert shapes == []
    status, said = fitted("name=compiled", *line, "trainer.compile=true")
    assert status == 0, said
    assert "channels_last, plain optimizer, compiled\n" in said
    assert shapes == [(17, 3, 32, 32)]  # neither the last batches, which are smaller, nor evaluation
    states = [last(folder(tmp_path, name)) for name in ("eager", "compiled")]
    for key in ("state_dict", "current_model_state"):
        assert same(states[0][key], states[1][key]), key
    tables = [(folder(tmp_path, name) / "predictions" / "val.parquet").read_bytes() for name in ("eager", "compiled")]
    assert tables[0] == tables[1]


def test_a_net_that_cannot_be_compiled_is_fitted_all_the_same(
    fitted: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise OSError("no C compiler\nand a long story")

    compiler(monkeypatch, broken)
    status, said = fitted("name=compiled", "trainer.compile=true")
    assert status == 0, said
    assert said.count("note: torch.compile failed") == 1
    assert "no C compiler" in said
    assert "story" not in said
    assert "plain optimizer\n" in said
    assert hardware(folder(tmp_path, "compiled"))["ways"]["compile"] is False


@pytest.mark.parametrize(("speed", "chosen"), [(1e6, True), (1.01, False)])
def test_compiling_is_tried_where_it_may_pay(
    fitted: Command,
    tmp_path: Path,
    measuring: list[str],
    monkeypatch: pytest.MonkeyPatch,
    speed: float,
    chosen: bool,
) -> None:
    compiler(monkeypatch, "eager")
    monkeypatch.setattr(choosing, "WORTH_COMPILING", 0.0)
    monkeypatch.setattr(Fit, "open", {"compile"})  # as on a GPU, but for what is quick to tell
    monkeypatch.setattr(choosing, "alternately", lambda *_: [speed, 1.0])
    status, said = fitted("name=tried", *measuring)
    assert status == 0, said
    assert (", compiled (measured: compile" in said) == chosen
    found = hardware(folder(tmp_path, "tried"))
    assert found["ways"]["compile"] is chosen
    assert found["measured"]["speed"] == {"compile": speed}


def test_compiling_has_to_save_more_time_than_it_takes() -> None:
    def measured(speed: float, compilation: float | None = 40.0) -> Measured:
        return Measured(step=0.1, speed={"compile": speed}, compilation=compilation)

    # At twice the speed 0.05 s of each step are saved, and 40 s after 800 steps.
    assert not measured(2.0).compiling_pays(799)
    assert measured(2.0).compiling_pays(801)
    assert not measured(1.02).compiling_pays(1e9)
    assert not measured(0.5).compiling_pays(1e9)
    assert not measured(2.0, None).compiling_pays(1e9)


def test_what_is_usual_stays_within_the_noise() -> None:
    for speed, if_usual, if_not in ((1.1, True, True), (1.02, True, False), (0.98, True, False), (0.9, False, False)):
        measured = Measured(speed={"fused": speed})
        assert measured.pays("fused", default=True) == if_usual
        assert measured.pays("fused", default=False) == if_not


def fit(optimizer: torch.optim.Optimizer, scaler: Any, clip: float | None) -> dict[str, str]:
    made: Any = Fit.__new__(Fit)
    plugin = SimpleNamespace(scaler=scaler)
    made.trainer = SimpleNamespace(precision_plugin=plugin, optimizers=[optimizer], gradient_clip_val=clip)
    made.device, made.shape = torch.device("cpu"), torch.Size([8, 3, 9, 9])
    return made._hindrances()


def test_fused_optimizers_are_left_out_where_they_cannot_be() -> None:
    weights = [nn.Parameter(torch.zeros(2))]
    scaler = torch.amp.GradScaler("cpu")
    assert "fused" not in fit(torch.optim.AdamW(weights), None, 1.0)
    assert "fused" not in fit(torch.optim.AdamW(weights), scaler, None)
    assert "not clipped" in fit(torch.optim.AdamW(weights), scaler, 1.0)["fused"]
    assert "Rprop" in fit(torch.optim.Rprop(weights), None, None)["fused"]
    assert "another way" in fit(torch.optim.SGD(weights, foreach=True), None, None)["fused"]
    # The reason: Lightning refuses it.
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        MixedPrecision("16-mixed", "cpu", scaler).clip_gradients(torch.optim.AdamW(weights, fused=True), 1.0)


def test_what_cannot_be_is_told_and_not_done(fitted: Command, tmp_path: Path) -> None:
    status, said = fitted("name=wished", "trainer.fused=true", "trainer.tf32=true", "+optim.optimizer.foreach=true")
    assert status == 0, said
    assert "note: trainer.fused=true does not apply: the optimizer was told another way." in said
    assert "note: trainer.tf32=true does not apply: this device does not have it." in said
    assert not any(hardware(folder(tmp_path, "wished"))["ways"][key] for key in ("fused", "tf32"))


def test_choices_are_true_false_or_auto(fitted: Command) -> None:
    assert wishes({"fused": True}) == {"tf32": "auto", "channels_last": "auto", "fused": True, "compile": "auto"}
    with pytest.raises(UserError, match="fused=yes: it must be auto"):
        wishes({"fused": "yes"})
    status, said = fitted("trainer.compile=fast")
    assert status == 1
    assert "trainer.compile=fast: it must be auto, true or false." in said


@pytest.mark.parametrize(
    ("batches", "measures", "fused"),
    [
        (1500, 0, False),  # 31 steps would be more than 2 % of it
        (1600, 1, True),
        (1900, 0, True),  # within a quarter of what was measured
        (2500, 1, True),
    ],
)
def test_fits_alike_choose_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int, measures: int, fused: bool
) -> None:
    measured = []

    def measure(fit: Any, found: Measured) -> Ways:
        measured.append(found.speed)
        found.speed["fused"] = 1.5
        return Ways(fused=True)

    monkeypatch.setattr(choosing, "_measure", measure)
    about = {"device": "CPU"}
    fit = SimpleNamespace(
        about=lambda: about, open={"fused", "channels_last"}, device=torch.device("cpu"), batches=1600, asked=Ways()
    )
    if batches > 1600:
        choosing.choose(fit, tmp_path)  # type: ignore[arg-type]
        assert measured.pop() == {"fused": 1.5}
    fit.batches = batches
    choice = choosing.choose(fit, tmp_path)  # type: ignore[arg-type]
    assert choice.ways.fused == fused
    assert len(measured) == measures
    assert choice.measured.speed == ({"fused": 1.5} if fused else {})
    about["device"] = "another"
    fit.batches = 1600
    assert choosing.choose(fit, tmp_path).how == "measured"  # type: ignore[arg-type]
