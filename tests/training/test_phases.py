"""A fit in phases: what is trained in each, what is kept, and how a broken run goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from galaxyml.models.astrocnn import AstroCNN
from galaxyml.runs.errors import UserError
from galaxyml.training.phases import Tuning, phases, start_phase

Command = Callable[..., tuple[int, str]]
SHORT = ("task=spirals", "model=test_resnet", "tune=[head,all]", "tuning.progression=true", "views=2", "epochs=3")
LINE = (*SHORT, "tuning.head_epochs=3", "tuning.head_lr=0.01", "tuning.backbone_rate=0.1")


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ("tail", "tune=tail: it must be all, head or lora"),
        (["all", "head"], r"tune=\[all,head\]: the head alone comes first"),
        (["head", "head"], r"tune=\[head,head\]: name head, all or lora"),
        (["all", "lora"], r"tune=\[all,lora\]: name head"),
        ([], "name head, all or lora"),
    ],
)
def test_phases_that_make_no_sense_are_refused(tune: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        phases(tune, AstroCNN(2))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_epochs", 0),
        ("head_lr", 0.0),
        ("backbone_rate", -1.0),
        ("layer_decay", 1.5),
        ("lora_rank", 0),
        ("lora_alpha", 0.0),
        ("lora_dropout", 1.0),
    ],
)
def test_impossible_numbers_are_refused(key: str, value: Any) -> None:
    options: dict[str, Any] = {key: value}
    with pytest.raises(UserError, match=f"tuning.{key}={value}: it must be"):
        Tuning(**options)


def test_a_phase_trains_what_it_names() -> None:
    net: Any = AstroCNN(2)
    start_phase("head", net, Tuning())
    assert {name for name, value in net.named_parameters() if value.requires_grad} == {
        name for name, _ in net.named_parameters() if name.startswith("head.")
    }
    start_phase("all", net, Tuning())
    assert all(value.requires_grad for value in net.parameters())
    with pytest.raises(UserError, match="Linear has no separate head"):
        phases(["head", "all"], nn.Linear(2, 2))


def test_a_fit_in_phases_keeps_each_and_resumes_in_each_exactly(
    command: Command, spirals_sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, printed = command(*LINE, "name=unbroken")
    assert status == 0, printed
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    stop = "callbacks={stop:{_target_:interrupting.InterruptAt,epoch:1}}"
    statuses = []
    monkeypatch.setenv("INTERRUPT_WITH", "SIGINT")
    statuses.append(command(*LINE, stop, "name=broken")[0])  # in the head's phase
    runs = [tmp_path / "multirun" / "spirals" / name / "fold-0" for name in ("unbroken", "broken")]
    assert not (runs[1] / "checkpoints" / "last.ckpt").exists()
    assert command("task=spirals", "model=test_resnet", "epochs=3", "name=broken")[0] == 2  # another configuration
    monkeypatch.setenv("INTERRUPT_PHASE", "all")
    statuses.append(command(*LINE, stop, "name=broken")[0])  # the head's goes on to its end, then the next is broken
    assert (runs[1] / "phases" / "head" / "metrics.json").is_file()
    assert (runs[1] / "checkpoints" / "last.ckpt").exists()
    monkeypatch.delenv("INTERRUPT_WITH")
    statuses.append(command(*LINE, stop, "name=broken")[0])
    assert statuses == [130, 130, 0]

    for file in ("checkpoints/last.ckpt", "phases/head/checkpoints/last.ckpt"):
        weights = [torch.load(run / file, weights_only=True)["state_dict"] for run in runs]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    for table in ("val", "net_untrained/val", "net_head/test", "net/test"):
        tables = [pd.read_parquet(run / "predictions" / f"{table}.parquet") for run in runs]
        pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    for history in ("history.csv", "phases/head/history.csv"):
        assert (runs[0] / history).read_text() == (runs[1] / history).read_text()

    counts = pd.read_csv(runs[0] / "tables" / "phases.csv")
    assert counts["phase"].tolist() == ["head", "all"]
    assert counts["tensors"].tolist() == [2, counts["of_tensors"][0]]
    assert "(head): trains 2 of" in printed
    before, after = (
        torch.load(runs[0] / file, weights_only=True)["state_dict"]
        for file in ("phases/head/checkpoints/last.ckpt", "checkpoints/last.ckpt")
    )
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert any("conv" in key for key in moved)


def test_the_backbone_rests_while_the_head_learns(command: Command, spirals_sky: Path, tmp_path: Path) -> None:
    assert command(*SHORT[:5], "epochs=1", "tuning.head_epochs=1", "name=one")[0] == 0
    assert command(*SHORT[:5], "epochs=1", "tuning.head_epochs=4", "name=four")[0] == 0
    one, four = (
        torch.load(
            tmp_path / "multirun" / "spirals" / name / "fold-0" / "phases" / "head" / "checkpoints" / "last.ckpt",
            weights_only=True,
        )["state_dict"]
        for name in ("one", "four")
    )
    differ = {key for key in one if not torch.equal(one[key], four[key])}
    assert differ == {"net.net.fc.weight", "net.net.fc.bias"}
