"""A run as one file: what it says elsewhere, and what becomes of files that were damaged or made to do harm."""

import json
import os
import pickle
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
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
from omegaconf import OmegaConf

from galaxyml.inference import bundle, bundle_reading, predict
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees.tree import FOLDER

SMALL = ("model=tiny", "size=32", "epochs=1", "batch_size=16", "trainer=cpu")
RUNS: dict[str, tuple[str, ...]] = {
    "galaxyzoo": ("head=tree", "predict_views=2", "-m", "fold=0,1"),
    "spirals": ("task=spirals", "predict_views=2"),
    "lora": ("task=spirals", "model=test_vit", "tune=[head,lora]", "tuning.head_epochs=1", "tuning.lora_rank=2"),
    "surveys": ("task=surveys", "tuning.head_epochs=1", "resamples=20", "least=4", "embedded=9", "heads=own"),
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


def said(run: Path, pictures: Path, out: Path) -> pd.DataFrame:
    predict.main([str(run), str(pictures), "--out", str(out), "--interval", "all"])
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
        pytest.importorskip("peft")
    pictures = {
        "galaxyzoo": request.getfixturevalue("sky") / "images_test_rev1",
        "surveys": request.getfixturevalue("surveys_sky") / "ukidss" / "images",
    }.get(name, request.getfixturevalue("spirals_sky") / "images")
    run, file = make(name), bundled(name)
    expected = said(run, pictures, tmp_path / "run.parquet")
    away = run.rename(run.with_name("gone"))  # and with the whole run gone from where it was made
    try:
        shutil.copy(file, tmp_path / "model.zip")
        monkeypatch.chdir(tmp_path)
        found = said(Path("model.zip"), pictures, tmp_path / "bundle.parquet")
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
    assert bundle.opened(tmp_path / "both.zip").shares() == [0.9, 0.1]
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
    assert told[1] == f"python -m galaxyml predict {tmp_path / 'm.zip'} PICTURES… --out predictions.csv"
    with zipfile.ZipFile(tmp_path / "m.zip") as file:
        assert {name for name in file.namelist() if name.endswith("safetensors")} >= {
            f"nets/{net}/{name}.safetensors" for net in (0, 1) for name in ("weights", "fitted/familiar")
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
    curves = RunDir(tmp_path / "curves")
    curves.start(OmegaConf.create({"data": {"balance": 0}}), [])
    cases = [
        (run, "model.tar", r"model\.tar: it must end in \.zip"),
        (run, "there.zip", r"there\.zip is there already\. Choose another name, or replace it with --force"),
        (unfinished, "m.zip", r"unfinished has no metrics\.json: the run is not finished"),
        (without, "m.zip", "were deleted"),
        (tmp_path, "m.zip", "is not the folder of a run"),
        (curves.path, "m.zip", "is a run of light curves; only runs on pictures can be bundled"),
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
    with pytest.raises(UserError, match=r"run: module\.net is 'mine\.Net'; there it may be galaxyml\.models\."):
        bundle.main([str(run), str(tmp_path / "m.zip")])
    assert not (tmp_path / "m.zip").exists()


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
    opened = bundle.opened(tmp_path / "m.zip")
    assert yaml.safe_load((opened.path / "trees" / "my-tree.yaml").read_text()) == content | {"title": "Of my own"}


def test_two_trees_of_one_name_stay_two(tmp_path: Path) -> None:
    content = yaml.safe_load((FOLDER / "gz2.yaml").read_text()) | {"title": "Of my own"}
    (tmp_path / "GZ2.yaml").write_text(yaml.safe_dump(content))
    trees: dict[str, Any] = {}
    names = [bundle._tree(name, trees) for name in ("gz2", str(tmp_path / "GZ2.yaml"), "gz2")]
    assert names[0] == names[2] != names[1]
    assert trees[names[1]] == content
    assert trees[names[0]]["title"] != "Of my own"


def test_what_was_unpacked_goes_with_the_run(bundled: Make) -> None:
    run = bundle.opened(bundled("spirals"))
    folder = run.path
    assert folder.is_dir()
    del run
    assert not folder.exists()
    with pytest.raises(UserError, match="is not there"):
        bundle.opened(Path("gone.zip"))
    assert bundle.opened(Path("gone")).path == Path("gone")  # told by what reads it


# --- what conf/ names can be bundled


def files_of(*groups: str) -> list[tuple[str, str]]:
    return [(group, path.stem) for group in groups for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "name"), files_of("model", "head", "task", "experiment"))
def test_every_net_head_and_task_can_be_bundled(group: str, name: str) -> None:
    path = CONF / group / f"{name}.yaml"
    if name.startswith(("light_curve", "plasticc")):
        pytest.skip("of light curves")
    overrides = [f"{group}={name}", "cache_dir=cache"]
    overrides += ["model.name=test_resnet"] if (group, name) == ("model", "timm") else []
    overrides += ["task=surveys"] if "vocabulary" in path.read_text() or name == "concentrations" else []
    overrides += ["size=56"] if name.startswith("dinov2") else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides)
    trees: dict[str, Any] = {}
    found = bundle._settled(bundle._of_run(config) | bundle._of_net(config), trees)
    assert found["stages"] or config.task == "plasticc"
    bundle_reading.check_config(found, name, trees)
    for tree, content in trees.items():
        bundle_reading.check_tree(content, tree)
    assert OmegaConf.to_container(OmegaConf.create(bundle_reading.as_json(found))) == found  # YAML reads it alike
    if name.endswith(("base", "large")) or (group == "experiment" and "dinov2" in str(config.model.get("name"))):
        return  # too large to build here; as its smaller sister
    for key in ("weights", "pretrained"):
        if key in config.model:
            config.model[key] = None if key == "weights" else False
    shapes = {name: value.shape for name, value in instantiate(config.module.net).state_dict().items()}
    numbers = sum(shape.numel() for shape in shapes.values())
    with bundle_reading._no_larger(numbers):
        net = instantiate(found["module"]["net"])
    assert {name: value.shape for name, value in net.state_dict().items()} == shapes


# --- damaged files, and such as were made to do harm

Files = dict[str, bytes]


def contents(path: Path) -> Files:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def forge(path: Path, files: Files, sign: bool = True) -> Path:
    """Writes a bundle of any files, with sizes and digests that fit if `sign` is set, as an attacker would."""
    if sign:
        manifest = json.loads(files["bundle.json"])
        manifest["files"] = {
            name: {"sha256": sha256(content).hexdigest(), "size": len(content)}
            for name, content in files.items()
            if name != "bundle.json"
        }
        files = files | {"bundle.json": json.dumps(manifest).encode()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def changed(files: Files, name: str, change: Callable[[Any], Any]) -> Files:
    """The files with one JSON file changed in place."""
    content = json.loads(files[name])
    change(content)
    return files | {name: json.dumps(content).encode()}


def refused(path: Path) -> str:
    """The message by which a bundle is refused, after which nothing is left of it."""
    before = set(Path(os.environ["TMPDIR"]).iterdir())
    with pytest.raises(UserError) as caught:
        bundle.opened(path)
    assert set(Path(os.environ["TMPDIR"]).iterdir()) == before
    return str(caught.value)


@pytest.fixture(autouse=True)
def folder_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)


def put(value: Any, *path: str | int) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


HARM: dict[str, Callable[[str], dict[str, Any]]] = {
    "os.system": lambda marker: {"_target_": "os.system", "command": f"touch {marker}"},
    "builtins.exec": lambda marker: {"_target_": "builtins.exec", "_args_": [f"open({marker!r}, 'w')"]},
    "galaxyml.runs.files.write_text": lambda marker: {
        "_target_": "galaxyml.runs.files.write_text",
        "path": {"_target_": "pathlib.Path", "_args_": [marker]},
        "text": "",
    },
    "subprocess.run": lambda marker: {"_target_": "subprocess.run", "args": ["touch", marker]},
}
SPOTS: dict[str, tuple[str | int, ...]] = {
    "net": ("module", "net"),
    "an argument of the net": ("module", "net", "channels"),
    "an item of a list": ("module", "net", "channels", 2),
    "final": ("module", "final"),
    "views": ("module", "predict_views"),
    "tuning": ("module", "tuning"),
    "framing": ("data", "framing"),
    "an argument of framing": ("data", "framing", "crop"),
    "a stage": ("stages", 0),
    "an argument of a stage": ("stages", 0, "classes"),
    "elsewhere": ("model",),
    "the trainer": ("trainer", "callbacks"),
    "the precision": ("trainer", "precision"),
}


def test_the_harm_would_be_done_if_a_configuration_were_trusted(tmp_path: Path) -> None:
    instantiate(
        HARM["galaxyml.runs.files.write_text"](str(tmp_path / "marker"))
    )  # some Hydras refuse the others themselves
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("spot", SPOTS)
@pytest.mark.parametrize("target", HARM)
def test_nothing_runs_that_a_bundle_names(target: str, spot: str, bundled: Make, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    harm = HARM[target](str(marker))
    files = changed(contents(bundled("spirals")), "config.json", put(harm, *SPOTS[spot]))
    said = refused(forge(tmp_path / "m.zip", files))
    assert target in said
    assert "config.json" in said
    assert not marker.exists()


def test_nothing_runs_in_the_configurations_of_members_and_of_surveys(bundled: Make, tmp_path: Path) -> None:
    harm = HARM["os.system"](str(tmp_path / "marker"))
    sweep, surveys = contents(bundled("galaxyzoo")), contents(bundled("surveys"))
    vocabulary = ("stages", 0, "vocabulary")
    for files, name, path in (
        (sweep, "nets/1/config.json", ("module", "net")),
        (sweep, "nets/0/config.json", ("module", "final", "tree")),
        (surveys, "config.json", vocabulary),
        (surveys, "config.json", (*vocabulary, "surveys")),
        (surveys, "config.json", (*vocabulary, "surveys", "sdss")),
        (surveys, "config.json", (*vocabulary, "surveys", "sdss", "catalogue")),
        (surveys, "config.json", (*vocabulary, "surveys", "sdss", "catalogue", "table")),
        (surveys, "config.json", (*vocabulary, "features")),
    ):
        assert name in refused(forge(tmp_path / "m.zip", changed(files, name, put(harm, *path))))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("module", "net", "_partial_"), True, r"_partial_ is a key"),
        (("module", "net", "_args_"), [2], r"_args_ is a key"),
        (("module", "net", "_recursive_"), False, r"_recursive_ is a key"),
        (("module", "net", "_convert_"), "object", r"_convert_ is a key"),
        (("module", "net", "dropout"), "${oc.env:HOME}", r"net\.dropout is '\$\{oc\.env:HOME\}', an interpolation"),
        (("${oc.env:HOME}",), 1, "an interpolation"),
        (("module", "net", "nonsense"), 1, r"net\.nonsense is no argument"),
        (("module", "net", "outputs"), 10**9, "net.outputs is 1000000000; at most 65,536"),
        (("module", "net", "outputs"), 10**400, "net.outputs is 1000000"),
        (("module", "net", "dropout"), float("nan"), r"net\.dropout is nan"),
        (("module", "net", "dropout"), float("-inf"), r"net\.dropout is -inf"),
        (("data", "framing", "size"), 50_000, r"framing\.size is 50000; at most 4,096"),
        (("module", "net", "channels"), [1] * 10_001, "10,001 items"),
        (
            ("trainer", "precision"),
            "transformer-engine",
            "is 'transformer-engine'; it must be auto",
        ),
        (("module", "net", "channels"), [2_000, 4_000] * 2, r"its net is larger than its [\d,]+ weights"),
        (("module", "net", "hidden"), 129, r"size mismatch for net\.head\.0\.weight"),
        (("module", "net", "batch_norm"), False, "the weights|its weights"),
        (("module", "net", "stride"), "x" * 2000, "too many"),
        (("module", "net", "stride"), "\x1b[31m", "cannot be printed"),
        (("module", "tune"), "lora", "do not fit"),
        (("module", "predict_views"), 9, r"predict_views=9"),
        (("stages", 0, "classes"), ["a", "b"], "its stages do not fit"),
    ],
)
def test_values_that_no_run_has_are_refused(
    path: tuple[str, ...], value: Any, message: str, bundled: Make, tmp_path: Path
) -> None:
    files = changed(contents(bundled("spirals")), "config.json", put(value, *path))
    with pytest.raises(UserError, match=message):
        bundle.opened(forge(tmp_path / "m.zip", files))


