"""Small finished runs whose page is tested, and the page itself, served to a real browser."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'galaxyml[demo]'")
pytest.importorskip("captum", reason="the page needs captum: pip install 'galaxyml[demo]'")

PICTURES = ("model=tiny", "size=32", "epochs=1", "batch_size=16", "trainer=cpu")
CURVES = ("redshifts=0", "epochs=1", "batch_size=64", "top=0", "embedded=0", "trainer=cpu")
FEW_TREES = (
    "detector.detector.detectors.forest.trees=20",
    *(f"beside.{name}.detector.trees=20" for name in ("features", "latents", "forest")),
    *(f"beside.{name}.detector.trees=5" for name in ("class_features", "class_forests")),
)
RUNS: dict[str, tuple[str, ...]] = {
    "galaxyzoo": (*PICTURES, "predict_views=8", "-m", "fold=0,1"),
    "spirals": (*PICTURES, "task=spirals"),
    "surveys": (*PICTURES, "task=surveys", "tune=all", "resamples=20", "least=4", "embedded=9"),
    "plasticc": (*CURVES, *FEW_TREES, "task=plasticc"),
}
Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def make(
    sky: Path, spirals_sky: Path, surveys_sky: Path, plasticc_sky: Path, tmp_path_factory: pytest.TempPathFactory
) -> Make:
    """The folder of one of `RUNS`, a sweep's, made by the command when it is first asked for."""
    from galaxyml.__main__ import main

    folder = tmp_path_factory.mktemp("page")

    def run(task: str) -> Path:
        made = folder / "multirun" / task / "mine"
        if not made.is_dir():
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.setenv("GALAXYML_CACHE", str(sky.parent / "cache"))
                options = ["hydra/launcher=serial", f"data_dir={sky.parent}", "name=mine"]
                patch.setattr(sys, "argv", ["galaxyml", *options, *RUNS[task]])
                main()
        return made

    return run


@pytest.fixture(autouse=True)
def quiet_and_apart(sky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silences libraries as the command does, and keeps what pages keep away from the user's own cache."""
    from galaxyml.experiment import quiet

    quiet()
    monkeypatch.setenv("GALAXYML_CACHE", str(sky.parent / "cache"))


@pytest.fixture(scope="session")
def galaxies(sky: Path) -> list[Path]:
    """Pictures that no run was trained on."""
    return sorted((sky / "images_test_rev1").glob("*.jpg"))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a picture of the given mode, and of the given name, and gives its path."""

    def write(name: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: Any) -> Path:
        picture = Image.linear_gradient("L").resize(size).convert(mode)
        picture.save(tmp_path / name, **options)
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
