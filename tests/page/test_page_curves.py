"""What the page says of light curves is what the run says."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from survey_forms import in_form, ztf_name

from galaxyml.inference import load, predict
from galaxyml.inference.light_curve_predictor import LightCurvePredictor
from galaxyml.page import examples
from galaxyml.page.curve_uploads import MOST_OBJECTS
from galaxyml.page.curves import CurveModel
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

pytestmark = pytest.mark.usefixtures("apart")
Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def run(page_run: Make) -> Path:
    return page_run("plasticc")


@pytest.fixture(scope="module")
def model(run: Path) -> CurveModel:
    predictor = load(run)
    assert isinstance(predictor, LightCurvePredictor)
    return CurveModel(predictor)


@pytest.fixture
def night(plasticc_sky: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Light curves of three of the survey's objects, and their metadata, under names of a user's own."""
    curves, known = pd.read_csv(plasticc_sky / "test_set.csv"), pd.read_csv(plasticc_sky / "test_set_metadata.csv")
    ids = known["object_id"].iloc[[5, 2, 9]]
    paths = tmp_path / "my night.csv", tmp_path / "my hosts.csv"
    curves[curves["object_id"].isin(ids)].to_csv(paths[0], index=False)
    known[known["object_id"].isin(ids)].to_csv(paths[1], index=False)
    return paths


def test_the_scores_are_those_of_the_run_and_of_predict(
    run: Path, model: CurveModel, night: tuple[Path, Path], tmp_path: Path
) -> None:
    asked = model.ask(night)
    own = pd.read_csv(run / "anomalies.csv").set_index("object_id")
    found = asked.table.set_index("object_id")
    assert (found["score"] == own.loc[found.index, "score"].astype(np.float32)).all()
    assert list(found["nearest_known_class"]) == list(own.loc[found.index, "nearest_known_class"])
    folder = tmp_path / "survey"
    folder.mkdir()
    for path, name in zip(night, ("test_set.csv", "test_set_metadata.csv"), strict=True):
        (folder / name).write_bytes(path.read_bytes())
    predict.main([str(run), str(folder), "--out", str(tmp_path / "p.parquet")])
    pd.testing.assert_frame_equal(asked.table, pd.read_parquet(tmp_path / "p.parquet"), check_exact=True)


def test_the_page_tells_score_threshold_and_rank_among_the_surveys_objects(
    run: Path, model: CurveModel, night: tuple[Path, Path]
) -> None:
    asked = model.ask(night)
    html = model.scores_html(asked)
    first = asked.table.iloc[0]
    scores = RunDir(run).predictions("survey")
    assert scores is not None
    rank = 1 + int((scores["score"] > first["score"]).sum())
    assert f"<strong>{rank:,}</strong> of {len(scores) + 1:,}" in html
    assert f'<data value="{float(first["score"])!r}">' in html
    assert all(str(name) in html for name in asked.table["object_id"])


def test_metadata_may_stand_beside_the_observations(
    model: CurveModel, night: tuple[Path, Path], tmp_path: Path
) -> None:
    curves, known = pd.read_csv(night[0]), pd.read_csv(night[1])
    curves.merge(known, on="object_id").to_csv(tmp_path / "one.csv", index=False)
    expected = model.ask(night).table
    pd.testing.assert_frame_equal(model.ask([tmp_path / "one.csv"]).table, expected, check_exact=True)
    assert model.ask([tmp_path / "one.csv"]).notes == ()


def test_without_metadata_the_page_says_what_it_takes_for_granted(model: CurveModel, night: tuple[Path, Path]) -> None:
    asked = model.ask(night[:1])
    assert "hostgal_photoz" in asked.notes[0]
    assert asked.notes[0] in model.scores_html(asked)


def test_an_upload_may_have_another_surveys_columns(
    model: CurveModel, night: tuple[Path, Path], tmp_path: Path
) -> None:
    metadata = pd.read_csv(night[1])
    in_form("ALeRCE", tmp_path / "alerce", pd.read_csv(night[0]), metadata)
    asked = model.ask([tmp_path / "alerce" / "detections.csv"])
    assert sorted(asked.table["object_id"]) == sorted(metadata["object_id"].map(ztf_name))
    assert asked.notes[0].startswith("the upload: ")
    assert [curve.title for curve in asked.curves] == list(asked.table["object_id"])


def test_the_figures_have_every_observation_and_the_place_among_the_others(
    model: CurveModel, night: tuple[Path, Path]
) -> None:
    asked = model.ask(night)
    counts = pd.read_csv(night[0])["object_id"].value_counts()
    assert [len(curve.time) for curve in asked.curves] == [counts[int(curve.title)] for curve in asked.curves]
    html = model.figures_html(asked)
    assert html.count("<svg") == 4
    assert html.count('role="img"') == 4


def test_the_examples_can_be_asked_about(model: CurveModel, tmp_path: Path) -> None:
    shown = examples.light_curves()
    assert len(shown) == 5
    for example in shown:
        (tmp_path / example.name).write_bytes(example.content)
        asked = model.ask([tmp_path / example.name])
        assert asked.notes == ()
        assert len(asked.curves[0].time) == len(pd.read_csv(io.BytesIO(example.content)))


def test_nothing_of_an_upload_is_kept(model: CurveModel, night: tuple[Path, Path], sky: Path) -> None:
    def kept() -> set[Path]:
        return set((sky.parent / "cache").rglob("*")) | set(Path("/tmp").glob("galaxyml-upload-*"))

    before = kept()
    model.ask(night)
    assert kept() == before


BROKEN = {
    "no columns": (lambda table: table.drop(columns="flux"), "flux_err"),
    "a band": (lambda table: table.assign(passband=9), "passband"),
    "no error": (lambda table: table.assign(flux_err=0), "flux_err"),
    "a word": (lambda table: table.assign(flux="bright"), "bright"),
    "no rows": (lambda table: table.head(0), "rows"),
    "too many": (
        lambda table: pd.concat([table.assign(object_id=number) for number in range(MOST_OBJECTS + 1)]),
        "objects",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_refused_in_the_users_own_names(
    name: str, model: CurveModel, night: tuple[Path, Path], tmp_path: Path
) -> None:
    change, told = BROKEN[name]
    change(pd.read_csv(night[0])).to_csv(night[0], index=False)
    with pytest.raises(UserError, match=told) as refusal:
        model.ask(night[:1])
    assert "my night.csv" in str(refusal.value)
    assert "test_set" not in str(refusal.value)
    assert "/" not in str(refusal.value).replace("own/", "").split("python -m")[0]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\0\0", b"\x1f\x8b\x08", b"\xff\xfe\xfa", b'"'])
def test_what_is_no_table_is_refused(model: CurveModel, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.csv"):
        model.ask([tmp_path / "mine.csv"])


def test_the_plane_is_that_of_the_principal_axes(model: CurveModel) -> None:
    table = model.predictor.members[0].run.predictions(model.split, by="encoded")
    assert table is not None
    assert model.axes is not None
    latents = table.filter(like="latent_").to_numpy(float)
    values = np.linalg.eigvalsh(np.cov(latents.T))[::-1]
    assert model.axes.explained_variance_ratio_.sum() == pytest.approx(values[:2].sum() / values.sum())
    np.testing.assert_allclose(model.points.var(axis=0, ddof=1), values[:2], rtol=1e-5)
    np.testing.assert_allclose(model.axes.transform(latents[:3]), model.points[:3])
