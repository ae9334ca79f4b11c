"""Weights alone of a run: `galaxyml bundle RUN name.safetensors`, and what `start=` makes of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import galaxyml
from galaxyml.inference import bundle
from galaxyml.runs.errors import UsageError
from galaxyml.runs.run_dir import RunDir
from galaxyml.runs.weights_about import about
from galaxyml.training.start import member, read_start

Command = Callable[..., tuple[int, str]]


def written(run: Path, out: Path, *options: str) -> Path:
    bundle.main([str(run), str(out), *options])
    return out


@pytest.mark.parametrize(("task", "net"), [("galaxyzoo", "GalaxyCNN"), ("plasticc", "LightCurveVAE")])
def test_they_are_those_of_the_run_and_say_what_they_are(
    task: str, net: str, page_run: Callable[[str], Path], tmp_path: Path
) -> None:
    run = RunDir(member(page_run(task)))
    file = written(page_run(task), tmp_path / "weights.safetensors")
    there, here = read_start(run.path), read_start(file)
    assert (here.outputs, here.net, here.head) == (there.outputs, there.net, there.head)
    assert here.net == net
    assert here.weights.keys() == there.weights.keys()
    assert all(torch.equal(here.weights[name], value) for name, value in there.weights.items())
    said = about(file)
    assert said is not None
    assert (said["task"], said["net"]["class"]) == (task, net)
    assert not any(str(run.path.parent) in str(value) for value in said.values())


def test_half_as_large_they_are_rounded(page_run: Callable[[str], Path], tmp_path: Path) -> None:
    whole = written(page_run("galaxyzoo"), tmp_path / "whole.safetensors")
    half = written(page_run("galaxyzoo"), tmp_path / "half.safetensors", "--half")
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    for name, value in load_file(whole).items():
        rounded = read_start(half).weights[name]
        assert rounded.dtype == value.dtype
        torch.testing.assert_close(rounded, value, rtol=2**-11, atol=1e-7)


def test_a_run_begins_with_them_without_naming_its_net(
    page_run: Callable[[str], Path], images_sky: Path, command: Command, tmp_path: Path
) -> None:
    file = written(page_run("galaxyzoo"), tmp_path / "weights.safetensors")
    line = ("task=images", f"data_dir={images_sky}", "columns=[kind]", f"start={file}", "name=mine", "model=tiny")
    status, printed = command(*line, "epochs=1")
    assert status == 0, printed
    assert "weights.safetensors (GalaxyCNN), " in printed
    status, printed = command(*line[:-1], "--cfg", "job")
    assert status == 0, printed
    assert "galaxyml.models.galaxycnn.GalaxyCNN" in printed


def test_light_curves_begin_with_them(page_run: Callable[[str], Path], command: Command, tmp_path: Path) -> None:
    file = written(page_run("plasticc"), tmp_path / "weights.safetensors")
    data = RunDir(member(page_run("plasticc"))).config.data_dir
    status, printed = command(
        "task=plasticc", f"data_dir={data}", f"start={file}", "name=more", "epochs=1", "top=0", "embedded=0"
    )
    assert status == 0, printed
    assert "weights.safetensors (LightCurveVAE), " in printed


def test_they_do_not_predict(page_run: Callable[[str], Path], tmp_path: Path) -> None:
    file = written(page_run("galaxyzoo"), tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match=r"has weights alone, which start=… takes\. To predict, give the run"):
        galaxyml.load(file)


def test_a_wrong_ending_or_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it must end in \.zip .* or in \.safetensors"):
        bundle.main([str(tmp_path), str(tmp_path / "model.tar")])
    with pytest.raises(UsageError, match=r"--half is of weights alone"):
        bundle.main([str(tmp_path), str(tmp_path / "model.zip"), "--half"])


def test_files_of_other_programs_say_nothing(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    assert about(tmp_path / "a.safetensors") is None
    (tmp_path / "config.json").write_text("[1]")
    assert about(tmp_path / "a.safetensors") is None
    (tmp_path / "b.safetensors").write_bytes(b"no weights")
    assert about(tmp_path / "b.safetensors") is None
