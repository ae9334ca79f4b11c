"""What `datasets.yaml` says, held against itself and against what the tasks read."""

import fnmatch
import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from galaxyml.data.download import manifest
from galaxyml.data.download.store import UNPACK
from galaxyml.data.tables import plasticc, survey_catalogues
from galaxyml.runs.errors import UserError
from galaxyml.tasks import galaxy10, galaxyzoo, spirals

CONF = Path(__file__).parents[3] / "conf" / "task"
DATASETS = manifest.load()
FILES = {file.name: file for file in manifest.places(DATASETS.values())}


def test_every_file_that_is_described_is_in_some_dataset() -> None:
    assert set(yaml.safe_load(manifest.DATASETS.read_text())["files"]) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_described_as_the_code_reads_it(name: str) -> None:
    file = FILES[name]
    lengths = {"md5": 32, "sha256": 64}
    if file.digest is not None:
        algorithm, _, value = file.digest.partition(":")
        assert re.fullmatch(f"[0-9a-f]{{{lengths[algorithm]}}}", value)
    assert file.unpack is None or (file.unpack in UNPACK and file.unpacked)
    assert file.starts or file.unpack == "folder"
    assert sum(where is not None for where in (file.source.zenodo, file.source.address, file.source.kaggle)) == 1
    assert file.source.page.startswith("https://")
    assert file.source.licence
    assert file.source.cite
    assert file.source.zenodo is None or str(file.source.zenodo) in file.source.page


def test_no_digest_stands_for_two_files() -> None:
    digests = [file.digest for file in FILES.values() if file.digest]
    assert len(set(digests)) == len(digests)


def test_places_lie_in_the_folder_of_their_task_and_hold_one_file_each() -> None:
    held: dict[str, manifest.File] = {}
    for dataset in DATASETS.values():
        assert bool(dataset.places) != bool(dataset.hub)
        for place, file in dataset.places.items():
            assert place.split("/")[0] == dataset.task
            assert held.setdefault(place, file) == file


def test_data_sets_of_the_hub_are_known_by_name() -> None:
    of_hub = {name: dataset.hub for name, dataset in DATASETS.items() if dataset.hub is not None}
    wanted = {"gz_ukidss", "gz_evo", "gz2", "gz_desi", "gz_hubble", "gz_candels", "gz_h2o", "gz_euclid", "gz_rings"}
    assert wanted | {"is-lsb", "galaxy10_decals", "gz_ukidss-tiny", "gz_rings-classification"} <= set(of_hub)
    for name, part in of_hub.items():
        assert part.source.page == f"https://huggingface.co/datasets/{part.repo}", name
        assert part.source.licence
        assert part.source.cite
    assert "surveys/ukidss" in of_hub["gz_ukidss"].folders  # where the task looks for it
    assert of_hub["gz_ukidss-tiny"].config == "tiny"
    assert of_hub["gz_rings"].config == "regression"


def test_the_task_galaxy10_expects_the_same_file() -> None:
    file = FILES[galaxy10.FILE]
    assert DATASETS["galaxy10"].places == {f"galaxy10/{galaxy10.FILE}": file}
    assert file.digest == f"sha256:{galaxy10.DECALS.sha256}"
    assert str(file.source.zenodo) in galaxy10.WHERE


def test_the_task_galaxyzoo_reads_all_that_its_data_consist_of() -> None:
    names = {galaxyzoo.TRAINING, galaxyzoo.TEST, galaxyzoo.SOLUTIONS, galaxyzoo.BENCHMARK}
    assert set(DATASETS["galaxyzoo"].places) == {f"galaxyzoo/{name}" for name in names}


def test_the_task_spirals_is_configured_for_the_same_names() -> None:
    conf = yaml.safe_load((CONF / "spirals.yaml").read_text())
    assert set(DATASETS["spirals"].places) == {f"spirals/{conf[key]}" for key in ("table", "mapping", "images")}


def test_the_task_surveys_is_configured_for_the_same_names() -> None:
    surveys = yaml.safe_load((CONF / "surveys.yaml").read_text())["surveys"]
    fetched = [
        place.partition("/")[2] for name in ("surveys", "surveys-decals-auto") for place in DATASETS[name].places
    ]
    read = [entry for survey in surveys.values() for key, entry in survey["catalogue"].items() if key in KEYS]
    patterns = [name for entry in read for name in ([entry] if isinstance(entry, str) else entry)]
    assert all(any(fnmatch.fnmatch(place, pattern) for pattern in patterns) for place in fetched)


KEYS = ("table", "mapping", "images")


def test_real_files_begin_as_they_are_said_to(real: Path) -> None:
    there = {place: file for dataset in DATASETS.values() for place, file in dataset.places.items()}
    there = {place: file for place, file in there.items() if (real / place).is_file()}
    assert len(there) >= 10
    for place, file in there.items():
        assert (real / place).read_bytes().startswith(file.starts.encode("latin-1")), place


def test_errors_of_missing_files_name_data_that_can_be_fetched() -> None:
    modules = (galaxy10.WHERE, galaxyzoo.WHERE, spirals.WHERE, plasticc.WHERE)
    catalogues = ("GalaxyZoo2", "GalaxyZooDecals", "GalaxyZooUkidss", "HubCatalogue")
    for where in (*modules, *(getattr(survey_catalogues, name).where for name in catalogues)):
        names = re.findall(r"`(?:python -m )?galaxyml fetch (\S+)`", where)
        assert names
        assert set(names) <= set(DATASETS)


@pytest.mark.parametrize("dataset", [dataset for dataset in DATASETS.values() if dataset.next])
def test_the_command_that_comes_next_is_one(dataset: manifest.Dataset) -> None:
    assert dataset.next is not None
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        assert compose("config", overrides=[*dataset.next.split(), "data_dir=data"]).task == dataset.task


def test_a_misspelt_name_is_told_with_its_neighbour() -> None:
    with pytest.raises(UserError, match=r"no data named 'galaxy-10'\. Did you mean galaxy10"):
        manifest.select(DATASETS, ["galaxy-10"])


def test_names_given_twice_count_once() -> None:
    assert [dataset.name for dataset in manifest.select(DATASETS, ["spirals", "spirals"])] == ["spirals"]
