"""The file that a challenge takes."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import torch

from galaxyml.runs.files import atomic_write
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree, violation

log = logging.getLogger(__name__)

DECIMALS = 8  # of a fraction; a sum of 7 is then off by at most 4e-8


class Submission:
    """Writes `submission.csv` with the test split's predictions, and checks it against the benchmark.

    Args:
        tree: Name of the decision tree whose columns are submitted.
        benchmark: The table whose rows, order and header the submission must have.
        id_column: Name of its first column.
        constraint: With `none`, what was predicted need not obey the tree; how far off it is, is told.
    """

    def __init__(self, tree: str, benchmark: str, id_column: str = "GalaxyID", constraint: str = "project") -> None:
        self.tree = DecisionTree.load(tree)
        self.benchmark = benchmark
        self.id_column = id_column
        self.constraint = constraint

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the submission where there is a test split; has no numbers of its own.

        Raises:
            ValueError: If what was written is not what the challenge takes; then the file is not there.
        """
        predictions = run.predictions("test")
        if predictions is None:
            return {}
        benchmark = run.source(self.benchmark)
        if not benchmark.is_file():
            return {}
        header = list(pd.read_csv(benchmark, nrows=0, encoding="utf-8-sig").columns)
        wanted = pd.read_csv(benchmark, usecols=[self.id_column], encoding="utf-8-sig")[self.id_column].to_numpy()
        there = int(np.isin(wanted, predictions["id"]).sum())
        if there < len(wanted):
            log.info(
                "note: only %s of %s test galaxies were predicted (limit=…), so there is no submission.",
                f"{there:,}",
                f"{len(wanted):,}",
            )
            return {}
        table = predictions.rename(columns={"id": self.id_column}).set_index(self.id_column).loc[wanted, header[1:]]
        with atomic_write(run.path / "submission.csv") as draft:
            columns = [
                pa.array(wanted),
                *(pa.array(np.round(table[name].to_numpy(float), DECIMALS)) for name in header[1:]),
            ]
            with draft.open("wb") as file:
                file.write((",".join(header) + "\n").encode())
                pa.csv.write_csv(
                    pa.table(columns, names=header),
                    file,
                    pa.csv.WriteOptions(include_header=False, quoting_style="none"),
                )
            written = pd.read_csv(draft)
            check(written, wanted, header, self.tree if self.constraint != "none" else None)
        if self.constraint == "none":
            gap = float(violation(torch.tensor(table[self.tree.columns].to_numpy(np.float64)), self.tree))
            log.info("note: constraint=none: sums in submission.csv are off from the tree's by up to %.3f.", gap)
        return {}


def check(written: pd.DataFrame, ids: np.ndarray, header: list[str], tree: DecisionTree | None) -> None:
    """Makes sure that a submission has the right rows, order, columns, ranges and sums.

    Args:
        written: The submission as read back.
        ids: The benchmark's ids in its order.
        header: The benchmark's header.
        tree: The decision tree; None where the values need not obey one.

    Raises:
        ValueError: If it has not; the message says what is wrong.
    """
    if list(written.columns) != header:
        raise ValueError(f"submission.csv has the header {list(written.columns)}, not the benchmark's.")
    if not np.array_equal(written[header[0]].to_numpy(), ids):
        raise ValueError("submission.csv has not the benchmark's rows in their order.")
    if tree is None:
        return
    values = written[tree.columns].to_numpy(np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("submission.csv has values outside [0, 1]; set constraint=project.")
    if (gap := float(violation(torch.tensor(values), tree))) > 1e-6:
        raise ValueError(f"submission.csv has sums that are off by {gap:.1e}; set constraint=project.")
