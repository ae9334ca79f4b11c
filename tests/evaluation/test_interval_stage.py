from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from galaxyml.evaluation.conformal import Intervals, covered, shrinkage, widths
from galaxyml.evaluation.joined import NetOutputs
from galaxyml.evaluation.predict_intervals import PredictIntervals
from galaxyml.kinds.fractions import Fractions
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

COLUMNS = ["Class1.1", "Class1.2", "Class6.1"]
FOLDS = 4


def made_up(path: Path, folds: int = FOLDS, count: int = 3000, known_test: bool = True, views: bool = True) -> RunDir:
    """A joined sweep whose nets err by known amounts, more where views differ; one fold is a run by itself."""
    rng = np.random.default_rng(0)
    shape = (count, len(COLUMNS))
    true = rng.uniform(0.25, 0.75, shape)
    spread = rng.uniform(0.01, 0.05, shape)
    alike = true + spread * rng.standard_normal(shape)
    nets = alike + 0.5 * spread * rng.standard_normal((folds, *shape))
    tested = rng.random(count) < 0.3
    fold = np.where(tested, -1, rng.integers(0, folds, count))
    split = np.where(tested, "test", "val")
    catalog = pd.DataFrame({"id": rng.permutation(count) + 7, "split": split, "fold": fold})
    known = np.where(tested[:, None] & (not known_test), np.nan, true)
    run = RunDir(path)
    run.write_catalog(catalog.assign(**dict(zip(COLUMNS, known.T, strict=True))))
    own = np.take_along_axis(nets, np.maximum(fold, 0)[None, :, None], axis=0)[0]
    own[tested] = nets.mean(axis=0)[tested]
    tables = {"net": own, "": 0.05 + 0.9 * own, "spread": spread if views else None}
    tables["between"] = nets.std(axis=0) if folds > 1 else None
    for by, values in tables.items():
        for name in ("val", "test"):
            inside = catalog["split"] == name
            if values is not None and (by, name) != ("between", "val"):
                table = pd.DataFrame(values[inside].astype(np.float32), columns=COLUMNS)
                table.insert(0, "id", catalog["id"][inside].to_numpy())
                run.write_predictions(name, table, by=by)
    return run


def read(run: RunDir, split: str, by: str = "intervals") -> pd.DataFrame:
    table = run.predictions(split, by=by)
    assert table is not None
    return table.set_index("id")


def values(run: RunDir, split: str, by: str) -> np.ndarray:
    return read(run, split, by)[COLUMNS].to_numpy(float)


def truth(run: RunDir, split: str) -> np.ndarray:
    return run.catalog().set_index("id").loc[read(run, split, "").index, COLUMNS].to_numpy()


