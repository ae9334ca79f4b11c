"""What each logger keeps of a run, read back by its own reader; a run that is carried on stays the same entry."""

import importlib
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from galaxyml.runs import ranks
from galaxyml.runs.errors import UserError
from galaxyml.runs.run_dir import RunDir
from galaxyml.training import loggers

Command = Callable[..., tuple[int, str]]


def config(**logger: Any) -> DictConfig:
    return OmegaConf.create({"task": "galaxyzoo", "name": "here", "optim": {"lr": 0.5}, "logger": logger})


def test_a_missing_package_is_answered_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    for name, kind in {"wandb": "WandB", "mlflow": "MLflow"}.items():
        with pytest.raises(UserError, match=rf"pip install 'galaxyml\[{name}\]'"):
            loggers.check_logger(config(_target_=f"galaxyml.training.loggers.{kind}"))
    loggers.check_logger(config(_target_="galaxyml.training.loggers.CSV"))
    loggers.check_logger(OmegaConf.create({"logger": None}))


def test_settings_are_plain_values_by_dotted_key() -> None:
    configured = OmegaConf.create(
        {"a": {"b": 1, "_target_": "x", "c": "${a.b}"}, "d": None, "e": [1], "f": True, "g": "word"}
    )
    assert loggers.settings(configured) == {"a.b": 1, "f": True, "g": "word"}


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_a_run_without_figures(command: Command, tmp_path: Path, logger: str) -> None:
    status, printed = command(f"logger={logger}", "name=plain")
    assert status == 0, printed
    assert "Warning" not in printed
    run = tmp_path / "multirun" / "galaxyzoo" / "plain" / "fold-0"
    assert not (run / "tensorboard").exists()
    assert (run / "csv").exists() == (logger == "csv")
    if logger == "csv":
        table = pd.read_csv(run / "csv" / "metrics.csv")
        history = pd.read_csv(run / "history.csv")
        rmse = table["val/rmse"].dropna()
        assert rmse.to_numpy() == pytest.approx(history["val/rmse"].to_numpy())
    status, printed = command("logger=tensorboard", "name=plain")  # may change
    assert "finished before, kept" in printed


def test_features_that_a_broken_run_has_left_are_shown_anew_without_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / "fold-0")
    shown = run.path / "tensorboard" / "00007" / loggers.FEATURES
    for rows in (6, 4):
        board = loggers.TensorBoard(run, run, config())
        metadata = pd.DataFrame({"id": range(rows), "name": "a"})
        board.add_features(torch.rand(rows, 3), metadata, torch.rand(rows, 3, 8, 8), step=7)
        board.finalize("success")
        assert len((shown / "tensors.tsv").read_text().splitlines()) == rows
    assert capfd.readouterr() == ("", "")


def test_a_table_goes_on_where_its_run_goes_on(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "fold-0")

    def opened() -> loggers.CSV:
        return loggers.CSV(run, run, config())

    first = opened()
    for step in range(5):
        first.log_metrics({"a": float(step)}, step)
    first.save()
    opened().log_final({})  # a run that was fitted before logs nothing
    second = opened()
    second.log_metrics({"a": 30.0}, 3)  # from its checkpoint on
    second.log_metrics({"b": 1.0}, 4)
    second.log_final({})
    table = pd.read_csv(tmp_path / "fold-0" / "csv" / "metrics.csv")
    assert table["step"].tolist() == [0, 1, 2, 3, 4]
    assert table["a"].tolist()[:4] == [0, 1, 2, 30]
    assert table["b"].tolist()[4] == 1


# --- Weights & Biases


def chunks(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, which has blocks of 32 KiB, after Weights & Biases' 7 bytes."""
    assert content[:4] == b":W&B"
    offset, waiting = 7, b""
    while offset + 7 <= len(content):
        left = 32768 - offset % 32768
        if left < 7:  # too few for a header; filled with zeros
            offset += left
            continue
        _, size, kind = struct.unpack("<IHB", content[offset : offset + 7])
        waiting += content[offset + 7 : offset + 7 + size]
        offset += 7 + size
        if kind in (1, 4):  # a whole one, or the last part of one
            yield waiting
            waiting = b""


def records(run: Path) -> list[Any]:
    """All records of a run's offline files, in their order."""
    importlib.import_module("wandb").teardown()  # a run that is finished may still be written
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    parsed = []
    for path in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        for chunk in chunks(path.read_bytes()):
            record: Any = messages.Record()
            record.ParseFromString(chunk)
            parsed.append(record)
    return parsed


def logged(run: Path) -> list[dict[str, Any]]:
    """One dict a row of history."""
    return [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records(run)
        if record.WhichOneof("record_type") == "history"
    ]


def test_weights_and_biases_without_a_network(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="galaxyml[wandb] is not installed")
    for name in [name for name in sys.modules if name.startswith("huggingface_hub.inference")]:
        monkeypatch.delitem(sys.modules, name)  # of tests of the page; wandb advertises where it is loaded
    line = ("logger=wandb", "logger.mode=offline", "figures=true", "name=board", "fold=0,1")
    status, printed = command(*line)
    assert status == 0, printed
    assert "wandb" not in printed.lower()
    assert "Warning" not in printed
    sweep = tmp_path / "multirun" / "galaxyzoo" / "board"
    assert {path.name for path in tmp_path.iterdir()} <= {"multirun", "data"}
    ids = set()
    for fold in (0, 1):
        run = sweep / f"fold-{fold}"
        begun = [record.run for record in records(run) if record.WhichOneof("record_type") == "run"]
        assert {(entry.display_name, entry.run_group, entry.project) for entry in begun} == {
            (run.name, "galaxyzoo/board", "galaxyml")
        }
        ids |= {entry.run_id for entry in begun}
        settings = {item.key: json.loads(item.value_json) for entry in begun for item in entry.config.update}
        assert (settings["fold"], settings["optim.lr"]) == (fold, 0.001)
        rows = logged(run)
        history = pd.read_csv(run / "history.csv")
        assert [row["val/rmse"] for row in rows if "val/rmse" in row] == pytest.approx(history["val/rmse"].tolist())
        assert any(row.get("val/objects._type") == "image-file" or "val/objects" in row for row in rows)
        assert list(run.glob("wandb/offline-run-*/files/media/images/val/objects*.png"))
        summary = {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json)
            for record in records(run)
            if record.WhichOneof("record_type") == "summary"
            for item in record.summary.update
        }
        assert summary["reached/val/rmse"] == json.loads((run / "metrics.json").read_text())["val/rmse"]
    assert len(ids) == 2


