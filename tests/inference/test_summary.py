import base64
import io
import re
import tracemalloc
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prediction_folders import CLASSES, classes, fractions, objects, write_folder

from galaxyml.inference.prediction_folder import PredictionFolder
from galaxyml.inference.summary import command, figures, report
from galaxyml.inference.summary.groups import ByAnswer
from galaxyml.inference.summary.tallies import ORDER, NumberHistogram, Reasons, ShareHistogram, Top
from galaxyml.inference.summary.tally import Tally
from galaxyml.runs.errors import DataError, UsageError
from galaxyml.trees.questions import Question, Questions, questions_of_tree
from galaxyml.trees.tree import DecisionTree

OF_CLASSES = {name: f"probability of {name}" for name in CLASSES}
KAGGLE = DecisionTree.load("kaggle")
Run = Callable[..., tuple[int, str]]


def tallied(folder: Path) -> Tally:
    return Tally(PredictionFolder.open(folder)).read()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galaxyml.inference.prediction_folder.ROWS_AT_ONCE", 77)


def test_classes_are_counted_as_pandas_counts_them(tmp_path: Path, small_batches: None) -> None:
    table = classes(1500)
    tally = tallied(write_folder(tmp_path / "mine", table, "classes", OF_CLASSES))
    (partition,) = tally.grouping.partitions
    assert [group.name for group in partition.groups] == list(CLASSES)
    by_class = table.groupby("class")
    assert {group.name: group.count for group in partition.groups} == by_class.size().to_dict()
    assert {group.name: group.unlike for group in partition.groups} == by_class["ood"].sum().to_dict()
    means = {group.name: group.confidence / group.count for group in partition.groups}
    assert means == pytest.approx(by_class["confidence"].mean().to_dict())
    assert (tally.count, tally.ood) == (len(table), table["ood"].sum())
    assert tally.sky is not None
    assert tally.sky.without == (table["ra"].isna() | table["dec"].isna()).sum()
    assert tally.sky.counts.sum() == len(table) - tally.sky.without
    for name in CLASSES:
        histogram = tally.outputs[name]
        assert isinstance(histogram, ShareHistogram)
        expected = np.bincount(np.minimum(np.floor(table[name] * 50), 49).astype(int), minlength=50)
        np.testing.assert_array_equal(histogram.counts, expected)


def test_the_surest_and_the_oddest_are_those_that_sorting_finds(tmp_path: Path, small_batches: None) -> None:
    table = classes(1500)
    tally = tallied(write_folder(tmp_path / "mine", table, "classes", OF_CLASSES))
    lists = {ranking.heading: [known["id"] for known in ranking.top.objects] for ranking in tally.rankings}
    for name in CLASSES:
        own = table[table["class"] == name]
        sure = own.sort_values("confidence", ascending=False, kind="stable")["id"].head(100).tolist()
        odd = own.sort_values("ood_distance", ascending=False, kind="stable")["id"].head(100).tolist()
        assert lists[f"{name}: most confident"] == sure
        assert lists[f"{name}: most unusual"] == odd
    odd = table.sort_values("ood_distance", ascending=False, kind="stable")["id"].head(100).tolist()
    assert lists["Most unusual of all"] == odd


def test_answers_count_where_their_question_is_reached(tmp_path: Path, small_batches: None) -> None:
    table = fractions(1500)
    tally = tallied(write_folder(tmp_path / "mine", table, "fractions", dict.fromkeys(KAGGLE.columns, "")))
    for question, partition in zip(KAGGLE.questions, tally.grouping.partitions, strict=True):
        reached = table[list(question.after)].sum(axis=1) >= 0.5 if question.after else np.ones(len(table), bool)
        shares = table.loc[reached, list(question.columns)]
        likeliest = shares.idxmax(axis=1)
        assert partition.title == question.text
        assert partition.count == reached.sum()
        assert {group.column: group.count for group in partition.groups} == {
            column: (likeliest == column).sum() for column in question.columns
        }
        sure = shares.max(axis=1) / shares.sum(axis=1)
        for group in partition.groups:
            if group.count:
                assert group.confidence / group.count == pytest.approx(sure[likeliest == group.column].mean())
    ranking = next(r for r in tally.rankings if r.label == "in between" and "confident" in r.heading)
    own = table[
        (table["Class7.2"] == table[["Class7.1", "Class7.2", "Class7.3"]].max(axis=1)) & (table["Class1.1"] >= 0.5)
    ]
    expected = own.sort_values("Class7.2", ascending=False)["id"].head(100).tolist()
    assert [known["id"] for known in ranking.top.objects] == expected


