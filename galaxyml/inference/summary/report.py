"""The page of a summary, `report.html`, and its table in a terminal."""

import csv
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from galaxyml.inference.summary import figures, sheets
from galaxyml.inference.summary.groups import Partition, Ranking
from galaxyml.inference.summary.tallies import NumberHistogram, ShareHistogram
from galaxyml.inference.summary.tally import Tally, described
from galaxyml.reports.html import web_page
from galaxyml.reports.run_report import markdown, number
from galaxyml.runs.files import atomic_write, write_text

SHEETS = 10  # of each kind: the most confident, and the most unusual
LISTED = 10  # objects of a ranking that the page names; `examples.csv` has all
REASONS = 20  # that are listed
NAMED = 3  # groups that a sentence names
CSV = "examples.csv"
NAMES = {"classes": "class", "fractions": "answer", "votes": "answer", "anomalies": "nearest known class"}


@dataclass(frozen=True)
class Written:
    """What was written of a summary.

    Attributes:
        page: The page.
        left_out: Images that could not be shown.
        asked: Of how many.
    """

    page: Path
    left_out: int
    asked: int


def write(tally: Tally) -> Written:
    """Writes `report.html` and `examples.csv` into the folder of predictions."""
    folder = tally.folder.path
    with tempfile.TemporaryDirectory(prefix="galaxyml-summary-") as name:
        aside = Path(name)
        lines = [f"# Predictions: {escaped(folder.absolute().name)}", "", f"**{escaped(sentence(tally))}**"]
        if said := unfinished(tally):
            lines += ["", escaped(said)]
        lines += ["", *markdown([[escaped(cell) for cell in row] for row in overview(tally)])]
        lines += [line for note in tally.notes for line in ("", f"note: {escaped(note)}")]
        lines += _groups(tally, aside)
        lines += _distributions(tally, aside)
        lines += _sky(tally, aside)
        shown, thumbnails = _examples(tally, aside)
        lines += shown
        lines += _failed(tally)
        lines += _provenance(tally)
        page = web_page("\n".join(lines) + "\n", aside)
    _write_examples(tally, folder / CSV)
    write_text(folder / "report.html", page)
    return Written(folder / "report.html", thumbnails.gone + thumbnails.bad, thumbnails.asked)


def sentence(tally: Tally) -> str:
    """The answer in a sentence: how many objects, the most frequent classes or answers, and how many are odd."""
    noun = "light curves" if tally.is_curves else "images"
    text = f"{tally.count:,} {noun} predicted"
    if tally.grouping.partitions and tally.count:
        first = tally.grouping.partitions[0]
        ranked = sorted(first.groups, key=lambda group: -group.count)[:NAMED]
        parts = [f"{_percent(group.count, first.count)} {group.name}" for group in ranked if group.count]
        text += f": {', '.join(parts)}" if parts and not tally.is_curves else ""
    if tally.anomalies is not None:
        text += f"; {tally.anomalies:,} ({_percent(tally.anomalies, tally.count)}) above the run's threshold"
    if tally.ood is not None:
        text += f"; {_percent(tally.ood, tally.count)} out of distribution"
    return f"{text}; {tally.failed:,} failed." if tally.failed else f"{text}."


def unfinished(tally: Tally) -> str:
    """That a folder is not finished, and how far it is; '' of one that is."""
    folder = tally.folder
    if folder.finished:
        return ""
    return (
        f"Not finished: {len(folder.parts):,} of {folder.shards:,} parts are there, with "
        f"{tally.count + tally.failed:,} of {folder.rows:,} objects. The same predict command carries on; this is what "
        "there is so far."
    )


def overview(tally: Tally) -> list[list[str]]:
    """The numbers that a reader wants first, header first."""
    rows = [["objects predicted", f"{tally.count:,}", _percent(tally.count, tally.folder.rows)]]
    rows.append(["failed", f"{tally.failed:,}", _percent(tally.failed, tally.folder.rows)])
    if tally.ood is not None:
        rows.append(["out of distribution", f"{tally.ood:,}", _percent(tally.ood, tally.count)])
    if tally.anomalies is not None:
        rows.append(["above the threshold", f"{tally.anomalies:,}", _percent(tally.anomalies, tally.count)])
    if tally.sky is not None:
        rows.append(["without a position", f"{tally.sky.without:,}", _percent(tally.sky.without, tally.count)])
    return [["", "objects", "share"], *rows]


