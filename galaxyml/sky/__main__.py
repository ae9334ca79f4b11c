"""Writes a contact sheet of the simulated sky: `python -m galaxyml.sky FILE [--survey decals|surveys|lsst]`."""

import argparse
from pathlib import Path

from galaxyml.sky.light_curves.sheet import light_curve_sheet
from galaxyml.sky.sheet import contact_sheet, galaxy10_sheet, surveys_sheet

SHEETS = {"sdss": contact_sheet, "decals": galaxy10_sheet, "surveys": surveys_sheet, "lsst": light_curve_sheet}


def main() -> None:
    """Reads the command line and writes the sheet."""
    parser = argparse.ArgumentParser(
        prog="python -m galaxyml.sky",
        description="Writes a picture with galaxies of every kind, or light curves of every class.",
    )
    parser.add_argument("file", type=Path, help="a .jpg or .png that will be written")
    parser.add_argument("--seed", type=int, default=0, help="of the galaxies (default: 0)")
    parser.add_argument(
        "--survey",
        choices=SHEETS,
        default="sdss",
        help="who observes; surveys shows the same galaxies by each, lsst light curves (default: sdss)",
    )
    arguments = parser.parse_args()
    SHEETS[arguments.survey](arguments.file, arguments.seed)
    print(f"Wrote {arguments.file}")


if __name__ == "__main__":
    main()
