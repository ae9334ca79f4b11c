import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from galaxyml.data.tables.survey_catalogues import GalaxyZoo2, GalaxyZooDecals, GalaxyZooUkidss, Posteriors
from galaxyml.data.tables.vote_catalogue import SurveyTable, VoteCatalogue
from galaxyml.runs.errors import DataError, UserError
from galaxyml.trees import DecisionTree

ALL = ["fraction", "weighted_fraction", "debiased"]
GALAXIES = 30


def read(
    catalogue: VoteCatalogue, root: Path, kinds: Sequence[str] = ("fraction",)
) -> tuple[SurveyTable, list[str], list[tuple[str, int, int]]]:
    """The table, the notes, and the steps."""
    notes: list[str] = []
    steps: list[tuple[str, int, int]] = []
    found = catalogue.read(root, kinds, notes, lambda what, before, after: steps.append((what, before, after)))
    return found, notes, steps


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def same(one: SurveyTable, other: SurveyTable) -> None:
    pd.testing.assert_frame_equal(one.galaxies, other.galaxies)
    np.testing.assert_array_equal(one.votes, other.votes)
    assert list(one.fractions) == list(other.fractions)
    for kind, values in one.fractions.items():
        np.testing.assert_allclose(values, other.fractions[kind], atol=1e-15)


def drawn(tree: DecisionTree, total: int, rng: np.random.Generator) -> dict[str, int]:
    """Votes for each answer of one galaxy, down the tree."""
    votes: dict[str, int] = {}
    for question in tree.questions:
        asked = sum(votes[name] for name in question.after) if question.after else total
        shares = rng.dirichlet([0.5] * len(question.columns))
        votes |= dict(zip(question.columns, (int(n) for n in rng.multinomial(asked, shares)), strict=True))
    return votes


def total_of(tree: DecisionTree, votes: dict[str, int], name: str) -> int:
    (question,) = (question for question in tree.questions if question.name == name)
    return sum(votes[column] for column in question.columns)


def gz2(seed: int = 0) -> Any:
    """A data frame like that of Hart et al. 2016, without the columns that nobody reads."""
    tree, rng, rows = DecisionTree.load("gz2"), np.random.default_rng(seed), []
    for number in range(GALAXIES):
        votes = drawn(tree, 40, rng)
        row: dict[str, Any] = {"dr7objid": 587727178986356823 + number, "sample": "original"}
        row |= {"ra": rng.uniform(0, 360), "dec": rng.uniform(-9, 70), "total_classifications": 40}
        for question in tree.questions:
            for name in question.columns:
                asked = total_of(tree, votes, question.name)
                share = round(votes[name] / asked, 3) if asked else 0.0
                row |= {f"{name}_count": votes[name], f"{name}_weight": float(votes[name]), f"{name}_fraction": share}
                row |= {f"{name}_weighted_fraction": share, f"{name}_debiased": share**0.9, f"{name}_flag": 0}
        rows.append(row)
    return pd.DataFrame(rows)


def totalled(tree_name: str, seed: int = 0, empty: bool = False, debiased: bool = True) -> Any:
    """A data frame of votes, fractions and totals of each question; unasked fractions are empty, or 0."""
    tree, rng, rows = DecisionTree.load(tree_name), np.random.default_rng(seed), []
    for _ in range(GALAXIES):
        votes = drawn(tree, int(rng.integers(3, 40)), rng)
        row: dict[str, Any] = {}
        for question in tree.questions:
            asked = row[f"{question.name}_total-votes"] = total_of(tree, votes, question.name)
            for name in question.columns:
                share = votes[name] / asked if asked else np.nan if empty else 0.0
                row |= {name: votes[name], f"{name}_fraction": share}
                if debiased:
                    row[f"{name}_debiased"] = share
        rows.append(row)
    return pd.DataFrame(rows)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture
def sdss(tmp_path: Path) -> Callable[[pd.DataFrame], GalaxyZoo2]:
    """Writes a table, its mapping and images into `tmp_path`; gives the catalogue that reads them."""

    def write(table: pd.DataFrame, name: str = "gz2.csv") -> GalaxyZoo2:
        table.to_csv(tmp_path / name, index=False)
        ids = 587727178986356823 + np.arange(GALAXIES)
        mapping = pd.DataFrame({"objid": ids, "sample": "original", "asset_id": 7000 + np.arange(GALAXIES)})
        mapping.to_csv(tmp_path / "mapping.csv", index=False)
        for asset in mapping["asset_id"]:
            touch(tmp_path / "images" / f"{asset}.jpg")
        return GalaxyZoo2(name, "mapping.csv", "images")

    return write


