"""Several processes on one job say what one process says."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import several
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import multiprocessing, nn

from galaxyml.models.dihedral import GroupBatchNorm
from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.runs.files import read_only, write_json
from galaxyml.training import hardware

Command = Callable[..., tuple[int, str]]
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
PLAIN_NET = ("model.dropout=0", "model.batch_norm=false")  # on CPUs batch norm is each process's own
PLAIN = ("optim=sgd", "optim.lr=0.05")  # Adam makes much of what is but rounding


# --- shares of a batch


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("of", [1, 2, 7, 8, 9, 64, 65])
def test_shares_make_up_the_batch_in_its_order(size: int, of: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "world_size", lambda: size)
    shares: list[list[int]] = []
    counted: list[int] = []
    for rank in range(size):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(list(range(of))[ranks.share(of)])
        counted += shares[-1][ranks.counted(of)]
    assert counted == list(range(of))
    lengths = {len(share) for share in shares}
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) > 0


@pytest.mark.parametrize(
    "options", [{"devices": 0}, {"devices": "two"}, {"devices": True}, {"devices": []}, {"num_nodes": 0}]
)
def test_a_trainer_takes_whole_numbers_of_devices_and_machines(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="whole number, 1 or more"):
        hardware.trainer("cpu", **options)


def test_processes_that_a_trainer_does_not_ask_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")  # of a batch script, of which there is one
    assert hardware.trainer("cpu").world_size == 1
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(UserError, match="--ntasks-per-node"):
        hardware.trainer("cpu")
    step = {"SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NODEID": "0"}
    for name, value in step.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="4 processes were started, but the trainer is for 1"):
        hardware.trainer("cpu")


def test_only_the_job_of_one_run_is_started_several_times(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    status, printed = command("name=several")
    assert status == 2
    assert "Several start the job of one run: torchrun … -m galaxyml job FOLDER" in printed


def test_batch_norm_is_shared_with_its_activation_and_layers_that_do_more_are_left() -> None:
    net: Any = nn.Sequential(nn.BatchNorm2d(4), BatchNormAct2d(4), nn.Sequential(nn.BatchNorm1d(4)), GroupBatchNorm(4))
    names = list(net.state_dict())
    plugin = hardware.SyncBatchNorms()
    for _ in range(2):  # a net that is fitted in two phases
        plugin.revert(plugin.apply(net))
        assert isinstance(net[0], nn.SyncBatchNorm)
        assert isinstance(net[1], nn.SyncBatchNorm)
        assert isinstance(net[1].act, nn.ReLU)
        assert isinstance(net[2][0], nn.SyncBatchNorm)
        assert type(net[3]) is GroupBatchNorm
    assert list(net.state_dict()) == names
    images = torch.randn(3, 4, 5, 5)
    assert (net[:2].eval()(images) >= 0).all()  # on a CPU, as plain batch norm


def test_nothing_appears_in_a_folder_that_another_writes(tmp_path: Path) -> None:
    with read_only(tmp_path / "run"):
        write_json(tmp_path / "run" / "deep" / "a.json", 1)
        write_json(tmp_path / "cache" / "a.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    write_json(tmp_path / "run" / "a.json", 1)
    assert (tmp_path / "run" / "a.json").is_file()


@pytest.mark.parametrize(
    ("given", "refusal", "message"),
    [
        (("batch_size=1",), 2, "batch_size=1: it is shared out to 2 processes; give 2 or more"),
        # Its folder is made, from which others start it.
        (("trainer.num_nodes=2",), 1, "trainer.num_nodes=2: start a process for each GPU .* by srun or torchrun"),
        (("trainer.devices=none",), 2, "trainer.devices=none: it must be a whole number"),
        (("trainer.strategy=dpp", "trainer.devices=1"), 2, "trainer.strategy=dpp: it must be one of auto, ddp"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    command: Command, given: tuple[str, ...], refusal: int, message: str
) -> None:
    status, printed = command(*TWO, *given, "name=refused")
    assert status == refusal
    assert pd.Series([printed]).str.contains(message).all(), printed


# --- what they do together


def test_a_step_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    size, batches = 3, [5, 2]  # two rows, two and one; and the two rows of a last batch in each process
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    multiprocessing.spawn(several.work, (store.port, tmp_path, size, batches), size)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    for of in batches:
        torch.manual_seed(1)
        images, targets = torch.randn(of, 2, 6, 6), torch.randn(of, 3)
        alone = several.net()
        loss = several.curved(alone(images), targets)
        loss.backward()
        for one in results:
            torch.testing.assert_close(one[of]["loss"], loss.detach())
            for name, parameter in alone.named_parameters():
                torch.testing.assert_close(one[of]["gradients"][name], parameter.grad, atol=1e-6, rtol=1e-4)
    for rank, one in enumerate(results):
        assert torch.equal(one["shared"], torch.rand(2, generator=torch.Generator().manual_seed(5)))
        assert torch.equal(one["own"], torch.rand(2, generator=torch.Generator().manual_seed(rank)))
        assert one["broadcast"] == 7
        assert one["gathered"] == ([] if rank else [0, 1, 2])
        assert one["any"] == [False, False, False, True, False]  # one question later


def checked_alike(one: Path, other: Path, atol: float = 1e-5) -> None:
    """Two runs have the same files, history and predictions."""
    files = [
        {str(path.relative_to(run)) for path in run.rglob("*") if "tfevents" not in path.name} for run in (one, other)
    ]
    assert files[0] == files[1]
    curves = [len(list(run.rglob("*tfevents*"))) for run in (one, other)]
    assert curves[0] == curves[1]  # the leader's alone
    histories = [pd.read_csv(run / "history.csv") for run in (one, other)]
    losses = [history.filter(regex="loss|rmse|rate|epoch").to_numpy() for history in histories]
    np.testing.assert_allclose(losses[0], losses[1], atol=atol)
    for path in one.glob("predictions/*/*.parquet"):
        if path.parent.name in ("net", "encoded", "net_head"):
            tables = [pd.read_parquet(run / path.relative_to(one)) for run in (one, other)]
            pd.testing.assert_frame_equal(tables[0], tables[1], atol=10 * atol, rtol=10 * atol)
            catalog = pd.read_parquet(one / "catalog.parquet")
            assert tables[0]["id"].tolist() == catalog["id"][catalog["split"] == path.stem].tolist()
    assert json.loads((other / "provenance.json").read_text())["device"].startswith("2 x CPU")


def test_two_processes_say_of_galaxies_what_one_does(command: Command, tmp_path: Path) -> None:
    given = (*PLAIN_NET, "batch_size=14", "patience=2", *PLAIN)  # 48 rows: 14, 14, 14, 6
    status, printed = command(*given, "name=one")
    assert status == 0, printed
    status, printed = command(*given, *TWO, "name=two")
    assert status == 0, printed
    sweeps = tmp_path / "multirun" / "galaxyzoo"
    checked_alike(sweeps / "one" / "fold-0", sweeps / "two" / "fold-0")
    reached = [json.loads((sweeps / name / "metrics.json").read_text())["val/rmse"] for name in ("one", "two")]
    assert reached[0] == pytest.approx(reached[1], abs=1e-5)
    assert printed.count("fold-0: epoch 2 of 2") == 1  # nobody else says so


@pytest.mark.slow
def test_a_sweep_of_two_processes_a_job_makes_its_folders_alone(
    command: Command, galaxy10_sky: Path, tmp_path: Path
) -> None:
    given = ("task=galaxy10", *PLAIN_NET, "batch_size=9", "balance=0.5", "ema=0.9", "epochs=1", *PLAIN)
    assert command(*given, "fold=1", "name=one")[0] == 0
    status, printed = command(*given, *TWO, "-m", "fold=0,1", "hydra/launcher=basic", "name=two")
    assert status == 0, printed
    sweep = tmp_path / "multirun" / "galaxy10" / "two"
    assert [path.name for path in sweep.parent.iterdir() if path.name != "one"] == ["two"]
    assert sorted(path.parent.name for path in sweep.rglob("catalog.parquet")) == ["fold-0", "fold-1", "two"]
    checked_alike(sweep.parent / "one" / "fold-1", sweep / "fold-1")


@pytest.mark.slow
def test_two_processes_say_of_light_curves_what_one_does(command: Command, plasticc_sky: Path, tmp_path: Path) -> None:
    given: tuple[str, ...] = ("task=plasticc", "batch_size=32", "epochs=1", "embedded=0", "top=3", "data.augment=null")
    given += ("module.decoded=null", "encoder=recurrent", "encoder.dropout=0", "model.dropout=0")
    given += ("optim=sgd", "optim.lr=0.01")
    assert command(*given, "name=one")[0] == 0
    status, printed = command(*given, *TWO, "name=two")
    assert status == 0, printed
    sweeps = tmp_path / "multirun" / "plasticc"
    checked_alike(sweeps / "one" / "fold-0", sweeps / "two" / "fold-0")


# --- how it ends


SMALL = ("task=galaxyzoo", "model=tiny", *PLAIN_NET)


def begun(folder: Path, sky: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own."""
    stop = "callbacks={stop:{_target_:several.EndRank}}"
    line = ["size=32", "epochs=3", "batch_size=14", stop, *PLAIN]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"GALAXYML_CACHE": str(sky.parent / "cache"), "PYTHONPATH": paths, **environment}
    return subprocess.run(
        [sys.executable, "-m", "galaxyml", *line, f"data_dir={sky.parent}", *more],
        cwd=folder,
        env={**os.environ, "PROCESSES": str(folder / "processes"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def gone(process: int) -> bool:
    """Whether a process has ended, within a few seconds."""
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True  # nobody asks for its status
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        ("1:SIGKILL", 1, "process 2 of 2 was ended by SIGKILL"),
        ("0:SIGKILL", 1, "its process was ended by SIGKILL"),
        ("0:SIGTERM", 1, "stopped by SIGTERM"),
    ],
)
def test_processes_end_together_and_the_same_command_carries_on(
    end: str, status: int, message: str, sky: Path, tmp_path: Path
) -> None:
    done = begun(tmp_path, sky, *SMALL, "name=ended", *TWO, END_RANK=end)
    assert done.returncode == status, done.stderr
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    processes = [int(line) for line in (tmp_path / "processes").read_text().split()]
    assert len(set(processes)) == 2
    assert all(gone(process) for process in processes)
    run = tmp_path / "multirun" / "galaxyzoo" / "ended" / "fold-0"
    assert not (run / "metrics.json").exists()
    again = () if end == "1:SIGKILL" else TWO  # alone, or together
    for name, more in (("ended", again), ("unbroken", ())):
        done = begun(tmp_path, sky, *SMALL, f"name={name}", *more)
        assert done.returncode == 0, done.stderr
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (run, tmp_path / "multirun" / "galaxyzoo" / "unbroken" / "fold-0")
    ]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_torchrun_starts_the_processes_of_a_job(sky: Path, tmp_path: Path) -> None:
    small = [*SMALL, "model.batch_norm=false", "name=torchrun", "trainer.accelerator=cpu", "epochs=1"]
    assert begun(tmp_path, sky, *small, "trainer=ddp", "trainer.devices=1").returncode == 0
    run = tmp_path / "multirun" / "galaxyzoo" / "torchrun" / "fold-0"
    before = json.loads((run / "metrics.json").read_text())
    for name in ("metrics.json", "checkpoints"):
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("devices: 1", "devices: 2"))
    started = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "galaxyml", "job", str(run)]
    done = subprocess.run(
        [sys.executable, "-m", *started],
        cwd=tmp_path,
        env={**os.environ, "GALAXYML_CACHE": str(sky.parent / "cache"), "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    after = json.loads((run / "metrics.json").read_text())
    assert after["val/rmse"] == pytest.approx(before["val/rmse"], abs=1e-5)
    assert json.loads((run / "provenance.json").read_text())["device"].startswith("2 x CPU")
