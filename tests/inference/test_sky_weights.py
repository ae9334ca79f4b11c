"""The run that comes with the package, `sky`."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import galaxyml
from galaxyml.inference import predict
from galaxyml.kinds.classes import Classes
from galaxyml.kinds.fractions import Fractions
from galaxyml.models.light_curves.vae import LightCurveVAE
from galaxyml.page.command import main as page
from galaxyml.runs.packaged import FOLDER, LEARNT, note, packaged
from galaxyml.runs.weights_about import about
from galaxyml.sky import write_galaxyzoo
from galaxyml.sky.galaxy10 import CLASSES
from galaxyml.training.start import member
from galaxyml.training.supervised import SupervisedModule
from galaxyml.training.vae import VAEModule

Command = Callable[..., tuple[int, str]]
BUNDLE = FOLDER / "sky.zip"


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Galaxies of another seed than its own."""
    folder = tmp_path_factory.mktemp("unseen") / "galaxyzoo"
    write_galaxyzoo(folder, count=60, seed=977, test_galaxies=1, size=212)
    return folder


def test_it_knows_galaxies_that_it_has_not_seen(unseen: Path) -> None:
    votes = pd.read_csv(unseen / "training_solutions_rev1.csv").set_index("GalaxyID")
    found = galaxyml.load("sky").predict(unseen / "images_training_rev1")
    found.index = found["path"].map(lambda path: int(Path(path).stem))
    off = (found.loc[votes.index, votes.columns] - votes).to_numpy(float)
    of_means = (votes - votes.mean()).to_numpy(float)
    assert np.sqrt((off**2).mean()) < 0.75 * np.sqrt((of_means**2).mean())
    assert {"Class1.1_low95", "Class1.1_high95", "ood"} <= set(found.columns)


def test_it_says_what_it_has_learnt_from(unseen: Path, in_process: Command, tmp_path: Path) -> None:
    image = next((unseen / "images_training_rev1").iterdir())
    status, said = in_process(predict.main, "sky", image, "--out", tmp_path / "a.csv")
    assert status == 0, said
    assert "has learnt vote fractions of simulated galaxies alone" in said
    with zipfile.ZipFile(BUNDLE) as file:
        content = json.loads(file.read("predictor.json"))
    assert "simulated sky" in content["provenance"]["data"]["source"]
    assert content["provenance"]["commit"]
    assert not content["provenance"]["dirty"]
    assert content["metrics"]["test/rmse"] < 0.1
    assert BUNDLE.stat().st_size < 4e6


@pytest.mark.parametrize(
    ("model", "name"), [("winner_small", "sky"), ("tiny", "sky_tiny"), ("astrocnn", "sky_galaxy10")]
)
def test_each_net_begins_with_weights_of_its_own(model: str, name: str) -> None:
    kind = Classes(list(CLASSES)) if model == "astrocnn" else Fractions("kaggle")
    module = SupervisedModule(model, kind=kind, size=64, start="sky")
    assert module.taken is not None
    assert module.taken.start.path.stem == name
    assert module.taken.tensors == module.taken.of
    assert not module.taken.new
    assert packaged("sky", type(module.net).__name__).stem == name
    assert str(note(module.taken.start.path)).startswith(f"{name} comes with galaxyml and has learnt ")


def test_light_curves_begin_with_weights_of_their_own() -> None:
    module = VAEModule(LightCurveVAE(), start="sky")
    assert module.taken is not None
    assert module.taken.start.path.stem == "sky_plasticc"
    assert module.taken.tensors == module.taken.of - 2  # all but the last layer of classes, whose names are the data's


def test_all_of_them_are_small_and_say_where_they_are_from() -> None:
    files = sorted(FOLDER.iterdir())
    assert [file.stem for file in files] == sorted(LEARNT)
    assert sum(file.stat().st_size for file in files) < 5.2e6
    for file in files:
        if file.suffix == ".safetensors":
            said = about(file)
            assert said is not None
            assert (said["provenance"]["dirty"], len(said["provenance"]["commit"])) == (False, 40)


def test_weights_alone_do_not_predict(in_process: Command, unseen: Path, tmp_path: Path) -> None:
    status, said = in_process(predict.main, "sky_tiny", unseen / "images_training_rev1", "--out", tmp_path / "a.csv")
    assert status == 2
    assert "sky_tiny.safetensors has weights alone, which start=… takes" in said


def test_a_run_of_that_name_is_the_users_own_and_another_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packaged("sky") == BUNDLE
    assert packaged("skies") == Path("skies")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sky").mkdir()
    assert packaged("sky") == BUNDLE
    assert member("sky") == Path("sky")
    (tmp_path / "sky" / "jobs.json").touch()
    assert packaged("sky") == Path("sky")


def test_a_run_on_labels_of_ones_own_begins_with_it(images_sky: Path, command: Command, tmp_path: Path) -> None:
    line = ("task=images", f"data_dir={images_sky}", "columns=[kind]", "start=sky", "epochs=1", "batch_size=32")
    status, said = command(*line, "name=mine", "model=winner_small", "size=64")
    assert status == 0, said
    assert "sky.zip (DielemanNet), 26 of 28 tensors" in said


def test_the_page_shows_it_without_a_run(tmp_path: Path) -> None:
    page(["--export", str(tmp_path / "space")])
    assert any(path.suffix == ".zip" for path in (tmp_path / "space").rglob("*"))
