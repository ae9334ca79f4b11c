"""Origin of a result: the command, the seed, the versions, the commit and the machine."""

import json
import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Environment variables that a launcher gives to a job.
COMMAND = "GALAXYML_COMMAND"  # what the user typed, as JSON
PLACE = "GALAXYML_PLACE"  # where it runs, such as `GPU 1`
SIMULATED = "simulated.txt"  # a file that marks a folder of the simulated sky's

CODE = ("galaxyml", "conf")  # what numbers follow from; files that commands leave beside it change none

PACKAGES = (
    "galaxyml",
    "torch",
    "lightning",
    "timm",
    "torchvision",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "pyod",
    "umap-learn",
    "astropy",
)


def origin(seed: int, device: str) -> dict[str, Any]:
    """Facts that are needed to repeat a run, besides its configuration and its data.

    Args:
        seed: The run's seed.
        device: What it ran on, in words.
    """
    versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    return {"seed": seed, "command": _typed(), "versions": versions, **_commit(), "device": device}


def host_info() -> dict[str, object]:
    """Place, host and number of this process, for a run's status."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    slot = os.environ.get(PLACE) or (f"GPU {gpus.replace(',', '+')}" if gpus else "")
    return {"place": slot, "host": socket.gethostname(), "pid": os.getpid()}


def command_line() -> list[str]:
    """What the user typed, interpreter first: this process's own command, or that of the one it works for."""
    return list(json.loads(os.environ.get(COMMAND) or json.dumps(sys.orig_argv)))


def _typed() -> list[str]:
    """Words that the user typed after the name of the command."""
    rest = command_line()[1:]
    return rest[2:] if rest[:1] == ["-m"] else rest[1:]


def _commit() -> dict[str, Any]:
    """The commit of the code that runs, if it lies in a repository of its own, and whether the code differs from it."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False).stdout

    changed = git("status", "--porcelain", "--", *CODE).strip()
    return {"commit": git("rev-parse", "HEAD").strip() or None, "dirty": bool(changed)}
