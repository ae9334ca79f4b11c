import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn import metrics as sk

from galaxyml.evaluation.calibration import softmax
from galaxyml.evaluation.joined import NetOutputs
from galaxyml.kinds.classes import WORDS, Classes
from galaxyml.kinds.classes.calibrate import Calibrate
from galaxyml.kinds.classes.figures import ClassFigures, why_unscaled
from galaxyml.kinds.classes.score import ScoreClasses, ScoredClasses
from galaxyml.reports import run_report
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir, caption

CLASSES = ["elliptical", "spiral", "merger"]
TRUE_TEMPERATURE = 2.5


def made_up(path: Path, folds: int = 4, count: int = 3000, known_test: bool = True) -> RunDir:
    """A joined sweep of nets that are too sure by a known factor: labels are drawn from softmax(logits / T)."""
    rng = np.random.default_rng(0)
    logits = 4 * rng.normal(size=(count, 3)) + [0, 1.0, -1.0]
    chances = softmax(logits, TRUE_TEMPERATURE)
    labels = (rng.random((count, 1)) > chances.cumsum(1)).sum(1)
    tested = rng.random(count) < 0.2
    fold = np.where(tested, -1, rng.integers(0, folds, count))
    catalog = pd.DataFrame({"id": np.arange(count) + 7, "image": "none.jpg", "split": np.where(tested, "test", "val")})
    catalog["fold"] = fold
    catalog["label"] = np.where(tested & (not known_test), -1, labels)
    catalog["redshift"] = np.where(rng.random(count) < 0.1, np.nan, rng.uniform(0, 0.2, count))
    run = RunDir(path)
    run.write_catalog(catalog)
    data = {"source": "made up", "folder": str(path), "sha256": {}, "objects": {"train": 0, "val": 1, "test": 1}}
    run.write_provenance(0, "CPU", data | {"notes": [], "steps": []})
    for split in ("val", "test"):
        inside = (catalog["split"] == split).to_numpy()
        table = pd.DataFrame(logits[inside], columns=CLASSES)
        table.insert(0, "id", catalog["id"].to_numpy()[inside])
        run.write_predictions(split, table, by="net")
        run.write_predictions(split, table)
    return run


def known(run: RunDir, split: str, by: str = "") -> tuple[np.ndarray, np.ndarray]:
    table = run.predictions(split, by)
    assert table is not None
    catalog = run.catalog().set_index("id")
    return catalog.loc[table["id"], "label"].to_numpy(), table[CLASSES].to_numpy(float)


