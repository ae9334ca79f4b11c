"""The objects of any set that are most like others: `galaxyml alike RUN IMAGE… --among SET`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from galaxyml.runs.errors import UsageError
from galaxyml.runs.options import Parser

EXAMPLES = """\
examples:
  galaxyml alike multirun/galaxyzoo/mine ring.jpg --among images/ --out rings.csv
  galaxyml alike multirun/galaxyzoo/mine ring.jpg                      (among the galaxies that it has learnt from)
  galaxyml alike multirun/galaxyzoo/mine --id 1007471.jpg --among images/ --sheet rings.png
  galaxyml predict multirun/galaxyzoo/mine survey.parquet --out survey/ --features
  galaxyml alike multirun/galaxyzoo/mine ring.jpg --among survey/ --count 50 --out rings.parquet
  galaxyml alike multirun/plasticc/mine 130779836 --among night/ --out alike.csv

Objects are compared by the cosine of what the net's head sees of them, of light curves by their latents, each number in
units of its spread over the set: 1 is the same."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, prints the nearest, and writes the table and the sheet."""
    parser = Parser(
        prog="galaxyml alike",
        description="Finds the objects of a set that are most like some images or light curves, as a finished run "
        "sees them.",
        epilog=EXAMPLES,
    )
    parser.add_argument("run", type=Path, help="folder of a run or sweep, or a bundle of it (.zip)")
    parser.add_argument(
        "queries",
        nargs="*",
        metavar="IMAGE",
        help="images, folders, patterns or tables of them, as for galaxyml predict; of light curves ids of objects of "
        "the set, or tables",
    )
    parser.add_argument(
        "--among",
        action="append",
        metavar="SET",
        default=[],
        help="what is searched: a folder of images, a pattern or a table, or a folder of predictions with --features; "
        "of light curves their folder or tables; may be given several times (default: what the run has learnt from)",
    )
    parser.add_argument(
        "--id",
        action="append",
        default=[],
        metavar="NAME",
        help="an object of the set itself, which is left out of its own answer; may be given several times",
    )
    parser.add_argument("--count", type=int, default=10, help="how many are wanted of each (default: 10)")
    parser.add_argument("--out", type=Path, help="a table that will be written: .csv, .parquet, .fits, .vot or .ecsv")
    parser.add_argument("--sheet", type=Path, help="a .png that will show them (default: beside the table)")
    parser.add_argument(
        "--exact", action="store_true", help="compare all of more than a million objects, without an index"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if given.count < 1:
        raise UsageError(f"--count {given.count}: it must be a whole number, 1 or more.")
    if not given.queries and not given.id:
        raise UsageError("There is nothing to search for: give images, or --id NAME for an object of the set.")
    sheet = given.sheet if given.sheet is not None or given.out is None else given.out.with_suffix(".png")
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet {sheet}: it must end in .png.")

    from galaxyml.inference.alike.search import alike

    alike(given.run, given.queries, given.among, given.id, given.count, given.out, sheet, given.exact)