def test_shares_of_those_who_are_asked_are_multiplied_along_the_tree() -> None:
    first = Question("a", "A?", ("x", "y"), ("ax", "ay"), ("x", "y"))
    second = Question("b", "B?", ("x", "y"), ("bx", "by"), ("x", "y"), ("ax",))
    third = Question("c", "C?", ("x", "y"), ("cx", "cy"), ("x", "y"), ("bx",))
    beside = Question("d", "D?", ("x",), ("dx",), ("x",), ("gone",))
    grouping = ByAnswer(
        Questions((first, second, third, beside), of_all=False), ["ax", "ay", "bx", "by", "cx", "cy", "dx"]
    )
    values = {"ax": [0.8, 0.8, 0.3], "ay": [0.2, 0.2, 0.7], "bx": [0.9, 0.6, 1.0], "by": [0.1, 0.4, 0.0]}
    values |= {"cx": [0.4, 1.0, 1.0], "cy": [0.6, 0.0, 0.0], "dx": [0.2, 0.9, np.nan]}
    judged = grouping.judge({name: np.array(shares) for name, shares in values.items()})
    assert [part.chosen.tolist() for part in judged] == [[0, 0, 1], [0, 0, -1], [1, -1, -1], [1, 0, -1]]
    assert judged[2].rank[0] == pytest.approx(0.8 * 0.9 * 0.6)
    assert [group.name for group in grouping.partitions[3].groups] == ["x", "any other answer"]
    assert grouping.notes == ["“D?” is asked after answers that are not predicted: all objects count as asked."]


def test_questions_are_found_in_the_index_or_by_the_columns(tmp_path: Path) -> None:
    table = fractions(50).rename(columns=lambda name: f"my_{name}" if name.startswith("Class") else name)
    outputs = {f"my_{name}": "" for name in KAGGLE.columns}
    unknown = tallied(write_folder(tmp_path / "unknown", table, "fractions", outputs))
    assert unknown.grouping.partitions == []
    assert "questions that these answers belong to are not known" in unknown.notes[0]
    asked = [
        {
            "name": "q",
            "text": "Q?",
            "answers": ["a", "b"],
            "columns": ["my_Class1.1", "my_Class1.2"],
            "labels": ["a", "b"],
            "after": [],
        }
    ]
    known = write_folder(tmp_path / "known", table, "fractions", outputs, questions={"asked": asked, "of_all": True})
    assert [partition.title for partition in tallied(known).grouping.partitions] == ["Q?"]


def test_questions_are_those_of_the_run_where_it_is_there(tmp_path: Path) -> None:
    table = fractions(50)
    folder = write_folder(tmp_path / "a", table, "fractions", dict.fromkeys(KAGGLE.columns, ""), run={"path": "sky"})
    titles = [partition.title for partition in tallied(folder).grouping.partitions]
    assert titles == [question.text for question in questions_of_tree(KAGGLE).asked]


