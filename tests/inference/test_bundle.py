"""A run as one file: what it says elsewhere, and what becomes of files that were damaged or made to do harm."""

import json
import os
import pickle
import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from galaxyml.inference import bundle, load, predict
from galaxyml.models import build_model
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import description
from galaxyml.trees.tree import FOLDER

SMALL = ("model=tiny", "size=32", "epochs=1", "batch_size=16", "trainer=cpu", "figures=false")
RUNS: dict[str, tuple[str, ...]] = {
    "galaxyzoo": ("head=tree", "predict_views=2", "-m", "fold=0,1"),
    "spirals": ("task=spirals", "predict_views=2"),
    "lora": ("task=spirals", "model=test_vit", "tune=[head,lora]", "tuning.head_epochs=1", "tuning.lora_rank=2"),
    "surveys": ("task=surveys", "tuning.head_epochs=1", "kind.resamples=20", "kind.least=4", "embedded=9", "heads=own"),
}
Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def make(sky: Path, spirals_sky: Path, surveys_sky: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The folder of one of `RUNS`, a single run's or a sweep's, made by the command when it is first asked for."""
    from galaxyml.__main__ import main

    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in made:
            given = RUNS[name]
            keys = {arg.split("=")[0] for arg in given}
            small = [arg for arg in SMALL if arg.split("=")[0] not in keys]
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.setenv("GALAXYML_CACHE", str(sky.parent / "cache"))
                patch.setattr(sys, "argv", ["galaxyml", *small, f"data_dir={sky.parent}", f"name={name}", *given])
                main()
            made[name] = next((folder / "multirun").glob(f"*/{name}"))
        return made[name] if "-m" in RUNS[name] else made[name] / "fold-0"

    return run


@pytest.fixture(scope="module")
def bundled(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The bundle of one of `RUNS`, alone in a folder."""
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("bundle") / "model.zip"
            bundle.main([str(make(name)), str(made[name])])
        return made[name]

    return run


def said(run: Path, images: Path, out: Path) -> pd.DataFrame:
    predict.main([str(run), str(images), "--out", str(out), "--interval", "all"])
    return pd.read_parquet(out)


@pytest.mark.parametrize("name", ["galaxyzoo", "spirals", "lora", "surveys"])
def test_a_bundle_says_what_its_run_does_to_the_last_bit(
    name: str,
    make: Make,
    bundled: Make,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name == "lora":
        pytest.importorskip("peft", reason="galaxyml[lora] is not installed")
    images = {
        "galaxyzoo": request.getfixturevalue("sky") / "images_test_rev1",
        "surveys": request.getfixturevalue("surveys_sky") / "ukidss" / "images",
    }.get(name, request.getfixturevalue("spirals_sky") / "images")
    run, file = make(name), bundled(name)
    expected = said(run, images, tmp_path / "run.parquet")
    away = run.rename(run.with_name("gone"))  # and with the whole run gone from where it was made
    try:
        shutil.copy(file, tmp_path / "model.zip")
        monkeypatch.chdir(tmp_path)
        found = said(Path("model.zip"), images, tmp_path / "bundle.parquet")
    finally:
        away.rename(run)
    assert len(found) > 5
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_run_that_was_moved_says_the_same(make: Make, sky: Path, tmp_path: Path) -> None:
    run = make("galaxyzoo")
    expected = said(run, sky / "images_test_rev1", tmp_path / "here.parquet")
    moved = shutil.copytree(run, tmp_path / "elsewhere" / "mine")
    away = run.rename(run.with_name("gone"))
    try:
        found = said(moved, sky / "images_test_rev1", tmp_path / "there.parquet")
    finally:
        away.rename(run)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_an_ensemble_is_bundled_with_its_shares(make: Make, sky: Path, tmp_path: Path) -> None:
    from galaxyml.inference import ensemble

    single = make("galaxyzoo") / "fold-0"
    other = shutil.copytree(single, tmp_path / "other")
    config = yaml.safe_load((other / ".hydra" / "config.yaml").read_text())
    (other / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config | {"predict_with": "best"}))
    ensemble.main([str(single), str(other), "--out", str(tmp_path / "both")])
    (tmp_path / "both" / "fitted" / "shares.json").write_text('{"nets": [0.9, 0.1]}')
    bundle.main([str(tmp_path / "both"), str(tmp_path / "both.zip")])
    assert [net["share"] for net in load(tmp_path / "both.zip").description["nets"]] == [0.9, 0.1]
    expected = said(tmp_path / "both", sky / "images_test_rev1", tmp_path / "1.parquet")
    found = said(tmp_path / "both.zip", sky / "images_test_rev1", tmp_path / "2.parquet")
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_the_same_run_gives_the_same_bytes_which_name_no_folder_of_this_machine(
    make: Make, bundled: Make, sky: Path, tmp_path: Path
) -> None:
    for name in ("galaxyzoo", "surveys"):
        bundle.main([str(make(name)), str(tmp_path / f"{name}.zip")])
        content = bundled(name).read_bytes()
        assert (tmp_path / f"{name}.zip").read_bytes() == content
        for folder in (make(name), sky.parent, Path.cwd(), Path.home()):
            assert str(folder).encode() not in content


def test_the_command_tells_what_is_inside(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle.main([str(make("galaxyzoo")), str(tmp_path / "m.zip")])
    told = capsys.readouterr().out.splitlines()
    rmse = json.loads((make("galaxyzoo") / "metrics.json").read_text())["val/rmse"]
    assert told[0].startswith(f"{tmp_path / 'm.zip'}: galaxyzoo, 2 nets, ")
    assert f"val/rmse {rmse:.4g}" in told[0]
    assert told[1] == f"galaxyml predict {tmp_path / 'm.zip'} IMAGES… --out predictions.csv"
    with zipfile.ZipFile(tmp_path / "m.zip") as file:
        assert {name for name in file.namelist() if name.endswith("safetensors")} >= {
            f"nets/{net}/{name}.safetensors" for net in (0, 1) for name in ("weights", "fitted")
        }
        weights = safetensors.numpy.load(file.read("nets/0/weights.safetensors"))
    assert all(name.startswith(("net.", "final.")) for name in weights)


def test_what_cannot_be_bundled_is_told(make: Make, tmp_path: Path) -> None:
    run = make("spirals")
    (tmp_path / "there.zip").write_text("mine")
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    without = shutil.copytree(run, tmp_path / "without")
    shutil.rmtree(without / "checkpoints")
    cases = [
        (run, "model.tar", r"model\.tar: it must end in \.zip"),
        (run, "there.zip", r"there\.zip is there already\. Choose another name, or replace it with --force"),
        (unfinished, "m.zip", r"unfinished is not finished: it has no metrics\.json"),
        (
            without,
            "m.zip",
            r"last\.ckpt is not there: the run's weights were deleted, or .* Copy them there, or delete ",
        ),
        (tmp_path, "m.zip", "is not the folder of a run"),
    ]
    for folder, out, message in cases:
        with pytest.raises(UserError, match=message):
            bundle.main([str(folder), str(tmp_path / out)])
        assert not (tmp_path / "m.zip").exists()
    assert (tmp_path / "there.zip").read_text() == "mine"
    bundle.main([str(run), str(tmp_path / "there.zip"), "--force"])
    assert zipfile.is_zipfile(tmp_path / "there.zip")


def test_a_net_of_ones_own_is_refused_by_name(make: Make, tmp_path: Path) -> None:
    run = shutil.copytree(make("spirals"), tmp_path / "run")
    config = yaml.safe_load((run / ".hydra" / "config.yaml").read_text())
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config | {"model": {"_target_": "mine.Net"}}))
    with pytest.raises(UserError, match=r"run: nets\.0\.net is 'mine\.Net', which is not galaxyml's own"):
        description.encode(description.describe(RunDir(run)), str(run))


