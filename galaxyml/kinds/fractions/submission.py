"""The file that a challenge takes."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import torch

from galaxyml.runs.files import atomic_write
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees import DecisionTree, violation

log = logging.getLogger(__name__)

ID = "GalaxyID"
DECIMALS = 8  # of a fraction; a sum of 7 is then off by at most 4e-8


@dataclass(frozen=True)
class Submission:
    """Writes `submission.csv` with the test split's predictions, and checks it against the benchmark.

    Attributes:
        tree: The decision tree whose columns are submitted.
        benchmark: The table whose rows, order and header the submission must have; its first column is `GalaxyID`.
        constraint: With `none`, predictions need not obey the tree; how far off they are, is logged.
    """

    tree: DecisionTree
    benchmark: str
    constraint: str = "project"

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Writes the submission where there is a test split; has no numbers of its own.

        Raises:
            ValueError: If what was written is not what the challenge takes; then the file is not there.
        """
        predictions, benchmark = run.predictions("test"), run.source(self.benchmark)
        if predictions is None or not benchmark.is_file():
            return {}
        header = list(pd.read_csv(benchmark, nrows=0, encoding="utf-8-sig").columns)
        ids = pd.read_csv(benchmark, usecols=[ID], encoding="utf-8-sig")[ID].to_numpy()
        predicted = int(np.isin(ids, predictions["id"]).sum())
        if predicted < len(ids):
            log.info(
                "note: only %s of %s test galaxies were predicted (limit=…), so there is no submission.",
                f"{predicted:,}",
                f"{len(ids):,}",
            )
            return {}
        table = predictions.set_index("id").loc[ids, header[1:]]
        values = [pa.array(np.round(table[name].to_numpy(float), DECIMALS)) for name in header[1:]]
        with atomic_write(run.path / "submission.csv") as draft:
            with draft.open("wb") as file:
                file.write((",".join(header) + "\n").encode())
                options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
                pa.csv.write_csv(pa.table([pa.array(ids), *values], names=header), file, options)
            check(pd.read_csv(draft), ids, header, self.tree if self.constraint != "none" else None)
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