@pytest.mark.parametrize(
    "option",
    ["weights", "pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "norm_layer"],
)
def test_no_net_opens_files_or_addresses(option: str, bundled: Make, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    net = {"_target_": bundle_reading.TIMM, "name": "test_resnet", "outputs": 2, option: str(tmp_path / "w.pt")}
    files = changed(contents(bundled("spirals")), "config.json", put(net, "module", "net"))
    assert f"module.net.{option} is no argument that a bundle may give" in refused(forge(tmp_path / "m.zip", files))


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "/tmp/net"])
def test_no_net_is_fetched_by_name(name: str, bundled: Make, tmp_path: Path) -> None:
    net = {"_target_": bundle_reading.TIMM, "name": name, "outputs": 2}
    files = changed(contents(bundled("spirals")), "config.json", put(net, "module", "net"))
    assert "timm has no such net" in refused(forge(tmp_path / "m.zip", files))


def test_trees_and_catalogues_are_the_bundles_own(bundled: Make, tmp_path: Path) -> None:
    shutil.copy(FOLDER / "kaggle.yaml", tmp_path / "kaggle.yaml")
    sweep, surveys = contents(bundled("galaxyzoo")), contents(bundled("surveys"))
    for value in (str(tmp_path / "kaggle.yaml"), "kaggle", "../kaggle.yaml", "trees/gz2.json", ["trees/kaggle.json"]):
        files = changed(sweep, "config.json", put(value, "stages", 0, "tree"))
        assert "a decision tree that is not in the bundle" in refused(forge(tmp_path / "m.zip", files))
    catalogue = ("stages", 0, "vocabulary", "surveys", "decals12", "catalogue")
    files = changed(surveys, "config.json", put(str(tmp_path / "kaggle.yaml"), *catalogue, "tree"))
    assert "a decision tree that is not in the bundle" in refused(forge(tmp_path / "m.zip", files))
    files = changed(surveys, "config.json", put("/etc/passwd", *catalogue, "table"))
    assert "catalogue.table names a file" in refused(forge(tmp_path / "m.zip", files))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("column",), "{name.__class__}", "it may have {name}, {number} and {answer}"),
        (("column",), "{name:>999999999999}", "it may have {name}, {number} and {answer}"),
        (("column",), "{name!r}", "it may have {name}, {number} and {answer}"),
        (("column",), "{", "no pattern of a column"),
        (("questions", 0, "answers"), 3, "is no decision tree|is missing or not a mapping"),
        (("questions",), [{"name": "Class1", "answers": ["a", "b", "c"]}], "do not fit"),
        (("questions", 0, "after"), "nothing", "comes after"),
        (("title",), {"_target_": "os.system"}, "there it may be none"),
    ],
)
def test_trees_are_plain_text(path: tuple[str, ...], value: Any, message: str, bundled: Make, tmp_path: Path) -> None:
    files = changed(contents(bundled("galaxyzoo")), "trees/kaggle.json", put(value, *path))
    with pytest.raises(UserError, match=message):
        bundle.opened(forge(tmp_path / "m.zip", files))