def test_a_tree_of_ones_own_travels(make: Make, sky: Path, tmp_path: Path) -> None:
    run = shutil.copytree(make("galaxyzoo") / "fold-0", tmp_path / "run")
    mine = tmp_path / "my tree.yaml"
    content = yaml.safe_load((FOLDER / "kaggle.yaml").read_text())
    mine.write_text(yaml.safe_dump(content | {"title": "Of my own"}))
    config = yaml.safe_load((run / ".hydra" / "config.yaml").read_text())
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config | {"tree": str(mine)}))
    bundle.main([str(run), str(tmp_path / "m.zip")])
    expected = said(run, sky / "images_test_rev1", tmp_path / "run.parquet")
    mine.unlink()
    found = said(tmp_path / "m.zip", sky / "images_test_rev1", tmp_path / "m.parquet")
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    with zipfile.ZipFile(tmp_path / "m.zip") as file:
        trees = json.loads(file.read("predictor.json"))["predictor"]["trees"]
    assert trees == {"my-tree": content | {"title": "Of my own"}}


def test_two_trees_of_one_name_stay_two(tmp_path: Path) -> None:
    content = yaml.safe_load((FOLDER / "gz2.yaml").read_text()) | {"title": "Of my own"}
    (tmp_path / "GZ2.yaml").write_text(yaml.safe_dump(content))
    trees: dict[str, Any] = {}
    names = [description._add_tree(name, trees) for name in ("gz2", str(tmp_path / "GZ2.yaml"), "gz2")]
    assert names[0] == names[2] != names[1]
    assert trees[names[1]] == content
    assert trees[names[0]]["title"] != "Of my own"


