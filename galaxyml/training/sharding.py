"""Fits a net whose weights, gradients and optimizer do not fit into one GPU: each process holds a part of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.utilities.optimizer import _optimizers_to_device
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError


class Sharded(ModelParallelStrategy):
    """Torch's fully sharded data parallel, second version, for a module with a net of pictures.

    What is trained of the net is dealt out while it is fitted; the parts are put together for one of its `blocks` at a
    time (a whole net that has none). Fit a copy of a module, as it does not become whole again. Predictions are made by
    whole nets. Checkpoints are those of one process, so that a fit can go on in another way.
    """

    def __init__(self) -> None:
        super().__init__(data_parallel_size=ranks.size(), tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup(self, trainer: lightning.Trainer) -> None:
        assert self.accelerator is not None
        assert self.model is not None
        self.accelerator.setup(trainer)
        fitting = trainer.state.fn == TrainerFn.FITTING
        if fitting:
            assert self._layer_sync is not None
            self.model = self._layer_sync.apply(self.model)
            deal_out(self.model, self.device_mesh["data_parallel"])
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        self.barrier()
        if fitting:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if fitting:
            _optimizers_to_device(self.optimizers, self.root_device)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self._whole(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        # By the places of parameters in their groups, as torch does; Lightning's own goes by those in the module.
        state = getattr(optimizer, "_optimizer", optimizer).state_dict()
        return {**state, "state": {place: self._whole(values) for place, values in state["state"].items()}}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        # Mapped from disk, as all processes read it.
        checkpoint = torch.load(Path(checkpoint_path), map_location="cpu", weights_only=True, mmap=True)
        assert self.model is not None
        set_model_state_dict(self.model, checkpoint["state_dict"], options=StateDictOptions(full_state_dict=True))
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            dealt = {
                place: {name: _as_dealt(value, parameters[place]) for name, value in values.items()}
                for place, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": dealt})
        return checkpoint

    def _whole(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values whose parts are put together, on the CPU; for the leader alone, though all have to ask."""
        found = {}
        for name, value in values.items():
            if isinstance(value, DTensor):
                value = value.full_tensor()
            if self.is_global_zero:
                found[name] = value.cpu() if isinstance(value, torch.Tensor) else value
        return found


def deal_out(module: Any, mesh: Any) -> None:
    """Deals the weights out that a module's current phase trains.

    Args:
        module: With a `net`, whose `phase` it tunes.
        mesh: The processes.

    Raises:
        UserError: If it is no module of pictures.
    """
    if not hasattr(module, "phase"):
        raise UserError("trainer=fsdp is for nets of pictures; give trainer=ddp.")
    root = module.net.head if module.phase == "head" else module.net
    for parameter in root.parameters():
        parameter.data = parameter.data.contiguous()  # those of convolutions lie with channels last
    for name, block in root.named_modules():
        if name.rpartition(".")[0].endswith("blocks"):
            fully_shard(block, mesh=mesh)
    fully_shard(root, mesh=mesh)


def _as_dealt(value: Any, parameter: torch.nn.Parameter) -> Any:
    """A number of an optimizer for each weight, dealt out as the weights are."""
    if isinstance(parameter, DTensor) and isinstance(value, torch.Tensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value
