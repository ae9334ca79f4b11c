"""What the processes of a test do that needs several, and a callback that ends one of those of a job."""

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from torch import nn

from galaxyml.runs import ranks


class EndRank(Callback):
    """Sends a signal to the process of one rank in the second batch of the second epoch, where END_RANK names both.

    `END_RANK=1:SIGKILL`. Each process leaves its number in the file `PROCESSES` first, a line each.
    """

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        rank, _, name = os.environ.get("END_RANK", "").partition(":")
        if not name or trainer.current_epoch != 1 or arguments[-1] != 1:
            return
        with Path(os.environ["PROCESSES"]).open("a") as file:
            file.write(f"{os.getpid()}\n")
        ranks.barrier()
        if int(rank) == ranks.rank():
            os.kill(os.getpid(), getattr(signal, name))


def net() -> nn.Module:
    """A convolution over images."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(80, 3))


def curved(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A loss that is no mean over rows."""
    return (outputs - targets).square().sum().sqrt() / targets.abs().sum()


def work(rank: int, port: int, folder: Path, size: int, batches: list[int]) -> None:
    """One of several processes, for batches of so many rows; leaves its results in the folder."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(minutes=2))
    results: dict[Any, Any] = {of: learnt(of) for of in batches}
    torch.manual_seed(5)
    ranks.start_shared_rng()
    torch.manual_seed(rank)
    with ranks.shared_rng():
        results["shared"] = torch.rand(2)
    results["own"] = torch.rand(2)
    results["broadcast"] = ranks.broadcast(rank + 7)
    results["gathered"] = ranks.gather_objects(rank)
    results["any"] = [ranks.any_rank(rank == 1 and step == 2) for step in range(5)]
    torch.save(results, folder / f"{rank}.pt")
    ranks.barrier()
    dist.destroy_process_group()


def learnt(of: int) -> dict[str, Any]:
    """What a step on a batch of so many rows comes to in this process."""
    torch.manual_seed(1)
    images, targets = torch.randn(of, 2, 6, 6), torch.randn(of, 3)
    mine = ranks.share(of)
    model = net()
    loss = curved(ranks.gather(model(images[mine]), of), ranks.gather(targets[mine], of))
    ranks.scale_for_mean(loss, of).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for gradient in gradients.values():
        assert gradient is not None
        dist.all_reduce(gradient)
        gradient /= ranks.world_size()
    return {"loss": loss.detach(), "gradients": gradients}
