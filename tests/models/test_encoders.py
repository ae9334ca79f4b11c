"""Encoders by name, from folders and from a hub: weights, the scaling of images, what is known of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from encoder_hub import BEFORE, COMMIT, EncoderHub, write_encoder
from huggingface_hub import constants

from galaxyml.models import build_model
from galaxyml.models.backbones import timm_net
from galaxyml.models.origin import SCALINGS, known_weights
from galaxyml.models.sources import Source
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError

NANO = "mwalmsley/zoobot-encoder-convnext_nano"
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def features(spec: str, **options: Any) -> torch.Tensor:
    net: Any = build_model(spec, outputs=5, size=64, **options).eval()
    with torch.inference_mode():
        return net.features(IMAGES)


@torch.inference_mode()
def of_timm(net: Any, mean: list[float] | None = None, std: list[float] | None = None) -> torch.Tensor:
    images = IMAGES
    if mean is not None and std is not None:
        images = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    return net(images)


def refused(spec: str, **options: Any) -> str:
    with pytest.raises(UserError) as raised:
        build_model(spec, outputs=5, size=64, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- scaling


def test_zoobots_encoders_see_images_as_they_are_whatever_their_config_says(tmp_path: Path) -> None:
    folder = tmp_path / "zoobot-encoder-convnext_nano"
    net = write_encoder(folder)
    torch.testing.assert_close(features(f"local-dir:{folder}"), of_timm(net), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ({"scaling": "imagenet"}, *IMAGENET),
        ({"scaling": "checkpoint"}, *IMAGENET),
        ({"mean": 0.5, "std": 0.25}, [0.5] * 3, [0.25] * 3),
        ({"mean": [0.1, 0.2, 0.3], "std": [0.2, 0.2, 0.3], "scaling": "unit"}, [0.1, 0.2, 0.3], [0.2, 0.2, 0.3]),
    ],
)
def test_the_user_has_the_last_word_on_the_scaling(
    options: dict[str, Any], mean: list[float], std: list[float], tmp_path: Path
) -> None:
    folder = tmp_path / "zoobot-encoder-convnext_nano"
    net = write_encoder(folder)
    torch.testing.assert_close(features(f"local-dir:{folder}", **options), of_timm(net, mean, std))


def test_encoders_of_which_nothing_is_known_are_scaled_as_their_config_says(tmp_path: Path) -> None:
    net = write_encoder(tmp_path / "mine")
    torch.testing.assert_close(features(f"local-dir:{tmp_path}/mine"), of_timm(net, *IMAGENET))
    origin = build_model(f"local-dir:{tmp_path}/mine", outputs=5).origin
    assert "images are normalised by mean 0.485, 0.456, 0.406" in origin.sentence()  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scaling": "zscale"}, "model.scaling=zscale: there are unit, imagenet, checkpoint."),
        ({"mean": 0.5}, "model.mean and model.std go together"),
        ({"mean": 0.5, "std": 0.0}, "model.std=0.0: give a number above 0"),
        ({"mean": "grey", "std": 1.0}, "model.mean=grey: give a number"),
        ({"pretrained": "yes"}, "model.pretrained=yes: give true, false, hf-hub:OWNER/NAME or local-dir:FOLDER"),
    ],
)
def test_other_values_are_refused(options: dict[str, Any], said: str) -> None:
    assert said in refused("test_convnext", **options)


def test_an_encoder_of_grey_images_takes_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "zoobot-encoder-greyscale-convnext_nano"
    net = write_encoder(folder, in_chans=1)
    assert f"local-dir:{folder} learnt from images of 1 channels, and these have 3: set channels=1." in refused(
        f"local-dir:{folder}", in_chans=3
    )
    grey: Any = build_model(f"local-dir:{folder}", outputs=5, in_chans=1).eval()
    with torch.inference_mode():
        torch.testing.assert_close(grey.features(IMAGES[:, :1]), net(IMAGES[:, :1]), rtol=0, atol=1e-6)
    folder.rename(tmp_path / "mine")  # of which nothing is known but its weights
    assert "learnt from images of 1 channels" in refused(f"local-dir:{tmp_path}/mine", in_chans=3)


# --- what is known


@pytest.mark.parametrize(
    ("source", "scaling", "licence"),
    [
        (f"hf-hub:{NANO}", "unit", "apache-2.0"),
        (f"hf-hub:{NANO}@v1", "unit", "apache-2.0"),
        ("hf-hub:mwalmsley/baseline-encoder-regression-resnet50", "unit", "unknown"),
        ("local-dir:/data/mwalmsley/zoobot-encoder-resnet18", "unit", "apache-2.0"),
        (
            f"/cache/models--mwalmsley--zoobot-encoder-resnet18/snapshots/{COMMIT}/model.safetensors",
            "unit",
            "apache-2.0",
        ),
        ("weights/zoobot-encoder-resnet18.pth", "unit", "apache-2.0"),
        ("hf-hub:timm/vit_small_patch16_dinov3.lvd1689m", None, "dinov3-license"),
        ("hf-hub:timm/convnext_tiny.dinov3_lvd1689m", None, "dinov3-license"),
        ("hf-hub:timm/vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", None, "fair-noncommercial-research-license"),
        ("hf-hub:timm/vit_small_patch14_dinov2.lvd142m", "imagenet", "apache-2.0"),
        ("hf-hub:facebook/dinov2-small", "imagenet", "apache-2.0"),
        ("hf-hub:somebody/zoobot-encoder-resnet18", None, None),
        ("my_dinov2_dinov3/last.ckpt", None, None),
        (None, None, None),
    ],
)
def test_what_is_known_of_weights(source: str | None, scaling: str | None, licence: str | None) -> None:
    known = known_weights(source)
    assert (known.get("scaling"), known.get("licence")) == (scaling, licence)


def test_the_list_of_what_is_known_has_no_other_words() -> None:
    for entry in yaml.safe_load((CONF / "known_weights.yaml").read_text(encoding="utf-8")):
        assert set(entry) <= {"repositories", "scaling", "size", "channels", "licence", "terms", "cite"}
        assert entry.get("scaling", "checkpoint") in SCALINGS


@pytest.mark.parametrize("name", ["zoobot_nano", "zoobot_base"])
def test_the_files_of_conf_name_known_repositories(name: str) -> None:
    config = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert known_weights(config["pretrained"])["scaling"] == "unit"
    assert config["pretrained"].endswith(config["name"])


# --- the hub


def test_an_encoder_is_fetched_once_and_found_offline(
    hub: EncoderHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = write_encoder(tmp_path / "remote")
    hub.folders[NANO] = tmp_path / "remote"
    for name in (f"hf-hub:{NANO}", f"hf_hub:{NANO}"):
        torch.testing.assert_close(features(name), of_timm(net), rtol=0, atol=1e-6)
    assert sum(line.startswith(f"GET /{NANO}") for line in hub.asked) == 2, hub.asked
    hub.close()
    torch.testing.assert_close(features(f"hf-hub:{NANO}"), of_timm(net), rtol=0, atol=1e-6)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model: Any = build_model(f"hf-hub:{NANO}", outputs=5)
    assert model.origin.commit == COMMIT
    assert model.origin.sentence() == (
        f"weights of hf-hub:{NANO}, commit aaaaaaaa, licence apache-2.0, learnt at 224 px; images stay in [0, 1], not "
        "normalised (model.scaling=unit)"
    )


def test_a_revision_is_that_revision(hub: EncoderHub, tmp_path: Path) -> None:
    write_encoder(tmp_path / "remote")
    hub.folders[NANO] = tmp_path / "remote"
    for revision, commit in (("v1", BEFORE), (BEFORE, BEFORE), ("main", COMMIT)):
        model: Any = build_model(f"hf-hub:{NANO}@{revision}", outputs=5)
        assert model.origin.commit == commit


def test_weights_alone_may_come_from_the_hub(hub: EncoderHub, tmp_path: Path) -> None:
    net = write_encoder(tmp_path / "remote")
    hub.folders[NANO] = tmp_path / "remote"
    torch.testing.assert_close(features("test_convnext", weights=f"hf-hub:{NANO}"), of_timm(net), rtol=0, atol=1e-6)
    assert "hf-hub" in refused("test_resnet", weights=f"hf-hub:{NANO}")  # of another net
    assert "An encoder is chosen as a whole" in refused("timm", name=f"hf-hub:{NANO}")


def test_what_the_hub_refuses_is_one_sentence_each(hub: EncoderHub, tmp_path: Path) -> None:
    write_encoder(tmp_path / "remote")
    hub.folders |= dict.fromkeys((NANO, "a/new", "a/empty", "a/broken", "a/bare"), tmp_path / "remote")
    hub.refused["a/gated"] = (403, "GatedRepo")
    for name, config in (("new", '{"architecture": "convnext_mano"}'), ("broken", "<html>"), ("bare", "{}")):
        hub.folders[f"a/{name}"] = tmp_path / name
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "empty").mkdir()
    hub.folders["a/empty"] = tmp_path / "empty"
    page = hub.address
    for name, said in {
        "a/none": f"hf-hub:a/none: the hub has no repository of this name, or it is private: look at {page}/a/none",
        "a/gated": f"hf-hub:a/gated is gated: accept its terms at {page}/a/gated, and let this machine know",
        f"{NANO}@v9": f"hf-hub:{NANO} has no revision 'v9': give a branch, tag or commit of {page}/{NANO}/commits/main",
        "a/new": "names the architecture 'convnext_mano', and timm "
        f"{timm.__version__} has no such net. Did you mean convnext_nano",
        "a/bare": "names no architecture, and timm",
        "a/broken": "hf-hub:a/broken: its config.json is no description of a net",
        "a/empty": "hf-hub:a/empty: config.json cannot be fetched from the hub, nor is it in its cache",
        "zoobot": "'hf-hub:zoobot' is no repository of the hub: give hf-hub:OWNER/NAME",
    }.items():
        assert said in refused(f"hf-hub:{name}")
    hub.close()
    unreachable = refused("hf-hub:a/other")
    assert "hf-hub:a/other: config.json cannot be fetched from the hub, nor is it in its cache (" in unreachable
    assert (
        "`hf download a/other --local-dir FOLDER` gets all of it: give that with model=local-dir:FOLDER" in unreachable
    )


def test_a_repository_without_weights_says_so(hub: EncoderHub, tmp_path: Path) -> None:
    write_encoder(tmp_path / "remote")
    (tmp_path / "remote" / "model.safetensors").unlink()
    hub.folders["a/b"] = tmp_path / "remote"
    assert "hf-hub:a/b: model.safetensors cannot be fetched from the hub" in refused("hf-hub:a/b")


@pytest.mark.parametrize(("there", "said"), [([], "there is no such folder"), (["x"], "the folder has no config.json")])
def test_folders_without_an_encoder_are_refused(there: list[str], said: str, tmp_path: Path) -> None:
    for name in there:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / name).touch()
    assert said in refused(f"local-dir:{tmp_path}/folder")
    assert "give the folder" in refused("local-dir:")


def test_the_arguments_of_a_config_reach_the_net_but_for_those_of_the_run(tmp_path: Path) -> None:
    net = write_encoder(tmp_path / "vit", "test_vit", img_size=96, patch_size=8)
    config = json.loads((tmp_path / "vit" / "config.json").read_text())
    assert config["model_args"]["img_size"] == [96, 96]
    found: Any = build_model(f"local-dir:{tmp_path}/vit", outputs=5, size=64)
    assert found.net.patch_embed.grid_size == (8, 8)
    torch.testing.assert_close(found.net.blocks[0].attn.qkv.weight, net.blocks[0].attn.qkv.weight)


def test_timms_own_weights_say_where_they_come_from(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    origin = timm_net("test_resnet", outputs=2, weights=str(tmp_path / "w.pth")).origin
    assert origin is not None
    assert (origin.weights, origin.licence, origin.scaling) == (str(tmp_path / "w.pth"), None, "checkpoint")
    assert timm_net("test_resnet", outputs=2).origin.weights is None  # type: ignore[union-attr]


def test_sources_are_read_as_they_are_written() -> None:
    assert Source.read("resnet50") is None
    assert Source.read(None) is None
    for text in (f"hf-hub:{NANO}@refs/pr/1", "local-dir:/a b/c"):
        assert str(Source.read(text)) == text
