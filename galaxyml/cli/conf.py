"""Content of `conf/`, read as text before anything is composed: groups, choices, keys, and which task has which.

What lies in the folder of `--config-dir` is read with it, see `read_also`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError

PLUGINS = ("hydra/launcher", "hydra/sweeper")  # of which there may be others, of packages that the user has installed
WIRING = ("data", "module")  # groups that wire a task, from which no command chooses

_folders: tuple[Path, ...] = (CONF,)


def read_also(folder: Path | None) -> None:
    """Reads a folder of the user's own beside `conf/` from now on, in the place of one that was given before.

    Args:
        folder: Holds groups, such as `task/mine.yaml`; None for those of the package alone.

    Raises:
        UserError: If it holds none, or a file by the name of one of the package's.
    """
    global _folders
    _folders = (CONF,) if folder is None else (CONF, folder)
    for cached in (text, groups, tasks_with, _own_keys):
        cached.cache_clear()
    if folder is None:
        return
    if not folder.is_dir():
        raise UserError(f"--config-dir {folder}: there is no such folder. Give the one that holds task/ and the like.")
    files = [path.relative_to(folder) for path in sorted(folder.glob("*/*.yaml"))]
    if not files:
        raise UserError(
            f"--config-dir {folder}: it holds no file of a group, such as task/mine.yaml. Give the folder above task/."
        )
    if twice := [file for file in files if (CONF / file).is_file()]:
        raise UserError(
            f"--config-dir {folder}: {twice[0]} has the name of one of galaxyml's own, which would be read in its "
            "place. Call it something else."
        )


@cache
def text(path: Path) -> str:
    """Content of a configuration file."""
    return path.read_text(encoding="utf-8")


@cache
def root_defaults() -> dict[str, str]:
    """The choice that each group has where none is given, `null` for none."""
    return dict(re.findall(r"^  - (\w+): (\w+)", text(CONF / "config.yaml"), re.M))


@cache
def root_keys() -> dict[str, tuple[str, str]]:
    """Default and comment of the keys that every run has."""
    lines = re.findall(r"^(\w+): *([^#\n]*?) *(?:# *(.*))?$", text(CONF / "config.yaml"), re.M)
    return {key: (value, comment) for key, value, comment in lines if key not in ("defaults", "hydra")}


@cache
def groups() -> tuple[str, ...]:
    """Groups that a command chooses from: the task, those that every run has, and those of some tasks."""
    tasks = "\n".join(map(text, choices("task").values()))
    decided = re.findall(r"^ *- /(\w+): \$", tasks, re.M)  # by the choice of another group
    folders = sorted(
        {path.parent.name for folder in _folders for path in folder.glob("*/*.yaml")} - {*WIRING, *decided}
    )
    return tuple(dict.fromkeys(name for name in ("task", *root_defaults(), *folders) if name in folders))


def choices(group: str) -> dict[str, Path]:
    """Files of a group, by name."""
    return {path.stem: path for folder in _folders for path in sorted((folder / group).glob("*.yaml"))}


def description(path: Path) -> str:
    """First comment of a configuration file that is no directive of Hydra's."""
    return next((line[2:] for line in text(path).splitlines() if line.startswith("# ") and line[2] != "@"), "")


def known_keys() -> set[str]:
    """First parts of all keys that a command may give."""
    paths = [path for group in ("scale", "experiment") for path in choices(group).values()]
    return {*groups(), "hydra", *root_keys()}.union(*map(_own_keys, paths), *map(_keys, choices("task").values()))


def nested(key: str, tasks: Sequence[str] = ()) -> list[str]:
    """Keys that may be meant by their last parts, such as `optim.lr` by `lr`; of all that end so, those above others.

    Args:
        key: The last parts.
        tasks: Whose keys count; none for those of all.
    """
    found = set()
    for group in {*groups(), *WIRING, *PLUGINS} - {"hparams"}:  # whose keys have other keys' names
        for name, path in choices(group).items():
            if group != "task" or not tasks or name in tasks:
                above = "" if "@package _global_" in text(path) else group.replace("/", ".") + "."
                found |= {above + inside for inside in _keys_inside(yaml.safe_load(text(path)))}
    ending = [other for other in found if other.endswith(f".{key}")]
    fewest = min((other.count(".") for other in ending), default=0)
    return sorted(other for other in ending if other.count(".") == fewest)


