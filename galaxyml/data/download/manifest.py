"""Data that can be fetched: the datasets of `datasets.yaml` and the files that they are made of."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from galaxyml.runs.errors import UsageError, did_you_mean

DATASETS = Path(__file__).with_name("datasets.yaml")


@dataclass(frozen=True)
class Source:
    """Who publishes some files.

    Attributes:
        title: What it is called.
        page: Where a person can read about it.
        licence: Under which licence it is said to be.
        cite: What is to be cited.
        zenodo: Number of its record on Zenodo, or None.
        address: Address that names of files are joined to, or None.
        kaggle: Name of its competition on Kaggle, or None.
        hub: Name of its data set on the Hugging Face hub, or None.
    """

    title: str
    page: str
    licence: str
    cite: str
    zenodo: int | None = None
    address: str | None = None
    kaggle: str | None = None
    hub: str | None = None


@dataclass(frozen=True)
class File:
    """A file as it is published.

    Attributes:
        name: Its name there and on a mirror.
        source: Who publishes it.
        size: Bytes, where they are known exactly.
        about: Bytes, where they are known roughly.
        digest: Such as `md5:…`, where it is known.
        unpack: What becomes of it: `folder`, `file`, `gzip`, or None for nothing.
        unpacked: Bytes of what becomes of it, roughly.
        members: How many files the folder has.
        starts: How the file that a task reads begins.
        commit: Of the hub's repository that it is of, where it is the hub's.
    """

    name: str
    source: Source
    size: int | None = None
    about: float | None = None
    digest: str | None = None
    unpack: str | None = None
    unpacked: float | None = None
    members: int | None = None
    starts: str = ""
    commit: str | None = None

    @property
    def roughly(self) -> int | None:
        """Bytes, as well as they are known before anybody is asked."""
        about = self.about or (
            self.unpacked if self.source.kaggle else None
        )  # which Kaggle's own packing hardly changes
        return self.size or (int(about) if about else None)


@dataclass(frozen=True)
class HubPart:
    """What is wanted of a data set of the hub; which files that are, the hub tells.

    Attributes:
        source: Who publishes it.
        config: Name of its configuration.
        folders: Where it belongs, in the folder of all data.
        about: Bytes, where they are known roughly.
    """

    source: Source
    config: str
    folders: tuple[str, ...]
    about: float | None = None

    @property
    def repo(self) -> str:
        """Its name on the hub."""
        return str(self.source.hub)


@dataclass(frozen=True)
class Dataset:
    """Files that a user asks for by one name.

    Attributes:
        name: That name.
        task: Which task reads it.
        what: What it is, in words.
        places: Where which file belongs, relative to the folder of all data.
        next: Arguments of the command that comes next, or None.
        note: What else a user should know, or None.
        data_dir: What that command is given as `data_dir`, in the folder of all data; '' for that folder itself.
        hub: What it is of the hub, or None; its places are then those that the hub was asked for.
    """

    name: str
    task: str
    what: str
    places: dict[str, File]
    next: str | None = None
    note: str | None = None
    data_dir: str = ""
    hub: HubPart | None = None


def load() -> dict[str, Dataset]:
    """All datasets, by name."""
    content = yaml.safe_load(DATASETS.read_text(encoding="utf-8"))
    sources = {name: Source(**about) for name, about in content["sources"].items()}
    files = {
        name: File(name, **(about | {"source": sources[about["source"]]})) for name, about in content["files"].items()
    }
    given = content["datasets"]
    datasets = {name: _dataset(name, given, files) for name in given}
    for name, about in content.get("hub", {}).items():
        for dataset in _of_hub(name, about, sources[about.get("source", name)]):
            datasets[dataset.name] = dataset
    return datasets


def select(datasets: dict[str, Dataset], names: Iterable[str]) -> list[Dataset]:
    """The datasets of some names, each once.

    Raises:
        UserError: If there is none of a name.
    """
    chosen = []
    for name in dict.fromkeys(names):
        if name not in datasets:
            raise UsageError(
                f"There is no data named '{name}'. {did_you_mean(name, datasets)} `python -m galaxyml fetch "
                f"--list` tells more."
            )
        chosen.append(datasets[name])
    return chosen


def places(datasets: Iterable[Dataset]) -> dict[File, list[str]]:
    """The files of some datasets, each once, with all the places where it belongs."""
    places_of: dict[File, list[str]] = {}
    for dataset in datasets:
        for place, file in dataset.places.items():
            places = places_of.setdefault(file, [])
            if place not in places:
                places.append(place)
    return places_of


def _dataset(name: str, given: dict[str, Any], files: dict[str, File]) -> Dataset:
    about = dict(given[name])
    parts: Sequence[str] = about.pop("parts", ())
    places = {place: file for part in parts for place, file in _dataset(part, given, files).places.items()}
    places |= {place: files[file] for place, file in about.pop("places", {}).items()}
    return Dataset(name, places=places, **about)


def _of_hub(name: str, about: dict[str, Any], source: Source) -> Iterator[Dataset]:
    """A data set of the hub, which is its first configuration, and the others as `NAME-CONFIGURATION`."""
    folders = tuple(about.get("folders", [name]))
    first = next(iter(about["configs"]))
    for config, described in about["configs"].items():
        given: dict[str, Any] = {"what": described} if isinstance(described, str) else described
        yield Dataset(
            name if config == first else f"{name}-{config}",
            about.get("task", "images"),
            given["what"],
            {},
            about.get("next", "task=images"),
            about.get("note"),
            about.get("data_dir", folders[0]),
            HubPart(source, config, folders, given.get("about")),
        )
