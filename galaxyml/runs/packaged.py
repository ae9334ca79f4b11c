"""Trained runs that come with the package, by name: they have learnt from the simulated sky alone (`make weights`)."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "weights"
SKY = "sky"
# Which one `start=sky` is for a net of another class than that of `sky` itself.
OF_NETS = {"GalaxyCNN": "sky_tiny", "AstroCNN": "sky_galaxy10", "LightCurveVAE": "sky_plasticc"}
VOTES = "vote fractions of simulated galaxies alone, seen as SDSS cutouts whose galaxy fills the middle half"
LEARNT = {
    SKY: VOTES,
    "sky_tiny": VOTES,
    "sky_galaxy10": "the classes of Galaxy10 DECaLS on simulated galaxies alone, in cutouts of DECaLS",
    "sky_plasticc": "simulated light curves of LSST alone",
}


OF_RUNS = (".hydra", "jobs.json", "provenance.json", "model.safetensors")  # what a folder of a run has, one of them


def packaged(run: Path | str, net: str = "") -> Path:
    """The file of a run that comes with the package; any other path as it is, and a user's own run of that name, too.

    Args:
        run: A path, or a name of `LEARNT`.
        net: Class of the net that is to begin with it, by which `sky` is found among the weights of several nets.

    >>> packaged("multirun/galaxyzoo/mine").as_posix()
    'multirun/galaxyzoo/mine'
    >>> packaged("sky", "AstroCNN").stem
    'sky_galaxy10'
    """
    given = Path(run).expanduser()
    name = str(given)
    if name not in LEARNT or given.is_file() or any((given / inside).exists() for inside in OF_RUNS):
        return given
    name = OF_NETS.get(net, name) if name == SKY else name
    return next((path for path in FOLDER.iterdir() if path.stem == name), given)


def note(run: Path) -> str | None:
    """What is to be known of a run that comes with the package; None of any other."""
    if run.parent != FOLDER:
        return None
    return (
        f"{run.stem} comes with galaxyml and has learnt {LEARNT[run.stem]}; it knows no real label. A run on labels of "
        f"your own begins with it by start={run.stem}."
    )
