import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from galaxyml.runs.errors import UserError
from galaxyml.training.kernels import KERNELS, kernels_for, wished_kernels
from galaxyml.training.optimizers import restore_optimizer_state

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def fitted(command: Command) -> Command:
    """Runs a fit and little of what follows it."""
    return lambda *line: command("stages=[]", "predict_views=1", *line)


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


def test_kernels_differ_in_the_last_bits_alone(fitted: Command, tmp_path: Path) -> None:
    line = ["model.dropout=0"]
    status, printed = fitted("name=plain", *line)
    assert status == 0, printed
    assert "fold-0: CPU, 1 thread; 32-true, channels_last\n" in printed
    kernels = {"tf32": False, "channels_last": True, "fused": False, "compile": False}
    assert hardware(folder(tmp_path, "plain")) == {"device": "CPU, 1 thread", "precision": "32-true", **kernels}
    status, printed = fitted("name=other", *line, "trainer.fused=true", "trainer.channels_last=false")
    assert status == 0, printed
    assert "fold-0: CPU, 1 thread; 32-true, fused\n" in printed
    plain, other = (last(folder(tmp_path, name))["state_dict"] for name in ("plain", "other"))
    assert not same(plain, other)
    for key in plain:
        torch.testing.assert_close(plain[key], other[key], rtol=1e-3, atol=1e-3)


def test_a_run_can_be_carried_on_with_other_kernels(
    fitted: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    line = ["callbacks={stop:{_target_:interrupting.InterruptAt,epoch:1}}", "epochs=3", "model.dropout=0"]
    status, printed = fitted("name=unbroken", *line)
    assert status == 0, printed
    monkeypatch.setenv("INTERRUPT_WITH", "SIGINT")
    assert fitted("name=broken", *line, "trainer.channels_last=false")[0] == 130
    monkeypatch.delenv("INTERRUPT_WITH")
    status, printed = fitted("name=broken", *line, "trainer.fused=true")
    assert status == 0, printed
    assert "channels_last, fused\n" in printed
    states = [last(folder(tmp_path, name)) for name in ("unbroken", "broken")]
    assert states[1]["optimizer_states"][0]["param_groups"][0]["fused"] is True
    for key in states[0]["state_dict"]:
        torch.testing.assert_close(states[0]["state_dict"][key], states[1]["state_dict"][key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("was", "fused"), [(False, True), (True, False), (True, True), (False, False)])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_optimizer_state_of_a_fit_with_other_kernels_is_taken_over(
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
    restore_optimizer_state(after)
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
    status, printed = fitted("name=eager", *line)
    assert status == 0, printed
    assert shapes == []
    status, printed = fitted("name=compiled", *line, "trainer.compile=true")
    assert status == 0, printed
    assert "channels_last, compile\n" in printed
    assert len(set(shapes)) == len(shapes)
    assert all(shape[0] <= 17 for shape in shapes)  # of training alone: full batches, and the last one
    states = [last(folder(tmp_path, name)) for name in ("eager", "compiled")]
    for key in ("state_dict", "current_model_state"):
        assert same(states[0][key], states[1][key]), key
    tables = [(folder(tmp_path, name) / "predictions" / "val.parquet").read_bytes() for name in ("eager", "compiled")]
    assert tables[0] == tables[1]


def test_kernels_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = wished_kernels({})

    def chosen(kind: str, wished: dict[str, Any]) -> list[str]:
        kernels = kernels_for(torch.device(kind), wished)
        assert list(kernels) == list(KERNELS)
        return [name for name, is_used in kernels.items() if is_used]

    assert chosen("cpu", auto) == ["channels_last"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert chosen("cuda", auto) == ["tf32", "channels_last", "fused"]
    asked = dict.fromkeys(auto, False) | {"compile": True}
    assert chosen("cuda", asked) == ["compile"]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert "tf32" not in chosen("cuda", auto | {"tf32": True})


def test_lightning_refuses_to_clip_the_scaled_gradients_of_a_fused_optimizer() -> None:
    weights = [nn.Parameter(torch.zeros(2))]
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu")).clip_gradients(
            torch.optim.AdamW(weights, fused=True), 1.0
        )


def test_what_cannot_be_is_told_and_not_done(fitted: Command, tmp_path: Path) -> None:
    status, printed = fitted("name=wished", "trainer.fused=true", "trainer.tf32=true", "+optim.optimizer.foreach=true")
    assert status == 0, printed
    assert "note: trainer.fused=true does not apply: the optimizer has no such kernel" in printed
    assert "note: trainer.tf32=true does not apply: this device does not have it." in printed
    assert not any(hardware(folder(tmp_path, "wished"))[key] for key in ("fused", "tf32"))


def test_choices_are_true_false_or_auto(fitted: Command) -> None:
    assert wished_kernels({"fused": True}) == {
        "tf32": "auto",
        "channels_last": "auto",
        "fused": True,
        "compile": "auto",
    }
    with pytest.raises(UserError, match="fused=yes: it must be auto"):
        wished_kernels({"fused": "yes"})
    status, printed = fitted("trainer.compile=fast")
    assert status == 2
    assert "trainer.compile=fast: it must be auto, true or false." in printed
