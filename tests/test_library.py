"""The parts without the command: each task's pair under a plain `lightning.Trainer`."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

import galaxyml
from galaxyml import (
    EncodingModule,
    FocalLoss,
    Galaxy10,
    GalaxyZoo,
    Images,
    Plasticc,
    Spirals,
    SupervisedModule,
    Surveys,
    UnlabelledImages,
    VAEModule,
)
from galaxyml.runs.seeds import seed_all
from galaxyml.training.callbacks import EpochSeeds
from galaxyml.training.quiet import quiet

ROOT = Path(__file__).parents[1]
SMALL: dict[str, Any] = {"size": 32, "batch_size": 16}


def galaxyzoo(request: pytest.FixtureRequest, **options: Any) -> Any:
    return GalaxyZoo(request.getfixturevalue("sky"), **SMALL, **options)


def galaxy10(request: pytest.FixtureRequest, **options: Any) -> Any:
    return Galaxy10(request.getfixturevalue("galaxy10_sky"), **SMALL, **options)


def spirals(request: pytest.FixtureRequest, **options: Any) -> Any:
    return Spirals(request.getfixturevalue("spirals_sky"), **SMALL, **options)


def surveys(request: pytest.FixtureRequest, **options: Any) -> Any:
    return Surveys(request.getfixturevalue("surveys_sky"), **SMALL, **options)


def classes(request: pytest.FixtureRequest, **options: Any) -> Any:
    return Images(request.getfixturevalue("images_sky"), columns="kind", **SMALL, **options)


def numbers(request: pytest.FixtureRequest, **options: Any) -> Any:
    return Images(request.getfixturevalue("images_sky"), columns=["r90", "axis_ratio"], **SMALL, **options)


def fractions(request: pytest.FixtureRequest, **options: Any) -> Any:
    return Images(request.getfixturevalue("images_sky"), tree="kaggle", **SMALL, **options)


def plasticc(request: pytest.FixtureRequest, **options: Any) -> Any:
    return Plasticc(request.getfixturevalue("plasticc_sky"), batch_size=32, **options)


def anomalies(request: pytest.FixtureRequest, **options: Any) -> Any:
    return UnlabelledImages(request.getfixturevalue("images_sky"), **SMALL, **options)


PAIRS = [galaxyzoo, galaxy10, spirals, surveys, classes, numbers, fractions, anomalies, plasticc]
OF_IMAGES = PAIRS[:-1]


def module_for(data: Any) -> Any:
    torch.manual_seed(0)
    if isinstance(data, Plasticc):
        return VAEModule.for_data(data)
    if isinstance(data, UnlabelledImages):
        return EncodingModule.for_data(data, net="tiny")
    return SupervisedModule.for_data(data, net="tiny")


def trainer(folder: Path, **options: Any) -> L.Trainer:
    quiet()
    return L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
        **{"max_epochs": 2, **options},
    )


@pytest.mark.parametrize("make", PAIRS, ids=lambda make: make.__name__)
def test_a_pair_is_fitted_validated_tested_predicted_and_loaded(
    make: Callable[[Any], Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = make(request)
    model = module_for(data)
    plain = trainer(tmp_path)
    plain.fit(model, datamodule=data)
    fitted = {name: float(value) for name, value in plain.callback_metrics.items()}
    assert np.isfinite(list(fitted.values())).all()
    (validated,) = plain.validate(model, datamodule=data, verbose=False)
    assert validated["val/loss"] == pytest.approx(fitted["val/loss"], rel=1e-5)
    if len(data.rows("test")):
        (tested,) = plain.test(model, datamodule=data, verbose=False)
        assert np.isfinite(tested["test/loss"])
    predicted: Any = plain.predict(model, datamodule=data)
    batches = predicted[0] if isinstance(predicted[0], list) else predicted
    rows = torch.cat([batch["index"] for batch in batches])
    assert set(rows.tolist()) <= set(range(len(data.catalog)))
    name = next(name for name in ("output", "latent", "features") if name in batches[0])
    assert len(torch.cat([batch[name] for batch in batches])) == len(rows)

    path = tmp_path / "saved.ckpt"
    plain.save_checkpoint(path)
    again = type(model).load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        one, other = (part(batch) for part in (model.eval(), again))
    for before, after in zip(
        *((each,) if isinstance(each, torch.Tensor) else each for each in (one, other)), strict=True
    ):
        torch.testing.assert_close(before, after, rtol=0, atol=0)


@pytest.mark.parametrize("make", OF_IMAGES, ids=lambda make: make.__name__)
def test_a_batch_goes_straight_into_the_module(make: Callable[[Any], Any], request: pytest.FixtureRequest) -> None:
    data = make(request)
    data.setup()
    model = module_for(data)
    batch = next(iter(data.train_dataloader()))
    outputs = model(batch["image"])
    assert outputs.shape == (len(batch["index"]), len(data.kind.outputs))
    torch.testing.assert_close(model.eval()(batch), model(batch["image"]))


def test_scaled_numbers_are_learnt_by_any_trainer(images_sky: Path, tmp_path: Path) -> None:
    data = Images(images_sky, columns=["r90"], **SMALL)
    model = module_for(data)
    plain = trainer(tmp_path, max_epochs=8, enable_checkpointing=False)
    plain.fit(model, datamodule=data)
    targets = data.training_targets()
    torch.testing.assert_close(model.final.mean.flatten(), targets.nanmean(0))
    assert plain.callback_metrics["val/r2"] > -2  # -11 where the targets' scale is not learnt


def test_scales_cannot_be_forgotten(images_sky: Path, tmp_path: Path) -> None:
    data = Images(images_sky, columns=["r90"], **SMALL)
    data.setup()
    with pytest.raises(galaxyml.runs.errors.UserError, match="datamodule=data"):
        trainer(tmp_path).fit(module_for(data), data.train_dataloader(), data.val_dataloader())


def test_any_torchmetric_judges(galaxy10_sky: Path, tmp_path: Path) -> None:
    data = Galaxy10(galaxy10_sky, **SMALL)
    scalar = MulticlassF1Score(10)
    several = MetricCollection({"accuracy": MulticlassAccuracy(10), "f1": MulticlassF1Score(10, average=None)})
    for metrics, names in ((scalar, {"val/MulticlassF1Score"}), (several, {"val/accuracy", "val/f1/0", "val/f1/9"})):
        torch.manual_seed(0)
        model = SupervisedModule.for_data(data, net="tiny", metrics=metrics)
        plain = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
        plain.fit(model, datamodule=data)
        assert names <= set(plain.callback_metrics)


FITS = {
    f"{name}-{number}": code
    for name in ("README.md", "docs/how_to/own_model.md", "docs/how_to/own_task.md")
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
    if "Trainer(" in code
}
OWN_MODEL = (ROOT / "docs" / "how_to" / "own_model.md").read_text(encoding="utf-8")
PREDICTS = re.findall(
    r"^```python\n((?:(?!```).*\n)*.*trainer\.predict\(.*\n(?:(?!```).*\n)*)```", OWN_MODEL, re.MULTILINE
)

NEW = re.findall(r"^```python\n((?:(?!```).*\n)*.*frames_in_batches\(.*\n(?:(?!```).*\n)*)```", OWN_MODEL, re.MULTILINE)
AS_BEFORE = """
assert len(table) == len(new) == 12
new["id"] = [int(Path(path).stem) for path in new["path"]]
columns = data.kind.outputs
pd.testing.assert_frame_equal(new.set_index("id")[columns].sort_index(), table.set_index("id")[columns].sort_index())
"""


@pytest.mark.parametrize("name", FITS)
def test_a_fit_that_is_described_runs_as_it_is_pasted(name: str, tmp_path: Path) -> None:
    code = FITS[name].replace("count=300", "count=60").replace("max_epochs=5", "max_epochs=1")
    code += PREDICTS[0] + NEW[0] + AS_BEFORE if "trainer = " in code else ""  # which go on from that fit
    assert code.count("=60") == code.count("max_epochs=1") == 1
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert "train/loss" in printed  # in Lightning's bar
    assert "val/loss" in printed
    if "quiet()" in code:
        assert not re.search("Tip|LeafSpec|Warning|logging interval", printed), printed


def test_the_three_pages_have_a_fit() -> None:
    assert len(FITS) == 3


def test_focal_loss_needs_no_classes() -> None:
    scores, targets = torch.randn(8, 3), torch.randint(3, (8,))
    cross_entropy = torch.nn.functional.cross_entropy(scores, targets)
    torch.testing.assert_close(FocalLoss(gamma=0.0)(scores, targets), cross_entropy)
    weighted = FocalLoss(2.0, [1.0, 2.0, 3.0])(scores, targets)
    assert torch.isfinite(weighted)


def test_importing_costs_nothing() -> None:
    code = "import sys, time; t = time.perf_counter(); import galaxyml; s = time.perf_counter() - t; "
    code += "print(s, 'torch' in sys.modules, 'numpy' in sys.modules)"
    seconds, torch_there, numpy_there = min(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    )
    assert float(seconds) < 0.05
    assert (torch_there, numpy_there) == ("False", "False")


@pytest.mark.parametrize("name", galaxyml.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(galaxyml, name).__name__ == name


SAME: dict[str, tuple[str, ...]] = {
    "galaxyzoo": ("task=galaxyzoo", "predict_views=1"),
    "galaxy10": ("task=galaxy10", "loss=focal", "balance=0.5", "top_k=1"),
    "numbers": ("task=images", "columns=[r90,axis_ratio]", "predict_views=1"),
    "anomalies": ("task=anomalies", "tune=all", "start=null", "predict_views=1", "beside=null"),
    "plasticc": ("task=plasticc", "batch_size=32", "top=0", "embedded=0"),
}


FEW_TREES: dict[str, tuple[str, ...]] = dict.fromkeys(SAME, ()) | {
    "plasticc": (
        "detector.detector.detectors.forest.trees=20",
        *(f"beside.{row}.detector.trees=5" for row in ("features", "latents", "forest")),
        *(f"beside.class_{row}.detector.trees=5" for row in ("features", "forests")),
    )
}


@pytest.mark.parametrize("name", SAME)
def test_a_plain_trainer_gives_the_commands_numbers_to_the_bit(
    name: str, request: pytest.FixtureRequest, command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    makers: dict[str, Any] = {make.__name__: make for make in PAIRS}
    makers[name](request)  # draws the small sky
    folder: list[str] = (
        [f"data_dir={request.getfixturevalue('images_sky')}"] if name in ("numbers", "anomalies") else []
    )
    status, printed = command(*SAME[name], *folder, *FEW_TREES[name], "seed=3", "name=same")
    assert status == 0, printed
    run = next((tmp_path / "multirun").glob("*/same/fold-0"))

    seed_all(3, "weights")
    options: dict[str, Any] = {"galaxy10": {"balance": 0.5}}.get(name, {})
    data = makers[name](request, seed=3, **options)
    if name == "plasticc":
        model: Any = VAEModule.for_data(data)
    elif name == "anomalies":
        model = EncodingModule.for_data(data, net="tiny")
    else:
        loss: dict[str, Any] = {"loss": FocalLoss(classes=10)} if name == "galaxy10" else {}
        model = SupervisedModule.for_data(data, net="tiny", **loss)
    seed_all(3, "phase", "all")
    clip = {"gradient_clip_val": 5.0} if name == "plasticc" else {}
    plain = trainer(tmp_path / "plain", callbacks=[EpochSeeds(3)], enable_checkpointing=False, **clip)
    plain.fit(model, datamodule=data)

    history = pd.read_csv(run / "history.csv").iloc[-1]
    assert float(plain.callback_metrics["val/loss"]) == pytest.approx(history["val/loss"], rel=1e-7)
    saved = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    mine = model.state_dict()
    assert set(saved) == set(mine)
    for key, value in saved.items():
        assert torch.equal(value, mine[key]), key


def test_a_run_from_a_script_is_the_commands(
    sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., tuple[int, str]]
) -> None:
    small = [
        f"data_dir={sky.parent}",
        "model=tiny",
        "size=32",
        "epochs=1",
        "batch_size=16",
        "trainer=cpu",
        "figures=false",
    ]
    one = galaxyml.run(["task=galaxyzoo", *small, "hydra/launcher=serial", "name=script"])
    assert one.path.resolve() == (tmp_path / "multirun" / "galaxyzoo" / "script")
    assert command("task=galaxyzoo", "epochs=1", "name=typed")[0] == 0
    other = galaxyml.Run(tmp_path / "multirun" / "galaxyzoo" / "typed")
    assert one.metrics == other.metrics
    pd.testing.assert_frame_equal(one.predictions("val"), other.predictions("val"))
    shown = one._repr_html_()
    assert shown is not None
    assert f"{one.metrics['test/rmse']:.4f}" in shown
    assert f"{one.metrics['test/mean_rmse']:.4f}" in shown
    assert one.report.read_text().startswith("<!doctype html>")
    with pytest.raises(galaxyml.runs.errors.UserError, match="There is no key 'modle'"):
        galaxyml.run("modle=tiny")


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    run = galaxyml.Run(tmp_path)
    assert run._repr_html_() is None
    for ask in (lambda: run.report, lambda: run.metrics, lambda: run.predictions("val")):
        with pytest.raises(galaxyml.runs.errors.UserError, match=str(tmp_path)):
            ask()


@pytest.mark.parametrize("name", galaxyml.__all__)
def test_public_names_are_documented_with_an_example(name: str) -> None:
    public = getattr(galaxyml, name)
    own = [public, *vars(public).values()] if inspect.isclass(public) else [public]
    texts = [inspect.getdoc(part) or "" for part in own]
    assert texts[0]
    assert any("Example:" in text or ">>>" in text for text in texts)
    if not inspect.isclass(public):
        return
    inherited = {hook for base in (L.LightningModule, L.LightningDataModule, torch.nn.Module) for hook in dir(base)}
    for cls in public.__mro__:
        if cls.__module__.startswith("galaxyml"):
            for method in vars(cls):
                if not method.startswith("_") and method not in inherited and callable(getattr(public, method)):
                    assert inspect.getdoc(getattr(public, method)), f"{cls.__name__}.{method}"


def test_the_package_is_typed() -> None:
    assert (Path(galaxyml.__file__).parent / "py.typed").is_file()