def test_which_nets_speak_is_not_taken_from_a_bundle(bundled: Make, tmp_path: Path) -> None:
    planted = RunDir(tmp_path / "planted")
    planted.start(OmegaConf.create({"module": HARM["os.system"](str(tmp_path / "marker"))}), [])
    for name in ("spirals", "galaxyzoo"):
        files = contents(bundled(name))
        files = changed(files, "provenance.json", put([str(planted.path), "../.."], "joined"))
        run = bundle.opened(forge(tmp_path / "m.zip", files))
        assert all(net.path.is_relative_to(run.path) for net in run.nets())
        assert len(run.members()) == (2 if name == "galaxyzoo" else 0)


def test_files_that_are_no_bundles_are_told(bundled: Make, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "empty.zip").write_bytes(b"")
    forge(tmp_path / "other.zip", {"a.txt": b"hello"}, sign=False)
    forge(tmp_path / "json.zip", {"bundle.json": b'{"format": "of someone else"}'}, sign=False)
    for name, reason in (
        ("text.zip", "it is no zip file"),
        ("empty.zip", "it is no zip file"),
        ("other.zip", r"it has no bundle.json"),
        ("json.zip", "its bundle.json is another program's"),
    ):
        assert refused(tmp_path / name).startswith(f"{tmp_path / name} is no bundle of galaxyml: {reason}")
    for content in (b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format": "galaxyml bundle", "version": "1"}'):
        assert "damaged" in refused(forge(tmp_path / "m.zip", {"bundle.json": content}, sign=False))
    newer = changed(contents(bundled("spirals")), "bundle.json", put(2, "version"))
    newer = changed(newer, "bundle.json", put("9.9", "versions", "galaxyml"))
    assert "was made by a newer galaxyml ('9.9'): its format is version 2" in refused(forge(tmp_path / "m.zip", newer))


def test_a_bundle_that_is_cut_off_or_has_a_wrong_bit_is_refused_or_says_the_same(bundled: Make, tmp_path: Path) -> None:
    whole = bundled("spirals").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "m.zip"
    for length in (0, 3, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refused(path)
    expected = contents(bundled("spirals"))
    tail = len(whole) - 3000  # the manifest and the zip's own list of files
    places = np.concatenate([rng.integers(0, len(whole), 40), rng.integers(tail, len(whole), 120)])
    opened = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            bundle.opened(path)
        except UserError:
            continue
        opened += 1
        assert contents(path) == expected  # dates and other things that do not matter
    assert opened < len(places) // 2


def test_a_changed_file_is_named(bundled: Make, tmp_path: Path) -> None:
    files = contents(bundled("spirals"))
    for name in ("weights.safetensors", "metrics.json", "fitted/calibration.json", "fitted/familiar.safetensors"):
        content = bytearray(files[name])
        content[-5] ^= 1
        told = refused(forge(tmp_path / "m.zip", files | {name: bytes(content)}, sign=False))
        assert f"{name} is not what its bundle.json tells of it" in told
    longer = files | {"metrics.json": files["metrics.json"] + b" "}
    assert "metrics.json is not what" in refused(forge(tmp_path / "m.zip", longer, sign=False))


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/tmp/evil.json",
        "fitted/../../evil.json",
        "learnt\\evil.json",
        "C:/evil.json",
        "evil.py",
        ".hydra/config.yaml",
        "checkpoints/last.ckpt",
        "fitted/familiar.npz",
        "fitted/deep/er.json",
        "fitted/OUTPUTS.json",
        "nets/../config.json",
        "nets/00/config.json",
        "trees/a.b.json",
        "trees/kaggle.yaml",
        "config.json\n",
    ],
)
def test_names_that_no_bundle_has_are_refused(name: str, bundled: Make, tmp_path: Path) -> None:
    files = contents(bundled("spirals")) | {name: b"{}"}
    assert "which bundles do not" in refused(forge(tmp_path / "m.zip", files))
    assert not (tmp_path / "evil.json").exists()
    assert not (tmp_path / "temporary" / "evil.json").exists()


