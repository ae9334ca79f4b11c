"""Where a result comes from, beside what git says of the checkout."""

import shutil
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import galaxyml
from galaxyml.runs import provenance
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_config import check_same

ROOT = Path(galaxyml.__file__).parents[1]


def git(folder: Path, *words: str) -> str:
    line = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="this is no checkout")
def test_the_commit_of_a_checkout_is_that_of_git() -> None:
    assert provenance.origin(0, "CPU")["commit"] == git(ROOT, "rev-parse", "HEAD")


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_only_changes_of_code_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "galaxyml" / "runs" / "provenance.py"
    code.parent.mkdir(parents=True)
    code.touch()
    monkeypatch.setattr(provenance, "__file__", str(code))
    assert provenance._commit() == {"commit": None, "dirty": None}
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "predictions.csv").touch()
    assert provenance._commit() == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    code.write_text("pass\n")
    assert provenance._commit()["dirty"] is True


def test_another_class_is_told_without_what_it_is_made_with() -> None:
    before = OmegaConf.create({"source": {"_target_": "a.b.Simulated", "seed": 1}, "seed": 0, "batch_size": 8})
    now = OmegaConf.create({"source": {"_target_": "a.b.Auto"}, "seed": 1, "batch_size": 8})
    with pytest.raises(UserError, match=r": seed \(0 then, 1 now\), source \(Simulated then, Auto now\)\."):
        check_same(Path("run"), before, now)
