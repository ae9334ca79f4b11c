"""Weights that a net begins with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as lightning
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from galaxyml import SupervisedModule
from galaxyml.inference import bundle
from galaxyml.kinds.classes import Classes
from galaxyml.kinds.fractions import Fractions
from galaxyml.kinds.numbers import Numbers
from galaxyml.models import build_model
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.start import Start, member, read_start
from galaxyml.training.transfer import take

Command = Callable[..., tuple[int, str]]
LIGHT = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def start_of(net: nn.Module, outputs: list[str] | None, **more: Any) -> Start:
    names = tuple(outputs) if outputs else None
    return Start(
        Path("there"), {name: value.clone() for name, value in net.state_dict().items()}, names, "", "", **more
    )


def tiny(outputs: int, in_chans: int = 3) -> Any:
    return build_model("tiny", outputs=outputs, in_chans=in_chans).eval()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_scores_of_the_same_names_are_taken_in_whatever_order() -> None:
    there, here = tiny(4), tiny(3)
    taken = take(here, start_of(there, ["spiral", "ring", "smooth", "odd"]), ["odd", "bar", "spiral"])
    scores, found = there(LIGHT), here(LIGHT)
    torch.testing.assert_close(found[:, [0, 2]], scores[:, [3, 0]])
    assert taken.new == ("1 of 3 scores (bar)",)
    assert taken.tensors == taken.of == len(here.state_dict())
    assert here.head[-1].weight[1].abs().sum() == 0


@pytest.mark.parametrize(
    ("there", "here", "more"),
    [
        (None, ["a", "b"], {}),  # a file of weights tells no names
        (["a", "b"], None, {}),  # numbers in units of their spread
        (["c", "d"], ["a", "b"], {}),
        (["0", "1"], ["0", "1"], {}),  # of another table, where they are other classes
        (["a", "b"], ["a", "b"], {"head": "TreeHead"}),  # whose scores mean something else
    ],
)
def test_scores_that_mean_something_else_begin_at_0(there: Any, here: Any, more: dict[str, Any]) -> None:
    net, other = tiny(2), tiny(2)
    taken = take(net, start_of(other, there, **more), here)
    torch.testing.assert_close(net.features(LIGHT), other.features(LIGHT))
    assert net.head[-1].weight.abs().sum() == 0
    assert "2" in taken.new[0]
    assert taken.tensors == taken.of - 2


def test_numbers_have_no_names_of_scores() -> None:
    assert Numbers(["z"]).score_names is None
    assert Classes(["a", "b"]).score_names == ["a", "b"]


@pytest.mark.parametrize("channels", [1, 5])
def test_the_first_convolution_takes_other_channels_as_timm_does(channels: int) -> None:
    there, here = tiny(2), tiny(2, channels)
    taken = take(here, start_of(there, ["a", "b"]), ["a", "b"])
    name = next(name for name, value in there.state_dict().items() if value.ndim == 4)
    expected = timm.models.adapt_input_conv(channels, there.state_dict()[name])
    torch.testing.assert_close(here.state_dict()[name], expected)
    assert taken.adapted[0].startswith(f"{name} from ")
    if channels == 1:  # grey, which a net of three has seen as three alike
        grey = LIGHT[:, :1]
        torch.testing.assert_close(here(grey), there(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_channels_that_are_not_colours_are_averaged() -> None:
    there, here = tiny(2, 5), tiny(2, 3)
    take(here, start_of(there, ["a", "b"]), ["a", "b"])
    grey = LIGHT[:, :1]
    seen = there(grey.expand(-1, 5, -1, -1)), here(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(*seen, rtol=1e-4, atol=1e-5)


def test_position_embeddings_take_another_size_as_timm_resamples_them() -> None:
    there, here = (cast("Any", build_model("test_vit", outputs=2, size=size)) for size in (64, 96))
    take(here, start_of(there, ["a", "b"]), ["a", "b"])
    filtered = timm.models.vision_transformer.checkpoint_filter_fn(there.net.state_dict(), here.net)
    torch.testing.assert_close(here.state_dict()["net.pos_embed"], filtered["pos_embed"])


def test_another_net_is_refused_with_the_first_differences() -> None:
    with pytest.raises(
        UserError, match=r"start=there .*does not fit GalaxyCNN: .* tensors do not fit, .* are unknown: "
    ):
        take(tiny(2), start_of(build_model("astrocnn", outputs=2), ["a", "b"]), ["a", "b"])
    deeper = {f"{name}": value for name, value in tiny(2).state_dict().items()} | {"stages.9.weight": torch.ones(2)}
    with pytest.raises(UserError, match=r"stages\.9\.weight is of another net"):
        take(tiny(2), Start(Path("there"), deeper, None, "", ""), None)


def test_a_hidden_head_may_take_the_place_of_a_linear_one() -> None:
    there, here = build_model("test_vit", outputs=2), build_model("test_vit", outputs=2, hidden=8)
    take(here, start_of(there, ["a", "b"]), ["a", "b"])
    torch.testing.assert_close(here.features(LIGHT), there.features(LIGHT))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file or folder"),
        (b"not weights", "is no state dict of weights: torch reads no weights in it$"),
        ({"epoch": 3}, "is no state dict of weights"),
    ],
)
def test_what_holds_no_weights_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        read_start(path)


def test_a_run_begins_alike_from_every_form_of_another(page_run: Callable[[str], Path], tmp_path: Path) -> None:
    sweep = page_run("galaxyzoo")
    run = RunDir(member(sweep, 1))
    assert run.name == "fold-1"
    weights = run.weights(run.config.predict_with)
    packed, plain, torchs = tmp_path / "m.zip", tmp_path / "m.safetensors", tmp_path / "m.pth"
    bundle.write(run.path, packed)
    of_net = {name.removeprefix("net."): value for name, value in weights.items() if name.startswith("net.")}
    save_file({name: value.contiguous() for name, value in of_net.items()}, plain)
    torch.save(of_net, torchs)
    config = run.config
    options: dict[str, Any] = {"net": "tiny", "kind": config.kind, "size": 32, "final": config.module.final}
    for form in (run.path, packed, run.checkpoints / "last.ckpt"):
        module = SupervisedModule(**options, start=form)
        assert same({f"net.{name}": value for name, value in module.net.state_dict().items()}, weights), form
        assert module.hparams["start"] is None  # its own checkpoints hold all that it needs
    for form in (plain, torchs):
        module = SupervisedModule(**options, start=form)
        assert module.taken is not None
        assert module.taken.new == ("the last layer of 37 scores",)


def test_a_sweep_begins_fold_by_fold_and_carries_on_to_the_bit_without_its_start(
    page_run: Callable[[str], Path], command: Command, tmp_path: Path
) -> None:
    line = (f"start={page_run('galaxyzoo')}", "-m", "fold=0,1")
    status, printed = command("name=whole", "epochs=2", *line)
    assert status == 0, printed
    whole = tmp_path / "multirun" / "galaxyzoo" / "whole"
    for fold in (0, 1):
        record = json.loads((whole / f"fold-{fold}" / "provenance.json").read_text())["start"]
        assert record["path"].endswith(f"fold-{fold}")
        assert record["tensors"] == record["of"]
        assert record["new"] == []
    assert "starts from" in printed
    assert "has learnt from" not in printed  # the same folds of the same galaxies
    assert RunDir(whole / "fold-0").config.model._target_.endswith("GalaxyCNN")


def test_with_and_without_a_start_are_compared_in_one_sweep(
    page_run: Callable[[str], Path], command: Command, tmp_path: Path
) -> None:
    status, printed = command("name=both", "epochs=1", "-m", f"start=null,{page_run('galaxyzoo')}")
    assert status == 0, printed
    sweep = tmp_path / "multirun" / "galaxyzoo" / "both"
    starts = {path.name: RunDir(path).config.start for path in sweep.glob("fold-0_*")}
    assert sorted(starts.values(), key=str) == [str(page_run("galaxyzoo")), None]
    assert printed.count("starts from") == 1
    assert printed.count("from scratch") == 1


def test_what_a_start_has_learnt_from_is_said_where_it_is_judged(
    page_run: Callable[[str], Path], command: Command
) -> None:
    status, printed = command("name=a", "epochs=1", f"start={page_run('galaxyzoo') / 'fold-1'}", "fold=0")
    assert status == 0, printed
    assert "has learnt from" in printed
    assert "val objects of this run" in printed


def test_a_start_brings_its_net_and_size(page_run: Callable[[str], Path], images_sky: Path, command: Command) -> None:
    status, printed = command(
        "task=images",
        f"data_dir={images_sky}",
        "columns=[kind]",
        f"start={page_run('galaxyzoo')}",
        "name=mine",
        "epochs=1",
        "--cfg",
        "job",
    )
    assert status == 0, printed
    assert "GalaxyCNN" in printed


def test_light_curves_begin_from_another_run(page_run: Callable[[str], Path], command: Command, tmp_path: Path) -> None:
    sky = page_run("plasticc")
    options = ("top=0", "embedded=0", "epochs=1", "batch_size=64")
    status, printed = command("task=plasticc", "name=again", f"start={sky}", *options)
    assert status == 0, printed
    record = json.loads((tmp_path / "multirun/plasticc/again/fold-0/provenance.json").read_text())["start"]
    assert record["tensors"] == record["of"]


def test_a_checkpoint_of_ones_own_net_asks_for_it(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 37))
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=0)
    model = SupervisedModule(net, kind=Fractions("kaggle"), size=8)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "mine.ckpt")
    with pytest.raises(UserError, match=r"is of a net of your own, .*load_from_checkpoint\(FILE, net=net\)"):
        SupervisedModule.load_from_checkpoint(tmp_path / "mine.ckpt", weights_only=True)
    again = SupervisedModule.load_from_checkpoint(tmp_path / "mine.ckpt", weights_only=True, net=net)
    assert same(again.net.state_dict(), net.state_dict())


def test_a_checkpoint_from_anywhere_runs_no_code(tmp_path: Path) -> None:
    code = {"_target_": "os.mkdir", "path": str(tmp_path / "made")}
    for kind in (code, {"_target_": "galaxyml.kinds.numbers.Numbers", "columns": code}):
        content = {"state_dict": {"net.weight": torch.zeros(1, 1)}, "hyper_parameters": {"kind": kind}}
        torch.save(content, tmp_path / "theirs.ckpt")
        assert read_start(tmp_path / "theirs.ckpt").outputs is None
        assert not (tmp_path / "made").exists()