IAUNAMES = [f"J{number:06d}.{number:02d}+{number:06d}.{number % 10}" for number in range(GALAXIES)]


@pytest.fixture
def decals(tmp_path: Path) -> Callable[..., GalaxyZooDecals]:
    def write(table: pd.DataFrame, tree: str = "gzd12") -> GalaxyZooDecals:
        table = table.assign(iauname=IAUNAMES, ra=1.0, dec=2.0)
        table.to_csv(tmp_path / "gzd.csv", index=False)
        for number, name in enumerate(IAUNAMES):
            touch(tmp_path / f"part{number % 3}" / name[:4] / f"{name}.png")
        return GalaxyZooDecals(tree, "gzd.csv", "part*")

    return write


# --- the real samples


def test_complete_rows_of_gz2_are_those_of_the_file_by_name(real: Path) -> None:
    root = real / "surveys"
    catalogue = GalaxyZoo2("sdss/gz2_hart16.csv", "sdss/gz2_filename_mapping.csv", "sdss/images")
    found, notes, steps = read(catalogue, root, ALL)
    expected = {row["dr7objid"]: row for row in rows_of(root / "sdss/gz2_hart16.csv")}
    assets = {row["objid"]: row["asset_id"] for row in rows_of(root / "sdss/gz2_filename_mapping.csv")}
    assert found.galaxies["id"].tolist() == sorted(expected)
    assert [after for _, _, after in steps] == [3, 3, 3]
    assert len(notes) == 1
    assert "debiased" in notes[0]  # answers are debiased one by one
    for number, (_, galaxy) in enumerate(found.galaxies.iterrows()):
        row = expected[galaxy["id"]]
        assert galaxy["image"] == f"sdss/images/{assets[galaxy['id']]}.jpg"
        assert (root / galaxy["image"]).is_file()
        assert (galaxy["ra"], galaxy["dec"]) == (float(row["ra"]), float(row["dec"]))
        for at, question in enumerate(catalogue.tree.questions):
            asked = sum(int(row[f"{name}_count"]) for name in question.columns)
            assert found.votes[number, at] == asked
            for name in question.columns:
                for kind in ALL:
                    value = found.fractions[kind][number, catalogue.tree.columns.index(name)]
                    np.testing.assert_allclose(value, float(row[f"{name}_{kind}"]) if asked else np.nan, atol=1e-15)
    assert found.galaxies["votes"].tolist() == found.votes[:, 0].tolist()
    assert (found.votes == 0).any()


def test_a_part_of_the_columns_of_gz2_does_and_its_votes_are_estimated(real: Path) -> None:
    root = real / "surveys"
    table, mapping = "sdss/gz2_hart16_partial.csv", "sdss/gz2_filename_mapping_partial.csv"
    catalogue = GalaxyZoo2(["sdss/gone.fits.gz", table], mapping, "../spirals/images")
    found, notes, _ = read(catalogue, root, ALL)
    assert catalogue.files(root) == [table, mapping]
    assert len(found.galaxies) == 400
    assert all((root / image).is_file() for image in found.galaxies["image"])
    assert found.galaxies[["ra", "dec"]].isna().all(axis=None)
    assert [note for note in notes if "has the fraction of 2 of 37 answers" in note]
    assert [note for note in notes if "estimated, as total_classifications times the weighted_fraction" in note]
    expected = {row["dr7objid"]: row for row in rows_of(root / table)}
    tree = catalogue.tree
    for number, galaxy in enumerate(found.galaxies["id"]):
        row = expected[galaxy]
        weighted = {name: float(row[f"{name}_weighted_fraction"]) for name in tree.columns}
        reached: dict[str, float] = {}  # voters who gave an answer
        for at, question in enumerate(tree.questions):
            asked = sum(weighted[name] for name in question.columns) > 0
            voters = (
                sum(reached[name] for name in question.after) if question.after else float(row["total_classifications"])
            )
            np.testing.assert_allclose(found.votes[number, at], max(voters, 1) if asked else 0)
            for name in question.columns:
                reached[name] = voters * weighted[name]
                column = tree.columns.index(name)
                for kind in ("weighted_fraction", "debiased"):
                    value = found.fractions[kind][number, column]
                    np.testing.assert_allclose(value, float(row[f"{name}_{kind}"]) if asked else np.nan, atol=1e-15)
    told = ~np.isnan(found.fractions["fraction"]).all(0)
    assert told.tolist() == [name.endswith(("a01_smooth", "a02_features_or_disk")) for name in tree.columns]