def _keys_inside(content: Any) -> Iterator[str]:
    """Keys of a file, and of what is below them, with dots between."""
    for key, value in content.items() if isinstance(content, dict) else ():
        yield key
        yield from (f"{key}.{inside}" for inside in _keys_inside(value))


@cache
def tasks_with(key: str) -> tuple[str, ...]:
    """Tasks that bring or use a key or a group, by themselves or by a group that they bring."""
    return tuple(task for task, path in choices("task").items() if key in _keys(path))


def tasks_for(group: str, choice: str) -> tuple[str, ...]:
    """Tasks that bring the groups which a choice refers to; none where it refers to none that only some tasks have."""
    path = choices(group).get(choice)
    of_some = [key for key in (_referred(path) if path else ()) if key in groups() and key not in root_defaults()]
    return tasks_with(of_some[0]) if of_some and group not in ("task", "experiment") else ()


def tasks_of(chosen: Mapping[str, list[str]]) -> list[str]:
    """Tasks that a command names, by itself or by its experiments; where neither does, the one that is the default.

    Args:
        chosen: Choices of its groups.
    """
    named = [task for name in chosen.get("experiment", []) for task in tasks_of_experiment(name)]
    return chosen.get("task") or named or [root_defaults()["task"]]


def tasks_of_experiment(name: str) -> list[str]:
    """The task that an experiment says that it is of; none if it says none, or is not there."""
    path = choices("experiment").get(name)
    return re.findall(r"^ *- override /task: (\w+)", text(path), re.M) if path else []


def question(tasks: list[str]) -> list[str]:
    """Keys that decide what is learnt from a table of the user's own; none for tasks that have no such table."""
    path = choices("task").get(tasks[0])
    match = re.search(r"^question: \[(.*?)\]", text(path), re.M) if path else None
    return match[1].split(", ") if match else []


def answered_by(tasks: list[str]) -> str:
    """The function that answers what a command leaves open of the `question`, from the user's files."""
    path = choices("task").get(tasks[0])
    match = re.search(r"^answered_by: ([\w.]+)", text(path), re.M) if path else None
    return match[1] if match else "galaxyml.data.tables.contents.settings"


def _keys(path: Path) -> set[str]:
    """Keys and groups that a task brings besides the root's, and those of the root's that it refers to."""
    brought = dict(re.findall(r"^ *- /(\w+): (\S+)", text(path), re.M))
    deciding = question([path.stem])  # a group in it may be chosen; of others a task has the one that it names
    followed = {group: choices(name) for name, group in re.findall(r"^ *- /(\w+): \$\{(\w+)\}", text(path), re.M)}
    merged = [
        file
        for group, choice in brought.items()
        for name, file in choices(group).items()
        if (name == choice or (group in deciding and name in followed.get(group, (name,))))
        and "@package _global_" in text(file)
    ]
    wiring = [file for group in WIRING for file in _with_defaults(group, brought.get(group))]
    files = (path, *merged, *wiring)
    own = set().union(*map(_own_keys, (path, *merged))) - {*root_defaults(), *root_keys()}
    return own.union(*map(_referred, files))


def _referred(path: Path) -> list[str]:
    """First parts of the keys that a file refers to."""
    return re.findall(r"\$\{(\w+)[.}]", text(path))


def _with_defaults(group: str, name: str | None) -> list[Path]:
    """A file of a group, and those that its `defaults` name."""
    path = choices(group).get(name or "")
    if path is None:  # Hydra says so of one that is named and not there
        return []
    below = re.search(r"^defaults: \[(.*)\]", text(path), re.M)
    names = [other for other in below[1].split(", ") if other != "_self_"] if below else []
    return [path, *(file for other in names for file in _with_defaults(group, other))]


@cache
def _own_keys(path: Path) -> frozenset[str]:
    """Keys at the top of a file, and groups of its defaults list, by the name under which they are reached."""
    patterns = (r"^(\w+):", r"^ *- /(\w+)[:@]", r"^ *- /\w+@(\w+)")
    return frozenset(key for pattern in patterns for key in re.findall(pattern, text(path), re.M)) - {"defaults"}