def test_calibration_recovers_the_true_temperature(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    found = Calibrate(CLASSES)(run)
    assert found["val/temperature"] == pytest.approx(TRUE_TEMPERATURE, rel=0.1)
    labels, logits = known(run, "test", "net")
    np.testing.assert_allclose(known(run, "test")[1], softmax(logits, found["val/temperature"]), rtol=1e-12)
    scores = ScoreClasses(CLASSES)(run)
    assert scores["test/ece"] < 0.06 < scores["test/net_ece"]
    assert scores["test/nll"] == pytest.approx(sk.log_loss(labels, softmax(logits, found["val/temperature"])))


def test_sets_hold_the_truth_as_often_as_asked(tmp_path: Path) -> None:
    found = Calibrate(CLASSES, coverage=0.8)(made_up(tmp_path))
    for split, count in (("val", 2400), ("test", 600)):
        assert abs(found[f"{split}/coverage"] - 0.8) < 4 * np.sqrt(0.16 / count) + 0.01
        assert 1 <= found[f"{split}/set_size"] < 2


def test_sets_that_hold_all_classes_for_want_of_objects_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for count, note in (
        (8, r"note: prediction sets take 9 validation objects, of which there are \d: they hold all classes\. split="),
        (
            16,
            r"note: prediction sets of validation objects take 9 others of them, .*, of which there are \d: they hold",
        ),
        (300, ""),
    ):
        run = made_up(tmp_path / str(count), folds=1, count=count)
        caplog.clear()
        Calibrate(CLASSES)(run)  # of a run by itself, whose sweep says it
        assert not [record for record in caplog.records if "prediction sets" in record.getMessage()]
        caplog.clear()
        run.write_provenance(0, "CPU", run.provenance()["data"], joined=[run])
        run.write_fitted("calibration", {"temperature": 1.0})
        Calibrate(CLASSES)(run)
        said = [message for record in caplog.records if "prediction sets" in (message := record.getMessage())]
        assert len(said) == bool(note)
        assert not note or re.match(note, said[0]), said


def test_no_object_calibrates_itself(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    Calibrate(CLASSES)(run)
    before = known(run, "val")[1]
    catalog = run.catalog()
    of_fold = ((catalog["fold"] == 2) & (catalog["split"] == "val")).to_numpy()
    few = of_fold & (np.arange(len(catalog)) % 20 == 0)  # so many would lower an AUC that nothing were calibrated
    catalog.loc[few, "label"] = (catalog.loc[few, "label"] + 1) % 3  # nonsense in one fold …
    run.write_catalog(catalog)
    Calibrate(CLASSES)(run)
    after = known(run, "val")[1]
    same = of_fold[(catalog["split"] == "val").to_numpy()]
    np.testing.assert_allclose(after[same], before[same], rtol=1e-9)  # … changes the others alone
    assert (np.abs(after[~same] - before[~same]).max(1) > 1e-6).all()


def test_calibration_that_would_lower_an_auc_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = made_up(tmp_path)
    catalog = run.catalog()
    of_fold = ((catalog["fold"] == 2) & (catalog["split"] == "val")).to_numpy()
    catalog.loc[of_fold, "label"] = (catalog.loc[of_fold, "label"] + 1) % 3  # its net is surest where it is wrong
    run.write_catalog(catalog)
    with caplog.at_level("INFO", logger="galaxyml"):
        assert Calibrate(CLASSES)(run)["val/temperature"] == 1
    for split in ("val", "test"):
        np.testing.assert_array_equal(known(run, split)[1], softmax(known(run, split, "net")[1]))
    (note,) = (record.getMessage() for record in caplog.records)
    assert note.startswith(f"note: {run.name}: probabilities stay the model's own: temperature scaling would lower the")
    assert run.fitted_values("calibration")["not_scaled"] in note
    scores = ScoreClasses(CLASSES)(run)
    assert scores["val/macro_auc"] == scores["val/net_macro_auc"]
    run.write_catalog(run.catalog().drop(columns="image"))
    ClassFigures(CLASSES)(run)
    (figure,) = (path for path in run.figures() if "reliability" in path.name)
    assert "as the model says it: temperature scaling would lower" in caption(figure)


def test_why_probabilities_are_the_nets_own_is_told_of_the_nets_that_made_them(tmp_path: Path) -> None:
    """Test objects of joined folds are scaled net by net, whatever the temperature of all validation objects is."""

    class Joined(RunDir):
        def nets(self) -> list[RunDir]:
            return [RunDir(tmp_path / name) for name in ("fold-0", "fold-1")]

    made_up(tmp_path)
    run = Joined(tmp_path)
    for net in run.nets():
        for split in ("val", "test"):
            table = run.predictions(split, by="net")
            assert table is not None
            net.write_predictions(split, table, by="net")
        harm = "would lower the AUC of merger from 0.9 to 0.6"
        net.write_fitted("calibration", {"temperature": 1.0, "not_scaled": harm})
    assert Calibrate(CLASSES)(run)["val/temperature"] == pytest.approx(TRUE_TEMPERATURE, rel=0.1)
    of = {split: ScoredClasses.load(run, split, CLASSES, run.catalog()) for split in ("val", "test")}
    assert of["val"] is not None
    assert of["test"] is not None
    assert why_unscaled(run, "val", of["val"]) == ""
    assert why_unscaled(run, "test", of["test"]) == f"temperature scaling {harm} (fold-0)"
    ScoreClasses(CLASSES)(run)
    run.write_catalog(run.catalog().drop(columns="image"))
    ClassFigures(CLASSES)(run)
    (figure,) = (path for path in run.figures() if "reliability" in path.name)
    assert f"as the model says it: temperature scaling {harm} (fold-0)." in caption(figure)
    run.nets()[1].write_fitted("calibration", {"temperature": 1.5})
    assert why_unscaled(run, "test", of["test"]) == ""
    assert "after calibration" not in caption(figure)


def test_what_is_learnt_serves_other_images(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    stage = Calibrate(CLASSES, coverage=0.9)
    stage(run)
    net = run.predictions("test", "net")
    assert net is not None
    made = stage.combine(run, NetOutputs.equal([net[CLASSES]]), net)
    np.testing.assert_array_equal(made[CLASSES].to_numpy(), known(run, "test")[1])
    labels = known(run, "test")[0]
    assert made["class"].tolist() == [CLASSES[at] for at in made[CLASSES].to_numpy().argmax(1)]
    held = [CLASSES[label] in told.split("|") for label, told in zip(labels, made["classes"], strict=True)]
    assert np.mean(held) > 0.86
    json.loads((run.path / "fitted" / "calibration.json").read_text(), parse_constant=lambda _: pytest.fail("no JSON"))


def test_folds_say_the_mean_of_their_own_calibrated_probabilities(tmp_path: Path) -> None:
    members = [made_up(tmp_path / f"fold-{k}") for k in range(2)]
    temperatures = []
    for number, member in enumerate(members):
        for split in ("val", "test"):
            net = member.predictions(split, "net")
            assert net is not None
            net[CLASSES] *= number + 1  # the second net is surer of itself
            member.write_predictions(split, net, by="net")
        temperatures.append(Calibrate(CLASSES)(member)["val/temperature"])
    assert temperatures[1] == pytest.approx(2 * temperatures[0], rel=1e-6)
    sweep = made_up(tmp_path / "sweep")
    data = members[0].provenance()["data"]
    sweep.write_provenance(0, "CPU", data, joined=members)
    Calibrate(CLASSES)(sweep)
    expected = np.mean([known(member, "test")[1] for member in members], axis=0)
    np.testing.assert_allclose(known(sweep, "test")[1], expected, rtol=1e-12)


def test_one_row_alone_gets_the_bits_that_it_has_in_company(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(10)]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 10)).astype(np.float32), columns=names)
    run = RunDir(tmp_path)
    data = {"source": "", "folder": "", "sha256": {}, "notes": []}
    run.write_provenance(0, "CPU", data)
    run.write_fitted("calibration", {"temperature": 1.7, "set_threshold": 0.5})
    stage = Calibrate(names)
    together = stage.combine(run, NetOutputs.equal([table]), table)
    for row in range(300):
        pd.testing.assert_frame_equal(
            stage.combine(run, NetOutputs.equal([table.iloc[[row]]]), table.iloc[[row]]),
            together.iloc[[row]],
            check_exact=True,
        )