def test_files_that_are_not_there_are_told() -> None:
    with pytest.raises(UserError, match="is not there"):
        load("gone.zip")
    with pytest.raises(UserError, match="gone is not there"):
        load("gone")


# --- what conf/ names can be bundled


def files_of(*groups: str) -> list[tuple[str, str]]:
    return [(group, path.stem) for group in groups for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "name"), files_of("model", "head", "task"))
def test_every_net_head_and_task_can_be_bundled(group: str, name: str, tmp_path: Path) -> None:
    if name.startswith(("light_curve", "plasticc", "anomalies")):
        pytest.skip("of light curves, or ranks and predicts nothing")
    overrides = [f"{group}={name}", "cache_dir=cache"]
    overrides += ["size=56"] if name.startswith("dinov2") else []
    overrides += ["model.name=test_resnet"] if (group, name) == ("model", "timm") else []
    text = (CONF / group / f"{name}.yaml").read_text()
    overrides += ["task=surveys"] if group == "head" and ("vocabulary" in text or name == "concentrations") else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides)
    kind = description._plain(config.kind)
    found = {"task": config.task, "kind": kind, "stages": [], "nets": [description._net(config)]}
    encoded = json.loads(json.dumps(description.encode(found, name)))
    decoded = description.decode(encoded, tmp_path)
    assert instantiate(decoded["kind"], _convert_="all").outputs == instantiate(config.kind).outputs
    (net,) = decoded["nets"]
    assert net["net"]["_target_"] == config.module.net._target_
    assert net["head"] is None or isinstance(instantiate(net["head"], _convert_="all"), torch.nn.Module)
    if not name.endswith(("base", "large")):  # too large to build here
        built = build_model(net["net"], len(kind_of(decoded).outputs), 64 if "patch16" in str(net["net"]) else 56)
        assert sum(parameter.numel() for parameter in built.parameters()) > 0


def kind_of(decoded: dict[str, Any]) -> Any:
    return instantiate(decoded["kind"], _convert_="all")


# --- damaged files, and such as were made to do harm

Files = dict[str, bytes]


