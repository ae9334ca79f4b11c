"""What is in a folder of predictions: `galaxyml summary FOLDER`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from galaxyml.runs.options import Parser

EXAMPLES = """\
examples:
  galaxyml predict multirun/galaxyzoo/mine survey.parquet --out survey/
  galaxyml summary survey/

It reads the predictions once, some rows at a time, so that memory does not grow with them. A folder that is not
finished is summarised as far as it is."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, writes the page, and prints a table."""
    parser = Parser(
        prog="galaxyml summary",
        description="Says what is in a folder of predictions: counts by class or answer, distributions, what is out of "
        "distribution, what failed, the sky, and the most confident and most unusual objects; in FOLDER/report.html.",
        epilog=EXAMPLES,
    )
    parser.add_argument("folder", type=Path, help="that galaxyml predict RUN IMAGES --out FOLDER/ has written")
    summarise(parser.parse_args(arguments).folder)


def summarise(folder: Path) -> Path:
    """Writes the summary of a folder of predictions, and prints what it says first; returns where the page is.

    Args:
        folder: The folder, finished or not.

    Raises:
        UsageError: If it is no such folder.
        DataError: If a part cannot be read.
    """
    from galaxyml.inference.prediction_folder import PredictionFolder
    from galaxyml.inference.summary import report
    from galaxyml.inference.summary.tally import Tally
    from galaxyml.reports.terminal import print_table

    opened = PredictionFolder.open(folder)
    tally = Tally(opened).read()
    written = report.write(tally)
    if said := report.unfinished(tally):
        print(said)
    for note in tally.notes:
        print(f"note: {note}")
    print(report.sentence(tally))
    if table := report.counts(tally, empty=False) or report.statistics(tally):
        print_table("", table, left=0)
    if table := report.failures(tally):
        print_table("failed", table)
    if written.left_out:
        print(f"{written.left_out:,} of {written.asked:,} images of examples cannot be shown.", file=sys.stderr)
    print(f"report      {written.page}")
    return written.page
