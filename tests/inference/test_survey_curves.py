"""A run ranks light curves in any form as it ranks the same in PLAsTiCC's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from survey_forms import FORMS, in_form, ztf_name

from galaxyml import load
from galaxyml.inference import predict

pytestmark = pytest.mark.usefixtures("apart")
HOST = ("hostgal_specz", "hostgal_photoz", "hostgal_photoz_err", "distmod")
NO_METADATA = dict.fromkeys(("ra", "decl", "ddf", "mwebv"), 0.0) | dict.fromkeys(HOST, np.nan)


@pytest.fixture(scope="module")
def run(page_run: Callable[[str], Path]) -> Path:
    return page_run("plasticc")


@pytest.fixture(scope="module")
def predictor(run: Path) -> Any:
    return load(run)


@pytest.fixture
def some(plasticc_sky: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    curves, metadata = (pd.read_csv(plasticc_sky / f"test_set{end}.csv") for end in ("", "_metadata"))
    metadata = metadata.iloc[5:45:4]
    return curves[curves["object_id"].isin(metadata["object_id"])], metadata


def ranked_as_plasticc(predictor: Any, folder: Path, curves: pd.DataFrame, metadata: pd.DataFrame) -> pd.DataFrame:
    folder.mkdir()
    curves.to_csv(folder / "test_set.csv", index=False)
    metadata.to_csv(folder / "test_set_metadata.csv", index=False)
    return pd.DataFrame(predictor.predict(folder))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gets_the_ranking_of_the_same_light_curves_in_plasticcs(
    form: str,
    predictor: Any,
    some: tuple[pd.DataFrame, pd.DataFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    curves, metadata = some
    said = in_form(form, tmp_path / "night", curves, metadata)
    known = metadata.assign(**NO_METADATA)
    if form == "SNANA":
        names = ["hostgal_photoz", "hostgal_photoz_err", "mwebv"]
        known[names] = metadata[names].astype(np.float32).astype(float)
        known["distmod"] = metadata["distmod"]
    expected = ranked_as_plasticc(predictor, tmp_path / "plasticc", said, known)
    capsys.readouterr()
    table = predictor.predict(tmp_path / "night")
    told = capsys.readouterr().out
    assert told.count("zero point 27.5") == 1
    name = {"ALeRCE": ztf_name, "ANTARES": lambda number: f"ANT2020{number:07d}"}.get(form, lambda number: number)
    assert list(table["object_id"]) == [name(number) for number in expected["object_id"]]
    np.testing.assert_allclose(table["score"], expected["score"], atol=0.02)
    assert list(table["nearest_known_class"]) == list(expected["nearest_known_class"])


def test_a_file_a_folder_and_a_dataframe_get_the_same_numbers(
    run: Path, predictor: Any, some: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    in_form("ALeRCE", tmp_path / "night", *some)
    path = tmp_path / "night" / "detections.csv"
    predict.main([str(run), str(path), "--out", str(tmp_path / "p.parquet")])
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert table["object_id"].str.startswith("ZTF18a").all()
    for given in (tmp_path / "night", pd.read_csv(path), [path]):
        pd.testing.assert_frame_equal(predictor.predict(given), table, check_exact=True)


def test_names_of_columns_are_said_at_the_command(
    run: Path, some: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path, in_process: Callable[..., tuple[int, str]]
) -> None:
    in_form("ALeRCE", tmp_path / "night", *some)
    path = tmp_path / "night" / "detections.csv"
    status, said = in_process(predict.main, run, path, "--out", tmp_path / "known.csv")
    assert status == 0, said
    table = pd.read_csv(path)
    mine = table.rename(columns={"mjd": "when", "oid": "star", "fid": "colour"}).replace(
        {"colour": {1: "B", 2: "V", 3: "w"}}
    )
    mine.to_csv(tmp_path / "mine.csv", index=False)
    columns = "object=star,time=when,band=colour"
    given = (
        run,
        tmp_path / "mine.csv",
        "--columns",
        columns,
        "--bands",
        "B=g,V=r,w=i",
        "--out",
        tmp_path / "mine_p.csv",
    )
    status, said = in_process(predict.main, *given)
    assert status == 0, said
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "mine_p.csv"), pd.read_csv(tmp_path / "known.csv"))
    status, said = in_process(predict.main, run, tmp_path / "mine.csv", "--out", tmp_path / "p.csv")
    assert status == 1
    assert "no column of times" in said
    assert "--columns time=BJD" in said
    status, said = in_process(predict.main, run, path, "--bands", "V", "--out", tmp_path / "p.csv")
    assert status == 2
    assert "--bands name=value" in said


def test_an_empty_folder_is_told_what_it_may_hold(predictor: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no light curves\. Give a folder with test_set\.csv"):
        predictor.predict(tmp_path)
