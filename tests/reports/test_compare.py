import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from scipy.stats import pearsonr

from galaxyml.reports.compare import compare, main
from galaxyml.reports.comparison_report import _standing
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir

FEATURES = ["bar_yes", "bar_no"]
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(in_process: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `python -m galaxyml compare` in this process; gives its status and all that it printed."""
    monkeypatch.setenv("COLUMNS", "120")
    return partial(in_process, main)


VOTES = {
    "_target_": "galaxyml.kinds.votes.Votes",
    "vocabulary": {
        "_target_": "galaxyml.trees.vocabulary.Vocabulary",
        "features": list(FEATURES),
        "heads": "shared",
        "surveys": {"ukidss": {"_target_": "types.SimpleNamespace", "campaign": "ukidss"}},
        "train": ["ukidss"],
    },
}
CLASSES = {"_target_": "galaxyml.kinds.classes.Classes", "classes": ["edge on", "round", "spiral"]}


def of(table: pd.DataFrame, metric: str, feature: str) -> list[dict[str, Any]]:
    """The rows of the first and of the second run."""
    rows: Any = table[(table["metric"] == metric) & (table["feature"] == feature)].to_dict("records")
    return list(rows)


def votes(count: int = 300) -> pd.DataFrame:
    """Galaxies of two surveys with the votes of one question, which a quarter was not asked."""
    rng = np.random.default_rng(0)
    number = np.where(rng.random(count) < 0.25, 0, rng.integers(5, 40, count))
    fraction = np.where(number > 0, rng.binomial(number, rng.random(count)) / np.maximum(number, 1), np.nan)
    survey = np.where(np.arange(count) % 3 == 0, "gama", "ukidss")
    catalog = pd.DataFrame({"id": [f"{name}:{k}" for k, name in enumerate(survey)], "split": "test", "fold": -1})
    catalog = catalog.assign(survey=survey, bar_yes=fraction, bar_no=1 - fraction)
    return catalog.assign(bar_yes_votes=number.astype(float), bar_no_votes=number.astype(float))


def of_kind(path: Path, kind: dict[str, Any]) -> RunDir:
    """A run whose configuration names its kind of target alone."""
    run = RunDir(path)
    run.start(OmegaConf.create({"kind": kind}), [])
    run.write_provenance(0, "CPU", {"source": "real", "sha256": {}})
    return run


def finished(path: Path, catalog: pd.DataFrame, noise: float, seed: int) -> Path:
    """A run that says the truth with noise, of the galaxies in another order."""
    rng = np.random.default_rng(seed)
    run = of_kind(path, VOTES)
    run.write_catalog(catalog)
    said = np.clip(catalog["bar_yes"].fillna(0.5) + noise * rng.standard_normal(len(catalog)), 0, 1)
    table = pd.DataFrame({"id": catalog["id"], "bar_yes": said, "bar_no": 1 - said})
    run.write_predictions("test", table.sample(frac=1, random_state=seed))
    run.write_metrics({"test/pearson": 0.5})
    return path


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A run that says little and a better one, of which each lacks some of the other's galaxies."""
    catalog = votes()
    return (
        finished(tmp_path / "first", catalog[:280], 0.4, 1),
        finished(tmp_path / "second", catalog[20:].sample(frac=1, random_state=0), 0.2, 2),
    )


def test_both_are_measured_on_the_galaxies_of_both(runs: tuple[Path, Path]) -> None:
    table = compare(*runs, survey="ukidss", resamples=200)
    assert list(dict.fromkeys(table["feature"])) == ["mean", *FEATURES]
    catalog = votes()[20:280].query("survey == 'ukidss'")
    rows = catalog.dropna()
    repeats = np.repeat(np.arange(len(rows)), rows["bar_yes_votes"].astype(int))
    r = []
    for path in runs:
        said = pd.read_parquet(path / "predictions" / "test.parquet").set_index("id").loc[rows["id"]]
        true = rows["bar_yes"].to_numpy()
        r.append(pearsonr(said["bar_yes"].to_numpy()[repeats], true[repeats]).statistic)
    first, second = of(table, "pearson", "bar_yes")
    assert first["objects"] == len(rows)
    assert of(table, "pearson", "mean")[0]["objects"] == len(rows)  # the others were not asked anything
    assert [first["value"], second["value"]] == pytest.approx(r)
    assert second["difference"] == pytest.approx(r[1] - r[0])
    assert 0 < second["low"] < second["difference"] < second["high"]
    assert of(table, "mae", "bar_yes")[1]["high"] < 0
    each = [of(table, "pearson", name)[0]["value"] for name in FEATURES]
    assert of(table, "pearson", "mean")[0]["value"] == pytest.approx(np.mean(each))


def test_a_run_differs_from_itself_in_nothing(runs: tuple[Path, Path]) -> None:
    table = compare(runs[0], runs[0], resamples=50)
    differences = table[["difference", "low", "high"]].dropna()
    assert (differences == 0).all(axis=None)
    assert table["survey"].unique().tolist() == ["gama", "ukidss"]


def test_the_other_way_round_only_signs_change(runs: tuple[Path, Path]) -> None:
    one, other = compare(*runs, resamples=100), compare(*runs[::-1], resamples=100)
    one, other = (table[table["metric"] == "pearson"].dropna() for table in (one, other))
    np.testing.assert_allclose(one["difference"], -other["difference"], atol=1e-12)
    # As many galaxies, in another order: other resamples of the same kind.
    np.testing.assert_allclose(one["low"], -other["high"], atol=0.06)


def test_the_command_prints_and_writes_the_table(runs: tuple[Path, Path], ask: Command, tmp_path: Path) -> None:
    files = ("--out", tmp_path / "new" / "table.csv", "--report", tmp_path / "new" / "table.html")
    status, said = ask(*runs, "--survey", "ukidss", *files, "--resamples", "100")
    assert status == 0, said
    assert "ukidss: bar_<wbr>yes" in (tmp_path / "new" / "table.html").read_text()
    table = pd.read_csv(tmp_path / "new" / "table.csv")
    pd.testing.assert_frame_equal(table, compare(*runs, survey="ukidss", resamples=100))
    first, second = of(table, "pearson", "mean")
    assert re.match(
        r"Run 2 \(second\) is better than run 1 \(first\) by .* on the \d+ test galaxies of ukidss that both", said
    )
    assert f" {first['value']:.4f} " in said
    assert f"{second['difference']:+.4f} [{second['low']:+.4f}, {second['high']:+.4f}]" in said
    assert str(runs[0]) in said.replace("\n", "")
    assert "gama" not in said


def test_fewer_features_are_compared_where_one_run_lacks_some(runs: tuple[Path, Path]) -> None:
    run = RunDir(runs[0])
    table, catalog = run.predictions("test"), run.catalog()
    assert table is not None
    run.write_predictions("test", table[["id", "bar_yes"]])
    run.write_catalog(catalog.drop(columns=["bar_no", "bar_no_votes"]))
    expected = compare(runs[1], runs[1], resamples=0)
    for pair in (runs, runs[::-1]):
        found = compare(*pair, resamples=10)
        assert set(found["feature"]) == {"mean", "bar_yes"}
    assert set(expected["feature"]) == {"mean", *FEATURES}
    run.write_predictions("test", table[["id"]].assign(edge_on_yes=0.5))
    run.write_catalog(catalog.rename(columns={"bar_yes": "edge_on_yes", "bar_yes_votes": "edge_on_yes_votes"}))
    run.write_catalog(run.catalog().drop(columns=["bar_no", "bar_no_votes"]))
    with pytest.raises(UserError, match="share no feature: the first has edge_on_yes, the second bar_yes, bar_no"):
        compare(*runs)


def test_what_cannot_be_compared_is_told(runs: tuple[Path, Path], ask: Command, tmp_path: Path) -> None:
    catalog = votes()
    other = catalog.assign(id=[f"other:{k}" for k in range(len(catalog))])
    changed = catalog.copy()
    changed.loc[41, ["bar_yes", "bar_no", "bar_yes_votes", "bar_no_votes"]] = [0.25, 0.75, 8, 8]
    unfinished = finished(tmp_path / "unfinished", catalog, 0.1, 3)
    (unfinished / "metrics.json").unlink()
    galaxy10 = finished(tmp_path / "galaxy10", catalog, 0.1, 3)
    RunDir(galaxy10).write_catalog(catalog[["id", "split", "survey"]])
    cases: list[tuple[list[object], str]] = [
        (
            [finished(tmp_path / "other", other, 0.1, 3)],
            "have no test galaxy in common: the first has gama:.*, the second other:",
        ),
        (
            [finished(tmp_path / "changed", changed, 0.1, 3)],
            r"have different targets for 1 of 217 galaxies: \w+ of ukidss:41",
        ),
        ([unfinished], r"is not finished \(not begun\): it has no metrics\.json"),
        ([tmp_path / "nowhere"], r"nowhere is not there"),
        ([galaxy10], "is not a run on votes"),
        ([runs[1], "--split", "val"], "predicted no val galaxies with votes. Give --split test"),
        ([runs[1], "--survey", "ukids"], r"no test galaxy of 'ukids'. Did you mean ukidss\?"),
        ([runs[1], "--out", "table.txt"], r"--out table\.txt: it must end in \.csv"),
        ([runs[1], "--least", "1"], "--least 1: it must be 2 or more"),
        ([runs[1], "--least", "1000"], "No feature was asked of 1000 galaxies"),
    ]
    for more, message in cases:
        status, said = ask(runs[0], *more)
        assert status == 2
        assert re.search(message, said), said
        assert "Traceback" not in said


def test_help_comes_without_torch() -> None:
    import subprocess

    code = "import sys, galaxyml.reports.compare; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def classified(path: Path, signal: float, seed: int, split: str = "val") -> Path:
    """A run on three classes, whose truth is known in one split."""
    labels = np.random.default_rng(9).integers(0, 3, 200)
    logits = np.random.default_rng(seed).standard_normal((200, 3))
    logits[np.arange(200), labels] += signal
    run = of_kind(path, CLASSES)
    run.write_catalog(pd.DataFrame({"id": np.arange(200), "split": split, "fold": 0, "label": labels}))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for by, values in (("net", logits), ("", shares)):
        table = pd.DataFrame(values, columns=["edge on", "round", "spiral"])
        run.write_predictions(split, table.assign(id=np.arange(200)), by)
    run.write_metrics({})
    return path


def test_three_runs_on_classes_stand_side_by_side(tmp_path: Path, ask: Command) -> None:
    runs = [classified(tmp_path / name, signal, at) for at, (name, signal) in enumerate((("a", 1), ("b", 3), ("c", 1)))]
    files = ("--out", tmp_path / "c.csv", "--report", tmp_path / "c.html")
    status, said = ask(*runs, *files, "--resamples", "200")  # only val is known
    assert status == 0, said
    table = pd.read_csv(tmp_path / "c.csv")
    rows = table[(table["metric"] == "accuracy")]
    catalog, predictions = RunDir(runs[1]).catalog(), RunDir(runs[1]).predictions("val")
    assert predictions is not None
    right = predictions[["edge on", "round", "spiral"]].to_numpy().argmax(1) == catalog["label"]
    assert rows["value"].iloc[1] == right.mean()
    assert rows["difference"].isna().tolist() == [True, False, False]
    assert rows["low"].iloc[1] > 0
    assert rows["p"].iloc[1] < 0.05 < rows["p"].iloc[2]
    assert f"{rows['difference'].iloc[1]:+.4f} [{rows['low'].iloc[1]:+.4f}, {rows['high'].iloc[1]:+.4f}]" in said
    assert "macro F1" in said
    page = (tmp_path / "c.html").read_text()
    gap = f"{rows['difference'].iloc[1]:+.4f} <span>[{rows['low'].iloc[1]:+.4f}, {rows['high'].iloc[1]:+.4f}]</span>"
    assert f"<strong>{gap}</strong>" in page
    assert 'src="data:image/png;base64,' in page
    assert all(str(run) in page for run in runs)
    spiral = table[(table["metric"] == "f1") & (table["column"] == "spiral")]
    assert (spiral["objects"] == (catalog["label"] == 2).sum()).all()


def test_runs_of_two_kinds_or_one_run_are_not_compared(runs: tuple[Path, Path], tmp_path: Path, ask: Command) -> None:
    other = classified(tmp_path / "classes", 1, 0, "test")
    for given, message in (
        ([runs[0], other], "predicts votes, .* classes: compare runs of one kind"),
        ([other], "name two runs or more"),
        ([other, other, "--survey", "sdss"], "these runs predict classes, which have no surveys"),
        ([other, classified(tmp_path / "val", 1, 0)], "predicted no test galaxies of known class"),
    ):
        status, said = ask(*given)
        assert status == 2
        assert re.search(message, said.replace("\n", " ")), said


def test_the_answer_comes_first_and_single_columns_only_where_they_are_asked_for(tmp_path: Path, ask: Command) -> None:
    runs = [classified(tmp_path / name, signal, at) for at, (name, signal) in enumerate((("weak", 1), ("strong", 3)))]
    table = compare(*runs, resamples=200)
    first, second = table[(table["metric"] == "macro_f1")].to_dict("records")
    better = (
        f"Run 2 (strong) is better than run 1 (weak) by {second['difference']:.4f} [{second['low']:.4f}, "
        f"{second['high']:.4f}] on the 200 validation galaxies that both predicted: macro F1 {second['value']:.4f} "
        f"against {first['value']:.4f}."
    )
    report = tmp_path / "page.html"
    status, said = ask(*runs, "--resamples", "200", "--report", report)
    assert status == 0
    assert said.startswith(better)
    assert "edge on" not in said
    page = report.read_text()
    assert 0 < page.index(better) < page.index("<table>") < page.index("<img") < page.index("edge on")
    assert "run 2 minus run 1" in page
    status, said = ask(*runs, "--resamples", "200", "--by-column")
    assert status == 0
    assert said.startswith(better)
    assert said.rstrip().endswith(better)  # behind the long tables, too
    assert "edge on" in said
    best = (
        r"Run 2 \(strong\) has the best macro F1 of 3 runs on the 200 validation galaxies that all predicted: 0\.\d+, "
        r"better than run 1 \(weak\) by .* \(better than run 1 \(weak\): 2; no difference to run 1 \(weak\) is shown: "
        r"3\)\."
    )
    for given, words in (
        (runs[::-1], rf"Run 2 \(weak\) is worse than run 1 \(strong\) by {second['difference']:.4f} \["),
        (
            [runs[0], runs[0]],
            r"No difference between run 1 .* and run 2 .* is shown .*: macro F1 (0\.\d+) and \1, a difference of "
            r"0.0000 \[0.0000",
        ),
        ([runs[0], runs[1], runs[0]], best),
    ):
        status, said = ask(*given, "--resamples", "200")
        assert status == 0
        assert re.match(words, said), said


def test_smoke_tests_are_not_judged(tmp_path: Path, ask: Command) -> None:
    runs = [classified(tmp_path / name, signal, at) for at, (name, signal) in enumerate((("weak", 1), ("strong", 3)))]
    config = RunDir(runs[1]).config
    config.smoke = True
    OmegaConf.save(config, runs[1] / ".hydra" / "config.yaml")
    first, second = (
        row["value"] for row in compare(*runs).to_dict("records") if row["metric"] == "macro_f1" and not row["column"]
    )
    status, said = ask(*runs, "--resamples", "200", "--report", tmp_path / "page.html")
    assert status == 0
    answer = (
        "A smoke test: too small to judge. Macro F1 on the 200 validation galaxies that both predicted: run 1 (weak) "
        f"{first:.4f}, run 2 (strong) {second:.4f}."
    )
    assert said.startswith(f"{answer}\n")
    assert answer in (tmp_path / "page.html").read_text()
    assert "better" not in said


def test_an_error_is_better_the_lower_it_is() -> None:
    row = {"difference": -0.2, "low": -0.3, "high": -0.1}
    assert [_standing(row, lower) for lower in (True, False)] == ["better", "worse"]
    assert _standing({**row, "high": 0.1}, lower=True) == ""


def test_what_no_resample_contradicts_is_smaller_than_they_can_tell(tmp_path: Path, ask: Command) -> None:
    runs = [classified(tmp_path / name, signal, at) for at, (name, signal) in enumerate((("weak", 0), ("strong", 5)))]
    table = compare(*runs, resamples=100).dropna(subset=["p"])
    assert table["p"].min() == 2 / 101
    _, said = ask(*runs, "--resamples", "100")
    assert "< 0.02 " in said
    assert " 0.020 " not in said


def test_p_of_single_columns_allow_for_their_number(tmp_path: Path) -> None:
    runs = [classified(tmp_path / name, signal, at) for at, (name, signal) in enumerate((("a", 1.0), ("b", 1.1)))]
    table = compare(*runs, resamples=100)
    alone = table["column"] == ""
    assert table.loc[alone, "p_adjusted"].isna().all()
    own = table[~alone & (table["metric"] == "f1") & table["p"].notna()].sort_values("p")
    p = own["p"].to_numpy()
    steps = p * len(p) / np.arange(1, len(p) + 1)  # Benjamini & Hochberg 1995
    np.testing.assert_allclose(own["p_adjusted"], [min([1, *steps[k:]]) for k in range(3)])


def test_one_run_alone_is_refused_before_anything_is_read(tmp_path: Path, ask: Command) -> None:
    status, said = ask(tmp_path / "nowhere")
    assert (status, said.count("\n")) == (2, 1)
    assert "name two runs or more" in said