def test_files_too_many_missing_or_twice_are_refused(bundled: Make, tmp_path: Path) -> None:
    files = contents(bundled("spirals"))
    path = tmp_path / "m.zip"
    assert "holds fitted/more.json, of which" in refused(forge(path, files | {"fitted/more.json": b"{}"}, sign=False))
    for name in files:
        less = {key: content for key, content in files.items() if key != name}
        assert name in refused(forge(path, less, sign=False))
    for name in ("config.json", "weights.safetensors", "metrics.json", "provenance.json"):
        less = {key: content for key, content in files.items() if key != name}
        assert f"'{name}' is missing" in refused(forge(path, less))
    sweep = {name.replace("nets/1", "nets/5"): content for name, content in contents(bundled("galaxyzoo")).items()}
    assert "nets/1/config.json" in refused(forge(path, sweep))
    forge(path, files)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("config.json", files["config.json"])
    assert "holds 'config.json' twice" in refused(path)


def test_links_folders_and_packed_files_are_refused(bundled: Make, tmp_path: Path) -> None:
    files = contents(bundled("spirals"))
    path = tmp_path / "m.zip"
    for mode, reason in ((stat.S_IFLNK, "is a link or a folder"), (stat.S_IFIFO, "is a link or a folder")):
        forge(path, files)
        with zipfile.ZipFile(path, "a") as file:
            info = zipfile.ZipInfo("fitted/more.json")
            info.create_system, info.external_attr = 3, (mode | 0o777) << 16
            file.writestr(info, "/etc/passwd")
        assert reason in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:  # a bomb: 100 MB in 100 kB
        for name, content in files.items():
            file.writestr(name, content)
        file.writestr("fitted/bomb.json", bytes(100_000_000))
    assert path.stat().st_size < 1_000_000
    assert "is packed" in refused(path)


