from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from galaxyml.runs.errors import UserError
from galaxyml.sky import population, render, write_anomalies, writers
from galaxyml.sky.anomalies import ODD, ORDINARY, galaxies


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sky") / "anomalies"
    write_anomalies(folder, count=30, seed=2, share=0.1, size=48)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_row_has_its_image_and_each_image_its_row(written: Path) -> None:
    table = pd.read_csv(written / "labels.csv")
    assert list(table) == ["id", "path", "kind", "odd"]
    assert {path.relative_to(written).as_posix() for path in written.glob("*/*")} == set(table["path"])
    assert list(table["path"]) == [f"images/{name}.jpg" for name in table["id"]]
    assert table["id"].is_unique
    with Image.open(written / table["path"][0]) as opened:
        assert (opened.format, opened.size, opened.mode) == ("JPEG", (48, 48), "RGB")


def test_what_is_odd_is_said_in_words_and_follows_from_the_kind(written: Path) -> None:
    table = pd.read_csv(written / "labels.csv", dtype=str)
    assert set(table["odd"]) == {"true", "false"}
    assert (table["kind"].isin(ODD) == (table["odd"] == "true")).all()
    assert set(table["kind"]) <= {*ODD, *ORDINARY}
    assert len(table) == 30
    assert (table["odd"] == "true").sum() == 3


def test_images_are_those_of_their_galaxies(written: Path) -> None:
    drawn = galaxies(30, seed=2, share=0.1)
    table = pd.read_csv(written / "labels.csv")
    assert list(drawn["kind"]) == list(table["kind"])
    rendered = render(drawn.head(5), size=48, seed=2).numpy().astype(float)
    for image, path in zip(rendered, table["path"], strict=False):
        with Image.open(written / path) as opened:
            assert np.abs(np.asarray(opened, float) - image).mean() < 8  # what JPEG changes


@pytest.mark.parametrize(
    ("count", "share", "odd"),
    [(6000, 0.01, 60), (40, 0.01, 1), (40, 0.0, 0), (150, 0.9, 135), (1, 0.5, 1), (7, 0.3, 2)],
)
def test_the_share_is_rounded_to_galaxies_and_one_is_odd_at_least(count: int, share: float, odd: int) -> None:
    drawn = galaxies(count, seed=1, share=share)
    assert len(drawn) == count
    assert drawn["kind"].isin(ODD).sum() == odd
    assert drawn["kind"].isin(ORDINARY).sum() == count - odd
    assert not drawn["texture"].duplicated().any()


def test_kinds_are_as_frequent_as_in_a_population() -> None:
    drawn, whole = galaxies(6000, seed=3, share=0.3)["kind"], population(40_000, seed=4)["kind"]
    for kinds in (ODD, ORDINARY):
        shares = drawn[drawn.isin(kinds)].value_counts(normalize=True)
        expected = whole[whole.isin(kinds)].value_counts(normalize=True)
        assert set(shares.index) == set(kinds)
        assert (shares - expected).abs().max() < 0.04


def test_ids_tell_nothing_of_what_is_odd() -> None:
    rows = np.flatnonzero(galaxies(6000, seed=7, share=0.05)["kind"].isin(ODD))
    assert abs(rows.mean() / 6000 - 0.5) < 4 / np.sqrt(12 * len(rows))  # four standard deviations of a uniform mean
    assert rows.min() < 600
    assert rows.max() > 5400


def test_a_seed_gives_the_same_files_and_another_gives_others(written: Path, tmp_path: Path) -> None:
    write_anomalies(tmp_path / "same", count=30, seed=2, share=0.1, size=48)
    write_anomalies(tmp_path / "other", count=30, seed=3, share=0.1, size=48)
    assert contents(tmp_path / "same") == contents(written)
    assert contents(tmp_path / "other")["images/G00000.jpg"] != contents(written)["images/G00000.jpg"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []

    def interrupted(galaxy: object, size: int, seed: int, survey: object) -> Image.Image:
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(galaxy)
        return Image.new("RGB", (size, size))

    monkeypatch.setattr(writers, "draw_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_anomalies(tmp_path / "anomalies", 12, seed=1, size=16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "simulate.count=0: it must be a whole number, 1 or more"),
        ({"seed": -1}, "simulate.seed=-1"),
        ({"size": 7}, "simulate.size=7"),
        ({"share": 1.0}, r"simulate.share=1.0: it must be a share in \[0, 1\)"),
        ({"share": -0.1}, "simulate.share=-0.1"),
        ({"share": float("nan")}, "simulate.share=nan"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path: Path, options: dict[str, float], message: str) -> None:
    given: dict[str, float] = {"count": 10, "seed": 0, **options}
    with pytest.raises(UserError, match=message):
        write_anomalies(tmp_path / "anomalies", **given)  # type: ignore[arg-type] # numbers of either kind
    assert not (tmp_path / "anomalies").exists()