def contents(path: Path) -> Files:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def forge(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def changed(files: Files, value: Any, *path: str | int) -> Files:
    """The files with one value of the JSON changed."""
    content = part = json.loads(files["predictor.json"])
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return files | {"predictor.json": json.dumps(content).encode()}


def refused(path: Path) -> str:
    """The sentence by which a bundle is refused."""
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()  # nothing that a terminal would take as a command
    return str(caught.value)


NET = ("predictor", "nets", 0, "net")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((*NET, "_target_"), "os.system", "_target_ is a key that bundles do not have"),
        ((*NET, "class"), "os.system", "'os.system', which is none of galaxyml's nets and kinds"),
        ((*NET, "class"), "Classes", "batch_norm: Classes has no such argument"),
        ((*NET, "_args_"), [2], "_args_ is a key"),
        ((*NET, "dropout"), {"class": "os.system"}, "'os.system', which is none"),
        ((*NET, "dropout"), "${oc.env:HOME}", "no plain text"),
        ((*NET, "stride"), "x" * 2000, "no plain text"),
        ((*NET, "stride"), "\x1b[31m", "no plain text"),
        (("predictor", "${oc.env:HOME}"), 1, "no plain text"),
        ((*NET, "nonsense"), 1, "nonsense"),
        ((*NET, "outputs"), 10**9, "outputs is 1000000000; at most 65,536"),
        ((*NET, "dropout"), float("nan"), "dropout is nan"),
        ((*NET, "channels"), [1] * 10_001, "10,001 items"),
        ((*NET, "hidden"), 129, "size mismatch"),
        ((*NET, "weights"), "/etc/passwd", "weights is a key"),
        (("predictor", "kind"), {"class": "os.system"}, "'os.system', which is none"),
        (("predictor", "kind", "classes"), ["a", "b", "c"], "its kind of target others"),
        (("predictor", "stages"), [{"_target_": "os.system"}], "_target_ is a key"),
        (("predictor", "nets", 0, "head"), {"class": "TreeHead", "tree": "/etc/passwd"}, "which is not in it"),
        (("predictor", "nets", 0, "views"), 9, "predict_views=9"),
        (("predictor", "nets", 0, "framing", "size"), -1, "does not fit|must be"),
        (("predictor", "trees"), {"../../evil": {}}, "a tree that is named '../../evil'"),
        (("predictor", "trees"), {"kaggle": {"column": "{name.__class__}"}}, "made of other things than names"),
        (("fitted", 1), {}, "has no fitted outputs"),
        (("fitted", 1, "outputs"), {"columns": ["a"]}, "its kind of target others"),
        (("fitted", 0, "calibration"), {"temperature": "hot"}, "does not fit"),
        (("fitted",), [], "does not fit"),
        (("version",), 2, "in the format '2'; this one, .* reads 3"),
        (("format",), "of someone else", "another program's"),
    ],
)
def test_what_no_run_has_is_refused(
    path: tuple[str | int, ...], value: Any, message: str, bundled: Make, tmp_path: Path
) -> None:
    told = refused(forge(tmp_path / "m.zip", changed(contents(bundled("spirals")), value, *path)))
    assert re.search(message, told), told


@pytest.mark.parametrize("campaign", ["/etc/passwd", "../trees/gz2.yaml", "nothing"])
def test_campaigns_are_the_packages_own(campaign: str, bundled: Make, tmp_path: Path) -> None:
    path = ("predictor", "kind", "vocabulary", "surveys", "sdss", "campaign")
    told = refused(forge(tmp_path / "m.zip", changed(contents(bundled("surveys")), campaign, *path)))
    assert campaign in told or "its kind of target others" in told


@pytest.mark.parametrize(
    "option",
    ["weights", "pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "norm_layer"],
)
def test_no_net_opens_files_or_addresses(option: str, bundled: Make, tmp_path: Path) -> None:
    net = {"class": "timm_net", "name": "test_resnet", "outputs": 2, option: str(tmp_path / "w.pt")}
    assert option in refused(forge(tmp_path / "m.zip", changed(contents(bundled("spirals")), net, *NET)))


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "/tmp/net"])
def test_no_net_is_fetched_by_name(name: str, bundled: Make, tmp_path: Path) -> None:
    net = {"class": "timm_net", "name": name, "outputs": 2}
    told = refused(forge(tmp_path / "m.zip", changed(contents(bundled("spirals")), net, *NET)))
    assert "timm has no such net" in told


