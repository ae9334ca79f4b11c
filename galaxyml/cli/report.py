"""Writes the report of a run or of a sweep again, from what its folder holds."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the report of each folder."""
    parser = argparse.ArgumentParser(
        prog="galaxyml report",
        description="Writes report.md and report.html of each folder again, of a sweep also sweep.csv; runs that are "
        "not finished are marked so.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folder of a run or of a sweep")
    given = parser.parse_args(arguments)

    from galaxyml.runs.run_dir import RunDir
    from galaxyml.sweeps import finish

    for folder in given.folders:
        print(finish.report(RunDir(folder)))
