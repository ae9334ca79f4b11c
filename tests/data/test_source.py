from functools import partial
from pathlib import Path

import pytest

import galaxyml
from galaxyml.data.source import Auto, Real, Simulated


def write(folder: Path, count: int) -> None:
    """Stands for a task's writer."""


def test_a_sky_is_known_by_all_the_code_that_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "galaxyml" / "sky" / "light_curves"
    inner.mkdir(parents=True)
    (tmp_path / "galaxyml" / "trees").mkdir()
    tree, code = tmp_path / "galaxyml" / "trees" / "tree.yaml", inner / "cadence.py"
    tree.write_text("a")
    code.write_text("b")
    monkeypatch.setattr(galaxyml, "__file__", str(tmp_path / "galaxyml" / "__init__.py"))

    def path(count: int = 5) -> Path:
        return Simulated(partial(write, count=count), str(tmp_path)).path

    first = path()
    assert path() == first
    assert path(6) != first
    code.write_text("c")
    second = path()
    assert second != first
    tree.write_text("d")
    assert path() not in (first, second)


@pytest.mark.parametrize("task", ["galaxyzoo", "galaxy10", "spirals", "surveys", "plasticc", "images"])
def test_a_folder_that_the_simulated_sky_has_written_is_never_called_real(
    task: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue("sky" if task == "galaxyzoo" else f"{task}_sky")
    assert Real(task, str(folder.parent)).name == Simulated.name
    assert Real(task, str(folder), own=True).name == Simulated.name
    sky = Simulated(partial(write, count=1), str(tmp_path))
    assert Auto(Real(task, str(folder.parent)), sky, str(folder.parent)).name == Simulated.name
    assert Real(task, str(tmp_path)).name == "real files"
