"""A run on the hub: what timm, `start=` and `predict` make of it, what its card says, and what becomes of refusals."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import torch
import yaml
from encoder_hub import EncoderHub
from upload_hub import TOKEN, UploadHub

from galaxyml.inference import load, predict, publish
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.models import build_model
from galaxyml.models.symmetry import Symmetric
from galaxyml.reports import verdict
from galaxyml.runs.errors import UsageError, UserError

SMALL = ("size=32", "epochs=1", "batch_size=16", "trainer=cpu", "figures=false", "hydra/launcher=serial")
RUNS: dict[str, tuple[str, ...]] = {
    "timm": ("task=spirals", "model=test_convnext", "predict_views=2", "-m", "fold=0,1"),
    "own": ("task=galaxyzoo", "model=tiny", "head=tree"),
    "hidden": ("task=galaxyzoo", "model=test_resnet", "+model.hidden=8"),
    "views": ("task=spirals", "model=test_vit", "symmetry=2", "model.mean=0.4", "model.std=0.3"),
    "lora": ("task=spirals", "model=test_vit", "tune=[head,lora]", "tuning.head_epochs=1", "tuning.lora_rank=2"),
}
NAME = "ada/galaxies"
# Of the HTTP library by the hub's client, which tests would make an error.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<:DeprecationWarning")
Make = Callable[[str], Path]
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def make(sky: Path, spirals_sky: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The folder of one of `RUNS`, a single run's or a sweep's, made by the command when it is first asked for."""
    from galaxyml.__main__ import main

    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.setenv("GALAXYML_CACHE", str(sky.parent / "cache"))
                patch.setattr(sys, "argv", ["galaxyml", *SMALL, f"data_dir={sky.parent}", f"name={name}", *RUNS[name]])
                main()
            made[name] = next((folder / "multirun").glob(f"*/{name}"))
        return made[name] if "-m" in RUNS[name] else made[name] / "fold-0"

    return run


@pytest.fixture(scope="module")
def published(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The folder that is published of one of `RUNS`."""
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name == "lora":
            pytest.importorskip("peft", reason="galaxyml[lora] is not installed")
        if name not in made:
            made[name] = tmp_path_factory.mktemp("published") / name
            publish.main([str(make(name)), NAME, "--dry-run", str(made[name])])
        return made[name]

    return run


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    """A server in the hub's place, and a token for it."""
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    hub = UploadHub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield hub
    hub.close()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def front(folder: Path) -> dict[str, Any]:
    _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return dict(yaml.safe_load(head))


@pytest.mark.parametrize("name", ["timm", "own"])
def test_the_bundle_predicts_what_the_run_does_to_the_last_bit(
    name: str, make: Make, published: Make, sky: Path, tmp_path: Path
) -> None:
    images = sky / "images_test_rev1"
    for source, out in ((make(name), "run"), (published(name) / "model.zip", "bundle")):
        predict.main([str(source), str(images), "--out", str(tmp_path / f"{out}.parquet"), "--interval", "all"])
    expected, found = (pd.read_parquet(tmp_path / f"{out}.parquet") for out in ("run", "bundle"))
    assert len(found) > 5
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.parametrize("name", ["timm", "views", "lora"])
def test_timm_loads_the_weights_strictly_and_scores_as_the_run_does(name: str, make: Make, published: Make) -> None:
    folder = published(name)
    net: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    strict = timm.create_model(f"local-dir:{folder}", pretrained=False)
    weights = timm.models.load_state_dict(str(folder / "model.safetensors"))
    strict.load_state_dict(weights, strict=True)
    cfg: Any = net.pretrained_cfg
    assert (cfg["num_classes"], cfg["input_size"]) == (2, (3, 32, 32))
    assert cfg["label_names"] == ["elliptical", "spiral"]
    if name == "views":
        assert (cfg["mean"], cfg["std"]) == ([pytest.approx(0.4)] * 3, [pytest.approx(0.3)] * 3)
    images = torch.rand(4, 3, 32, 32)
    mean, std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
    predictor = load(make(name))
    assert isinstance(predictor, ImagePredictor)
    of_run: Any = predictor.members[0].model.net
    views = of_run.views.see(images, 32) if isinstance(of_run, Symmetric) else [images]
    with torch.no_grad():
        expected = of_run(images)
        found = torch.stack([net((view - mean) / std) for view in views]).mean(0)  # its last layer is linear
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_net_with_a_hidden_layer_is_given_to_timm_without_it(make: Make, published: Make) -> None:
    folder = published("hidden")
    net: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert net.num_classes == 0
    assert "label_names" not in json.loads((folder / "config.json").read_text())
    assert "gives features, as the last two layers" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["timm", "hidden", "views", "lora"])
