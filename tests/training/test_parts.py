"""Parts of modules that are given in Python: what is no part is answered in a sentence."""

from functools import partial
from typing import Any

import pytest
import torch

from galaxyml import GalaxyZoo, SupervisedModule
from galaxyml.runs.errors import UserError
from galaxyml.training.vae import VAEModule


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "focal"}, r"loss='focal' is no module: give one, such as galaxyml\.FocalLoss\(\)"),
        ({"loss": torch.nn.HuberLoss}, r"loss=HuberLoss is a class: give one of it, HuberLoss\(\)"),
        ({"optimizer": "adam"}, r"optimizer='adam' is no function of parameters: .* lr= of for_data"),
        ({"schedule": "cosine"}, "schedule='cosine' is no function of an optimizer"),
        ({"optim": {"lr": 1.0}}, r"SupervisedModule has no argument optim\. The learning rate is lr= of for_data"),
        ({"predict_view": 1}, r"no argument predict_view\. Did you mean predict_views\?"),
    ],
)
def test_names_of_parts_are_no_parts(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SupervisedModule.for_data(GalaxyZoo(size=32), net="tiny", **options)


def test_the_learning_rate_is_an_argument() -> None:
    data = GalaxyZoo(size=32)
    model = SupervisedModule.for_data(data, net="tiny", lr=3e-4)
    assert model.optimizer(model.parameters()).param_groups[0]["lr"] == 3e-4
    assert model.hparams["optimizer"]["lr"] == 3e-4
    plain = SupervisedModule.for_data(data, net="tiny")
    assert plain.optimizer(plain.parameters()).param_groups[0]["lr"] == 1e-3
    sgd = SupervisedModule.for_data(data, net="tiny", optimizer=partial(torch.optim.SGD, lr=0.5))
    assert sgd.optimizer(sgd.parameters()).param_groups[0]["lr"] == 0.5
    assert "lr" in VAEModule.for_data.__annotations__
