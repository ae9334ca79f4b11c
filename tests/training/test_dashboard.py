"""What a fit shows while it goes on."""

from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from galaxyml.runs.run_dir import RunDir
from galaxyml.training.dashboard import Figures
from galaxyml.training.loggers import TensorBoard
from galaxyml.training.quiet import quiet


class Drawn(lightning.LightningModule):
    """Fits nothing; `drawn` has the epochs, from 1, after which figures were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.drawn: list[int] = []

    def training_step(self, batch: Tensor) -> Tensor:
        return self.net(batch).sum()

    def validation_step(self, batch: Tensor) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())

    def figures(self, trainer: lightning.Trainer) -> dict[str, Any]:
        self.drawn.append(trainer.current_epoch + 1)
        return {}


@pytest.mark.parametrize(
    ("epochs", "drawn"),
    [(1, [1]), (3, [3]), (5, [1, 2, 3, 4, 5]), (11, [2, 4, 6, 8, 10, 11]), (30, [6, 12, 18, 24, 30])],
)
def test_figures_are_drawn_about_five_times_and_of_short_runs_at_the_end(
    epochs: int, drawn: list[int], tmp_path: Path
) -> None:
    quiet()
    run, module = RunDir(tmp_path), Drawn()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=TensorBoard(run, run, OmegaConf.create({})),
        callbacks=[Figures(5)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    data: Any = torch.zeros(2, 1)
    trainer.fit(module, DataLoader(data), DataLoader(data))
    assert module.drawn == drawn