def counts(tally: Tally, empty: bool = True) -> list[list[str]]:
    """Objects by class, or by answer of each question, header first.

    Args:
        tally: What was counted.
        empty: Whether answers without objects have a row, too.

    Returns:
        Nothing where there are no such groups.
    """
    partitions = [partition for partition in tally.grouping.partitions if partition.groups]
    if not partitions:
        return []
    several = len(partitions) > 1 or tally.folder.kind in ("fractions", "votes")
    sure = any(partition.confidence is not None for partition in partitions)
    header = [*(["question"] if several else []), NAMES.get(tally.folder.kind, "class"), "objects", "share"]
    rows = [
        [*header, *(["mean confidence"] if sure else []), *(["out of distribution"] if tally.ood is not None else [])]
    ]
    for partition in partitions:
        groups = [group for group in partition.groups if empty or group.count or not several]
        for place, group in enumerate(groups):
            asked = f"{partition.title} ({partition.count:,})" if not place else ""
            row = [
                *([asked] if several else []),
                group.name,
                f"{group.count:,}",
                _percent(group.count, partition.count),
            ]
            row += [number(group.confidence / group.count) if group.count else ""] if sure else []
            row += [_percent(group.unlike, group.count) if group.count else ""] if tally.ood is not None else []
            rows.append(row)
    return rows


def statistics(tally: Tally) -> list[list[str]]:
    """Distribution of each number, header first; empty where outputs are shares."""
    rows = []
    for name, histogram in tally.outputs.items():
        if isinstance(histogram, NumberHistogram):
            low, middle, high = (histogram.quantile(share) for share in (0.05, 0.5, 0.95))
            cells = [histogram.mean, histogram.std, histogram.low, low, middle, high, histogram.high]
            width = [f"{tally.widths[name].mean:.4g}" if name in tally.widths else ""] if tally.widths else []
            rows.append([name, *(f"{value:.4g}" for value in cells), *width])
    header = ["number", "mean", "std", "lowest", "5 %", "median", "95 %", "highest"]
    header += [f"mean width of the {tally.level} % interval"] if tally.widths else []
    return [header, *rows] if rows else []


def _groups(tally: Tally, aside: Path) -> list[str]:
    """Lines about classes, answers or numbers."""
    lines: list[str] = []
    partitions = [partition for partition in tally.grouping.partitions if partition.count]
    if partitions:
        by_question = tally.folder.kind in ("fractions", "votes")
        lines += ["", f"## {'By answer' if by_question else 'By class'}"]
        text = "Objects by their likeliest class."
        if by_question:
            text = (
                "Objects by the likeliest answer to each question, of those that reach it with a probability of 0.5 or "
                "more along the tree; in brackets how many do. Confidence is the share of that answer among the "
                "question's."
            )
        elif tally.is_curves:
            text = "Light curves by the known class that each is most like."
        lines += _drawn(aside, "groups", figures.groups(partitions), text)
        lines += ["", *markdown([[escaped(cell) for cell in row] for row in counts(tally)])]
        lines += _confidence(partitions, aside)
    if table := statistics(tally):
        lines += ["", "## Numbers", "", *markdown([[escaped(cell) for cell in row] for row in table])]
    return lines


def _confidence(partitions: Sequence[Partition], aside: Path) -> list[str]:
    found = {partition.title: partition.confidence for partition in partitions if partition.confidence is not None}
    if not found:
        return []
    figure = figures.distributions(found, "confidence")
    return ["", "## Confidence", *_drawn(aside, "confidence", figure, "Probability of the likeliest class or answer.")]