def test_a_carried_on_run_is_the_same_at_weights_and_biases(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason="galaxyml[wandb] is not installed")
    run = RunDir(tmp_path / "here" / "fold-0")
    for status in ("failed", "success"):
        time.sleep(1 - time.time() % 1)  # files go by the second that they begin in
        logger = loggers.WandB(run, run, config(), "galaxyml", None, "offline")
        logger.log_metrics({"a": 1.0}, 3)
        logger.finalize(status)
    logger.log_final({})
    begun = [record.run for record in records(run.path) if record.WhichOneof("record_type") == "run"]
    assert len(begun) >= 2
    assert {entry.run_id for entry in begun} == {run.logger_run_id("wandb")}
    assert wandb.run is None
    with pytest.raises(UserError, match=r"logger\.mode=nowhere: it must be online, offline"):
        loggers.WandB(run, run, config(), "galaxyml", None, "nowhere")


def test_one_who_is_not_logged_in_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not loggers._has_key()
    path = tmp_path / ".netrc"
    path.write_text("machine api.wandb.ai login user password secret\n")
    path.chmod(0o600)
    assert loggers._has_key()
    path.unlink()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert loggers._has_key()


# --- MLflow


def test_mlflow_in_a_database_of_the_sweep(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="galaxyml[mlflow] is not installed")
    status, printed = command("logger=mlflow", "figures=true", "name=flow", "fold=0,1")
    assert status == 0, printed
    assert "mlflow" not in printed.lower()
    assert "Warning" not in printed
    assert {path.name for path in tmp_path.iterdir()} <= {"multirun", "data"}
    from mlflow.tracking import MlflowClient

    sweep = tmp_path / "multirun" / "galaxyzoo" / "flow"
    client = MlflowClient(f"sqlite:///{sweep}/mlflow.db")
    experiment = client.get_experiment_by_name("galaxyzoo/flow")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["fold-0", "fold-1"]
    for name, run in runs.items():
        history = pd.read_csv(sweep / name / "history.csv")
        logged_values = client.get_metric_history(run.info.run_id, "val/rmse")
        assert [metric.value for metric in logged_values] == pytest.approx(history["val/rmse"].tolist())
        assert run.data.params["optim.lr"] == "0.001"
        reached = json.loads((sweep / name / "metrics.json").read_text())["val/rmse"]
        assert run.data.metrics["reached/val/rmse"] == pytest.approx(reached)
        assert run.info.status == "FINISHED"
        figures = {item.path for item in client.list_artifacts(run.info.run_id, "val/objects")}
        assert figures
        assert all((sweep / "mlflow" / run.info.run_id / "artifacts" / path).is_file() for path in figures)

    # A run that is carried on stays the same there; a part of it has an entry of its own.
    folder = RunDir(sweep / "fold-0")
    config_of = folder.config
    again: Any = loggers.MLflow(folder, folder, config_of, None)
    assert again.run_id == runs["fold-0"].info.run_id
    assert client.get_run(again.run_id).info.status == "RUNNING"
    again.log_metrics({"odd, name": 1.0}, 7)
    again.add_figure("val/odd, name", plt.figure(), 7)
    again.finalize("failed")
    assert client.get_run(again.run_id).info.status == "FAILED"
    assert client.get_run(again.run_id).data.metrics["odd name"] == 1.0
    head: Any = loggers.MLflow(folder.phase("head"), folder, config_of, None)
    assert client.get_run(head.run_id).info.run_name == "fold-0 head"
    assert head.run_id != again.run_id


def test_only_the_first_process_of_a_run_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path)
    wanted = config(_target_="galaxyml.training.loggers.CSV", _partial_=True)
    assert isinstance(loggers.build_logger(run, run, wanted), loggers.CSV)
    monkeypatch.setattr(ranks, "is_rank_zero", lambda: False)
    assert loggers.build_logger(run, run, wanted) is None
