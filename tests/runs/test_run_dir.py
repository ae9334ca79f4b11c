"""What a folder that is not a run's says of itself."""

from pathlib import Path

import pytest

from galaxyml.runs.errors import UsageError
from galaxyml.runs.run_dir import RunDir


def begun(*folders: Path) -> None:
    for folder in folders:
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "config.yaml").write_text("{}")


def test_a_sweep_over_seeds_names_what_it_has_joined(tmp_path: Path) -> None:
    begun(tmp_path / "joined" / "seed-0", tmp_path / "joined" / "seed-1", tmp_path / "fold-0_seed-0")
    with pytest.raises(UsageError, match=r"a sweep over more than the fold. Give one of .*joined/seed-0, .*seed-1\."):
        _ = RunDir(tmp_path).config


def test_a_sweep_that_was_not_joined_names_its_runs(tmp_path: Path) -> None:
    begun(tmp_path / "fold-0", tmp_path / "fold-1")
    with pytest.raises(UsageError, match=r"is not finished\. The same command with name=\S+ starts anew\."):
        _ = RunDir(tmp_path).config
    RunDir(tmp_path / "fold-0").write_metrics({})
    with pytest.raises(UsageError, match=r"is not the folder of a run, .* Give one of them: .*fold-0, .*fold-1\."):
        _ = RunDir(tmp_path).config


def test_other_folders_are_told_from_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the folder of a run"):
        _ = RunDir(tmp_path).config
    with pytest.raises(UsageError, match="nowhere is not there"):
        RunDir(tmp_path / "nowhere").metrics()
