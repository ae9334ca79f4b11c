"""What several tests need: a small simulated sky on disk, real files where there are any, the command in-process."""

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest
from faulty import Server
from filelock import FileLock
from PIL import Image

from galaxyml import sweeps
from galaxyml.runs.errors import UsageError, UserError

if TYPE_CHECKING:
    from encoder_hub import EncoderHub

mpl.use("Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched in tests
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # which servers on this machine do not speak
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side

sweeps.register()  # of launchers, and of the names of runs' folders, which configurations refer to

GALAXIES, TEST_GALAXIES = 60, 12


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of these tests have in common, so that what takes long is made once."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def drawn(shared: Path) -> Callable[..., Path]:
    """Draws a small simulated sky as `data/<name>`, once; to be copied before it is changed."""

    def draw(name: str, **options: Any) -> Path:
        import galaxyml.sky

        folder = shared / "data" / name
        with FileLock(shared / f"{name}.lock"):
            if not folder.is_dir():
                getattr(galaxyml.sky, f"write_{name}")(folder, seed=1, **options)
        return folder

    return draw


@pytest.fixture(scope="session")
def sky(drawn: Callable[..., Path]) -> Path:
    """A folder `data/galaxyzoo` in the Kaggle layout."""
    return drawn("galaxyzoo", count=GALAXIES, test_galaxies=TEST_GALAXIES, size=64)


@pytest.fixture(scope="session")
def galaxy10_sky(drawn: Callable[..., Path]) -> Path:
    """A folder `data/galaxy10` beside the other one, with Galaxy10's file."""
    return drawn("galaxy10", count=160, size=64)


@pytest.fixture(scope="session")
def spirals_sky(drawn: Callable[..., Path]) -> Path:
    """A folder `data/spirals` beside the others, with Galaxy Zoo 1's tables."""
    return drawn("spirals", count=160, size=64)


@pytest.fixture(scope="session")
def plasticc_sky(drawn: Callable[..., Path]) -> Path:
    """A folder `data/plasticc` beside the others, with PLAsTiCC's tables."""
    return drawn("plasticc", count=240, test_count=80, unknown=0.2)


@pytest.fixture(scope="session")
def surveys_sky(drawn: Callable[..., Path]) -> Path:
    """A folder `data/surveys` beside the others, with three surveys' tables."""
    return drawn("surveys", count=60, overlap=0.3, size=64)


@pytest.fixture(scope="session")
def images_sky(drawn: Callable[..., Path]) -> Path:
    """A folder of images with `labels.csv`."""
    return drawn("images", count=120, size=64)


@pytest.fixture
def files(sky: Path, tmp_path: Path) -> Path:
    """A copy of the small sky that a test may spoil."""
    return Path(shutil.copytree(sky, tmp_path / "data" / "galaxyzoo"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine, asked without a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator["EncoderHub"]:
    """A server in the hub's place, and an empty cache."""
    from encoder_hub import EncoderHub
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    hub = EncoderHub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub
    hub.close()


@pytest.fixture
def real() -> Path:
    """Folder of small real data sets."""
    if not (path := os.environ.get("GALAXYML_REAL_DATA")):
        pytest.skip("set GALAXYML_REAL_DATA to the folder of small real data sets")
    return Path(path)


@pytest.fixture
def judged_as_scored() -> Callable[[Path, str], set[str]]:
    """Makes sure that what a run is compared by are the numbers of its stages; gives the names of those it found."""

    def check(folder: Path, split: str) -> set[str]:
        from galaxyml.evaluation.paired import measured
        from galaxyml.kinds import load_scored
        from galaxyml.runs.run_dir import RunDir

        said = load_scored(RunDir(folder), split)
        assert said is not None
        scored = RunDir(folder).metrics()
        found = {f"{split}/{key}": values[0] for key, values in measured([said], resamples=1)[0].items()}
        # Precision and recall of 0/0 are 0 in a report, and nothing that models could differ in.
        shared = {key for key in found if key in scored and found[key] == found[key]}
        assert {key: found[key] for key in shared} == pytest.approx(
            {key: scored[key] for key in shared}, rel=1e-5, abs=1e-6
        )
        return {key.partition("/")[2] for key in shared}

    return check


SMALL = ("task=galaxyzoo", "model=tiny", "size=32", "epochs=2", "batch_size=16", "trainer=cpu", "figures=false")
OF_IMAGES = ("model", "size")  # keys that light curves do not have


@pytest.fixture
def in_process(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command's `main` with some arguments in this process; gives its status and all that it printed.

    No command may print a warning, whatever a test is about.
    """

    def run(main: Callable[[list[str]], None], *args: object) -> tuple[int, str]:
        capfd.readouterr()
        for handler in list(logging.root.handlers):  # of commands before, which wrote to streams that are closed
            if type(handler) is logging.StreamHandler:
                logging.root.removeHandler(handler)
        try:
            main([str(arg) for arg in args])
            status = 0
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else 1
            if isinstance(ending.code, str):
                print(ending.code)
        except UserError as error:  # which `galaxyml` prints
            print(f"error: {error}")
            status = 2 if isinstance(error, UsageError) else 1
        printed = "".join(capfd.readouterr())
        assert not re.search("warning", printed, flags=re.IGNORECASE), printed
        return status, printed

    return run


@pytest.fixture
def command(
    sky: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    in_process: Callable[..., tuple[int, str]],
) -> Callable[..., tuple[int, str]]:
    """Runs `python -m galaxyml` in this process and in an empty folder; gives its status and all that it printed."""
    from galaxyml.__main__ import main
    from galaxyml.sweeps import forkserver

    monkeypatch.setattr(forkserver, "_used", False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GALAXYML_CACHE", str(sky.parent / "cache"))
    monkeypatch.setenv("GALAXYML_CONSOLE", "INFO")  # which -q changes

    def run(*args: str) -> tuple[int, str]:
        given = [arg.split("=")[0] for arg in args]
        own = OF_IMAGES if "task=plasticc" in args else ()
        own = (*own, "task", "model") if "experiment" in given else own  # which an experiment says
        small = [arg for arg in SMALL if arg.split("=")[0] not in (*given, *own)]
        one_process = [] if "hydra/launcher" in given else ["hydra/launcher=serial"]
        data = [] if {"source", "data_dir"} & set(given) else [f"data_dir={sky.parent}"]
        monkeypatch.setattr(sys, "argv", ["galaxyml", *small, *one_process, *data, *args])
        return in_process(lambda _: main())

    return run


PAGE_IMAGES = ("model=tiny", "size=32", "epochs=1", "batch_size=16", "trainer=cpu", "figures=false")
PAGE_CURVES = ("epochs=1", "batch_size=64", "top=0", "embedded=0", "trainer=cpu", "figures=false")
FEW_TREES = (
    "detector.detector.detectors.forest.trees=20",
    *(f"beside.{name}.detector.trees=20" for name in ("features", "latents", "forest")),
    *(f"beside.{name}.detector.trees=5" for name in ("class_features", "class_forests")),
)
PAGE_RUNS: dict[str, tuple[str, ...]] = {
    "galaxyzoo": (*PAGE_IMAGES, "predict_views=8", "-m", "fold=0,1"),
    "spirals": (*PAGE_IMAGES, "task=spirals"),
    "surveys": (*PAGE_IMAGES, "task=surveys", "tune=all", "resamples=20", "least=4", "embedded=9"),
    "plasticc": (*PAGE_CURVES, *FEW_TREES, "task=plasticc"),
}


@pytest.fixture(scope="session")
def page_run(
    sky: Path, spirals_sky: Path, surveys_sky: Path, plasticc_sky: Path, shared: Path
) -> Callable[[str], Path]:
    """The folder of one of `PAGE_RUNS`, a sweep's, made by the command when it is first asked for; to be read only."""
    from galaxyml.__main__ import main

    folder = shared / "page"
    folder.mkdir(exist_ok=True)

    def run(task: str) -> Path:
        made = folder / "multirun" / task / "mine"
        with FileLock(shared / f"run-{task}.lock"):
            if (made / "metrics.json").is_file():
                return made
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.setenv("GALAXYML_CACHE", str(sky.parent / "cache"))
                options = ["hydra/launcher=serial", f"data_dir={sky.parent}", "name=mine"]
                patch.setattr(sys, "argv", ["galaxyml", *options, *PAGE_RUNS[task]])
                main()
        return made

    return run


@pytest.fixture
def apart(sky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silences libraries as the command does, and keeps what pages keep away from the user's own cache."""
    from galaxyml.training.quiet import quiet

    quiet()
    monkeypatch.setenv("GALAXYML_CACHE", str(sky.parent / "cache"))


@pytest.fixture(scope="session")
def galaxies(sky: Path) -> list[Path]:
    """Images that no run was trained on."""
    return sorted((sky / "images_test_rev1").glob("*.jpg"))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes an image of the given mode, and of the given name, and gives its path."""

    def write(name: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: Any) -> Path:
        image = Image.linear_gradient("L").resize(size).convert(mode)
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests in a browser need playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("the page's tests in a browser need Chromium: apt install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