def test_files_that_are_no_bundles_are_told(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "empty.zip").write_bytes(b"")
    forge(tmp_path / "other.zip", {"a.txt": b"hello"})
    for name, reason in (
        ("text.zip", "no bundle of galaxyml: it is no zip file"),
        ("empty.zip", "no bundle of galaxyml: it is no zip file"),
        ("other.zip", "no bundle of galaxyml: it has no predictor.json"),
    ):
        assert reason in refused(tmp_path / name)
    for content in (b"{", b"[]", b"\xff", b"[" * 100_000, b"{}"):
        assert "damaged" in refused(forge(tmp_path / "m.zip", {"predictor.json": content}))


def test_a_bundle_that_is_cut_off_or_has_a_wrong_bit_is_refused_or_says_the_same(bundled: Make, tmp_path: Path) -> None:
    whole = bundled("spirals").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "m.zip"
    for length in (0, 3, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refused(path)
    expected = contents(bundled("spirals"))
    places = np.concatenate([rng.integers(0, len(whole), 20), rng.integers(len(whole) - 1000, len(whole), 60)])
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            load(path)
        except UserError:
            continue
        assert contents(path) == expected  # dates and other things that do not matter


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "/tmp/evil.json", "nets/../x.json", "evil.py", "nets/00/weights.safetensors", "metrics.json"],
)
def test_names_that_no_bundle_has_are_refused(name: str, bundled: Make, tmp_path: Path) -> None:
    assert "which bundles do not" in refused(forge(tmp_path / "m.zip", contents(bundled("spirals")) | {name: b"{}"}))


def test_files_missing_or_twice_are_refused(bundled: Make, tmp_path: Path) -> None:
    files = contents(bundled("galaxyzoo"))
    path = tmp_path / "m.zip"
    without = {name: content for name, content in files.items() if name != "nets/1/weights.safetensors"}
    assert "nets/1/weights.safetensors is missing" in refused(forge(path, without))
    forge(path, files)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("predictor.json", files["predictor.json"])
    assert "holds 'predictor.json' twice" in refused(path)


def test_links_packed_files_and_files_larger_than_the_zip_are_refused(bundled: Make, tmp_path: Path) -> None:
    files = contents(bundled("spirals"))
    path = forge(tmp_path / "m.zip", files)
    with zipfile.ZipFile(path, "a") as file:
        info = zipfile.ZipInfo("fitted.safetensors2")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    assert "is a link or a folder" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:  # a bomb
        file.writestr("nets/7/fitted.safetensors", bytes(10_000_000))
    assert "is packed" in refused(path)
    forge(path, files)
    with zipfile.ZipFile(path, "a") as file:  # one stored file that many entries of the list of files point to
        same = file.getinfo("nets/0/weights.safetensors")
        for number in range(1, 50):
            info = zipfile.ZipInfo(f"nets/{number}/weights.safetensors")
            info.header_offset, info.file_size = same.header_offset, same.file_size
            info.compress_size, info.CRC = same.compress_size, same.CRC
            file.filelist.append(info)
            file._didModify = True  # type: ignore[attr-defined]
    assert "its files are larger than itself" in refused(path)


def test_pickles_are_never_read_and_weights_must_fit_and_be_finite(bundled: Make, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    files = contents(bundled("spirals"))
    for name in ("nets/0/fitted.safetensors", "nets/0/weights.safetensors"):
        for content in (pickle.dumps(Harm()), b"\xff" * 64, b""):
            assert refused(forge(tmp_path / "m.zip", files | {name: content}))
    assert not (tmp_path / "marker").exists()
    weights = safetensors.numpy.load(files["nets/0/weights.safetensors"])
    first = next(name for name, value in weights.items() if value.dtype == np.float32)
    for state, message in (
        (weights | {"net.\x1b[31m": np.zeros(3, np.float32)}, "does not fit"),
        ({first: weights[first]}, "does not fit"),
        (weights | {first: weights[first] * np.float32("nan")}, "numbers that are not finite"),
    ):
        forged = files | {"nets/0/weights.safetensors": safetensors.numpy.save(state)}
        assert message in refused(forge(tmp_path / "m.zip", forged))