def test_a_zip_whose_files_are_larger_than_itself_is_refused(bundled: Make, tmp_path: Path) -> None:
    # One stored file that many entries of the list of files point to.
    files = contents(bundled("spirals"))
    path = forge(tmp_path / "m.zip", files)
    with zipfile.ZipFile(path, "a") as file:
        same = file.getinfo("weights.safetensors")
        for number in range(50):
            info = zipfile.ZipInfo(f"nets/{number}/weights.safetensors")
            info.header_offset, info.file_size = same.header_offset, same.file_size
            info.compress_size, info.CRC = same.compress_size, same.CRC
            file.filelist.append(info)
            file._didModify = True  # type: ignore[attr-defined]
    assert "its files are larger than itself" in refused(path)


def test_pickles_are_never_read(bundled: Make, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    np.savez(tmp_path / "evil.npz", looks_mean=np.array([Harm()], dtype=object))
    files = contents(bundled("spirals"))
    for name in ("fitted/familiar.safetensors", "weights.safetensors"):
        for content in ((tmp_path / "evil.npz").read_bytes(), pickle.dumps(Harm()), b"\xff" * 64, b""):
            assert refused(forge(tmp_path / "m.zip", files | {name: content}))
    assert not (tmp_path / "marker").exists()
    np.load(tmp_path / "evil.npz", allow_pickle=True)["looks_mean"]
    assert (tmp_path / "marker").exists()  # the harm that it would have done


def test_weights_that_do_not_fit_are_told(bundled: Make, tmp_path: Path) -> None:
    files = contents(bundled("spirals"))
    weights = safetensors.numpy.load(files["weights.safetensors"])
    first = next(iter(weights))
    other = {name: value.reshape(-1)[:1] for name, value in weights.items()}
    more = weights | {"net.\x1b[31m": np.zeros(3, np.float32)}
    for state in (more, other, {first: weights[first]}, {}):
        forged = files | {"weights.safetensors": safetensors.numpy.save({k: v.copy() for k, v in state.items()})}
        told = refused(forge(tmp_path / "m.zip", forged))
        assert "its weights do not fit" in told
        assert told.isprintable()  # nothing that a terminal would take as a command


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fitted/outputs.json", b'{"columns": ["a", "b"]}'),
        ("fitted/outputs.json", b"{}"),
        ("fitted/calibration.json", b'{"temperature": "hot", "set_threshold": null}'),
        ("fitted/calibration.json", b"[1]"),
        ("fitted/shares.json", b'{"nets": [0.5, 0.5]}'),
        ("metrics.json", b'{"a": '),
        ("config.json", b"{}"),
        ("config.json", b'{"a":' * 5000 + b"1" + b"}" * 5000),
    ],
)
def test_numbers_that_do_not_fit_are_told(name: str, content: bytes, bundled: Make, tmp_path: Path) -> None:
    assert refused(forge(tmp_path / "m.zip", contents(bundled("spirals")) | {name: content}))


def test_the_command_to_predict_tells_it_in_one_line(
    bundled: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = changed(contents(bundled("spirals")), "config.json", put({"_target_": "os.system"}, "module", "net"))
    with pytest.raises(UserError, match=r"m\.zip, config\.json: module\.net is 'os\.system'") as ending:
        predict.main([str(forge(tmp_path / "m.zip", files)), "a.png", "--out", str(tmp_path / "p.csv")])
    assert "\n" not in str(ending.value)