def ends(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends, shape (3, N, 3) each."""
    low, high = (
        np.stack([table[[f"{column}_{end}{level}" for column in COLUMNS]].to_numpy() for level in (50, 80, 95)])
        for end in ("low", "high")
    )
    return low, high


@pytest.mark.parametrize("views", [True, False])
@pytest.mark.parametrize("folds", [1, FOLDS])
def test_every_split_is_covered_as_often_as_asked(tmp_path: Path, folds: int, views: bool) -> None:
    run = made_up(tmp_path, folds, views=views)
    found = PredictIntervals(COLUMNS)(run)
    for split, count in (("val", 2100), ("test", 900)):
        for level in (50, 80, 95):
            noise = 4 * np.sqrt(level / 100 * (1 - level / 100) * (1 / count + 1 / 1050) / 3)
            assert found[f"{split}/coverage_{level}"] > level / 100 - noise
            assert found[f"{split}/coverage_{level}"] < level / 100 + noise + 0.03  # what surplus of `between` adds
    assert [path.stem for path in run.figures()] == ["6_intervals"]


def test_numbers_are_those_of_the_tables(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    found = PredictIntervals(COLUMNS)(run)
    for split in ("val", "test"):
        low, high = ends(read(run, split))
        shares = covered(low, high, truth(run, split))
        for number, level in enumerate((50, 80, 95)):
            assert found[f"{split}/width_{level}"] == pytest.approx(widths(low, high)[number].mean(), rel=1e-5)
            assert found[f"{split}/coverage_{level}"] == pytest.approx(shares[number].mean(), abs=2e-3)
            for column, share in zip(COLUMNS, shares[number], strict=True):
                assert found[f"{split}/coverage_{level}/{column}"] == pytest.approx(share, abs=2e-3)
    assert len(found) == 2 * 3 * (2 + 3)
    assert all(kind == np.float32 for kind in read(run, "test").dtypes)
    assert list(read(run, "test").columns[:3]) == ["Class1.1_low50", "Class1.1_high50", "Class1.1_low80"]


def with_truth(run: RunDir, change: Callable[[pd.DataFrame], None]) -> None:
    catalog = run.catalog()
    change(catalog)
    run.write_catalog(catalog)


@pytest.mark.parametrize("folds", [1, FOLDS])
def test_no_galaxy_calibrates_its_own_intervals(tmp_path: Path, folds: int) -> None:
    run = made_up(tmp_path, folds, count=300)
    PredictIntervals(COLUMNS)(run)
    before, test_before = read(run, "val"), read(run, "test")
    galaxy = before.index[17]

    def far_off(catalog: pd.DataFrame) -> None:
        catalog.loc[catalog["id"] == galaxy, COLUMNS] = 0.0

    with_truth(run, far_off)
    PredictIntervals(COLUMNS)(run)
    after = read(run, "val")
    pd.testing.assert_series_equal(after.loc[galaxy], before.loc[galaxy])
    catalog = run.catalog().set_index("id").loc[before.index]
    parts = np.arange(len(before)) % 2 if folds == 1 else catalog["fold"].to_numpy()
    changed = (after.to_numpy() != before.to_numpy()).any(axis=1)
    assert not changed[parts == parts[17]].any()  # nor do those that it shares a fold with
    assert changed[parts != parts[17]].all()
    assert (read(run, "test").to_numpy() != test_before.to_numpy()).any(axis=1).all()


@pytest.mark.parametrize("folds", [1, FOLDS])
def test_tables_are_read_by_id_whatever_their_order(tmp_path: Path, folds: int) -> None:
    run = made_up(tmp_path, folds, count=300)
    found = PredictIntervals(COLUMNS)(run)
    before = {split: read(run, split) for split in ("val", "test")}
    for seed, by in enumerate(("net", "", "spread", "between")):
        for split in ("val", "test"):
            if (table := run.predictions(split, by=by)) is not None:
                columns = ["id", *COLUMNS[::-1]]
                run.write_predictions(split, table.sample(frac=1, random_state=seed)[columns], by=by)
    assert PredictIntervals(COLUMNS)(run) == pytest.approx(found, rel=1e-9)
    for split, table in before.items():
        assert read(run, split).index.tolist() == read(run, split, "").index.tolist()
        pd.testing.assert_frame_equal(read(run, split).loc[table.index], table)


def test_intervals_of_a_mean_shrink_and_grow_with_the_disagreement_of_its_nets(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    PredictIntervals(COLUMNS)(run)
    between, spread = values(run, "test", "between"), values(run, "test", "spread")
    shrink = shrinkage(between, truth(run, "val") - values(run, "val", "net"))
    usual = (between**2).mean(axis=0)
    learnt = run.arrays("intervals")
    assert learnt is not None
    np.testing.assert_allclose(learnt["shrink"], shrink)
    np.testing.assert_allclose(learnt["usual"], usual)
    assert (shrink < 0.95).all()
    fitted = Intervals.fit(values(run, "val", ""), values(run, "val", "spread"), truth(run, "val"))
    more = between**2 > usual
    wide = np.sqrt(spread**2 + np.where(more, between**2 - usual, 0))
    assert (more.mean(axis=0) > 0.2).all()
    np.testing.assert_allclose(ends(read(run, "test")), fitted(values(run, "test", ""), wide, shrink), atol=1e-6)


def said_of_test(run: RunDir) -> tuple[NetOutputs, pd.DataFrame]:
    """Nets whose mean, spread and disagreement are those of the tables, columns in another order; and their mean."""
    mean, off = read(run, "test", "net")[COLUMNS[::-1]], read(run, "test", "between")[COLUMNS[::-1]]
    spread = read(run, "test", "spread")[COLUMNS[::-1]]
    outputs = [(mean + sign * off).reset_index(drop=True) for sign in (1, -1)]
    said = NetOutputs(outputs, [0.5, 0.5], [0, 1], [spread.reset_index(drop=True)] * 2)
    return said, read(run, "test", "").reset_index(drop=True)


def test_new_images_have_the_intervals_that_they_would_have_as_test_galaxies(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    stage = PredictIntervals(COLUMNS)
    stage(run)
    said, table = said_of_test(run)
    made = stage.combine(run, said, table.assign(more="kept"))
    np.testing.assert_array_equal(made[COLUMNS], table[COLUMNS])
    assert (made["more"] == "kept").all()
    np.testing.assert_allclose(ends(made), ends(read(run, "test")), atol=1e-5)


def test_one_image_alone_gets_the_bits_that_it_has_in_company(tmp_path: Path) -> None:
    run = made_up(tmp_path, count=200)
    stage = PredictIntervals(COLUMNS)
    stage(run)
    said, table = said_of_test(run)
    together = stage.combine(run, said, table)
    for row in range(len(table)):
        outputs, spreads = ([part.iloc[[row]] for part in parts] for parts in (said.outputs, said.spreads))
        alone = stage.combine(run, NetOutputs(outputs, said.shares, said.folds, spreads), table.iloc[[row]])
        pd.testing.assert_frame_equal(alone, together.iloc[[row]], check_exact=True)


def test_a_net_by_itself_has_neither_shrinkage_nor_disagreement(tmp_path: Path) -> None:
    run = made_up(tmp_path, folds=1, views=False)
    stage = PredictIntervals(COLUMNS)
    stage(run)
    learnt = run.arrays("intervals")
    assert learnt is not None
    assert set(learnt) == {"levels", "variance", "quantiles", "bounded"}
    net, table = (read(run, "test", by).reset_index(drop=True) for by in ("net", ""))
    made = stage.combine(run, NetOutputs.equal([net]), table)
    np.testing.assert_array_equal(ends(made), ends(read(run, "test")))


def test_without_test_galaxies_intervals_are_those_of_a_single_net(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    said, table = said_of_test(run)
    for by in ("net", "", "spread", "between"):
        (run.path / "predictions" / by / "test.parquet").unlink()
    stage = PredictIntervals(COLUMNS)
    assert not any(name.startswith("test/") for name in stage(run))
    fitted = Intervals.fit(values(run, "val", ""), values(run, "val", "spread"), truth(run, "val"))
    expected = fitted(table[COLUMNS].to_numpy(float), said.spreads[0][COLUMNS].to_numpy(float))
    np.testing.assert_allclose(ends(stage.combine(run, said, table)), expected, atol=1e-5)


def test_coverage_is_told_where_the_truth_is_known_alone(tmp_path: Path) -> None:
    run = made_up(tmp_path, known_test=False)

    def forget(catalog: pd.DataFrame) -> None:
        catalog.loc[catalog.index % 20 > 0, "Class1.2"] = np.nan
        catalog["Class6.1"] = np.nan

    with_truth(run, forget)
    found = PredictIntervals(COLUMNS)(run)
    assert {name for name in found if name.startswith("test/")} == {f"test/width_{level}" for level in (50, 80, 95)}
    assert "val/coverage_95/Class6.1" not in found
    low, high = ends(read(run, "val"))
    known = ~np.isnan(truth(run, "val"))
    inside = ((low <= truth(run, "val")) & (truth(run, "val") <= high))[:, known]
    assert found["val/coverage_80"] == pytest.approx(inside[1].mean(), abs=1e-6)
    assert (low[:, :, 2] == 0).all()  # of which nothing is known
    assert (high[:, :, 2] == 1).all()
    assert np.isfinite(list(found.values())).all()


def test_a_run_that_knows_no_truth_is_sure_of_nothing(tmp_path: Path) -> None:
    run = made_up(tmp_path, count=100)
    catalog = run.catalog()
    catalog[COLUMNS] = np.nan
    run.write_catalog(catalog)
    assert set(PredictIntervals(COLUMNS)(run).values()) == {1.0}
    assert not run.figures()


def test_a_run_without_predictions_has_no_intervals(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_catalog(pd.DataFrame({"id": [1], "split": "val", "fold": 0, **dict.fromkeys(COLUMNS, 0.5)}))
    assert PredictIntervals(COLUMNS)(run) == {}
    net = pd.DataFrame([[0.5, 0.5, 0.5]], columns=COLUMNS)
    with pytest.raises(UserError, match=r"has no fitted/intervals.npz.*Copy all of fitted/"):
        PredictIntervals(COLUMNS).combine(run, NetOutputs.equal([net]), net)


def test_diverged_predictions_are_told(tmp_path: Path) -> None:
    run = made_up(tmp_path, count=100)
    table = run.predictions("test")
    assert table is not None
    run.write_predictions("test", table.assign(**{"Class1.2": np.nan}))
    with pytest.raises(UserError, match=r"not finite, so training has diverged. Lower optim\.lr"):
        PredictIntervals(COLUMNS)(run)


@pytest.mark.parametrize("known_test", [True, False])
def test_figure_is_of_test_galaxies_where_their_truth_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_test: bool
) -> None:
    drawn: dict[str, Figure] = {}
    captions: list[str] = []

    def keep(run: RunDir, name: str, figure: Figure, caption: str) -> None:
        drawn[name] = figure
        captions.append(caption)

    monkeypatch.setattr(RunDir, "write_figure", keep)
    found = PredictIntervals(COLUMNS)(made_up(tmp_path, known_test=known_test))
    split = "test" if known_test else "val"
    assert captions[0].endswith(
        "The second curve leaves out fractions predicted as 0 or 1; the two coincide where there are hardly any."
    )
    held, _, over_all = drawn["6_intervals"].axes
    dots = np.array([line.get_xdata() for line in held.lines if line.get_marker() == "o"], float)
    expected = [[found[f"{split}/coverage_{level}/{column}"] for column in COLUMNS] for level in (95, 80, 50)]
    np.testing.assert_allclose(dots, np.array(expected))
    for line in over_all.lines[1:]:  # no fraction is exactly 0 or 1 here, so that both are alike
        asked, share = np.round(np.asarray(line.get_xdata()), 2), np.asarray(line.get_ydata())
        for level in (50, 80, 95):
            assert share[asked == level / 100] == pytest.approx(found[f"{split}/coverage_{level}"])


def test_intervals_are_of_fractions_that_obey_the_tree() -> None:
    names = [type(stage).__name__ for stage in Fractions("kaggle").stages()]
    assert names.index("Constrain") < names.index("PredictIntervals")