def _distributions(tally: Tally, aside: Path) -> list[str]:
    """Lines with histograms of outputs, of intervals, and of how unlike the training set objects are."""
    lines: list[str] = []
    if tally.outputs:
        titles: dict[str, ShareHistogram | NumberHistogram] = {}
        for name, histogram in tally.outputs.items():
            titles[name if tally.folder.kind == "numbers" else tally.folder.outputs.get(name, name)] = histogram
        text = "Distribution of each output."
        if len(titles) > figures.PANELS:
            text = f"Distribution of the first {figures.PANELS} of {len(titles)} outputs."
        if tally.is_shares:
            text += " Counts are logarithmic where one value stands above all others."
        else:
            text += " The outermost 0.1 % of each end are not shown."
        lines += ["", "## Outputs", *_drawn(aside, "outputs", figures.distributions(titles, "value"), text)]
    if tally.widths and any(width.count for width in tally.widths.values()):
        text = f"Widths of the {tally.level} % intervals: the narrower, the surer."
        lines += ["", "## Widths of intervals"]
        lines += _drawn(aside, "widths", figures.distributions(dict(tally.widths), "width"), text)
    if tally.distance is not None and tally.distance.count:
        if tally.is_curves:
            lines += ["", "## Scores", *_drawn(aside, "scores", figures.scores(tally.distance), "Scores, in nats.")]
        else:
            text = "How unlike the training set images are; beyond 1 they are out of distribution, and the stated "
            text += "coverage and calibration do not apply."
            figure = figures.unlike_training(tally.distance)
            lines += ["", "## Out of distribution", *_drawn(aside, "ood", figure, text)]
    return lines


def _sky(tally: Tally, aside: Path) -> list[str]:
    """Lines with maps of the sky."""
    if tally.sky is None or not tally.sky.counts.any():
        return []
    figure, text = figures.density(tally.sky.counts)
    lines = ["", "## On the sky", *_drawn(aside, "density", figure, f"Objects per square degree. {text}")]
    if tally.ood is not None:
        figure, text = figures.share(tally.sky.unlike, tally.sky.counts)
        lines += _drawn(aside, "sky-ood", figure, f"Share of objects that are out of distribution. {text}")
    return lines


def _examples(tally: Tally, aside: Path) -> tuple[list[str], sheets.Thumbnails]:
    """Lines with contact sheets, or lists of names where there are no images."""
    thumbnails = sheets.Thumbnails(sheets.places_of(tally.folder.inputs, tally.folder.begun_in))
    headings: dict[str, list[Ranking]] = {}
    for ranking in tally.rankings:
        if len(ranking.top.objects):
            headings.setdefault(ranking.heading, []).append(ranking)
    lines: list[str] = []
    for ending, title in (
        ("unusual", "Most unusual"),
        ("", "Most confident" if not tally.outputs_are_numbers else "Lowest and highest"),
    ):
        own = {name: own for name, own in headings.items() if ("most unusual" in name.lower()) == (ending == "unusual")}
        chosen = _chosen(own, tally)
        if not chosen:
            continue
        lines += ["", f"## {'Most like their class' if tally.is_curves and not ending else title}"]
        if len(own) > len(chosen):
            lines += ["", f"The {len(chosen)} with the most objects of {len(own)}; [{CSV}]({CSV}) has all."]
        for place, (heading, rankings) in enumerate(chosen.items()):
            lines += ["", f"### {escaped(heading)}"]
            parts = {
                ranking.label: [str(known["path"]) for known in ranking.top.objects if known.get("path")]
                for ranking in rankings
            }
            drawn = sheets.sheet(parts, thumbnails) if any(parts.values()) else None
            if drawn is not None:
                name = f"sheet-{ending or 'sure'}-{place}.png"
                drawn.save(aside / name, compress_level=1)  # the page packs it more tightly
                measures = ", ".join(dict.fromkeys(ranking.measure for ranking in rankings))
                lines += ["", f"![{escaped(heading)}]({name})", "", f"*{escaped(f'In the order of: {measures}.')}*"]
            lines += ["", *markdown(_listed(tally, rankings))]
    left_out = thumbnails.gone + thumbnails.bad
    if lines:
        text = f"{CSV} names the first 100 of each list."
        if left_out:
            text += (
                f" {left_out:,} of {thumbnails.asked:,} images are not shown: {thumbnails.gone:,} are not there any "
            )
            text += f"more, {thumbnails.bad:,} cannot be read."
        lines += ["", escaped(text)]
    return lines, thumbnails


def _chosen(headings: dict[str, list[Ranking]], tally: Tally) -> dict[str, list[Ranking]]:
    """Of too many sheets those with the most objects, in their order."""
    groups = {group.name: group.count for partition in tally.grouping.partitions for group in partition.groups}
    asked = {partition.title: partition.count for partition in tally.grouping.partitions}

    def size(name: str) -> int:
        of = name.rpartition(":")[0]
        return asked.get(of, groups.get(of, tally.count))

    most = sorted(headings, key=size, reverse=True)[:SHEETS]
    return {name: own for name, own in headings.items() if name in most}


