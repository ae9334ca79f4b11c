from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from galaxyml.evaluation.joined import join
from galaxyml.kinds.anomalies import Anomalies
from galaxyml.kinds.anomalies.detect import Detect, Sees, seen
from galaxyml.kinds.anomalies.detectors import ClassifierUncertainty, EmpiricalTail, Forest, Neighbours
from galaxyml.kinds.anomalies.rank import rank_anomalies, ranked
from galaxyml.kinds.anomalies.score import ScoreAnomalies
from galaxyml.kinds.image_anomalies.detect import Families
from galaxyml.reports import run_report
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

CLASSES = ["round", "flat", "odd"]
COUNTS = {"train": 120, "val": 80, "test": 60, "survey": 90}


def table(rng: np.random.Generator, ids: np.ndarray, label: np.ndarray, unknown: np.ndarray) -> pd.DataFrame:
    """What a net may tell: two latents that separate the classes, and unknown objects far from both."""
    center = np.where(unknown[:, None], [0.0, 6.0], np.stack([3.0 * label - 1.5, 0 * label], 1))
    latent = center + rng.normal(size=(len(ids), 2))
    columns = {f"latent_{k}": latent[:, k] for k in range(2)}
    columns |= {f"reconstruction_{k}": rng.normal(size=len(ids)) + 3 * unknown for k in range(2)}
    columns |= {f"class_{k}": rng.normal(size=len(ids)) for k in range(3)}
    columns |= {
        "feature_mean": rng.normal(size=len(ids)),
        "feature_std": np.where(rng.random(len(ids)) < 0.1, np.nan, 1.0),
    }
    where = {"worst_mjd": 60000.0 + np.arange(len(ids)), "worst_band": np.arange(len(ids)) % 6}
    return pd.DataFrame({"id": ids, **columns, **where})


def run_of(folder: Path, fold: int = 0) -> RunDir:
    """A run whose net has told everything, its folds dealt anew by `fold`."""
    rng = np.random.default_rng(fold)
    run = RunDir(folder)
    total = sum(COUNTS.values())
    split = np.repeat(list(COUNTS), list(COUNTS.values()))
    if fold:  # another part is held out
        split[:80], split[120:200] = "val", "train"
    of_object = np.random.default_rng(9)
    unknown = np.isin(split, ["test", "survey"]) & (of_object.random(total) < 0.2)
    label = np.where(unknown, -1, of_object.integers(0, 2, total))
    dealt = np.where(np.isin(split, ["test", "survey"]), -1, 2)
    dealt[:80], dealt[120:200] = 1, 0
    untold = (np.arange(total) % 7 == 0) & (split == "survey")
    name = np.where(untold, "", np.where(unknown, "strange", np.array(CLASSES)[label]))
    catalog = pd.DataFrame(
        {
            "id": np.arange(total) + 1000,
            "split": split,
            "fold": dealt,
            "label": np.where(untold, -1, label),
            "name": name,
            "known": ~unknown & ~untold,
            "unknown": unknown & ~untold,
        }
    )
    run.start(OmegaConf.create({"task": "plasticc", "seed": 0, "fold": fold}), [])
    run.write_catalog(catalog)
    data = {"source": "real files", "folder": "x", "sha256": {}, "objects": {}, "notes": [], "artifacts": []}
    run.write_provenance(0, "CPU", data)
    for part in COUNTS:
        own = split == part
        with run.predictions_writer(part, by="encoded") as write:
            for rows in np.array_split(np.flatnonzero(own), 3):
                write(table(rng, catalog["id"].to_numpy()[rows], label[rows], unknown[rows]))
    return run


def detect() -> Detect:
    beside = {"features": Sees(Forest(20), ["feature"]), "neighbours": Sees(Neighbours(3), ["latent"])}
    return Detect(CLASSES, Sees(Forest(50), ["latent", "reconstruction"]), beside)


SCORE = ScoreAnomalies([10, 25], 0.05, resamples=50)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = run_of(tmp_path / "fold-0")
    assert detect()(made) == {}
    return made


def test_scores_are_those_of_scikit_learn_on_the_training_objects_spread(run: RunDir) -> None:
    train, val, test = (run.predictions(split, by="encoded") for split in ("train", "val", "test"))
    found = run.predictions("test")
    assert train is not None
    assert val is not None
    assert test is not None
    assert found is not None
    x = [seen(part, ["latent", "reconstruction"]) for part in (train, val, test)]
    mean, std = x[0].mean(0), x[0].std(0)
    forest = IsolationForest(n_estimators=50, max_samples=len(x[0]), random_state=Forest(50).seed)
    forest.fit((x[0] - mean) / std)
    one, two = (-forest.score_samples((part - mean) / std) for part in x[1:])
    expected = EmpiricalTail.fit(one)(two)
    assert np.corrcoef(expected, found["score"])[0, 1] > 0.95  # forests of other seeds
    assert found["id"].equals(test["id"])