def test_votes_estimated_without_counts_are_those_that_were_cast(real: Path, tmp_path: Path) -> None:
    path = real / "surveys" / "sdss"
    table = pd.read_csv(path / "gz2_hart16.csv", dtype={"dr7objid": str})
    table.drop(columns=[name for name in table if str(name).endswith("_count")]).to_csv(tmp_path / "t.csv", index=False)
    for name in table["dr7objid"]:
        touch(tmp_path / "images" / f"{name}.png")
    estimated, _, _ = read(GalaxyZoo2("t.csv", None, "images"), tmp_path)
    counted, _, _ = read(GalaxyZoo2("gz2_hart16.csv", "gz2_filename_mapping.csv", "images"), path)
    np.testing.assert_allclose(estimated.votes, counted.votes, atol=0.1)  # fractions are rounded to three decimals


@pytest.mark.parametrize(
    ("tree", "table"), [("gzd12", "gz_decals_volunteers_1_and_2.csv"), ("gzd5", "gz_decals_volunteers_5.csv")]
)
def test_rows_of_decals_are_those_of_the_file_and_what_was_not_asked_is_masked(
    real: Path, tree: str, table: str
) -> None:
    root = real / "surveys"
    catalogue = GalaxyZooDecals(tree, f"decals/{table}", "decals/gz_decals_dr5_png_part*")
    found, notes, steps = read(catalogue, root, ["debiased", "fraction"])
    expected = {row["iauname"]: row for row in rows_of(root / "decals" / table)}
    assert found.galaxies["id"].tolist() == sorted(expected)
    assert steps[-1] == ("its image is in decals/gz_decals_dr5_png_part*", 6, 6)
    masked = 0
    for number, (_, galaxy) in enumerate(found.galaxies.iterrows()):
        row = expected[galaxy["id"]]
        assert Path(galaxy["image"]).stem == galaxy["id"]
        assert (root / galaxy["image"]).is_file()
        for at, question in enumerate(catalogue.tree.questions):
            asked = int(row[f"{question.name}_total-votes"])
            if sum(int(row[name]) for name in question.columns) < asked:
                assert (question.name, row["upload_group"]) == ("merging", "pre_active")
                asked, masked = 0, masked + 1
            assert found.votes[number, at] == asked
            for name in question.columns:
                for kind in ("fraction", "debiased"):
                    value = found.fractions[kind][number, catalogue.tree.columns.index(name)]
                    text = row[f"{name}_{kind}"]
                    np.testing.assert_allclose(value, float(text) if asked and text else np.nan, atol=1e-15)
    assert masked == (2 if tree == "gzd5" else 0)
    assert any(
        "2 galaxies have votes on merging for answers that the table does not have" in note for note in notes
    ) == (masked > 0)


def test_predictions_of_decals_count_as_asked_from_a_half_on(real: Path) -> None:
    root = real / "surveys"
    catalogue = Posteriors("gzd5", "decals/gz_decals_auto_posteriors.csv", ["decals/gz_decals_dr5_png_part*"])
    found, notes, _ = read(catalogue, root)
    assert any("a model's predictions, not votes" in note for note in notes)
    expected = {row["iauname"]: row for row in rows_of(root / "decals/gz_decals_auto_posteriors.csv")}
    assert len(found.galaxies) == 6
    for number, galaxy in enumerate(found.galaxies["id"]):
        row = expected[galaxy]
        for at, question in enumerate(catalogue.tree.questions):
            share = float(row[f"{question.name}_proportion_volunteers_asked"])
            assert found.votes[number, at] == (share if share >= 0.5 else 0)
            for name in question.columns:
                value = found.fractions["fraction"][number, catalogue.tree.columns.index(name)]
                np.testing.assert_equal(value, float(row[f"{name}_fraction"]) if share >= 0.5 else np.nan)


def test_fits_written_from_the_real_rows_gives_the_same(real: Path, tmp_path: Path) -> None:
    sdss = real / "surveys" / "sdss"
    table = pd.read_csv(sdss / "gz2_hart16.csv")
    columns = {name: np.array(list(column)) for name, column in table.items()}
    Table(columns).write(tmp_path / "gz2_hart16.fits.gz")
    images = str(sdss / "images")
    (tmp_path / "mapping.csv").write_bytes((sdss / "gz2_filename_mapping.csv").read_bytes())
    (tmp_path / "gz2_hart16.csv").write_bytes((sdss / "gz2_hart16.csv").read_bytes())
    found = [
        read(GalaxyZoo2(f"gz2_hart16.{end}", "mapping.csv", images), tmp_path, ALL)[0] for end in ("fits.gz", "csv")
    ]
    same(*found)


# --- Galaxy Zoo 2


