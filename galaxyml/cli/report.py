"""Writes the report of a run or of a sweep again, from what its folder holds."""

from collections.abc import Sequence
from pathlib import Path

from galaxyml.runs.options import Parser
from galaxyml.runs.progress import heartbeat


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the report of each folder."""
    parser = Parser(
        prog="galaxyml report",
        description="Writes report.md and report.html of each folder again, of a sweep also sweep.csv; runs that are "
        "not finished are marked so.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folder of a run or of a sweep")
    given = parser.parse_args(arguments)

    from galaxyml.runs.run_dir import RunDir
    from galaxyml.sweeps import finish

    for folder in map(RunDir, given.folders):
        if not folder.children() and not folder.jobs():
            folder.metrics()  # which there must be, before it is said that a report is written
        with heartbeat(f"{folder.path}: writing the report".format):
            report = finish.report(folder)
        print(report)