def test_detectors_see_the_columns_that_they_are_given() -> None:
    rng = np.random.default_rng(0)
    told = table(rng, np.arange(5), np.zeros(5, int), np.zeros(5, bool))
    assert seen(told, ["latent", "class"]).shape == (5, 5)
    np.testing.assert_array_equal(seen(told, ["feature"])[:, 0], told["feature_mean"])
    with pytest.raises(UserError, match=r"of=latents: .*latent"):
        Sees(Forest(5), ["latents"])


def test_metrics_are_those_of_scikit_learn(run: RunDir) -> None:
    metrics = SCORE(run)
    catalog, scores = run.catalog().set_index("id"), run.predictions("survey")
    assert scores is not None
    told = catalog.loc[scores["id"], "name"].to_numpy() != ""
    unknown = catalog.loc[scores["id"], "unknown"].to_numpy()[told]
    for name, prefix in (("score", ""), ("neighbours", "neighbours_"), ("features", "features_")):
        values = scores[name].to_numpy()[told]
        assert metrics[f"survey/{prefix}roc_auc"] == pytest.approx(roc_auc_score(unknown, values))
        assert metrics[f"survey/{prefix}pr_auc"] == pytest.approx(average_precision_score(unknown, values))
    assert metrics["survey/prevalence"] == metrics["survey/random_pr_auc"] == pytest.approx(unknown.mean())
    assert metrics["survey/roc_auc"] > 0.95 > metrics["survey/features_roc_auc"]
    assert metrics["survey/roc_auc_low"] <= metrics["survey/roc_auc"] <= metrics["survey/roc_auc_high"]
    assert metrics["survey/roc_auc/strange"] == pytest.approx(metrics["survey/roc_auc"])


def test_the_threshold_is_kept_and_holds_on_known_objects(run: RunDir) -> None:
    metrics = SCORE(run)
    val = run.predictions("val")
    assert val is not None
    level = run.fitted_values("threshold")["score"]
    assert (val["score"] > level).mean() <= 0.05
    assert metrics["test/false_alarm_rate"] < 0.2
    assert metrics["survey/found"] > 0.6


def test_latents_are_read_by_a_random_forest(run: RunDir) -> None:
    metrics = SCORE(run)
    assert metrics["test/balanced_accuracy"] > 0.8
    assert metrics["test/features_balanced_accuracy"] < 0.7
    assert metrics["test/random_balanced_accuracy"] == 0.5


def test_the_list_is_in_the_order_of_the_scores_and_says_why(run: RunDir) -> None:
    SCORE(run)
    assert rank_anomalies(run) == {}
    found = pd.read_csv(run.path / "anomalies.csv")
    scores = run.predictions("survey")
    assert scores is not None
    assert len(found) == COUNTS["survey"]
    assert found["rank"].tolist() == list(range(1, COUNTS["survey"] + 1))
    assert found["score"].is_monotonic_decreasing
    assert set(found["object_id"]) == set(scores["id"])
    assert set(found["nearest_known_class"]) <= {"round", "flat"}
    assert set(found["reason"]) == {"latent", "reconstruction"}
    level = run.fitted_values("threshold")["score"]
    assert (found["anomaly"] == (found["score"] > level)).mean() > 0.98  # rounded to four places
    told, own = run.predictions("survey", by="encoded"), found.iloc[0]
    assert told is not None
    row = told[told["id"] == own["object_id"]].iloc[0]
    assert own["passband"] == "ugrizy"[int(row["worst_band"])]
    assert own["mjd"] == pytest.approx(row["worst_mjd"], abs=0.01)
    assert found.loc[found["true_class"] == "strange", "rank"].median() < 15


def test_where_there_is_no_survey_test_objects_are_listed(run: RunDir) -> None:
    SCORE(run)
    (run.path / "predictions" / "survey.parquet").unlink()
    rank_anomalies(run)
    assert len(pd.read_csv(run.path / "anomalies.csv")) == COUNTS["test"]


def test_equal_scores_are_in_the_order_of_their_ids(run: RunDir) -> None:
    SCORE(run)
    scores = run.predictions("test")
    assert scores is not None
    run.write_predictions("test", scores.sample(frac=1, random_state=0).assign(score=1.0))
    assert ranked(run, "test")["object_id"].is_monotonic_increasing