def test_the_order_of_rows_and_columns_does_not_matter(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2], decals: Callable[..., GalaxyZooDecals]
) -> None:
    rng = np.random.default_rng(1)
    for write, table, kinds in ((sdss, gz2(), ALL), (decals, totalled("gzd12"), ["debiased", "fraction"])):
        straight, _, _ = read(write(table), tmp_path, kinds)
        name = "gz2.csv" if write is sdss else "gzd.csv"
        whole = pd.read_csv(tmp_path / name, dtype=str, keep_default_na=False)
        shuffled = whole.sample(frac=1, random_state=2)[list(rng.permutation(whole.columns))]
        shuffled.to_csv(tmp_path / name, index=False)
        catalogue = (
            GalaxyZoo2(name, "mapping.csv", "images") if write is sdss else GalaxyZooDecals("gzd12", name, "part*")
        )
        same(straight, read(catalogue, tmp_path, kinds)[0])


def test_all_formats_give_the_same_table(tmp_path: Path, sdss: Callable[..., GalaxyZoo2]) -> None:
    straight, _, _ = read(sdss(gz2()), tmp_path, ALL)
    table = pd.read_csv(tmp_path / "gz2.csv")
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    Table({name: np.array(list(column)) for name, column in table.items()}).write(tmp_path / "t.fits")
    table["dr7objid"] = table["dr7objid"].astype(str)
    Table({name: np.array(list(column)) for name, column in table.items()}).write(tmp_path / "text.fits")
    for name in ("t.csv.gz", "t.parquet", "t.fits", "text.fits"):
        same(straight, read(GalaxyZoo2(["gone.csv", name], "mapping.csv", "images"), tmp_path, ALL)[0])


def test_ids_that_differ_in_the_last_of_eighteen_digits_stay_apart(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2]
) -> None:
    found, _, _ = read(sdss(gz2()), tmp_path)
    assert found.galaxies["id"].tolist() == [str(587727178986356823 + number) for number in range(GALAXIES)]
    assert found.galaxies["image"].tolist() == [f"images/{7000 + number}.jpg" for number in range(GALAXIES)]


def test_of_several_images_the_original_comes_first_and_then_another(tmp_path: Path) -> None:
    gz2()[:3].to_csv(tmp_path / "gz2.csv", index=False)
    first = 587727178986356823
    rows = [(first, "stripe82", "a"), (first, "extra", "b"), (first, "original", "c"), (5, "original", "e")]
    rows += [(first + 1, "original", "gone"), (first + 1, "stripe82", "d2"), (first + 1, "stripe82", "d1")]
    for order in (rows, rows[::-1]):
        pd.DataFrame(order, columns=["objid", "sample", "asset_id"]).to_csv(tmp_path / "m.csv", index=False)
        for name in ("a.jpg", "b.jpg", "c.png", "d1.jpeg", "d2.jpg"):
            touch(tmp_path / "images" / name)
        found, _, steps = read(GalaxyZoo2("gz2.csv", "m.csv", "images"), tmp_path)
        assert found.galaxies["image"].tolist() == ["images/c.png", "images/d1.jpeg"]
        assert [(before, after) for _, before, after in steps] == [(3, 3), (3, 2), (2, 2)]


def test_galaxies_without_an_image_are_dropped_counted_and_named(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2]
) -> None:
    whole, _, _ = read(sdss(gz2()), tmp_path, ALL)
    (tmp_path / "images" / "7003.jpg").unlink()
    found, notes, steps = read(GalaxyZoo2("gz2.csv", "mapping.csv", "images"), tmp_path, ALL)
    assert steps[-1] == ("its image is in images", GALAXIES, GALAXIES - 1)
    assert any(f"left out (1 of {GALAXIES}): 587727178986356826." in note for note in notes)
    kept = np.delete(np.arange(GALAXIES), 3)
    np.testing.assert_array_equal(found.votes, whole.votes[kept])
    np.testing.assert_array_equal(found.fractions["debiased"], whole.fractions["debiased"][kept])
    assert found.galaxies["id"].tolist() == whole.galaxies["id"].iloc[kept].tolist()
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"none of its 30 galaxies has an image such as 7000 among the 0 of images\."):
        read(GalaxyZoo2("gz2.csv", "mapping.csv", "images"), tmp_path)


def test_fractions_follow_from_counts_where_the_table_has_only_those(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2]
) -> None:
    whole, _, _ = read(sdss(gz2()), tmp_path)
    table = gz2()
    found, _, _ = read(sdss(table.drop(columns=[name for name in table if name.endswith("fraction")])), tmp_path)
    np.testing.assert_allclose(found.fractions["fraction"], whole.fractions["fraction"], atol=0.0006)


