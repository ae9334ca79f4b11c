"""Shows the simulated sky: `python -m galaxyml sky FILE [--survey decals|surveys|lsst]`, or `FOLDER --labels 1500`."""

from collections.abc import Sequence
from pathlib import Path

from galaxyml.runs.errors import UsageError
from galaxyml.runs.options import Parser
from galaxyml.sky.images import write_images
from galaxyml.sky.sheet import SHEETS, contact_sheet, light_curve_sheet


def main(given: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the sheet, or the folder."""
    parser = Parser(
        prog="galaxyml sky",
        description="Writes an image with galaxies of every kind, or light curves of every class; or a folder of "
        "images with a table of labels, as task=images takes it.",
    )
    parser.add_argument("file", type=Path, help="a .jpg or .png that will be written; with --labels a new folder")
    parser.add_argument("--labels", type=int, metavar="N", help="write a folder of N images with labels.csv instead")
    parser.add_argument(
        "--bands",
        type=int,
        choices=(3, 5),
        default=3,
        help="of --labels: 3 for JPEG (default), 5 for FITS cubes in ugriz",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the galaxies (default: 0)")
    parser.add_argument(
        "--survey",
        choices=[*SHEETS, "lsst"],
        default="sdss",
        help="who observes; surveys shows the same galaxies by each, lsst light curves (default: sdss)",
    )
    arguments = parser.parse_args(given)
    if arguments.bands != parser.get_default("bands") and arguments.labels is None:
        raise UsageError(f"--bands {arguments.bands} is of images with labels: give --labels N, too.")
    if arguments.labels is None and arguments.survey == "lsst":
        light_curve_sheet(arguments.seed).savefig(arguments.file, dpi=80)
    elif arguments.labels is None:
        contact_sheet(arguments.file, arguments.seed, arguments.survey)
    elif arguments.survey != "sdss":
        raise UsageError(f"--survey {arguments.survey}: images with labels are those of SDSS; leave it out.")
    elif arguments.file.exists():
        raise UsageError(f"{arguments.file} is there already. Give a new folder.")
    else:
        write_images(arguments.file, arguments.labels, arguments.seed, bands=arguments.bands)
    print(f"Wrote {arguments.file}")
