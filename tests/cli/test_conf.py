from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

import galaxyml.sweeps.finish  # noqa: F401 - registers the resolver of folder names
from galaxyml.cli import conf
from galaxyml.data.catalog import CatalogData
from galaxyml.kinds import of_config, stages_of

GROUPS = [(group, name) for group in conf.groups() for name in conf.choices(group)]


TASK_OF = {"votes": "surveys", "anomalies": "plasticc"}  # of kinds that task=images does not have


def composed(*given: str) -> DictConfig:
    with initialize_config_dir(str(conf.CONF), version_base="1.3"):
        return compose("config", list(given))


@pytest.mark.parametrize(("group", "name"), GROUPS)
def test_every_file_composes_and_builds(group: str, name: str, tmp_path: Path) -> None:
    overrides = [f"{'kind' if group == 'labelled' else group}={name}", f"cache_dir={tmp_path}"]
    overrides += ["model.name=test_resnet"] if (group, name) == ("model", "timm") else []
    overrides += ["task=spirals"] if group == "rule" else []
    overrides += [f"task={TASK_OF.get(name, 'images')}"] if group in ("kind", "labelled") else []
    of_votes = name in ("answers", "concentrations", "dirichlet", "fractions", "multinomial") and group not in (
        "kind",
        "labelled",
    )
    overrides += ["task=surveys", "model=test_vit"] if of_votes else []
    overrides += ["model=test_vit"] if (group, name) in (("task", "surveys"), ("kind", "votes")) else []
    overrides += ["size=56"] if name.startswith("dinov2") else []  # a multiple of its patch
    overrides += ["size=99"] if name == "winner" else []  # what it was made for
    of_curves = group in ("encoder", "detector") or name == "anomalies" or name.startswith(("light_curve", "plasticc"))
    overrides += ["task=plasticc"] if of_curves and group not in ("task", "experiment", "kind") else []
    plain = group not in ("model", "experiment") and not of_curves and not of_votes and name not in ("surveys", "votes")
    overrides += ["model=tiny"] if plain else []
    config = composed(*overrides)
    if config.model.get("pretrained"):
        config.model.pretrained = False  # nothing is fetched in tests
    instantiate(config.module)
    assert isinstance(instantiate(config.data), CatalogData)
    kind = of_config(config)
    assert (kind.monitor, kind.mode) == (config.monitor, config.mode)
    assert stages_of(config)
    if not (group == "trainer" and name == "gpu"):
        instantiate(config.trainer, max_epochs=1, logger=False, enable_checkpointing=False)


def test_every_file_says_what_it_is() -> None:
    for group, name in GROUPS:
        assert conf.description(conf.choices(group)[name]), (group, name)


def test_keys_that_others_rely_on_are_there() -> None:
    config = composed()
    assert {"task", "model", "source", "name", "fold", "folds", "seed", "data_dir", "trainer"} <= set(config)
    assert (config.fold, config.folds, config.seed) == (0, 5, 0)