def test_votes_of_no_weight_are_masked_in_the_weighted_fraction_alone(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2]
) -> None:
    table = gz2()
    table.loc[4, ["t06_odd_a14_yes_weighted_fraction", "t06_odd_a15_no_weighted_fraction"]] = 0.0
    found, _, _ = read(sdss(table), tmp_path, ALL)
    at = DecisionTree.load("gz2").columns.index("t06_odd_a14_yes")
    assert np.isnan(found.fractions["weighted_fraction"][4, [at, at + 1]]).all()
    assert not np.isnan(found.fractions["fraction"][4, [at, at + 1]]).any()
    assert np.isnan(found.fractions["weighted_fraction"]).sum() == np.isnan(found.fractions["fraction"]).sum() + 2


def test_sums_off_by_more_than_rounding_are_reported_and_by_much_more_refused(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2]
) -> None:
    table = gz2()
    asked = int(np.flatnonzero(table["t03_bar_a06_bar_fraction"].between(0.1, 0.9))[1])
    table.loc[asked, "t03_bar_a06_bar_fraction"] += 0.03
    _, notes, _ = read(sdss(table), tmp_path)
    assert any(
        re.search(rf"the fractions of 1 of \d+ questions .* t03_bar .* line {asked + 2}, galaxy \d+, with 1\.030", note)
        for note in notes
    )
    table.loc[asked, "t03_bar_a06_bar_fraction"] += 0.03
    with pytest.raises(DataError, match=rf"line {asked + 2}, galaxy \d+: the fractions of t03_bar .* sum to 1\.0600\."):
        read(sdss(table), tmp_path)


# --- kinds


def test_a_kind_that_the_table_lacks_is_masked_and_noted(
    tmp_path: Path, decals: Callable[..., GalaxyZooDecals]
) -> None:
    found, notes, _ = read(decals(totalled("gzd12", debiased=False)), tmp_path, ["debiased", "fraction"])
    assert list(found.fractions) == ["debiased", "fraction"]
    assert np.isnan(found.fractions["debiased"]).all()
    assert not np.isnan(found.fractions["fraction"]).all()
    assert notes == ["gzd.csv has no debiased; for its galaxies it is masked."]


def test_without_any_kind_asked_for_the_error_names_those_that_are_there(
    tmp_path: Path, decals: Callable[..., GalaxyZooDecals], sdss: Callable[..., GalaxyZoo2]
) -> None:
    with pytest.raises(
        DataError, match=r"gzd\.csv does not have the debiased .* it has fraction\. .*NAME\.fraction=fraction"
    ):
        read(decals(totalled("gzd12", debiased=False)), tmp_path, ["debiased"])
    table = gz2()
    part = table.drop(columns=[name for name in table if name.endswith(("_count", "bar_fraction", "_debiased"))])
    with pytest.raises(
        DataError,
        match=r"the fraction or the debiased of all answers; it has weighted_fraction\. .*fraction=weighted_fraction",
    ):
        read(sdss(part), tmp_path, ["fraction", "debiased"])
    with pytest.raises(
        UserError, match=r"fraction=debiasd: there is no such kind of fractions\. Did you mean debiased\?"
    ):
        read(sdss(table), tmp_path, ["debiasd"])


def test_misspelt_and_missing_columns_are_named_with_the_near_ones(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2], decals: Callable[..., GalaxyZooDecals]
) -> None:
    table = gz2().rename(columns={"t03_bar_a06_bar_debiased": "t03_bar_a06_barr_debiased"})
    near = r"missing columns \(1\): t03_bar_a06_bar_debiased\. .*Did you mean t03_bar_a06_barr_debiased\?"
    for kinds in (["debiased"], ALL):
        with pytest.raises(DataError, match=near):
            read(sdss(table), tmp_path, kinds)
    with pytest.raises(DataError, match=r"missing columns \(1\): t03_bar_a06_bar_count\."):
        read(sdss(gz2().drop(columns="t03_bar_a06_bar_count")), tmp_path)
    table = gz2().drop(columns="total_classifications")
    table = table.drop(columns=[name for name in table if name.endswith("_count")])
    with pytest.raises(DataError, match=r"missing columns \(1\): total_classifications\."):
        read(sdss(table), tmp_path)
    with pytest.raises(DataError, match=r"missing columns \(1\): bar_total-votes"):
        read(decals(totalled("gzd12").drop(columns="bar_total-votes")), tmp_path)
    with pytest.raises(DataError, match=r"missing columns \(\d+\): bar_strong"):
        read(decals(totalled("gzd12"), "gzd5"), tmp_path)  # the table of another campaign