def test_too_few_objects_for_the_coverage_give_all_classes(tmp_path: Path) -> None:
    run = made_up(tmp_path, count=14)
    stage = Calibrate(CLASSES, coverage=0.99)
    stage(run)
    net = run.predictions("val", "net")
    assert net is not None
    assert set(stage.combine(run, NetOutputs.equal([net[CLASSES]]), net)["classes"]) == {"|".join(CLASSES)}


def test_scores_are_scikit_learns(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    Calibrate(CLASSES)(run)
    found = ScoreClasses(CLASSES, resamples=50)(run)
    labels, chances = known(run, "test")
    predicted = chances.argmax(1)
    assert found["test/macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert found["test/accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert found["test/macro_auc"] == pytest.approx(sk.roc_auc_score(labels, chances, multi_class="ovr"))
    for number, name in enumerate(CLASSES):
        assert found[f"test/recall/{name}"] == pytest.approx(sk.recall_score(labels == number, predicted == number))
        assert found[f"test/f1_low/{name}"] <= found[f"test/f1/{name}"] <= found[f"test/f1_high/{name}"]
    assert found["test/net_macro_f1"] == found["test/macro_f1"]  # a temperature changes no order


def test_trivial_rows_are_what_they_say(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    found = ScoreClasses(CLASSES, resamples=0)(run)
    labels = known(run, "test")[0]
    train = run.catalog().query("fold >= 0")["label"]
    shares = np.bincount(train) / len(train)
    assert found["test/majority_accuracy"] == pytest.approx((labels == shares.argmax()).mean())
    of_test = np.bincount(labels) / len(labels)
    assert found["test/random_accuracy"] == pytest.approx((shares * of_test).sum(), abs=0.01)
    assert found["test/random_balanced_accuracy"] == pytest.approx(1 / 3, abs=0.01)


def test_a_test_set_without_truth_is_predicted_and_not_scored(tmp_path: Path) -> None:
    run = made_up(tmp_path, known_test=False)
    found = Calibrate(CLASSES)(run) | ScoreClasses(CLASSES, resamples=0)(run)
    assert not any(name.startswith("test/") for name in found)
    assert np.allclose(known(run, "test")[1].sum(1), 1)


def test_diverged_nets_are_told(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    table = run.predictions("val", "net")
    assert table is not None
    table.loc[5, "spiral"] = np.nan
    run.write_predictions("val", table, by="net")
    with pytest.raises(UserError, match=r"not finite, so training has diverged\. Lower optim\.lr"):
        Calibrate(CLASSES)(run)


def test_figures_and_tables_are_written(tmp_path: Path) -> None:
    from PIL import Image

    run = made_up(tmp_path)
    run.start(OmegaConf.create({"data": {}}), [])
    Image.linear_gradient("L").save(tmp_path / "none.jpg")
    run.write_history(
        [{"epoch": 0, "train/loss": 1.0, "val/loss": 1.1}, {"epoch": 1, "train/loss": 0.5, "val/loss": 0.9}]
    )
    Calibrate(CLASSES)(run)
    ScoreClasses(CLASSES, resamples=0, properties=["redshift", "absent"])(run)
    assert ClassFigures(CLASSES, properties=["redshift", "absent"])(run) == {}
    names = {path.stem for path in run.figures()}
    assert {
        "1_confusion_test",
        "3_roc_test",
        "5_reliability_test",
        "7_best_test",
        "8_worst_test",
        "9_by_redshift_test",
    } <= names
    table = pd.read_csv(tmp_path / "tables" / "by_redshift_test.csv")
    catalog = run.catalog()
    asked = catalog[(catalog["split"] == "test") & catalog["redshift"].notna()]
    assert table["galaxies"].sum() == len(asked)
    labels, chances = known(run, "test")
    said = run.predictions("test")
    assert said is not None
    redshift = catalog.set_index("id").loc[said["id"], "redshift"].to_numpy()
    inside = (redshift >= table["from"][1]) & (redshift < table["to"][1])
    right = (chances.argmax(1) == labels)[inside]
    assert table["accuracy"][1] == pytest.approx(right.mean())


def test_the_report_shows_intervals_and_classes(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    found = Calibrate(CLASSES)(run) | ScoreClasses(CLASSES, resamples=50)(run)
    header, *rows = run_report.summary(found, "test", WORDS)
    assert header == ["metric", "model", "model output", "majority class", "random"]
    first = dict(zip(header, rows[0], strict=True))
    assert first["model"].startswith(f"{found[f'test/{rows[0][0]}']:.4f} [")
    assert [row[0] for row in rows][-2:] == ["coverage", "set_size"]
    table = run_report.by_column(found, "test", Classes(CLASSES))
    assert table[0] == ["class", "precision", "recall", "F1", "AUC", "number"]
    assert [row[0] for row in table[1:]] == CLASSES
    assert table[1][-1] == f"{found['test/support/elliptical']:,.0f}"
