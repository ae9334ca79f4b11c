import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from galaxyml.data.source import Real
from galaxyml.data.splits import Folds, Holdout
from galaxyml.data.tables.reading import Rows
from galaxyml.runs.errors import DataError, UserError
from galaxyml.tasks.spirals import FromClasses, FromFlags, FromFractions, Spirals

TABLE, MAPPING = "GalaxyZoo1_DR_table2.csv", "gz2_filename_mapping.csv"


def data(folder: Path, **options: Any) -> Spirals:
    """The task's data from a folder `<data_dir>/spirals`."""
    given: dict[str, Any] = {
        "labels": FromFlags(),
        "table": TABLE,
        "mapping": MAPPING,
        "images": "images",
        "classes": ["elliptical", "spiral"],
        "fold": 0,
        "split": Folds(5),
        "seed": 0,
        "size": 16,
        "crop": 0.5,
        "margin": 1.0,
        "batch_size": 8,
        "separation": 3.0,
        "cache_dir": str(folder.parent / "cache"),
    } | options
    return Spirals(source=Real("spirals", str(folder.parent)), **given)


@pytest.fixture
def copy(spirals_sky: Path, tmp_path: Path) -> Path:
    """A copy of the small tables and images that a test may spoil."""
    return Path(shutil.copytree(spirals_sky, tmp_path / "spirals"))


def counted(found: Spirals) -> list[tuple[int, int]]:
    return [(step.before, step.after) for step in found.steps]


# --- the join


def test_the_join_is_that_of_brute_force(spirals_sky: Path) -> None:
    found = data(spirals_sky)
    found.setup()
    assert found.catalog is not None
    lines = [line.split(",") for line in (spirals_sky / TABLE).read_text().splitlines()]
    table = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    lines = [line.split(",") for line in (spirals_sky / MAPPING).read_text().splitlines()[1:]]
    assets: dict[str, list[tuple[str, str]]] = {}
    for objid, sample, asset in lines:
        assets.setdefault(objid, []).append((sample, asset))
    joined = [row for row in table if row["OBJID"] in assets]
    rank = {"original": 0, "extra": 1}
    there = {path.stem for path in (spirals_sky / "images").iterdir()}
    asset_of = {}
    for row in joined:
        if shown := [pair for pair in assets[row["OBJID"]] if pair[1] in there]:
            asset_of[row["OBJID"]] = min(shown, key=lambda pair: rank.get(pair[0], 9))[1]
    with_images = [row for row in joined if row["OBJID"] in asset_of]
    certain = [row for row in with_images if row["UNCERTAIN"] == "0"]
    assert counted(found) == [
        (len(table), len(table)),
        (len(table), len(joined)),
        (len(joined), len(with_images)),
        (len(with_images), len(certain)),
    ]
    assert len(with_images) < len(joined) < len(table)  # the simulated tables lose rows at every step
    expected = {int(row["OBJID"]): (int(row["SPIRAL"]), f"images/{asset_of[row['OBJID']]}.jpg") for row in certain}
    got = found.catalog.set_index("id")
    assert {i: (int(row["label"]), row["image"]) for i, row in got.iterrows()} == expected