# --- DECaLS


def test_unasked_questions_are_masked_whether_they_are_empty_or_zero(
    tmp_path: Path, decals: Callable[..., GalaxyZooDecals]
) -> None:
    zero, _, _ = read(decals(totalled("gzd12")), tmp_path, ["fraction", "debiased"])
    empty, _, _ = read(decals(totalled("gzd12", empty=True)), tmp_path, ["fraction", "debiased"])
    same(zero, empty)
    asked = zero.votes[:, DecisionTree.load("gzd12").question_of] > 0
    assert not asked.all()
    for values in zero.fractions.values():
        np.testing.assert_array_equal(np.isnan(values), ~asked)


def test_a_question_that_is_debiased_in_part_is_masked_in_that_kind_alone(
    tmp_path: Path, decals: Callable[..., GalaxyZooDecals]
) -> None:
    table = totalled("gzd12")
    table.loc[5, "smooth-or-featured_artifact_debiased"] = np.nan
    found, _, _ = read(decals(table), tmp_path, ["fraction", "debiased"])
    assert np.isnan(found.fractions["debiased"][5, :3]).all()
    assert not np.isnan(found.fractions["fraction"][5, :3]).any()
    assert np.isnan(found.fractions["debiased"]).sum() == np.isnan(found.fractions["fraction"]).sum() + 3


def test_the_earlier_release_is_read_with_its_jpegs(tmp_path: Path) -> None:
    table = totalled("gzd12", debiased=False).assign(iauname=IAUNAMES, ra=1.0, dec=2.0)
    table.assign(jpeg_loc=[f"dr1/{name}.jpeg" for name in IAUNAMES]).to_csv(tmp_path / "ab.csv", index=False)
    for name in IAUNAMES:
        touch(tmp_path / "jpegs" / "dr1" / "deep" / f"{name}.jpeg")
    found, notes, _ = read(GalaxyZooDecals("gzd12", "ab.csv", ["gone", "jpegs"]), tmp_path)
    assert found.galaxies["image"].tolist() == [f"jpegs/dr1/deep/{name}.jpeg" for name in sorted(IAUNAMES)]
    assert notes == []


def test_votes_for_answers_that_are_gone_mask_their_question_where_that_is_known(
    tmp_path: Path, decals: Callable[..., GalaxyZooDecals]
) -> None:
    table = totalled("gzd5", empty=True)
    table.loc[2, "merging_total-votes"] += 7
    found, notes, _ = read(decals(table, "gzd5"), tmp_path)
    assert found.votes[2, -1] == 0
    assert np.isnan(found.fractions["fraction"][2, -4:]).all()
    assert any("1 galaxies have votes on merging" in note for note in notes)
    strict = GalaxyZooDecals("gzd5", "gzd.csv", "part*", incomplete=[])
    with pytest.raises(DataError, match=r"line 4, galaxy J\S+: the votes of merging .* must be the same"):
        read(strict, tmp_path)
    with pytest.raises(UserError, match=r"incomplete=\[mergin\]: gzd5 asks no mergin\. Did you mean merging\?"):
        GalaxyZooDecals("gzd5", "gzd.csv", "part*", incomplete=["mergin"])


@pytest.mark.parametrize("change", [-1, 1])
def test_votes_that_do_not_sum_to_their_total_are_refused(
    tmp_path: Path, decals: Callable[..., GalaxyZooDecals], change: int
) -> None:
    table = totalled("gzd12")
    table.loc[3, "smooth-or-featured_total-votes"] += change
    message = (
        r"line 5, galaxy J000003\S+: the votes of smooth-or-featured .* sum to \d+, but smooth-or-featured_total-votes"
    )
    with pytest.raises(DataError, match=message):
        read(decals(table), tmp_path)


# --- UKIDSS