def test_numbers_have_their_statistics_and_ends(tmp_path: Path, small_batches: None) -> None:
    rng = np.random.default_rng(0)
    table = objects(1500).assign(redshift=rng.lognormal(-2, 1, 1500), r90=rng.normal(-3, 5, 1500).astype(np.float32))
    table["redshift_low95"], table["redshift_high95"] = table["redshift"] * 0.5, table["redshift"] * 1.5
    table.loc[3, "redshift"] = np.nan
    folder = write_folder(tmp_path / "mine", table, "numbers", {"redshift": "z", "r90": "size"})
    tally = tallied(folder)
    header, *rows = report.statistics(tally)
    assert header[-1] == "mean width of the 95 % interval"
    for name, cells in zip(("redshift", "r90"), rows, strict=True):
        values = table[name]
        expected = [values.mean(), values.std(ddof=0), values.min(), *values.quantile([0.05, 0.5, 0.95]), values.max()]
        assert [float(cell) for cell in cells[1:8]] == pytest.approx(expected, rel=0.02, abs=0.02)
    assert float(rows[0][-1]) == pytest.approx((table["redshift_high95"] - table["redshift_low95"]).mean(), rel=0.01)
    lists = {(r.heading, r.label): [known["id"] for known in r.top.objects] for r in tally.rankings}
    assert lists["r90", "highest"] == table.sort_values("r90", ascending=False, kind="stable")["id"].head(100).tolist()
    assert lists["r90", "lowest"] == table.sort_values("r90", kind="stable")["id"].head(100).tolist()
    command.summarise(folder)
    assert "mean width of the 95 % interval" in (folder / "report.html").read_text()


def test_light_curves_are_counted_by_their_nearest_class_and_have_tables(tmp_path: Path, in_process: Run) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"object_id": range(400), "score": rng.normal(0, 3, 400)})
    table["anomaly"] = table["score"] > 3
    table["nearest_known_class"] = rng.choice(["SNIa", "RRL", "EB"], 400)
    table["reason"] = "latent"
    folder = write_folder(tmp_path / "night", table, "anomalies", {"score": "in nats"})
    tally = tallied(folder)
    assert {group.name: group.count for group in tally.grouping.partitions[0].groups} == (
        table.groupby("nearest_known_class").size().to_dict()
    )
    lists = {ranking.heading: [known["object_id"] for known in ranking.top.objects] for ranking in tally.rankings}
    assert lists["Most unusual of all"] == table.sort_values("score", ascending=False)["object_id"].head(100).tolist()
    own = table[table["nearest_known_class"] == "EB"].sort_values("score")
    assert lists["EB: most like it"] == own["object_id"].head(100).tolist()
    status, printed = in_process(command.main, folder)
    assert status == 0
    assert f"400 light curves predicted; {table['anomaly'].sum()} (" in printed
    assert "SNIa" in (folder / "report.html").read_text()


def test_numbers_of_any_size_have_their_quantiles() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 5000), rng.lognormal(3, 4, 5000), [1e300, -1e300, 0.0, -0.0]])
    histogram = NumberHistogram()
    for part in np.array_split(values, 7):
        histogram.add(np.append(part, np.nan))
    assert (histogram.count, histogram.low, histogram.high) == (len(values), -1e300, 1e300)
    for share in (0.01, 0.2, 0.5, 0.8, 0.99):
        expected = np.quantile(values, share, method="inverted_cdf")
        assert histogram.quantile(share) == pytest.approx(expected, rel=0.002)
    tame = NumberHistogram()
    tame.add(np.full(10, 59_000.5))
    assert (tame.mean, tame.std) == (59_000.5, 0)
    assert tame.binned(figures.span(tame)).sum() == 10


def test_a_ranking_keeps_the_first_of_equal_ones() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 40, 3000) / 40
    scores[:50] = np.nan
    top, start = Top(100), 0
    for part in np.array_split(scores, 11):
        top.add(part, start, np.arange(start, start + len(part)).item)
        start += len(part)
    expected = pd.Series(scores).sort_values(ascending=False, kind="stable", na_position="last").index[:100]
    assert top.rows.tolist() == expected.tolist() == top.objects


