from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from galaxyml.cli import conf
from galaxyml.data.catalog import CatalogData
from galaxyml.kinds import stages_of

GROUPS = [(group, name) for group in conf.groups() for name in conf.choices(group)]


TASK_OF = {
    "votes": "surveys",
    "anomalies": "plasticc",
    "image_anomalies": "anomalies",
}  # of kinds that task=images does not have


def composed(*given: str) -> DictConfig:
    with initialize_config_dir(str(conf.CONF), version_base="1.3"):
        return compose("config", list(given))


@pytest.mark.parametrize(("group", "name"), GROUPS)
def test_every_file_composes_and_builds(group: str, name: str, tmp_path: Path) -> None:
    overrides = [f"{'kind' if group == 'labelled' else group}={name}", f"cache_dir={tmp_path}"]
    overrides += ["model.name=test_resnet"] if (group, name) == ("model", "timm") else []
    overrides += ["task=spirals"] if group == "labels_from" else []
    overrides += [f"task={TASK_OF.get(name, 'images')}"] if group in ("kind", "labelled") else []
    of_votes = name in ("answers", "concentrations", "dirichlet", "fractions", "multinomial") and group not in (
        "kind",
        "labelled",
    )
    overrides += ["task=surveys", "model=test_vit"] if of_votes else []
    overrides += ["model=test_vit"] if (group, name) in (("task", "surveys"), ("kind", "votes")) else []
    overrides += ["size=56"] if name.startswith("dinov2") else []  # a multiple of its patch
    overrides += ["size=99"] if name == "winner" else []  # what it was made for
    of_images = (group, name) == ("detector", "unusual")
    overrides += ["task=anomalies"] if of_images else []
    of_curves = (
        (group in ("encoder", "detector") and not of_images)
        or name == "anomalies"
        or name.startswith(("light_curve", "plasticc"))
    )
    overrides += ["task=plasticc"] if of_curves and group not in ("task", "experiment", "kind") else []
    plain = group not in ("model", "experiment") and not of_curves and not of_votes and name not in ("surveys", "votes")
    overrides += ["model=tiny"] if plain else []
    config = composed(*overrides)
    if config.model.get("pretrained"):
        config.model.pretrained = False  # nothing is fetched in tests
    instantiate(config.module)
    assert isinstance(instantiate(config.data), CatalogData)
    assert stages_of(config)
    if not (group == "trainer" and name == "gpu"):
        instantiate(config.trainer, max_epochs=1, logger=False, enable_checkpointing=False)


# Each model with each task whose data it takes.
PAIRS = [
    (task, model)
    for task in conf.choices("task")
    for model in conf.choices("model")
    if (task == "plasticc") == (model == "light_curve_vae")
]


@pytest.mark.parametrize(("task", "model"), PAIRS)
def test_every_model_takes_every_task_at_the_smallest_scale(task: str, model: str) -> None:
    more = ["model.name=test_resnet"] if model == "timm" else []
    more += ["start=null"] if task == "anomalies" else []  # as the command has it of a model that is given
    config = composed(f"task={task}", f"model={model}", "scale=smoke", *more)
    if "pretrained" in config.model:
        config.model.pretrained = False
    outputs = config.outputs if isinstance(config.outputs, int) else instantiate(config.outputs)
    if task == "plasticc":
        assert instantiate(config.module).net.classes[-1].out_features == outputs
        return
    with torch.device("meta"):  # shapes only: the largest has 304 million weights
        net = instantiate(config.module).net.eval()
        assert net(torch.zeros(2, 3, config.size, config.size)).shape == (2, outputs)


def test_every_file_says_what_it_is() -> None:
    for group, name in GROUPS:
        assert conf.description(conf.choices(group)[name]), (group, name)


def test_keys_that_others_rely_on_are_there() -> None:
    config = composed()
    assert {"task", "model", "source", "name", "fold", "folds", "seed", "data_dir", "trainer"} <= set(config)
    assert (config.fold, config.folds, config.seed) == (0, 5, 0)
