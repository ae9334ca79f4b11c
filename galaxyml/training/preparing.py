"""What is done with a net and the pictures that it shall learn from, before it learns."""

import logging
from typing import TYPE_CHECKING

import lightning.pytorch as lightning
import pandas as pd
import torch

from galaxyml.data.images.data_module import ImageData
from galaxyml.models.backbone_with_head import BackboneWithHead
from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training.frozen_features import open_features
from galaxyml.training.predictions import write_tables

if TYPE_CHECKING:
    from galaxyml.training.supervised import SupervisedModule

log = logging.getLogger(__name__)


def check_weighing(module: "SupervisedModule", data: ImageData) -> None:
    """Refuses to make rare classes count twice.

    Raises:
        UserError: If a balanced sampler and class weights are used together, and nobody insists.
    """
    balance = getattr(data, "balance", 0.0)
    if balance and getattr(module.loss, "reweights", False) and not module.allow_double_weighting:
        raise UserError(
            f"balance={balance} draws rare classes more often, and the loss weighs them more as well: they count "
            "twice, and the net then sees them everywhere (recall 0.90 at precision 0.23 in a published run). Set "
            f"balance=0, or loss.{module.loss.key}=null; allow_double_weighting=true insists."
        )


@torch.no_grad()
def probe(module: "SupervisedModule", data: ImageData) -> None:
    """Makes sure that the net takes pictures of the given size and says as much as there is to predict.

    Raises:
        UserError: If it does not.
    """
    size = data.framing.size
    images = torch.zeros(2, 3, size, size)
    try:
        outputs = module.eval()(images)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"size={size}: this model cannot take it ({reason}). Choose another size=….") from error
    finally:
        module.train()
    if outputs.shape[1] != len(data.outputs):
        raise UserError(f"outputs={outputs.shape[1]}: this task predicts {len(data.outputs)} columns.")


def show_targets(module: "SupervisedModule", data: ImageData) -> None:
    """Gives what depends on the targets of the training split those: a loss that balances classes, or scales."""
    targets = data.targets_of_rows[data.rows("train")]
    for part in (module.final, module.loss, module.metrics):
        if (fit_targets := getattr(part, "fit_targets", None)) is not None:
            fit_targets(targets)


def begin(trainer: lightning.Trainer, module: "SupervisedModule", data: ImageData, here: RunDir) -> None:
    """Makes a phase ready: counts what is trained, and puts features of a frozen backbone in the place of pictures."""
    if module.phases != ("all",):
        _count(module, here)
    first = module.phase == module.phases[0]
    if module.phase == "head":
        _freeze(trainer, module, data, here)
    else:
        data.use_pictures()
    if first and module.tuning.progression:
        write_tables(trainer, module, data, here, by="net_untrained")


def _count(module: "SupervisedModule", here: RunDir) -> None:
    """Tells, and keeps, how much is trained in a phase."""
    tuned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    every = list(module.parameters())
    numbers, of = (sum(parameter.numel() for parameter in part) for part in (tuned, every))
    once = "; features of the others are computed once" if module.phase == "head" else ""
    phase = f" ({module.phase})" if len(module.phases) > 1 else ""
    log.info(
        "%s%s: trains %s of %s tensors, %s of %s numbers%s",
        here.name,
        phase,
        len(tuned),
        len(every),
        f"{numbers:,}",
        f"{of:,}",
        once,
    )
    row = {"phase": module.phase, "tensors": len(tuned), "of_tensors": len(every), "numbers": numbers, "of_numbers": of}
    before = [kept for kept in here.table_rows("phases") if kept["phase"] != module.phase]
    here.write_table("phases", pd.DataFrame([*before, row]))


def _freeze(trainer: lightning.Trainer, module: "SupervisedModule", data: ImageData, here: RunDir) -> None:
    assert isinstance(module.net, BackboneWithHead)
    model = here.config.get("model") or {}
    if not (model.get("weights") or model.get("pretrained")):
        advice = "give model.weights=FILE or model.pretrained=true" if "weights" in model else "tune=all trains it"
        log.info("note: the backbone is frozen as it was drawn at random; %s.", advice)
    with ranks.rank_zero_first(), trainer.precision_plugin.forward_context():
        features = open_features(
            data.store,
            module.net,
            data.framing.size,
            module.views,
            data.cache,
            trainer.strategy.root_device,
            trainer.precision,
        )
    data.use_features(features, len(module.predict_views) if module.predicts_from_features else 1)