def test_reasons_are_counted_without_the_names_of_what_failed() -> None:
    reasons = Reasons()
    for name in ("1", "G2.fits"):
        reasons.add(f"{name}: needs 10 channels.", [name, f"images/{name}"])
    reasons.add("a/b.jpg is not there", ["b", "a/b.jpg", "b.jpg"])
    reasons.add("", [])
    assert dict(reasons.counts) == {"needs 10 channels": 2, "is not there": 1, "no reason given": 1}


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = {}
    tallied(write_folder(tmp_path / "first", classes(1000), "classes", OF_CLASSES))  # imports
    for count in (60_000, 600_000):
        table = classes(20_000)
        folder = write_folder(tmp_path / str(count), table, "classes", OF_CLASSES, shards=1)
        for number in range(1, count // len(table)):
            (folder / "predictions" / f"part-{number:05d}.parquet").hardlink_to(
                folder / "predictions/part-00000.parquet"
            )
        tracemalloc.start()
        tally = tallied(folder)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert tally.count == count
    assert peaks[600_000] < 1.1 * peaks[60_000]


class Parts(HTMLParser):
    """Tags of a page that are open, its titles and the addresses that it loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.titles: list[str] = []
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br", "wbr", "link", "hr"):
            self.open.append(tag)
        self.sources += [str(value) for name, value in attrs if name == "src"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.titles.append(data)


@pytest.fixture
def with_images(tmp_path: Path) -> Path:
    """A folder of predictions of classes, of which most images are beside the table that named them."""
    table = classes(400)
    (tmp_path / "images").mkdir()
    for path in table["path"][:300]:
        Image.effect_noise((40, 30), 60).save(tmp_path / path)
    (tmp_path / table["path"][0]).write_text("no image")
    table.loc[5, "id"] = "a|b *c* ![x](images/g00001.png) <script>"
    table.loc[5, "ood_distance"] = 99.0
    failed = pd.DataFrame(
        {"id": ["x", "y"], "path": ["x.png", "y.png"], "reason": ["x.png is not there", "y.png is not there"]}
    )
    inputs = [{"given": str(tmp_path / "table.csv")}]
    return write_folder(tmp_path / "mine", table, "classes", OF_CLASSES, failed=failed, inputs=inputs)


def test_the_page_stands_alone_and_shows_the_objects(with_images: Path, in_process: Run) -> None:
    status, printed = in_process(command.main, with_images)
    assert status == 0
    assert "smooth" in printed
    assert "is not there" in printed
    assert re.search(r"\d+ of \d+ images of examples cannot be shown", printed)
    page = (with_images / "report.html").read_text()
    parts = Parts(page)
    assert parts.open == []
    assert parts.titles[0] == "Predictions: mine"
    assert {"By class", "Confidence", "On the sky", "Most confident", "Most unusual", "Failed"} <= set(parts.titles)
    assert parts.sources
    assert all(source.startswith("data:image/") for source in parts.sources)
    assert "<script" not in page
    assert "a|b *c* ![x](images/g00001.png)" in page.replace("<wbr>", "")
    images = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in parts.sources]
    assert len(images) == 4 + 2 + 1 + 2 * len(CLASSES)  # figures, maps, sheets: all of them, and two of each class
    assert {image.width for image in images[6:]} == {10 * 80}
    examples = pd.read_csv(with_images / "examples.csv")
    assert set(examples["list"]) == {
        "Most unusual of all",
        *(f"{name}: {which}" for name in CLASSES for which in ("most confident", "most unusual")),
    }
    assert (examples.groupby("list").size() <= 100).all()


def test_what_is_not_finished_is_summarised_as_far_as_it_is(tmp_path: Path, in_process: Run) -> None:
    folder = write_folder(tmp_path / "mine", classes(400), "classes", OF_CLASSES, missing=3)
    status, printed = in_process(command.main, folder)
    assert status == 0
    text = "Not finished: 1 of 4 parts are there, with 100 of 400 objects. The same predict command carries on"
    assert text in printed
    assert text in (folder / "report.html").read_text()


def test_a_folder_where_all_failed_says_why(tmp_path: Path, in_process: Run) -> None:
    failed = pd.DataFrame({"id": ["x"], "path": ["x.png"], "reason": ["x.png is not there"]})
    folder = write_folder(tmp_path / "mine", classes(4), "classes", OF_CLASSES, failed=failed, missing=4)
    status, printed = in_process(command.main, folder)
    assert status == 0
    assert "0 images predicted; 1 failed." in printed


def test_wrong_input_is_told_with_the_way_out(tmp_path: Path, in_process: Run) -> None:
    def told(path: Path) -> str:
        status, printed = in_process(command.main, path)
        assert status in (1, 2)
        assert printed.count("\n") == 1
        return printed

    assert "nowhere is not there. Give a folder of predictions; galaxyml predict RUN" in told(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty is empty. Give a folder of predictions" in told(tmp_path / "empty")
    (tmp_path / "a.parquet").touch()
    assert "a.parquet is a file. Give a folder" in told(tmp_path / "a.parquet")
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").touch()
    assert f"is the folder of a run, not of predictions: galaxyml report {run} writes" in told(run)
    assert "is no folder of predictions: it has no index.json" in told(tmp_path)
    folder = write_folder(tmp_path / "mine", classes(40), "classes", OF_CLASSES)
    broken = folder / "predictions" / "part-00002.parquet"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:500])
    assert "part-00002.parquet cannot be read" in (said := told(folder))
    assert "Delete it; the same predict command makes it again." in said
    pq.write_table(pq.read_table(folder / "predictions" / "part-00001.parquet").drop_columns("disk"), broken)
    assert "part-00002.parquet has no column disk; it has" in told(folder)
    for path in (folder / "predictions").iterdir():
        path.unlink()
    assert "mine has no predictions yet: none of its 4 parts is there" in told(folder)
    (folder / "index.json").write_text('{"version": 1}')
    assert "index.json cannot be read (KeyError: 'kind')" in told(folder)
    (folder / "index.json").write_text('{"version": 9, "kind": "classes", "outputs": {}, "rows": 1, "shards": 1}')
    assert "is of version 9 of predictions, and this galaxyml reads 1." in told(folder)


def test_text_where_numbers_belong_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", classes(40).assign(disk="round"), "classes", OF_CLASSES)
    with pytest.raises(DataError, match=r"part-00000\.parquet: disk holds .*string, not numbers\."):
        command.summarise(folder)


@pytest.mark.parametrize("ra", [(170, 190), (350, 370), (0, 360)])
def test_a_map_shows_what_is_there(ra: tuple[float, float]) -> None:
    from galaxyml.inference.summary.tallies import SkyCounts

    rng = np.random.default_rng(0)
    counts = SkyCounts()
    counts.add(rng.uniform(*ra, 5000), rng.uniform(-10, 15, 5000), None)
    field = figures.field_of(counts.counts)
    if ra == (0, 360):
        assert field is None
    else:
        assert field is not None
        assert (field[0] - sum(ra) / 2 + 180) % 360 == pytest.approx(180, abs=0.3)
        assert field[1] == pytest.approx(2.5, abs=0.3)
        assert field[2] == pytest.approx(10, abs=1.5)
    figure, text = figures.density(counts.counts)
    (image,) = figure.axes[0].get_images()
    shown: np.ndarray = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
    order = figures.readable_order(counts.counts)
    assert order < ORDER
    assert f"order {order}" in text
    area = 41_252.96 / (12 * 4**order)
    assert np.nanmax(shown) * area == pytest.approx(figures.coarser(counts.counts, ORDER, order).max())
    whole = figures.coarser(counts.counts, ORDER, order)
    assert np.nansum(np.isfinite(shown)) > 0
    assert whole.sum() == 5000


def test_mollweide_is_turned_back() -> None:
    ra, dec, inside, _ = figures._raster(None)
    chosen = np.flatnonzero(inside.ravel())[::5000]
    x, y = np.meshgrid(np.linspace(-2, 2, 1400), np.linspace(-1, 1, 700))
    offset = 180 - ra.ravel()[chosen]
    back = figures.mollweide((offset + 180) % 360 - 180, dec.ravel()[chosen])
    np.testing.assert_allclose(back[0], x.ravel()[chosen], atol=2e-3)
    np.testing.assert_allclose(back[1], y.ravel()[chosen], atol=2e-3)


def test_a_folder_of_a_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        command.summarise(tmp_path)
    assert list(tmp_path.iterdir()) == []