def _listed(tally: Tally, rankings: Sequence[Ranking]) -> list[list[str]]:
    """The first objects of some rankings by name, header first."""
    columns = [name for name in tally.shown if name not in ("path", "score")]
    labelled = any(ranking.label for ranking in rankings)
    rows = [[*(["list"] if labelled else []), "place", rankings[0].measure if not labelled else "value", *columns]]
    each = LISTED if len(rankings) < 3 else 3
    for ranking in rankings:
        falling = ranking.label == "lowest" or ranking.measure == "lowest score"
        for place, (score, known) in enumerate(
            zip(ranking.top.scores[:each], ranking.top.objects, strict=False), start=1
        ):
            cells = [ranking.label] if labelled else []
            cells += [str(place), f"{-score if falling else score:.4g}"]
            rows.append([*cells, *(_cell(known[name]) for name in columns)])
    return [[escaped(cell) for cell in row] for row in rows]


def _write_examples(tally: Tally, path: Path) -> None:
    columns = ["list", "answer", "place", "by", "value", *tally.shown]
    with atomic_write(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(described(tally))


def failures(tally: Tally) -> list[list[str]]:
    """Objects that failed by reason, header first; empty where none did."""
    if not tally.failed:
        return []
    found = tally.reasons.counts.most_common()
    rows = [[reason, f"{count:,}"] for reason, count in found[:REASONS]]
    rest = sum(count for _, count in found[REASONS:]) + tally.reasons.others
    return [["reason", "objects"], *rows, *([["other reasons", f"{rest:,}"]] if rest else [])]


def _failed(tally: Tally) -> list[str]:
    table = failures(tally)
    if not table:
        return []
    cells = [[escaped(cell) for cell in row] for row in table]
    return ["", "## Failed", "", *markdown(cells), "", "failed.parquet names each."]


def _provenance(tally: Tally) -> list[str]:
    """Lines with what predicted what, and the files."""
    index = tally.folder.index
    run = index.get("run") or {}
    lines = [
        "",
        "## Made from",
        "",
        f"- run: `{_code(run.get('path', '?'))}`, digest `{_code(run.get('digest', '?'))}`",
    ]
    lines += [f"- input: `{_code(given)}`" for given in tally.folder.inputs[:20]]
    lines += [f"- finished: {escaped(index['finished'])}"] if index.get("finished") else []
    if software := index.get("software"):
        lines.append("- " + ", ".join(escaped(f"{name} {version}") for name, version in software.items()))
    table = [["file", "what it holds"]]
    table.append(["predictions/", f"{len(tally.folder.parts):,} parts, a row an object"])
    table.append(["manifest.parquet", "all objects, in order"])
    table += [["failed.parquet", "what failed, and why"]] if tally.failed else []
    table.append([CSV, "the objects that are shown here"])
    outputs = [[f"`{_code(name)}`", escaped(text)] for name, text in tally.folder.outputs.items()]
    lines += ["", *markdown(table)]
    lines += ["", "### Columns", "", *markdown([["column", "what it is"], *outputs])] if outputs else []
    return lines


def _drawn(aside: Path, name: str, figure: Figure, caption: str) -> list[str]:
    """Lines with a figure, which is saved aside."""
    figure.savefig(aside / f"{name}.png", dpi=110)
    return ["", f"![{name}]({name}.png)", "", f"*{escaped(caption)}*"]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _percent(count: int, total: int) -> str:
    """A share in per cent, with as many digits as it needs to be seen.

    >>> _percent(1, 3), _percent(1, 2000), _percent(1, 10**6), _percent(0, 5), _percent(0, 0)
    ('33.3 %', '0.050 %', '1.0e-04 %', '0.0 %', '')
    """
    if not total:
        return ""
    share = 100 * count / total
    if share == 0 or share >= 0.1:
        return f"{share:.1f} %"
    return f"{share:.3f} %" if share >= 0.001 else f"{share:.1e} %"


def escaped(text: object) -> str:
    r"""Text as Markdown shows it unchanged, in a cell of a table, too.

    >>> escaped("a|b *c* ![x](y)")
    'a\\|b \\*c\\* \\!\\[x\\](y)'
    """
    return re.sub(r"([\\`*_|\[\]<>!#~&])", r"\\\1", " ".join(str(text).split()))


def _code(text: object) -> str:
    """Text between backticks, in a cell of a table, too."""
    return " ".join(str(text).replace("`", "'").replace("|", "¦").split())
