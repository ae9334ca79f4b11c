"""From what a net sees of images to a ranking: planted outliers, whose truth is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from galaxyml.evaluation.joined import join
from galaxyml.evaluation.unusual import unusual
from galaxyml.kinds.anomalies.detect import Sees
from galaxyml.kinds.anomalies.detectors import Detector, Forest, Neighbours, cross_fitted
from galaxyml.kinds.image_anomalies import ImageAnomalies
from galaxyml.kinds.image_anomalies.detect import DetectImages, Families
from galaxyml.kinds.image_anomalies.figures import ImageAnomalyFigures
from galaxyml.kinds.image_anomalies.metrics import PixelMetrics
from galaxyml.kinds.image_anomalies.rank import rank_images
from galaxyml.kinds.image_anomalies.score import ScoreImageAnomalies
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

COUNT, ODD = 200, 20


def run_of(folder: Path, told: bool = True, keep_out: bool = False, fold: int = 0, odds: bool = True) -> RunDir:
    """A run whose net has seen 200 images, of which the last 20 are odd; `told` where the table says so."""
    rng = np.random.default_rng(fold)
    run = RunDir(folder)
    ids = [f"image{number:03}" for number in range(COUNT)]
    odd = np.arange(COUNT) >= COUNT - ODD
    catalog = pd.DataFrame({"id": ids, "image": [f"{name}.png" for name in ids], "split": "survey"})
    catalog = catalog.assign(fold=np.arange(COUNT) % 5, unknown=odd & told, known=~odd & told)
    catalog = catalog.assign(name=np.where(odd, "odd", "ordinary") if told else "", learnt=~(odd & keep_out))
    settings = {"task": "anomalies", "seed": 0, "fold": fold, "data": {"channels": 3, "stretch": "asinh"}}
    run.start(OmegaConf.create(settings), [])
    run.write_catalog(catalog)
    source = {"source": "real files", "folder": str(folder / "files"), "sha256": {}, "objects": {}, "notes": []}
    run.write_provenance(0, "CPU", source)
    run.write_history([{"epoch": 0, "train/loss": 1.0, "val/loss": 1.0}])
    table = {
        "features": list((rng.normal(size=(COUNT, 6)) + 6 * odd[:, None] * (np.arange(6) == 0)).astype(np.float32)),
        "residual": rng.random(COUNT),
        "asymmetry": rng.random(COUNT) + odd,
        "brightness": rng.random(COUNT),
        "size": rng.random(COUNT),
        "bytes": np.where(np.arange(COUNT) == 7, np.nan, 1.0),
        "thumbnail": list(rng.random((COUNT, 16)).astype(np.float32)),
    }
    if odds:
        table["odds"] = rng.normal(size=COUNT) + 2 * odd
    encoded = pd.DataFrame({"id": ids, **table})
    with run.predictions_writer("survey", by="encoded") as write:
        for rows in np.array_split(np.arange(COUNT), 3):
            write(encoded.iloc[rows])
    return run


def detect(score: Sees | Families | None = None) -> DetectImages:
    beside = {"forest": Sees(Forest(20), ["latent"]), "neighbours": Sees(Neighbours(1), ["latent"])}
    return DetectImages(score if score is not None else Families(), beside, parts=5, seed=0)


def scores_of(run: RunDir) -> pd.DataFrame:
    table = run.predictions("survey")
    assert table is not None
    return table


@pytest.mark.parametrize("odds", [True, False])
def test_the_score_is_the_sum_of_what_is_unusual(tmp_path: Path, odds: bool) -> None:
    run = run_of(tmp_path / "run", odds=odds)
    detect()(run)
    encoded = run.predictions("survey", by="encoded")
    assert encoded is not None
    features, small = (np.stack(list(encoded[name])) for name in ("features", "thumbnail"))
    said = encoded["odds"].to_numpy() if odds else None
    expected = unusual(features, said, encoded["asymmetry"].to_numpy(), small.astype(np.float16))
    np.testing.assert_allclose(scores_of(run)["score"], expected.score)
    assert "bytes" not in scores_of(run)  # of one image they are not known
    reasons = run.predictions("survey", by="reasons")
    assert reasons is not None
    assert set(reasons) == {"id", *expected.families, "reason", "nearest", "similarity"}
    assert reasons["reason"].tolist() == expected.reasons.tolist()


def test_numbers_are_those_of_scikit_learn(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    detect()(run)
    metrics = ScoreImageAnomalies([10, 25], resamples=50)(run)
    odd, table = run.catalog()["unknown"], scores_of(run)
    for name, prefix in (("score", ""), ("forest", "forest_"), ("asymmetry", "asymmetry_")):
        assert metrics[f"survey/{prefix}roc_auc"] == pytest.approx(roc_auc_score(odd, table[name]))
        assert metrics[f"survey/{prefix}pr_auc"] == pytest.approx(average_precision_score(odd, table[name]))
    first = table["score"].argsort()[::-1][:10]
    assert metrics["survey/purity_10"] == pytest.approx(odd[first].mean())
    assert metrics["survey/roc_auc_low"] <= metrics["survey/roc_auc"] <= metrics["survey/roc_auc_high"]
    assert metrics["survey/random_roc_auc"] == 0.5


def test_no_image_is_its_own_neighbour(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    detect()(run)
    assert (scores_of(run)["neighbours"] > 0).all()  # an image that its detector has learnt from is at distance 0
    encoded, reasons = (run.predictions("survey", by=name) for name in ("encoded", "reasons"))
    assert encoded is not None
    assert reasons is not None
    features = np.stack(list(encoded["features"])).astype(np.float64)
    unit = (features - features.mean(0)) / features.std(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    ids = encoded["id"].to_numpy()
    assert reasons["nearest"].tolist() == [" ".join(ids[row]) for row in np.argsort(-cosines)[:, :3]]
    np.testing.assert_allclose(reasons["similarity"], cosines.max(1), atol=1e-5)


def test_what_is_kept_out_stands_out_more_and_is_named_by_none(tmp_path: Path) -> None:
    """Twenty odd images have each other for neighbours, unless nothing learns from them."""
    hidden, apart = run_of(tmp_path / "hidden"), run_of(tmp_path / "apart", keep_out=True)
    areas = []
    for run in (hidden, apart):
        detect()(run)
        areas.append(roc_auc_score(run.catalog()["unknown"], scores_of(run)["neighbours"]))
    assert areas[1] > 0.9 > areas[0] + 0.2
    reasons = apart.predictions("survey", by="reasons")
    assert reasons is not None
    out = set(apart.catalog().loc[~apart.catalog()["learnt"], "id"])
    assert not out & set(" ".join(reasons["nearest"]).split())


@pytest.mark.parametrize("detector", [Neighbours(5), Forest(50)])
def test_what_is_kept_out_and_ordinary_scores_as_the_others_do(detector: Detector) -> None:
    """Objects of one Gaussian, half of which nothing learns from: 0.5 is fair, to three standard errors."""
    areas = []
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(2000, 6))
        known, others = cross_fitted(detector, x[:1000], np.zeros(1000, np.int64), 5, seed, x[1000:])
        areas.append(roc_auc_score(np.repeat([0, 1], 1000), np.concatenate([known, others])))
    assert np.mean(areas) == pytest.approx(0.5, abs=3 * 0.013 / 3**0.5)


def test_a_detector_is_left_as_it_is(tmp_path: Path) -> None:
    stage = detect()
    stage(run_of(tmp_path / "run", keep_out=True))
    assert Sees(Forest(20), ["latent"]).like(stage.beside["forest"])


def test_images_that_are_all_alike_have_a_list(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", odds=False)
    encoded = run.predictions("survey", by="encoded")
    assert encoded is not None
    features, small = np.ones(40, np.float32), np.zeros(64, np.float32)
    alike: dict[str, Any] = {"features": [features] * COUNT, "thumbnail": [small] * COUNT}
    run.write_predictions("survey", encoded.assign(**alike), by="encoded")
    detect()(run)
    assert np.isfinite(scores_of(run).drop(columns="id")).all(axis=None)


def test_another_detector_ranks_and_the_sum_stands_beside_it(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    detect(Sees(Forest(20), ["latent"]))(run)
    assert list(scores_of(run))[:4] == ["id", "score", "unusual", "neighbours"]  # the forest is the score itself
    kind = ImageAnomalies(Sees(Forest(20), ["latent"]), {"neighbours": Sees(Neighbours(1), ["latent"])})
    assert kind.words.variants["unusual_"] == "sum of families"


def test_the_list_has_the_highest_score_first_and_equal_ones_by_id(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    detect()(run)
    table = scores_of(run)
    table.loc[[3, 5], "score"] = 99.0
    run.write_predictions("survey", table)
    assert rank_images(run) == {}
    ranking = pd.read_csv(run.path / "anomalies.csv")
    assert ranking["id"].tolist()[:2] == ["image003", "image005"]
    assert ranking["score"].is_monotonic_decreasing
    assert ranking["rank"].tolist() == list(range(1, COUNT + 1))
    assert ranking["path"].iloc[0] == "image003.png"
    assert set(ranking["true_class"]) == {"odd", "ordinary"}


def test_without_any_truth_there_is_a_list_with_figures_and_no_number(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", told=False)
    (run.path / "files").mkdir()
    for name in run.catalog()["image"][::2]:  # the others cannot be read
        Image.new("RGB", (24, 24), "red").save(run.path / "files" / name)
    detect()(run)
    assert ScoreImageAnomalies([10], resamples=0)(run) == {}
    rank_images(run)
    assert "true_class" not in pd.read_csv(run.path / "anomalies.csv")
    ImageAnomalyFigures({}, top=10, embedded=COUNT, crop=1.0, seed=0)(run)
    drawn = [path.stem for path in run.figures()]
    assert drawn == ["1_most_unusual", "5_families", "6_features", "9_loss_curves"]


def test_scores_of_joined_runs_are_the_mean(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"fold-{fold}", fold=fold) for fold in range(2)]
    for run in runs:
        detect()(run)
    into = RunDir(tmp_path)
    into.copy_config(runs)
    join([runs], into)
    assert detect()(into) == {}
    mean = (scores_of(runs[0])["score"] + scores_of(runs[1])["score"]) / 2
    np.testing.assert_allclose(scores_of(into)["score"], mean, rtol=1e-5)
    rank_images(into)
    assert len(pd.read_csv(into.path / "anomalies.csv")) == COUNT
    assert ScoreImageAnomalies([10], 0)(into)["survey/roc_auc"] > 0.9


def test_too_few_images_to_learn_from_are_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    run.write_catalog(run.catalog().assign(learnt=np.arange(COUNT) < 24))
    with pytest.raises(UserError, match="24 images are left to learn from"):
        detect()(run)


def test_pixels_are_measured_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    target = rng.random((50, 8)).astype(np.float32) * np.arange(1, 9, dtype=np.float32)
    predicted = target + rng.normal(size=target.shape).astype(np.float32)
    metric = PixelMetrics(8)
    for rows in np.array_split(np.arange(50), 4):
        metric.update(torch.from_numpy(predicted[rows]), torch.from_numpy(target[rows]).half().float())
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found["explained"] == pytest.approx(r2_score(target, predicted, multioutput="variance_weighted"), abs=2e-3)
    alike = PixelMetrics(8)
    alike.update(torch.ones(3, 8), torch.ones(3, 8))
    assert alike.compute() == {"residual": 0, "explained": 1}
    alike.update(torch.full((3, 8), torch.nan), torch.ones(3, 8))
    assert alike.compute()["residual"] == torch.inf
    assert found["residual"] == pytest.approx(float(np.sqrt(np.square(predicted - target).mean())), abs=2e-3)
