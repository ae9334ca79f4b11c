"""Where a result comes from: the commit of the code, and the command that was typed."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from galaxyml.runs.errors import UserError
from galaxyml.runs.provenance import COMMAND, origin
from galaxyml.runs.run_config import check_same
from galaxyml.sweeps import forkserver
from galaxyml.sweeps.worker import Job

ROOT = Path(__file__).parents[2]
WORDS = ["task=galaxyzoo", "-m", "fold=0,1"]


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout of git")
def test_a_result_of_a_checkout_names_its_commit_and_whether_code_has_changed_since() -> None:
    found = origin(0, "CPU")
    assert found["commit"] == git("rev-parse", "HEAD")
    changed = [line[3:] for line in git("status", "--porcelain").splitlines()]
    assert found["dirty"] == any(path.startswith(("galaxyml/", "conf/")) for path in changed)


@pytest.mark.parametrize("beginning", [["python", "-m", "galaxyml"], ["python", "/usr/bin/galaxyml"]])
def test_the_command_is_what_was_typed_after_its_name(beginning: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMAND, raising=False)
    monkeypatch.setattr(sys, "orig_argv", [*beginning, *WORDS])
    assert origin(0, "CPU")["command"] == WORDS
    assert Job(Path("run")).typed == [*beginning, *WORDS]


def test_a_process_that_works_for_another_has_the_command_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["python", "-m", "galaxyml", *WORDS]
    monkeypatch.setenv(COMMAND, json.dumps(given))
    assert origin(0, "CPU")["command"] == WORDS
    assert Job(Path("run")).typed == given
    monkeypatch.setattr(forkserver, "_used", True)
    # A process that began before the variable was set, as that from which others are forked does.
    monkeypatch.delenv(COMMAND)
    monkeypatch.setattr(sys, "orig_argv", given)
    assert forkserver.call(partial(os.getenv, COMMAND)) == json.dumps(given)


def test_another_class_is_told_without_what_it_is_made_with() -> None:
    before = OmegaConf.create({"source": {"_target_": "a.b.Simulated", "seed": 1}, "seed": 0, "batch_size": 8})
    now = OmegaConf.create({"source": {"_target_": "a.b.Auto"}, "seed": 1, "batch_size": 8})
    with pytest.raises(UserError, match=r": seed \(0 then, 1 now\), source \(Simulated then, Auto now\)\."):
        check_same(Path("run"), before, now)