UKIDSS = """\
subject_id,subfolder,url,filename,{header}
s2,524482bb,http://x/2,b.jpg,{second}
s1,524482bc,http://x/1,a.jpg,{first}
s3,524482bc,http://x/3,c.jpg,{first}
s4,524482bc,http://x/4,gone.jpg,{first}
"""
# 10 smooth and 30 featured; 12 edge-on and 18 not; spiral 9 of 18; no bar in 18; and so on. The other: all 5 artifact.
VOTES = {
    "smooth-or-featured-ukidss": {"smooth": 10, "featured-or-disk": 30, "artifact": 0},
    "disk-edge-on-ukidss": {"yes": 12, "no": 18},
    "has-spiral-arms-ukidss": {"yes": 9, "no": 9},
    "bar-ukidss": {"yes": 0, "no": 18},
    "bulge-size-ukidss": {"dominant": 1, "obvious": 2, "just-noticeable": 6, "no": 9},
    "something-odd-ukidss": {"yes": 4, "no": 36},
    "how-rounded-ukidss": {"round": 1, "in-between": 1, "cigar": 8},
    "bulge-shape-ukidss": {"round": 3, "boxy": 3, "no-bulge": 6},
    "spiral-winding-ukidss": {"tight": 3, "medium": 3, "loose": 3},
    "spiral-arm-count-ukidss": {"1": 0, "2": 9, "3": 0, "4": 0, "more-than-4": 0, "cant-tell": 0},
}
ARTIFACT = {"smooth-or-featured-ukidss": {"smooth": 0, "featured-or-disk": 0, "artifact": 5}}


def ukidss(root: Path) -> None:
    """Three galaxies with images in the three layouts and one without, by hand."""
    cells: dict[str, list[str]] = {"header": [], "first": [], "second": []}
    for question, answers in VOTES.items():
        cells["header"].append(f"{question}_total-votes")
        alone = ARTIFACT.get(question, dict.fromkeys(answers, 0))
        for kind, given in (("first", answers), ("second", alone)):
            total = sum(given.values())
            cells[kind].append(str(total))
            for count in given.values():
                cells[kind] += [str(count), str(count / total if total else 0.0)]
        for answer in answers:
            cells["header"] += [f"{question}_{answer}", f"{question}_{answer}_fraction"]
    root.joinpath("ukidss.csv").write_text(UKIDSS.format(**{name: ",".join(part) for name, part in cells.items()}))
    root.joinpath("positions.csv").write_text("subject_id,ra,dec\ns1,10.5,-1.25\ns9,1,1\ns2,359.5,7\n")
    for name in ("524482bc/a.png", "524482bb_b.jpg", "c.fits", "deep/er/gone.jpg"):
        touch(root / "images" / name)


def test_ukidss_by_hand(tmp_path: Path) -> None:
    ukidss(tmp_path)
    catalogue = GalaxyZooUkidss("ukidss.csv", "positions.csv", "images")
    found, notes, steps = read(catalogue, tmp_path)
    assert catalogue.campaign == "ukidss"
    assert catalogue.files(tmp_path) == ["ukidss.csv", "positions.csv"]
    assert found.galaxies["id"].tolist() == ["s1", "s2", "s3"]
    assert found.galaxies["image"].tolist() == ["images/524482bc/a.png", "images/524482bb_b.jpg", "images/c.fits"]
    np.testing.assert_array_equal(found.galaxies[["ra", "dec"]], [[10.5, -1.25], [359.5, 7], [np.nan, np.nan]])
    assert found.galaxies["votes"].tolist() == [40, 5, 40]
    assert found.votes[0].tolist() == [40, 30, 18, 18, 18, 40, 10, 12, 9, 9]
    assert found.votes[1].tolist() == [5, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    expected = [
        *(0.25, 0.75, 0), *(0.4, 0.6), *(0.5, 0.5), *(0, 1), *(1 / 18, 1 / 9, 1 / 3, 0.5), *(0.1, 0.9),
        *(0.1, 0.1, 0.8), *(0.25, 0.25, 0.5), *(1 / 3, 1 / 3, 1 / 3), *(0, 1, 0, 0, 0, 0),
    ]  # fmt: skip
    np.testing.assert_allclose(found.fractions["fraction"][0], expected)
    np.testing.assert_array_equal(found.fractions["fraction"][1], [0, 0, 1] + [np.nan] * 27)
    assert steps == [("rows of ukidss.csv", 4, 4), ("its image is in images", 4, 3)]
    assert any("positions.csv: 2 of 4 galaxies have no position" in note for note in notes)
    assert any("left out (1 of 4): s4." in note for note in notes)


def test_ukidss_without_positions_says_so(tmp_path: Path) -> None:
    ukidss(tmp_path)
    (tmp_path / "positions.csv").unlink()
    for positions in ("positions.csv", None):
        catalogue = GalaxyZooUkidss("ukidss.csv", positions, "images")
        found, notes, _ = read(catalogue, tmp_path)
        assert found.galaxies[["ra", "dec"]].isna().all(axis=None)
        assert any("No positions are known" in note for note in notes)
        assert catalogue.files(tmp_path) == ["ukidss.csv"]


# --- bad input


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "t01_smooth_or_features_a01_smooth_fraction",
            "1.7",
            r"smooth_fraction is 1\.7; fractions lie in \[0, 1\]\. Corr",
        ),
        ("t01_smooth_or_features_a01_smooth_fraction", "-0.1", r"is -0\.1; fractions lie in \[0, 1\]"),
        ("t01_smooth_or_features_a01_smooth_fraction", "many", r"is 'many'; fractions lie in \[0, 1\]"),
        (
            "t01_smooth_or_features_a01_smooth_fraction",
            "",
            r"a fraction of t01_smooth_or_features .* is empty, but it has",
        ),
        (
            "t01_smooth_or_features_a01_smooth_count",
            "-3",
            r"smooth_count is -3; it must be a number of votes, 0 or more",
        ),
        ("t01_smooth_or_features_a01_smooth_count", "", r"smooth_count is empty or nan; it must be a number of votes"),
        ("t01_smooth_or_features_a01_smooth_count", "x", r"smooth_count is 'x'; it must be a number of votes"),
        ("ra", "12:00:01", r"ra is '12:00:01'; right ascensions lie in \[0, 360\] degrees"),
        ("ra", "361", r"ra is 361; right ascensions"),
        ("dec", "-91", r"dec is -91; declinations lie in \[-90, 90\] degrees"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_line_and_galaxy(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2], column: str, value: str, message: str
) -> None:
    table = gz2().astype(object)
    table.loc[2, column] = value
    with pytest.raises(DataError, match=rf"gz2\.csv, line 4, galaxy 587727178986356825: .*{message}"):
        read(sdss(table), tmp_path)


