"""Images and labels of one's own by the command, as users type it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, r2_score

from galaxyml.inference import bundle, predict
from galaxyml.reports import compare

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def own(images_sky: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(images_sky, tmp_path / "own"))


def labels(own: Path, *columns: str, name: str = "labels.csv") -> pd.DataFrame:
    """Leaves so many columns of the folder's table."""
    table = pd.read_csv(own / "labels.csv")[["id", "path", *columns]]
    table.to_csv(own / name, index=False)
    return table


def test_a_class_is_learnt_from_a_table_without_further_words(
    command: Command, own: Path, tmp_path: Path, judged_as_scored: Callable[[Path, str], set[str]], in_process: Command
) -> None:
    table = labels(own, "kind").set_index("id")
    status, said = command("task=images", f"data_dir={own}", "labels=labels.csv", "name=kinds", "-m", "fold=0,1")
    assert status == 0, said
    assert "Warning" not in said
    run = tmp_path / "multirun" / "images" / "kinds"
    test = pd.read_parquet(run / "predictions" / "test.parquet").set_index("id")
    classes = sorted(set(table["kind"]))
    predicted = np.array(classes)[test[classes].to_numpy().argmax(1)]
    true = table.loc[test.index, "kind"]
    expected = f1_score(true, predicted, average="macro", labels=sorted(set(true)), zero_division=0)
    assert json.loads((run / "metrics.json").read_text())["test/macro_f1"] == pytest.approx(expected)
    assert {"macro_f1", "f1/spiral"} <= judged_as_scored(run, "test")
    assert "| rows of labels.csv | 120 | 0 |" in (run / "report.md").read_text()
    status, said = in_process(predict.main, run, own / "images", "--out", tmp_path / "said.csv")
    assert status == 0, said
    found = pd.read_csv(tmp_path / "said.csv")
    assert set(found["class"]) <= set(classes)
    assert {*classes, "confidence", "ood"} <= set(found.columns)


def test_numbers_are_learnt_judged_compared_and_predicted(
    command: Command, own: Path, tmp_path: Path, judged_as_scored: Callable[[Path, str], set[str]], in_process: Command
) -> None:
    table = labels(own, "r90", "axis_ratio").set_index("id")
    for name, more in (("a", []), ("b", ["loss=smooth_l1"])):
        status, said = command("task=images", f"data_dir={own}", f"name={name}", f"figures={name == 'a'}", *more)
        assert status == 0, said
        assert "Warning" not in said
    run = tmp_path / "multirun" / "images" / "a"
    metrics = json.loads((run / "metrics.json").read_text())
    test = pd.read_parquet(run / "predictions" / "test.parquet").set_index("id")
    true = table.loc[test.index, ["r90", "axis_ratio"]]
    assert metrics["test/r2/r90"] == pytest.approx(r2_score(true["r90"], test["r90"]), rel=1e-5)
    assert metrics["test/r2"] == pytest.approx(r2_score(true, test[true.columns]), rel=1e-5)
    assert {"r2", "nrmse", "pearson", "rmse/r90"} <= judged_as_scored(run, "test")
    assert "mean_nrmse" in "".join(metrics)
    assert {path.stem for path in (run / "figures").glob("*.png")} >= {"1_predicted_against_true_test", "6_intervals"}
    status, said = in_process(compare.main, run, run.parent / "b")
    assert status == 0, said
    assert "R2" in said
    packed = tmp_path / "packed.zip"
    assert in_process(bundle.main, run, packed)[0] == 0
    tables = []
    for place in (run, packed):
        status, said = in_process(predict.main, place, own / "images", "--out", tmp_path / "said.csv")
        assert status == 0, said
        tables.append(pd.read_csv(tmp_path / "said.csv"))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    _on_the_page(run, own / "images" / "G00003.jpg")
    assert (tables[0]["r90_low95"] <= tables[0]["r90"]).all()
    assert (tables[0]["r90"] <= tables[0]["r90_high95"]).all()


def _on_the_page(run: Path, image: Path) -> None:
    """The page shows numbers with their intervals, and promises nothing about votes."""
    pytest.importorskip("captum", reason="galaxyml[demo] is not installed")
    from galaxyml.inference import load
    from galaxyml.inference.image_predictor import ImagePredictor
    from galaxyml.page.images import ImageModel
    from galaxyml.page.provenance import about
    from galaxyml.page.uploads import read_upload

    predictor = load(run)
    assert isinstance(predictor, ImagePredictor)
    model = ImageModel(predictor, run)
    asked = model.ask(read_upload(image))
    row = asked.table.iloc[0]
    assert f"{row['r90']:.4g}</data> <small>{row['r90_low95']:.4g} to {row['r90_high95']:.4g}" in model.numbers_html(
        asked
    )
    assert "volunteers" not in predictor.kind.promise
    assert "R2" in about(predictor).html()


def test_fractions_of_a_tree_of_ones_own_obey_it(command: Command, own: Path, tmp_path: Path) -> None:
    names = ("Class1.1", "Class1.2", "Class1.3", "Class2.1", "Class2.2")
    labels(own, *names)
    (own / "tree.yaml").write_text(
        'column: "{name}.{number}"\n'
        "questions:\n"
        "  - {name: Class1, answers: [smooth, features, artifact]}\n"
        '  - {name: Class2, answers: ["yes", "no"], after: Class1.2}\n'
    )
    status, said = command("task=images", f"data_dir={own}", f"tree={own / 'tree.yaml'}", "name=tree")
    assert status == 0, said
    test = pd.read_parquet(tmp_path / "multirun" / "images" / "tree" / "predictions" / "test.parquet")
    np.testing.assert_allclose(test[["Class1.1", "Class1.2", "Class1.3"]].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(test["Class2.1"] + test["Class2.2"], test["Class1.2"], atol=1e-6)


def test_a_table_that_has_changed_its_question_is_refused(command: Command, own: Path) -> None:
    labels(own, "kind")
    assert command("task=images", f"data_dir={own}", "name=run", "epochs=1")[0] == 0
    table = pd.read_csv(own / "labels.csv")
    table.assign(kind=table["kind"].replace("spiral", "S")).to_csv(own / "labels.csv", index=False)
    status, said = command("task=images", f"data_dir={own}", "name=run", "epochs=1")
    assert status == 2
    assert "holds a run of another configuration: classes" in said


def test_the_simulated_sky_needs_no_folder(command: Command, images_sky: Path, tmp_path: Path) -> None:
    status, said = command(
        "task=images", "source=simulated", "simulate.count=60", "simulate.size=32", "epochs=1", "name=s"
    )
    assert status == 0, said
    assert (tmp_path / "multirun" / "images" / "s" / "report.md").is_file()