def test_folds_are_joined_by_their_scores(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / f"fold-{fold}", fold) for fold in (0, 1)]
    for member in runs:
        detect()(member)
        member.write_metrics(SCORE(member))
    into = RunDir(tmp_path)
    into.copy_config(runs)
    join([runs], into)
    survey = into.predictions("survey")
    parts = [member.predictions("survey") for member in runs]
    assert survey is not None
    assert parts[0] is not None
    assert parts[1] is not None
    np.testing.assert_allclose(survey["score"], (parts[0]["score"] + parts[1]["score"]) / 2, rtol=1e-5)
    val = into.predictions("val")
    assert val is not None
    assert len(val) == 160
    assert val["id"].is_unique
    assert into.catalog()["split"].value_counts().to_dict() == {"val": 160, "survey": 90, "test": 60, "train": 40}
    assert detect()(into) == {}
    metrics = SCORE(into)
    assert metrics["survey/roc_auc"] > 0.95
    expected = np.mean([member.metrics()["test/balanced_accuracy"] for member in runs])
    assert metrics["test/balanced_accuracy"] == pytest.approx(expected)
    rank_anomalies(into)
    assert (tmp_path / "anomalies.csv").is_file()


def test_a_split_without_anything_unknown_has_false_alarms_alone(run: RunDir) -> None:
    catalog = run.catalog()
    kept = catalog["split"] != "test"
    run.write_catalog(catalog.assign(unknown=catalog["unknown"] & kept, known=catalog["known"] | ~kept))
    metrics = SCORE(run)
    assert "test/false_alarm_rate" in metrics
    assert "test/roc_auc" not in metrics
    assert "survey/roc_auc" in metrics


def test_a_report_of_many_detectors_has_a_row_each_where_there_is_little_room(run: RunDir) -> None:
    metrics = SCORE(run)
    beside = dict.fromkeys(("features", "neighbours"), Sees(Forest(), ["latent"]))
    kind = Anomalies(["a", "b"], Sees(Forest(), ["latent"]), beside)
    words = kind.words
    table = run_report.summary(metrics, "survey", words)
    assert table[0] == ["metric", "model", "random", "plain features", "neighbours"]
    assert run_report.turned(table, words) == table
    header, *rows = run_report.turned(table, words, most=4)
    assert header == ["metric", "roc_auc", "pr_auc", "purity_25", "recall_25"]
    assert [row[0] for row in rows] == ["model", "random", "plain features", "neighbours"]
    assert rows[2][1] == f"{metrics['survey/features_roc_auc']:.4f}"
    assert run_report.by_column(metrics, "survey", kind)[0][0] == "class"


def test_without_enough_validation_objects_there_is_no_threshold(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        metrics = ScoreAnomalies([10], 0.001, resamples=0)(run)
    assert "80 validation objects cannot say what at most 0.001 of known ones exceed" in caplog.text
    assert "test/found" not in metrics
    assert "test/false_alarm_rate" not in metrics
    assert run.fitted_values("threshold")["score"] is None
    assert (ranked(run, "test")["anomaly"] == "").all()


def test_the_detector_that_ranks_does_not_stand_beside_itself() -> None:
    beside = {"same": Sees(Forest(50), ["latent"]), "other": Sees(Forest(50), ["latent", "reconstruction"])}
    assert set(Detect(CLASSES, Sees(Forest(50), ["latent"]), beside).detectors) == {"score", "other"}


@pytest.mark.parametrize(("options", "message"), [({"ks": [0]}, "ks=0"), ({"false_alarms": 1}, "false_alarms=1")])
def test_impossible_settings_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ScoreAnomalies(options.get("ks", [10]), options.get("false_alarms", 0.1))


def test_the_order_of_the_parts_does_not_matter(tmp_path: Path) -> None:
    run = run_of(tmp_path / "fold-0")
    detect()(run)
    first = run.predictions("survey")
    whole = run.predictions("survey", by="encoded")
    assert first is not None
    assert whole is not None
    run.write_predictions("survey", whole, by="encoded")  # in one part
    detect()(run)
    second = run.predictions("survey")
    assert second is not None
    pd.testing.assert_frame_equal(first, second)


def test_a_detector_of_images_is_refused() -> None:
    with pytest.raises(UserError, match="detector: Families ranks images alone"):
        Anomalies(CLASSES, Families())  # type: ignore[arg-type]


def test_a_classifier_of_one_column_is_refused() -> None:
    with pytest.raises(UserError, match="reads the scores of two classes or more"):
        ClassifierUncertainty().fit(np.zeros((10, 1)), np.zeros(10))
