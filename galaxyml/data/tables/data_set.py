"""A data set with its images inside, in parts: a folder as downloaded from the Hugging Face hub, or of HDF5 files.

Which parts belong together the folder's card says (the YAML that README.md begins with), else the names of folders;
which of them are to train and which to test on the card says, too, else the names of the parts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from galaxyml.data.images.file_types import HDF5, has_suffix
from galaxyml.data.images.inside import PARQUET, image_column, images_in
from galaxyml.runs.errors import DataError, shorten

CARD = "README.md"
DEFAULT = "default"  # the configuration that is meant where none is named
DATA = "data"  # the folder of its parts, where there is no card
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test"}
_SPLITS |= dict.fromkeys(("evaluation",), "test") | dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
_SPLIT = re.compile(rf"(?:^|[-_./ ])({'|'.join(_SPLITS)})(?=[-_./ ]|\d|$)", re.IGNORECASE)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=[-.])")


@dataclass(frozen=True)
class DataSet:
    """Parts that belong together.

    Attributes:
        root: The folder.
        parts: Their paths in it, each with its part of the split, `train` or `test`; None where none is to train on.
        notes: What had to be interpreted, in sentences.
    """

    root: Path
    parts: dict[str, str | None]
    notes: list[str] = field(default_factory=list)

    def paths(self) -> list[Path]:
        """Where the parts are."""
        return [self.root / part for part in self.parts]


def find_data_set(path: Path) -> DataSet | None:
    """The data set in a folder, or of a configuration's name in the folder above it; None if there is none.

    Raises:
        DataError: If there are several configurations and none is the default one, or none of that name.
    """
    if path.is_dir():
        return _in_folder(path, None)
    is_name = not path.exists() and not path.suffix and path.parent.is_dir()
    # Without a card configurations are folders, which would be there; what lies around a wrong path is not searched.
    is_name = is_name and (path.name == DEFAULT or (path.parent / CARD).is_file())
    return _in_folder(path.parent, path.name) if is_name else None


def holds_images(path: Path) -> bool:
    """Whether a file is a table with images inside; one that cannot be read is none."""
    try:
        if has_suffix(path, PARQUET):
            return image_column(pq.read_schema(path)) is not None
        import h5py

        with h5py.File(path) as file:
            return getattr(images_in(file), "ndim", 0) in (3, 4)
    except (OSError, KeyError, pa.ArrowException):
        return False


def configurations(card: str, files: Sequence[str]) -> dict[str, dict[str, str | None]]:
    r"""The files of each configuration of a data set, with their parts of the split; one without files is left out.

    Args:
        card: The data set's card: Markdown that begins with YAML.
        files: Paths in the data set's folder.

    >>> card = "---\nconfigs:\n- {config_name: tiny, data_files: [{split: test, path: tiny/te*}]}\n---\n"
    >>> configurations(card, ["tiny/test-0.parquet", "data/test-0.parquet"])
    {'tiny': {'tiny/test-0.parquet': 'test'}}
    """
    found: dict[str, dict[str, str | None]] = {}
    for entry in _entries(card):
        name, patterns = str(entry.get("config_name", DEFAULT)), entry.get("data_files")
        folder = str(entry.get("data_dir", "")).strip("/")
        parts: dict[str, str | None] = {}
        for split, pattern in _patterns(patterns) if patterns else [(None, "**")]:
            whole = f"{folder}/{pattern}" if folder else pattern
            chosen = sorted(file for file in files if fnmatchcase(file, whole) and is_part(file))
            parts |= {file: _SPLITS.get(split or "", split) if split else split_of(file) for file in chosen}
        if parts:
            found[DEFAULT if entry.get("default") is True else name] = parts
    return found or _by_folder(files)


def is_part(name: str) -> bool:
    """Whether a file may be a part, by its name."""
    return name.lower().endswith((*PARQUET, *HDF5))


def split_of(name: str) -> str | None:
    """The part of the split that a file's name tells: `train`, `test` or `validation`; None if it tells none.

    >>> split_of("data/train-00000-of-00013.parquet"), split_of("tiny/test.parquet"), split_of("strain.parquet")
    ('train', 'test', None)
    """
    names = [match[1].lower() for match in _SPLIT.finditer(name)]
    return _SPLITS[names[-1]] if names else None


def _entries(card: str) -> list[Mapping[str, Any]]:
    match = re.match(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", card, re.DOTALL)
    try:
        content = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        content = None
    configs = content.get("configs") if isinstance(content, dict) else None
    return [entry for entry in configs if isinstance(entry, dict)] if isinstance(configs, list) else []


def _patterns(files: Any) -> Iterator[tuple[str | None, str]]:
    """Splits and patterns of files, in whichever of its forms a card has them."""
    if isinstance(files, str):
        yield None, files
    elif isinstance(files, dict) and "path" in files:
        paths = files["path"] if isinstance(files["path"], list) else [files["path"]]
        yield from ((files.get("split"), str(path)) for path in paths)
    elif isinstance(files, dict):
        yield from ((split, pattern) for split, paths in files.items() for _, pattern in _patterns(paths))
    elif isinstance(files, list):
        for entry in files:
            yield from _patterns(entry)


def _by_folder(files: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Configurations by the folders that files lie in, where no card tells: `data`, or the top, is the default one."""
    found: dict[str, dict[str, str | None]] = {}
    for file in sorted(filter(is_part, files)):
        folder = PurePosixPath(file).parts[0] if "/" in file else ""
        name = "" if "=" in folder else folder  # such as healpix=1172, a part of one table
        found.setdefault(name, {})[file] = split_of(file)
    default = next((name for name in (DATA, "") if name in found), None)
    return {DEFAULT if name == default else name: parts for name, parts in found.items()}


def _in_folder(root: Path, wanted: str | None) -> DataSet | None:
    files = [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if is_part(path.name)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not files:
        return None
    card = root / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = configurations(text, files)
    found = {name: parts for name, parts in found.items() if holds_images(root / next(iter(parts)))}
    if not found:
        return None
    if wanted is None and len(found) > 1 and DEFAULT not in found:
        raise DataError(
            f"{root} holds several configurations: {shorten(list(found))}. Choose one by its name, labels=NAME, or "
            "give the folder or the files of one."
        )
    name = wanted if wanted is not None else DEFAULT if DEFAULT in found else next(iter(found))
    if name not in found:
        if wanted is not None and not card.is_file():
            return None
        raise DataError(f"{root} holds no configuration {name}; it holds {shorten(list(found))}.")
    return _with_splits(root, name if len(found) > 1 or name != DEFAULT else None, found[name])


def _with_splits(root: Path, name: str | None, parts: dict[str, str | None]) -> DataSet:
    """The parts of a configuration, those to train on first."""
    notes = [f"{root.name}: reads the configuration {name}."] if name is not None else []
    parts = dict(sorted(parts.items(), key=lambda part: part[1] == "test"))  # as they are, but those to train on first
    if validation := [part for part, split in parts.items() if split == "validation"]:
        notes.append(
            f"{shorten(validation)}: trained on like the other parts; validation galaxies are drawn from all of these, "
            "a fold at a time."
        )
    shards = [(part[: match.start()], int(match[2])) for part in parts if (match := _SHARD.search(part))]
    if len(shards) == len(parts) < (total := sum(count for _, count in set(shards))):
        notes.append(f"{root.name}: {len(parts)} of its {total} parts are here, and read.")
    if all(split in (None, "test") for split in parts.values()):
        return DataSet(root, dict.fromkeys(parts), notes)
    return DataSet(root, {part: "test" if split == "test" else "train" for part, split in parts.items()}, notes)