def test_every_step_is_logged_and_the_joined_table_kept(spirals_sky: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = data(spirals_sky)
    with caplog.at_level(logging.INFO, "galaxyml"):
        found.setup()
    said = [record.getMessage() for record in caplog.records]
    assert any(re.fullmatch(r"OBJID is in gz2_filename_mapping\.csv: \d+ of \d+ kept", line) for line in said)
    assert any(re.fullmatch(r"flagged spiral or elliptical: \d+ of \d+ kept", line) for line in said)
    assert found.catalog is not None
    joined = found.artifacts["joined"]
    assert joined["OBJID"].tolist() == found.catalog["id"].tolist()
    assert set(joined["label"]) == {"elliptical", "spiral"}
    assert {"RA", "DEC", "sample", "image"} <= set(joined.columns)


def test_properties_are_joined_where_they_are_known(spirals_sky: Path) -> None:
    found = data(spirals_sky)
    found.setup()
    assert found.catalog is not None
    properties = pd.read_csv(spirals_sky / "properties.csv").set_index("OBJID")
    for column in ("petroR90_r", "petroMag_r", "redshift"):
        np.testing.assert_array_equal(found.catalog[column], properties.loc[found.catalog["id"], column])


def test_a_holdout_splits_by_object(spirals_sky: Path) -> None:
    found = data(spirals_sky, split=Holdout(0.15, 0.15, 5))
    found.setup()
    assert found.catalog is not None
    assert found.catalog["id"].is_unique
    assert set(found.catalog["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize("cut", [0.5, 0.8, 0.95])
def test_cuts_on_fractions_label_what_they_say(spirals_sky: Path, cut: float) -> None:
    table = pd.read_csv(spirals_sky / TABLE)
    for spiral, elliptical in (("P_CS_DEBIASED", "P_EL_DEBIASED"), ("P_CS", "P_EL")):
        found = FromFractions(spiral, elliptical, cut)(Rows(Path(TABLE), "OBJID", table))
        for label, p_spiral, p_elliptical in zip(found, table[spiral], table[elliptical], strict=True):
            assert label == (-1 if (p_spiral >= cut) == (p_elliptical >= cut) else int(p_spiral >= cut))


# --- real tables


def test_the_true_tables_share_two_galaxies(real: Path, tmp_path: Path) -> None:
    found = data(real / "spirals", cache_dir=str(tmp_path))
    with pytest.raises(DataError, match=r"all 1 galaxies that are left are of the class 'spiral'"):
        found.setup()
    assert counted(found) == [(3079, 3079), (3079, 2), (2, 2), (2, 1)]


def test_the_derived_flags_train_through_the_join(real: Path, tmp_path: Path) -> None:
    found = data(real / "spirals", table="derived_table2_flags_for_gz2_images.csv", cache_dir=str(tmp_path))
    found.setup()
    assert found.catalog is not None
    assert counted(found) == [(400, 400), (400, 400), (400, 400), (400, 182)]
    assert np.bincount(found.catalog["label"]).tolist() == [76, 106]


def test_raw_vote_classes_without_a_mapping(real: Path, tmp_path: Path) -> None:
    labels = FromClasses("CLASS", spiral=(1, 2, 3), elliptical=(0,))
    found = data(
        real / "spirals",
        labels=labels,
        table="gz1_class_labels.csv",
        mapping=None,
        images="images_gz1",
        cache_dir=str(tmp_path),
    )
    found.setup()
    assert found.catalog is not None
    assert np.bincount(found.catalog["label"]).tolist() == [420, 330]
    assert (found.catalog["image"] == "images_gz1/" + found.catalog["id"].astype(str) + ".jpeg").all()


# --- what is refused


def edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    table = pd.read_csv(path, dtype=str)
    changed = change(table)
    (table if changed is None else changed).to_csv(path, index=False)


def put(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        table.loc[row, column] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (TABLE, lambda t: t.drop(columns="SPIRAL"), r"missing columns \(1\): SPIRAL"),
        (TABLE, lambda t: t.rename(columns={"OBJID": "objid"}), r"missing columns \(1\): OBJID"),
        (TABLE, put(3, "OBJID", "5.877e17"), r"line 5: OBJID is '5\.877e17'; it must be a whole number; as a float"),
        (TABLE, lambda t: put(4, "OBJID", t["OBJID"][1])(t), r"line 6, galaxy \d{18} has a row already, in line"),
        (
            TABLE,
            put(2, "SPIRAL", "maybe"),
            r"line 4, galaxy \d{18}: SPIRAL is 'maybe'; it must be a number",
        ),
        (TABLE, put(2, "SPIRAL", "2"), r"line 4, galaxy \d{18}: SPIRAL=2, .*exactly one of the flags is 1"),
        (TABLE, put(2, "RA", "25:00:00"), r"RA is '25:00:00'; it must be sexagesimal"),
        (MAPPING, lambda t: t.drop(columns="asset_id"), r"missing columns \(1\): asset_id"),
        (MAPPING, put(1, "objid", "1.5"), r"gz2_filename_mapping\.csv, line 3: objid is '1\.5'"),
        (MAPPING, put(1, "asset_id", "../x"), r"line 3, galaxy \d+: asset_id is '\.\./x'"),
        (MAPPING, lambda t: t.iloc[:0], r"gz2_filename_mapping\.csv has a header and no rows"),
    ],
)
def test_bad_tables_are_refused_with_their_place(
    copy: Path, file: str, change: Callable[..., Any], message: str
) -> None:
    edit(copy / file, change)
    with pytest.raises(DataError, match=message):
        data(copy).setup()


def test_decimal_positions_serve_as_well(copy: Path) -> None:
    before = data(copy)
    before.setup()
    assert before.catalog is not None
    places = before.catalog.set_index("id")[["ra", "dec"]]

    def decimal(table: pd.DataFrame) -> None:
        known = table["OBJID"].astype(np.int64)
        table["RA"] = known.map(places["ra"]).fillna(1.0).map("{:.6f}".format)
        table["DEC"] = known.map(places["dec"]).fillna(1.0).map("{:.6f}".format)

    edit(copy / TABLE, decimal)
    after = data(copy)
    after.setup()
    assert after.catalog is not None
    np.testing.assert_allclose(after.catalog[["ra", "dec"]], before.catalog[["ra", "dec"]], atol=1e-5)


def test_no_galaxies_after_the_cuts_says_so(copy: Path) -> None:
    found = data(copy, labels=FromFractions("P_CS", "P_EL", 1.0))
    edit(copy / TABLE, lambda t: t.assign(P_CS="0.5", P_EL="0.5"))
    with pytest.raises(DataError, match=r"no galaxies are left after the cuts\. Lower labels_from\.cut"):
        found.setup()
    assert found.steps[-1].after == 0


def test_fractions_out_of_range_are_refused(copy: Path) -> None:
    edit(copy / TABLE, put(5, "P_CS", "1.2"))
    with pytest.raises(DataError, match=r"line 7, galaxy \d+: P_CS is 1\.2; fractions lie in \[0, 1\]"):
        data(copy, labels=FromFractions("P_CS", "P_EL", 0.8)).setup()
    with pytest.raises(UserError, match=r"labels_from\.cut=1\.5: it must be a vote fraction in \(0, 1\]"):
        FromFractions("P_CS", "P_EL", 1.5)


def test_missing_images_are_counted_not_fatal(copy: Path) -> None:
    before = data(copy)
    before.setup()
    assert before.catalog is not None
    for image in before.catalog["image"].iloc[:3]:
        (copy / image).unlink()
    after = data(copy)
    after.setup()
    assert after.catalog is not None
    assert len(after.catalog) == len(before.catalog) - 3
    assert any("images: images that are not there" in note for note in after.notes)


def test_another_image_serves_where_the_first_is_missing(copy: Path) -> None:
    mapping = pd.read_csv(copy / MAPPING, dtype=str)
    before = data(copy)
    before.setup()
    assert before.catalog is not None
    image = before.catalog["image"].iloc[0]
    shutil.copy(copy / image, copy / "images" / "999999.jpg")
    (copy / image).unlink()
    extra = pd.DataFrame({"objid": [str(before.catalog["id"].iloc[0])], "sample": ["extra"], "asset_id": ["999999"]})
    pd.concat([mapping, extra]).to_csv(copy / MAPPING, index=False)
    after = data(copy)
    after.setup()
    assert after.catalog is not None
    assert after.catalog.set_index("id").loc[before.catalog["id"].iloc[0], "image"] == "images/999999.jpg"
    assert len(after.catalog) == len(before.catalog)


def test_a_table_without_flags_names_the_other_rules(copy: Path) -> None:
    edit(copy / TABLE, lambda t: t.drop(columns=["SPIRAL", "ELLIPTICAL", "UNCERTAIN"]))
    with pytest.raises(DataError, match=r"missing columns \(3\): .*labels_from=flags, debiased, votes or classes"):
        data(copy).setup()
    data(copy, labels=FromFractions("P_CS", "P_EL", 0.5)).setup()


def test_an_empty_table_of_properties_is_named(copy: Path) -> None:
    (copy / "properties.csv").write_text("")
    with pytest.raises(DataError, match=r"properties\.csv is not a CSV table"):
        data(copy).setup()


@pytest.mark.parametrize(("gone", "message"), [(".", "There is no folder"), ("images", "There is no folder .*images")])
def test_missing_folders_say_where_the_files_are(copy: Path, gone: str, message: str) -> None:
    shutil.rmtree(copy / gone)
    with pytest.raises(DataError, match=message + r".*zenodo.3565489.*source=simulated"):
        data(copy).setup()
