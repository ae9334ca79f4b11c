"""Sweeps as a person starts them: commands in processes of their own, and what is left of them."""

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

HERE = Path(__file__).parent
MARK = "GALAXYML_TEST_SWEEP"  # environment variable by which all processes of a sweep are known
SMALL = "task=galaxyzoo model=tiny size=32 batch_size=16 trainer=cpu figures=false"
TWO = f"{SMALL} hydra.launcher.processes=2"


@dataclass
class Sweeps:
    """Commands in one folder.

    Attributes:
        folder: Their working folder.
        data: Folder of the simulated sky.
        small: What all of them are given.
        mark: By which their processes are known.
    """

    folder: Path
    data: Path
    small: str = TWO
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, line: str, terminal: int | None = None, **environment: str) -> subprocess.Popen[str]:
        """Starts a command as a session of its own, with its output in `said.txt`, or on a terminal."""
        own = {"GALAXYML_CACHE": str(self.data / "cache"), "PYTHONPATH": str(HERE), MARK: self.mark}
        command = [sys.executable, "-m", "galaxyml", *self.small.split(), f"data_dir={self.data}", *line.split()]
        with (self.folder / "said.txt").open("w") as said:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **own, **environment},
                stdout=said if terminal is None else terminal,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def run(self, line: str, **environment: str) -> tuple[int, str]:
        """Runs a command to its end; gives its status and all that it printed."""
        status = self.start(line, None, **environment).wait()
        return status, self.said

    @property
    def said(self) -> str:
        """What the last command printed."""
        return (self.folder / "said.txt").read_text()

    def runs(self, name: str) -> list[Path]:
        """Folders of a sweep's runs."""
        return sorted((self.folder / "multirun" / "galaxyzoo" / name).glob("fold-*"))

    def alive(self) -> dict[int, str]:
        """Processes that belong to these commands."""
        found = {}
        for path in Path("/proc").iterdir():
            with suppress(OSError):
                if path.name.isdigit() and f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes():
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        return found

    def jobs(self) -> list[int]:
        """Processes of jobs, each the leader of its own session."""
        return [pid for pid in self.alive() if os.getsid(pid) == pid]

    def jobs_by_fold(self, name: str) -> list[int]:
        """Processes of a sweep's jobs, in the order of their folds."""
        return [json.loads((run / "status.json").read_text())["pid"] for run in self.runs(name)]

    def kill_all(self) -> None:
        """What a power cut does."""
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def assert_equal(first: list[Path], second: list[Path]) -> None:
    """All that runs have reached is the same, to the last bit."""
    assert [run.name for run in first] == [run.name for run in second]
    for one, other in zip(first, second, strict=True):
        for name in ("metrics.json", "history.csv"):
            assert (one / name).read_text() == (other / name).read_text(), (one, name)
        for table in (one / "predictions").rglob("*.parquet"):
            same = other / table.relative_to(one)
            pd.testing.assert_frame_equal(pd.read_parquet(table), pd.read_parquet(same), check_exact=True)
        for which in ("best", "last"):
            weights = [
                torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]
                for run in (one, other)
            ]
            assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0]), (one, which)
