"""Where a task's files come from: a folder of real ones, or the simulated sky."""

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import galaxyml
from galaxyml.runs.errors import DataError
from galaxyml.runs.files import digest, file_lock, unwritable
from galaxyml.runs.provenance import SIMULATED

log = logging.getLogger(__name__)

CODE = (".py", ".yaml")
CACHE = "~/.cache/galaxyml"


def without_files(data: str) -> str:
    """How to go on without a task's files, by the command and in Python, as the end of an error message.

    Args:
        data: Name of the task's DataModule.

    >>> without_files("GalaxyZoo")
    'Without them, source=simulated (in Python GalaxyZoo(), no folder given) runs on the simulated sky.'
    """
    return f"Without them, source=simulated (in Python {data}(), no folder given) runs on the simulated sky."


class Real:
    """Files that the user has, which may be of the simulated sky.

    Args:
        task: Name of the task, which is the name of its folder.
        data_dir: Folder of all tasks' folders; None for `data` in the working folder.
        own: Whether a `data_dir` that is given is the task's folder itself.

    Attributes:
        name: What the files are, in words.
        path: Their folder.
    """

    def __init__(self, task: str, data_dir: str | None, own: bool = False) -> None:
        self.path = Path(data_dir or "data").expanduser() / ("" if own and data_dir else task)
        self.name = Simulated.name if (self.path / SIMULATED).is_file() else "real files"

    def ready_folder(self) -> Path | None:
        """The folder whose files can be looked at now; None if they are drawn when they are needed.

        Raises:
            DataError: As of `folder`.
        """
        return self.folder()

    def folder(self) -> Path:
        """The task's folder; whether it is there and holds the right files is the task's to say.

        Raises:
            DataError: If it is not below, but is itself the folder that was given.
        """
        given = self.path.parent
        if given.absolute().name == self.path.name and given.is_dir() and not self.path.is_dir():
            above = os.path.normpath(given / "..")
            raise DataError(
                f"data_dir={given} is the folder of this task itself: give the one above it, data_dir={above}."
            )
        return self.path


class Simulated:
    """Files that the simulated sky writes, once, in the layout of the real ones.

    Args:
        write: Takes a folder and writes the files there; its arguments decide what is drawn.
        cache_dir: Folder of all simulated skies.

    Attributes:
        name: As of `Real`.
        path: Their folder, which they may still have to be drawn into.
    """

    name = "the simulated sky"

    def __init__(self, write: partial[None], cache_dir: str) -> None:
        # Known by the code that draws it, so that a changed sky is never taken for the old one.
        package = Path(galaxyml.__file__).parent
        code = sorted(
            path for part in ("sky", "trees") for path in (package / part).rglob("*.*") if path.suffix in CODE
        )
        texts = [path.read_text(encoding="utf-8") for path in code]
        name = digest([*texts, write.func.__qualname__, *sorted(write.keywords.items())])
        self.path = Path(cache_dir).expanduser() / "sky" / name
        self.write = write

    def ready_folder(self) -> None:
        """None: it is drawn when it is needed."""

    def folder(self) -> Path:
        """The folder, drawn first if it is not there.

        Raises:
            DataError: If nothing can be written there.
        """
        if not self.path.is_dir():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise unwritable(self.path, error, "Choose another folder with cache_dir=….") from error
            with file_lock(self.path):
                if not self.path.is_dir():
                    self.write(self.path)
        return self.path


class Auto:
    """Real files if a folder is given or `data/` has them, otherwise the simulated sky, and says so.

    Args:
        real: Where real files would be.
        simulated: What to use without them.
        data_dir: The folder that the user gave, or None.

    Attributes:
        chosen: Which of the two it is; `name` and `path` are its own.
    """

    def __init__(self, real: Real, simulated: Simulated, data_dir: str | None) -> None:
        self.real = real
        self.chosen: Real | Simulated = real if data_dir is not None or real.path.is_dir() else simulated
        self.name, self.path = self.chosen.name, self.chosen.path

    def ready_folder(self) -> Path | None:
        """As of the chosen one."""
        return self.chosen.ready_folder()

    def folder(self) -> Path:
        """The real files' folder, or the simulated sky's."""
        if self.chosen is not self.real:
            log.info("No data_dir is given and there is no %s here: this is the simulated sky.", self.real.path)
        return self.chosen.folder()


Source = Real | Simulated | Auto


def as_source(
    source: Source | Path | str | None, task: str, simulate: "Callable[[], partial[None]]", cache_dir: str
) -> Source:
    """A source from what a caller gave.

    Args:
        source: A source, the folder of the task's files, or None for `data/<task>` if it is there, otherwise the
            simulated sky.
        task: Name of the task.
        simulate: Gives what writes the simulated sky; asked where no source is given.
        cache_dir: Folder of all simulated skies.
    """
    if isinstance(source, str | Path):
        return Real(task, str(source), own=True)
    if source is not None:
        return source
    return Auto(Real(task, None), Simulated(simulate(), cache_dir), None)