def test_a_published_net_is_a_model_here_too(name: str, make: Make, published: Make) -> None:
    net: Any = build_model(f"local-dir:{published(name)}", 5, 32)
    own = load(make(name))
    assert isinstance(own, ImagePredictor)
    of_run: Any = own.members[0].model.net
    of_run = of_run.net if isinstance(of_run, Symmetric) else of_run
    torch.testing.assert_close((net.mean, net.std), (of_run.mean, of_run.std))
    images = torch.rand(2, 3, 32, 32)
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            net.features(images),
            of_run.features(images),
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("name", ["timm", "own", "hidden", "views", "lora"])
def test_a_run_starts_from_what_is_published(
    name: str, published: Make, sky: Path, in_process: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from galaxyml.__main__ import main

    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(published(name), tmp_path / "given", ignore=lambda *_: ["model.zip"])
    task = next(word for word in RUNS[name] if word.startswith("task="))
    words = [word for word in (*SMALL, task) if not word.startswith("size=")] + [f"data_dir={sky.parent}", "name=next"]
    words += [word for word in RUNS[name] if word.startswith("head=")]
    monkeypatch.setattr(sys, "argv", ["galaxyml", *words, f"start={folder}"])
    status, told = in_process(lambda _: main())
    assert status == 0, told
    provenance = next(tmp_path.glob("multirun/*/next/fold-0/provenance.json"))
    start = json.loads(provenance.read_text())["start"]
    assert start["tensors"] == start["of"] - (4 if name == "hidden" else 0)


def test_the_hub_gives_it_to_timm_and_to_a_model_by_name(published: Make, hub: EncoderHub) -> None:
    hub.folders[NAME] = published("timm")
    net: Any = timm.create_model(f"hf-hub:{NAME}", pretrained=True).eval()
    here: Any = build_model(f"hf-hub:{NAME}", 2, 32)
    folder: Any = timm.create_model(f"local-dir:{published('timm')}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(images), folder(images))
        torch.testing.assert_close(
            here.eval().net.forward_features(images), net.forward_features(images), rtol=1e-4, atol=1e-5
        )
    assert here.origin.licence == "unknown"


def test_the_same_run_gives_the_same_bytes_which_name_no_folder_of_this_machine(
    make: Make, published: Make, sky: Path, tmp_path: Path
) -> None:
    publish.main([str(make("timm")), NAME, "--dry-run", str(tmp_path / "again")])
    assert files(tmp_path / "again") == files(published("timm"))
    for folder in (make("timm"), sky.parent, Path.cwd(), Path.home()):
        assert not any(str(folder).encode() in content for content in files(published("timm")).values())


def test_the_card_says_what_it_is_and_how_good(make: Make, published: Make) -> None:
    card = (published("timm") / "README.md").read_text(encoding="utf-8")
    assert front(published("timm")) == {
        "license": "unknown",
        "library_name": "galaxyml",
        "tags": ["galaxyml", "astronomy", "galaxies", "spirals", "timm"],
        "pipeline_tag": "image-classification",
    }
    metrics = json.loads((make("timm") / "metrics.json").read_text())
    assert metrics["verdict"]["sentence"] in card
    assert f"{metrics['test/macro_f1']:.4f}" in card
    assert "| 2 folds: mean ± std |" in card
    assert "majority class" in card
    for line in (
        "pip install galaxyml",
        f"hf download {NAME} model.zip --local-dir .",
        "galaxyml predict model.zip IMAGES --out predictions.csv",
        f'net = timm.create_model("hf-hub:{NAME}", pretrained=True).eval()',
        "- Data: simulated by galaxyml; nobody's images.",
        "- It has seen simulated galaxies alone: its numbers say nothing of real ones.",
        "## To cite",
    ):
        assert f"\n{line}\n" in card
    assert "pipeline_tag" not in front(published("own"))
    assert "timm" not in front(published("own"))["tags"]
    assert "timm.create_model" not in (published("own") / "README.md").read_text()


def changed(run: Path, copy: Path, **provenance: Any) -> Path:
    """A copy of a run whose provenance says something else."""
    shutil.copytree(run, copy)
    content = json.loads((copy / "provenance.json").read_text())
    for key, value in provenance.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (copy / "provenance.json").write_text(json.dumps(content))
    return copy


def test_the_card_names_the_licences_of_weights_and_data(make: Make, tmp_path: Path) -> None:
    weights = {"weights": "hf-hub:timm/vit_x_dinov3", "scaling": "unit", "mean": [0.0] * 3, "std": [1.0] * 3}
    run = changed(
        make("hidden"),
        tmp_path / "run",
        models=[weights | {"licence": "dinov3-license", "terms": "no war", "commit": "d" * 40}],
        data={"source": "real files", "folder": "/home/ada/data/gz_evo"},
    )
    publish.main([str(run), NAME, "--dry-run", str(tmp_path / "a")])
    assert front(tmp_path / "a") | {"license": "other", "license_name": "dinov3-license"} == front(tmp_path / "a")
    assert front(tmp_path / "a")["base_model"] == ["timm/vit_x_dinov3"]
    assert front(tmp_path / "a")["datasets"] == ["mwalmsley/gz_evo"]
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert "- This model: dinov3-license, as its first weights.\n" in card
    assert "licence dinov3-license (no war)" in card
    assert "CC-BY-NC-SA-4.0; models trained on it must be released as source code" in card
    assert "/home/ada" not in card
    publish.main([str(run), NAME, "--dry-run", str(tmp_path / "b"), "--license", "mit"])
    assert front(tmp_path / "b")["license"] == "mit"
    assert json.loads((tmp_path / "b" / "config.json").read_text())["pretrained_cfg"]["license"] == "mit"
    assert "licence dinov3-license (no war)" in (tmp_path / "b" / "README.md").read_text(encoding="utf-8")


def test_what_arrives_is_what_a_dry_run_writes(
    make: Make, published: Make, uploads: UploadHub, in_process: Run
) -> None:
    status, told = in_process(publish.main, make("timm"), NAME, "--yes")
    assert status == 0, told
    assert told.splitlines()[-1] == f"{uploads.address}/{NAME} (private)"
    assert uploads.repositories == {NAME: files(published("timm"))}
    assert uploads.private == {NAME: True}
    status, told = in_process(publish.main, make("own"), "ada/open", "--yes", "--public")
    assert (status, uploads.private["ada/open"]) == (0, False)
    assert uploads.repositories["ada/open"].keys() == {"README.md", "config.json", "model.safetensors", "model.zip"}
    status, told = in_process(publish.main, make("own"), NAME, "--yes")
    assert (status, "The name is taken: " in told, "--update" in told) == (1, True, True)
    status, told = in_process(publish.main, make("own"), NAME, "--yes", "--update", "--license", "mit")
    assert status == 0, told
    assert uploads.private[NAME]
    assert uploads.repositories[NAME]["model.zip"] == (published("own") / "model.zip").read_bytes()


def test_the_command_sends_to_another_hub_by_itself(make: Make, published: Make, uploads: UploadHub) -> None:
    gone = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET")
    env = {name: value for name, value in os.environ.items() if name not in gone}
    done = subprocess.run(
        [sys.executable, "-m", "galaxyml", "publish", make("own"), NAME, "--yes"],
        env=env | {"HF_ENDPOINT": uploads.address},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert uploads.repositories == {NAME: files(published("own"))}


def test_each_refusal_is_one_sentence(
    make: Make, uploads: UploadHub, in_process: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cases = [
        ("/api/repos/create", 403, "The hub does not let you write to ada/galaxies (403)"),
        ("/api/repos/create", 401, "The hub does not accept your token (401)"),
        ("/api/repos/create", 402, "The hub has refused ada/galaxies (402, "),
        ("/validate-yaml", 400, "The hub has refused ada/galaxies ("),
        (
            "/preupload/",
            403,
            "(403): the token must be one that may write, and ada you or an organisation of yours. The",
        ),
        ("/commit/", 413, "The repository is there now, without the files: --update sends them."),
    ]
    for path, status, message in cases:
        uploads.repositories.clear()
        uploads.refused = {path: (status, "words of the hub")}
        ended, told = in_process(publish.main, make("own"), NAME, "--yes")
        assert ended == 1
        error = told.partition("error: ")[2]
        assert message in error
        assert "Traceback" not in error
        assert error.count("\n") == 1
        assert not uploads.repositories.get(NAME)
    uploads.refused = {}
    uploads.repositories.clear()
    ended, told = in_process(publish.main, make("own"), NAME, "--yes", "--update")
    assert (ended, "The hub has no ada/galaxies" in told) == (1, True)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", gone)
    ended, told = in_process(publish.main, make("own"), NAME, "--yes")
    assert (ended, f"error: {gone} cannot be reached (" in told) == (1, True), told


def test_nothing_is_sent_without_a_word(
    make: Make, uploads: UploadHub, in_process: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, told = in_process(publish.main, make("own"), NAME)
    assert (status, "Nothing was sent, as nobody can be asked here: add --yes" in told) == (2, True)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer in ("y", ""):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        status, told = in_process(publish.main, make("own"), NAME)
        assert (status, f"Nothing was sent: '{answer}' is not {NAME}." in told) == (2, True)
    assert not uploads.asked
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or NAME)  # type: ignore[func-returns-value]
    status, told = in_process(publish.main, make("own"), NAME)
    assert status == 0, told
    assert asked == [f"Type {NAME} to send this privately: "]
    assert NAME in uploads.repositories


def test_without_token_or_network_it_says_so(
    make: Make, uploads: UploadHub, in_process: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    status, told = in_process(publish.main, make("own"), NAME, "--yes")
    assert (status, "There is no token for http://127" in told, "hf auth login" in told) == (2, True, True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, told = in_process(publish.main, make("own"), NAME, "--yes")
    assert (status, "HF_HUB_OFFLINE is set" in told) == (2, True)
    assert not uploads.asked


def test_a_smoke_test_is_called_one(
    make: Make, uploads: UploadHub, in_process: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    run = shutil.copytree(make("own"), tmp_path / "smoke")
    metrics = json.loads((run / "metrics.json").read_text()) | {"verdict": {"sentence": verdict.SMOKE, "better": None}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    status, told = in_process(publish.main, run, NAME, "--dry-run", tmp_path / "card")
    assert (status, "note: this is a smoke test" in told) == (0, True)
    assert "\n**This is a smoke test, " in (tmp_path / "card" / "README.md").read_text()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    status, told = in_process(publish.main, run, NAME)
    assert (status, "is a smoke test. Nothing was sent; --yes publishes it nevertheless." in told) == (2, True)
    assert not uploads.asked
    assert in_process(publish.main, run, NAME, "--yes")[0] == 0


def test_what_cannot_be_published_is_told(make: Make, published: Make, page_run: Make, tmp_path: Path) -> None:
    unfinished = shutil.copytree(make("own"), tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    cases = [
        (make("own"), "galaxies", "out", "'galaxies' is no name of a repository: give OWNER/NAME"),
        (make("own"), "ada/../x", "out", "is no name of a repository"),
        (make("own"), NAME, "there", "there is there already and not empty"),
        (unfinished, NAME, "out", r"unfinished is not finished: it has no metrics\.json"),
        (published("own") / "model.zip", NAME, "out", r"model\.zip is a file\. Give the folder of the run"),
        (page_run("plasticc"), NAME, "out", "is a run of light curves; only runs on images can be published"),
        (tmp_path / "nowhere", NAME, "out", "nowhere is not there"),
    ]
    for run, name, out, message in cases:
        with pytest.raises(UsageError, match=message):
            publish.main([str(run), name, "--dry-run", str(tmp_path / out)])
        assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="--license my own: give one of the hub's names"):
        publish.main([str(make("own")), NAME, "--dry-run", str(tmp_path / "out"), "--license", "my own"])
    with pytest.raises(UserError, match=r"its net is galaxyml's own, and none of timm\. Give its folder with start="):
        build_model(f"local-dir:{published('own')}", 5, 32)