def test_fractions_of_a_question_without_votes_are_refused(tmp_path: Path, sdss: Callable[..., GalaxyZoo2]) -> None:
    table = gz2()
    row = int(np.flatnonzero(table["t10_arms_winding_a28_tight_fraction"] == 0)[0])
    table.loc[row, [name for name in table if name.startswith("t10") and name.endswith("_count")]] = 0
    table.loc[row, "t10_arms_winding_a28_tight_fraction"] = 0.4
    with pytest.raises(
        DataError, match=rf"line {row + 2}, .*: the fractions of t10_arms_winding .* but it has no votes"
    ):
        read(sdss(table), tmp_path)


def test_a_galaxy_in_two_rows_is_refused_with_both_lines(
    tmp_path: Path, sdss: Callable[..., GalaxyZoo2], decals: Callable[..., GalaxyZooDecals]
) -> None:
    table = gz2()
    table.loc[9, "dr7objid"] = table.loc[1, "dr7objid"]
    with pytest.raises(DataError, match="line 11, galaxy 587727178986356824 has a row already, in line 3"):
        read(sdss(table), tmp_path)
    catalogue = decals(totalled("gzd12"))
    lines = (tmp_path / "gzd.csv").read_text().splitlines()
    (tmp_path / "gzd.csv").write_text("\n".join([*lines, lines[4]]))
    with pytest.raises(DataError, match=r"line 32, galaxy J000003\.03\+000003\.3 has a row already, in line 5"):
        read(catalogue, tmp_path)


def test_what_is_missing_is_told_with_where_it_can_be_had(tmp_path: Path, sdss: Callable[..., GalaxyZoo2]) -> None:
    there = [
        (
            GalaxyZoo2(["a.fits.gz", "b.csv"], "m.csv", "images"),
            "gz2hart.s3.amazonaws.com/gz2_hart16.fits.gz",
            "3565489",
        ),
        (GalaxyZooDecals("gzd5", ["a.fits.gz", "b.csv"], "images"), "zenodo.4573248", "source=simulated"),
        (Posteriors("gzd5", ["a.fits.gz", "b.csv"], "images"), "zenodo.4573248", "source=simulated"),
        (GalaxyZooUkidss(["a.fits.gz", "b.csv"], None, "images"), "Galaxy Zoo: UKIDSS", "fetch gz_ukidss"),
    ]
    for catalogue, *said in there:
        for root, what in ((tmp_path / "gone", "There is no folder"), (tmp_path, "has no a.fits.gz and no b.csv")):
            with pytest.raises(DataError, match=re.escape(what)) as caught:
                read(catalogue, root)
            assert all(part in str(caught.value) for part in (*said, "source=simulated"))
        assert catalogue.files(tmp_path) == []
    sdss(gz2())
    with pytest.raises(DataError, match=r"There is no folder .*nowhere\. .*zenodo"):
        read(GalaxyZoo2("gz2.csv", "mapping.csv", "nowhere"), tmp_path)
    with pytest.raises(DataError, match=r"names\.csv is missing\. .*zenodo"):
        read(GalaxyZoo2("gz2.csv", "names.csv", "images"), tmp_path)
