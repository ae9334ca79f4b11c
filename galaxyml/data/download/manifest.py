"""Data that can be fetched: the datasets of `datasets.yaml` and the files that they are made of."""

from collections.abc import Iterable, Sequence
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
    """

    title: str
    page: str
    licence: str
    cite: str
    zenodo: int | None = None
    address: str | None = None
    kaggle: str | None = None


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

    @property
    def roughly(self) -> int | None:
        """Bytes, as well as they are known before anybody is asked."""
        about = self.about or (
            self.unpacked if self.source.kaggle else None
        )  # which Kaggle's own packing hardly changes
        return self.size or (int(about) if about else None)


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
    """

    name: str
    task: str
    what: str
    places: dict[str, File]
    next: str | None = None
    note: str | None = None


def load() -> dict[str, Dataset]:
    """All datasets, by name."""
    content = yaml.safe_load(DATASETS.read_text(encoding="utf-8"))
    sources = {name: Source(**about) for name, about in content["sources"].items()}
    files = {
        name: File(name, **(about | {"source": sources[about["source"]]})) for name, about in content["files"].items()
    }
    given = content["datasets"]
    return {name: _dataset(name, given, files) for name in given}


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
