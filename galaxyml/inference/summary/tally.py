"""One pass over the parts of a folder of predictions, from which all that a summary says is kept."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxyml.inference import load
from galaxyml.inference.prediction_folder import FAILED, PredictionFolder, numbers
from galaxyml.inference.summary.groups import ByAnswer, ByClass, ByNearest, Grouping, NoGroups, Ranking
from galaxyml.inference.summary.tallies import NumberHistogram, Reasons, ShareHistogram, SkyCounts
from galaxyml.kinds import of_run
from galaxyml.runs.errors import UserError
from galaxyml.runs.packaged import packaged
from galaxyml.runs.progress import track
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees.questions import Questions, questions_of_tree
from galaxyml.trees.tree import DecisionTree, Question, tree_names

SHARES = ("classes", "fractions", "votes")  # kinds whose outputs lie in [0, 1]
OF_CURVES = ("score", "anomaly", "reason", "passband", "mjd", "true_class")  # columns that are shown beside a name
DERIVED = ("id", "path", "class", "confidence", "classes", "ood_distance", "ood")  # columns that are no outputs
INTERVAL = re.compile(r"(.+)_(low|high)(\d+)")


class Tally:
    """All that a summary says of a folder of predictions; of fixed size, however many they are.

    Args:
        folder: The folder.

    Attributes:
        folder: See above.
        grouping: How objects fall into groups.
        count: Objects that were read.
        outputs: Distribution of each output.
        widths: Of the intervals of numbers, by output.
        level: Of these intervals, in per cent.
        ood: Objects out of distribution; None where nobody says.
        anomalies: Light curves above the run's threshold; None without one.
        distance: Distribution of `ood_distance`, or of the score of light curves; None without.
        sky: Where they are; None without positions.
        rankings: Objects that are shown.
        failed: How many failed.
        reasons: Why.
        notes: Sentences about what a reader should know.

    Raises:
        DataError: If a part cannot be read.
    """

    def __init__(self, folder: PredictionFolder) -> None:
        self.folder = folder
        self.notes: list[str] = []
        present = set(folder.columns)
        names = [name for name in folder.outputs if name not in DERIVED and not self._is_end(name)]
        self.is_shares = folder.kind in SHARES
        self.is_curves = folder.kind == "anomalies"
        names = [] if self.is_curves else names
        self.outputs: dict[str, ShareHistogram | NumberHistogram] = {
            name: ShareHistogram() if self.is_shares else NumberHistogram() for name in names
        }
        self.grouping = self._grouping(names) if folder.parts else NoGroups()
        self.notes += self.grouping.notes
        self.count = self.failed = 0
        self.ends, self.level = self._ends(present) if not self.is_shares else ({}, 0)
        self.widths = {name: NumberHistogram() for name in self.ends}
        self.ood = 0 if "ood" in present else None
        self.anomalies = 0 if self._is_true_or_false("anomaly") else None
        self.unusual = "score" if self.is_curves else "ood_distance"
        self.distance = NumberHistogram() if self.unusual in present else None
        positions = folder.positions
        if positions is not None and folder.parts and not present.issuperset(positions):
            self.notes.append(f"{' and '.join(positions)} are not among the columns of the predictions: no sky map.")
            positions = None
        self.positions = positions if folder.parts else None
        self.sky = SkyCounts() if self.positions else None
        shown = [folder.name_column, "path", *(self.positions or ()), "ood_distance", "class", "confidence"]
        shown += OF_CURVES if self.is_curves else ()
        self.shown = [name for name in shown if name in present]
        self.rankings: list[Ranking] = []
        self._surest: list[list[Ranking]] = [[] for _ in self.grouping.partitions]
        self._oddest: list[list[Ranking]] = [[] for _ in self.grouping.partitions]
        self._ends_of_outputs = {} if self.is_shares else {name: self._extremes(name) for name in names}
        self._oddest_of_all: Ranking | None = None
        if self.distance is not None:
            self._oddest_of_all = self._rank("Most unusual of all", "", f"highest {self.unusual}")
        self.reasons = Reasons()

    @property
    def outputs_are_numbers(self) -> bool:
        """Whether outputs are numbers of any size."""
        return bool(self.outputs) and not self.is_shares

    def read(self) -> "Tally":
        """Reads all parts, and what failed; gives itself."""
        folder = self.folder
        for part in track(folder.parts, "Reading predictions", len(folder.parts)):
            for batch in folder.batches(part, self._wanted()):
                self._add(batch, part)
        if (folder.path / FAILED).is_file():
            self._count_failed()
        return self

    def _wanted(self) -> list[str]:
        """Columns that are read, each once."""
        names = [
            *self.outputs,
            *self.grouping.columns,
            *self.shown,
            *(end for ends in self.ends.values() for end in ends),
        ]
        names += [self.unusual] if self.distance is not None else []
        return list(dict.fromkeys([*names, *(["ood"] if self.ood is not None else [])]))

    def _add(self, batch: pa.RecordBatch, part: Any) -> None:
        values = {name: numbers(batch, name, part) for name in self.outputs}
        for name, histogram in self.outputs.items():
            histogram.add(values[name])
        for name, (low, high) in self.ends.items():
            self.widths[name].add(numbers(batch, high, part) - numbers(batch, low, part))
        unlike = None
        if self.ood is not None:
            unlike = batch.column("ood").fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
            self.ood += int(unlike.sum())
        if self.anomalies is not None:
            self.anomalies += int(batch.column("anomaly").fill_null(False).to_numpy(zero_copy_only=False).sum())
        distance = numbers(batch, self.unusual, part) if self.distance is not None else None
        if self.distance is not None and distance is not None:
            self.distance.add(distance)
        if self.is_curves:
            values["score"] = numbers(batch, "score", part)
            nearest = batch.column(ByNearest.nearest).cast(pa.string()).fill_null("")
            values[ByNearest.nearest] = nearest.to_numpy(zero_copy_only=False).astype(str)
        if self.sky is not None and self.positions is not None:
            ra, dec = (numbers(batch, name, part, text=True) for name in self.positions)
            self.sky.add(ra, dec, unlike)
        self._rank_rows(batch, values, unlike, distance)
        self.count += len(batch)

    def _rank_rows(
        self,
        batch: pa.RecordBatch,
        values: dict[str, np.ndarray],
        unlike: np.ndarray | None,
        distance: np.ndarray | None,
    ) -> None:
        """Counts rows by group, and takes those that are shown."""

        def describe(row: int) -> dict[str, Any]:
            return {name: batch.column(name)[row].as_py() for name in self.shown}

        if self._oddest_of_all is not None and distance is not None:
            self._oddest_of_all.top.add(distance, self.count, describe)
        for name, (lowest, highest) in self._ends_of_outputs.items():
            lowest.top.add(-values[name], self.count, describe)
            highest.top.add(values[name], self.count, describe)
        for number, judged in enumerate(self.grouping.judge(values)):
            self._make_rankings(number)
            self.grouping.partitions[number].add(judged, unlike)
            for group, surest in enumerate(self._surest[number]):
                inside = judged.chosen == group
                surest.top.add(np.where(inside, judged.rank, -np.inf), self.count, describe)
                if distance is not None:
                    oddest = self._oddest[number][group]
                    oddest.top.add(np.where(inside, distance, -np.inf), self.count, describe)

    def _make_rankings(self, number: int) -> None:
        """Rankings of the groups of a partition that have none yet, as classes may be met on the way."""
        partition = self.grouping.partitions[number]
        for group in partition.groups[len(self._surest[number]) :]:
            is_class = len(self.grouping.partitions) == 1
            of, label = (group.name, "") if is_class else (partition.title, group.name)
            sure = "most like it" if self.is_curves else "most confident"
            self._surest[number].append(self._rank(f"{of}: {sure}", label, partition.surest))
            if self.distance is not None:
                self._oddest[number].append(self._rank(f"{of}: most unusual", label, f"highest {self.unusual}"))

    def _rank(self, heading: str, label: str, measure: str) -> Ranking:
        self.rankings.append(Ranking(heading, label, measure))
        return self.rankings[-1]

    def _extremes(self, name: str) -> tuple[Ranking, Ranking]:
        """The objects with the lowest and the highest of an output."""
        return self._rank(name, "lowest", name), self._rank(name, "highest", name)

    def _grouping(self, names: list[str]) -> Grouping:
        if self.is_curves:
            return ByNearest()
        if self.folder.kind == "classes":
            return ByClass({name: name for name in names})
        if self.folder.kind in SHARES:
            if (questions := self._questions(names)) is not None:
                return ByAnswer(questions, names)
            self.notes.append(
                f"The questions that these answers belong to are not known, as {self._run()} is not there and no tree "
                "of the package has these columns: outputs are shown one by one."
            )
        return NoGroups()

    def _run(self) -> str:
        return str(self.folder.index.get("run", {}).get("path") or "its run")

    def _questions(self, names: list[str]) -> Questions | None:
        """The questions that outputs answer: those of the index, of the run, or of a tree with the same columns."""
        if (told := self.folder.index.get("questions")) is not None:
            return _questions_from(told)
        with suppress(UserError, OSError):  # which is gone, or has changed
            run = packaged(self._run())
            kind = load(run).kind if run.is_file() else of_run(RunDir(run))
            if kind.questions() is not None:
                return kind.questions()
        trees = (DecisionTree.load(name) for name in tree_names())
        return next((questions_of_tree(tree) for tree in trees if set(tree.columns) == set(names)), None)

    def _is_end(self, name: str) -> bool:
        """Whether a column is an end of the interval of another."""
        found = INTERVAL.fullmatch(name)
        return found is not None and found[1] in self.folder.outputs

    def _ends(self, present: set[str]) -> tuple[dict[str, tuple[str, str]], int]:
        """Columns of the widest intervals of each output, where it has any, and their level."""
        levels = [int(found[3]) for name in present if (found := INTERVAL.fullmatch(name)) and found[1] in self.outputs]
        if not levels:
            return {}, 0
        level = max(levels)
        ends = {name: (f"{name}_low{level}", f"{name}_high{level}") for name in self.outputs}
        return {name: pair for name, pair in ends.items() if present.issuperset(pair)}, level

    def _is_true_or_false(self, name: str) -> bool:
        """Whether the first part has such a column."""
        if name not in self.folder.columns:
            return False
        return pa.types.is_boolean(self.folder.schema(self.folder.parts[0]).field(name).type)

    def _count_failed(self) -> None:
        path = self.folder.path / FAILED
        columns = pq.read_schema(path).names
        names = [name for name in ("id", "object_id", "path") if name in columns]
        reasons = ["reason"] if "reason" in columns else []
        for batch in self.folder.batches(path, [*names, *reasons]):
            self.failed += len(batch)
            for row in batch.to_pylist():
                called = [str(row[name]) for name in names if row[name]]
                files = [text.rpartition("/")[2] for text in called]
                self.reasons.add(str(row.get("reason") or ""), [*called, *files])


def _questions_from(told: Any) -> Questions:
    """Questions as an index has them: `dataclasses.asdict` of the questions of the kind of target."""
    asked = (
        Question(
            question["name"],
            question["text"],
            *(tuple(question[key]) for key in ("answers", "columns", "labels", "after")),
        )
        for question in told["asked"]
    )
    return Questions(tuple(asked), bool(told["of_all"]))


def described(tally: Tally) -> Iterator[dict[str, Any]]:
    """All objects that are shown, a row each: which ranking, place, score, and what is known of them."""
    for ranking in tally.rankings:
        for place, (score, known) in enumerate(zip(ranking.top.scores, ranking.top.objects, strict=True), start=1):
            value = -score if ranking.label == "lowest" or ranking.measure == "lowest score" else score
            yield {
                "list": ranking.heading,
                "answer": ranking.label,
                "place": place,
                "by": ranking.measure,
                "value": value,
                **known,
            }
