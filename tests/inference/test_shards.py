"""Predictions in shards: the same numbers as in one table, nothing lost to a kill, and nothing mixed up."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from galaxyml.inference import load, predict
from galaxyml.inference.shards.engine import _shared
from galaxyml.inference.shards.folder import ShardFolder
from galaxyml.inference.shards.manifest import Manifest, write_manifest
from galaxyml.inference.summary import command as summary
from galaxyml.runs.errors import DataError, UserError
from galaxyml.sweeps.worker import Slot

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(apart: None, in_process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `python -m galaxyml predict` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(in_process, predict.main)


@pytest.fixture
def run(page_run: Callable[[str], Path]) -> Path:
    return page_run("galaxyzoo")


@pytest.fixture
def pictures(galaxies: list[Path], tmp_path: Path) -> Path:
    """A folder of 30 pictures, two of which are none."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(28):
        shutil.copy(galaxies[number % len(galaxies)], folder / f"{number:03}.jpg")
    (folder / "007b.jpg").write_text("<html>")
    (folder / "013b.png").write_bytes(b"")
    return folder


def predictions(folder: Path) -> pd.DataFrame:
    return ds.dataset(folder / "predictions").to_table().to_pandas()


def test_a_folder_has_the_numbers_of_one_table(run: Path, ask: Command, pictures: Path) -> None:
    assert ask(run, pictures, "--out", "one.parquet")[0] == 0
    status, said = ask(run, pictures, "--out", "many/", "--shard-rows", 8, "--workers", 2)
    assert status == 0, said
    assert "28 images predicted" in said
    assert "2 could not be read" in said
    found, expected = predictions(Path("many")), pd.read_parquet("one.parquet")
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert [pq.read_metadata(path).num_rows for path in sorted(Path("many/predictions").iterdir())] == [8, 6, 8, 6]
    failed = pd.read_parquet("many/failed.parquet")
    assert failed["id"].tolist() == ["007b.jpg", "013b.png"]
    reasons = zip(("it is a web page", "it is empty"), failed["reason"], strict=True)
    assert all(expected in reason for expected, reason in reasons)
    assert sorted(path.name for path in Path("many").iterdir()) == [
        "failed",
        "failed.parquet",
        "index.json",
        "manifest.parquet",
        "predictions",
    ]
    index = json.loads(Path("many/index.json").read_text())
    assert (index["rows"], index["shards"], index["kind"]) == (30, 4, "fractions")
    assert index["finished"]


def test_columns_of_a_table_travel_along(run: Path, ask: Command, pictures: Path, galaxies: list[Path]) -> None:
    names = [f"mine/{number:03}.jpg" for number in range(12)]
    ra = [f"{number / 7}" if number != 9 else "" for number in range(12)]
    table = pd.DataFrame({"objid": [f"{number:03}" for number in range(12)], "path": names, "ra": ra, "dec": -1.5})
    table["count"] = [str(number) if number != 2 else "" for number in range(12)]
    table["note"] = ["x"] * 11 + ["7"]
    table.to_csv("list.csv", index=False)
    assert ask(run, "list.csv", "--out", "one.parquet")[0] == 0
    assert ask(run, "list.csv", "--out", "many/", "--shard-rows", 5)[0] == 0
    found, expected = predictions(Path("many")), pd.read_parquet("one.parquet")
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_dtype=False)
    schema = pq.read_schema("many/predictions/part-00000.parquet")
    types = {name: str(schema.field(name).type) for name in ("id", "ra", "dec", "count", "note")}
    assert types == {"id": "string", "ra": "double", "dec": "double", "count": "int64", "note": "string"}
    assert {pq.read_schema(path) for path in Path("many/predictions").iterdir()} == {schema}
    assert schema.field("ra").metadata[b"unit"] == b"deg"
    assert json.loads(Path("many/index.json").read_text())["positions"] == ["ra", "dec"]


@pytest.mark.parametrize("reader", ["duckdb", "polars"])
def test_other_programs_read_the_parts_as_one_table(reader: str, run: Path, ask: Command, pictures: Path) -> None:
    program = pytest.importorskip(reader, reason=f"pip install {reader}")
    count = [str(number) if number != 2 else "" for number in range(12)]
    paths = [f"mine/{number:03}.jpg" for number in range(12)]
    pd.DataFrame({"path": paths, "ra": 1.5, "dec": -1.5, "count": count}).to_csv("list.csv", index=False)
    assert ask(run, "list.csv", "--out", "many/", "--shard-rows", 5, "--features")[0] == 0
    expected, parts = predictions(Path("many")), "many/predictions/*.parquet"
    if reader == "duckdb":
        found = program.sql(f"SELECT * FROM '{parts}' ORDER BY filename, file_row_number").df()[list(expected)]
    else:
        found = program.scan_parquet(parts).collect().to_pandas()
    np.testing.assert_array_equal(np.stack(list(found.pop("features"))), np.stack(list(expected.pop("features"))))
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_dtype=False)


def test_a_summary_shows_the_images_of_a_table_from_wherever_it_is_asked(
    run: Path, ask: Command, in_process: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame({"path": [f"{number:03}.jpg" for number in range(12)]}).to_csv(pictures / "list.csv", index=False)
    assert ask(run, "mine/list.csv", "--out", "many/", "--shard-rows", 5)[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, said = in_process(summary.main, "../many")
    assert status == 0, said
    assert "12 images predicted" in said
    assert "cannot be shown" not in said
    assert (tmp_path / "many" / "report.html").read_text().count("data:image/") > 3


def test_images_inside_files_of_any_kind(run: Path, ask: Command, pictures: Path, tmp_path: Path) -> None:
    files = sorted(path for path in pictures.glob("*.jpg") if len(path.name) == 7)[:9]
    contents = [path.read_bytes() for path in files]
    with tarfile.open("a.tar", "w") as archive:
        for path in files:
            archive.add(path, f"x/{path.name}")
            (tmp_path / "cls").write_text("1")
            archive.add(tmp_path / "cls", f"x/{path.stem}.cls")
    image = pa.array([{"bytes": content, "path": None} for content in contents])
    pq.write_table(pa.table({"id_str": [path.stem for path in files], "image": image}), "b.parquet")
    with h5py.File("c.h5", "w") as file:
        file["images"] = np.stack([np.asarray(Image.open(path)) for path in files])
    assert ask(run, *files, "--out", "one.parquet")[0] == 0
    expected = pd.read_parquet("one.parquet")
    numbers = [name for name in expected if str(name).startswith(("Class", "ood"))]
    for name in ("a.tar", "b.parquet", "c.h5"):
        status, said = ask(run, name, "--out", f"{name}.out/", "--shard-rows", 4)
        assert status == 0, said
        found = predictions(Path(f"{name}.out"))
        pd.testing.assert_frame_equal(found[numbers], expected[numbers], check_exact=True)
        assert found["path"].tolist() == [f"{name}#{row}" for row in range(9)]
        assert ask(run, name, "--out", "again.parquet")[0] == 0
        pd.testing.assert_frame_equal(pd.read_parquet("again.parquet")[numbers], expected[numbers], check_exact=True)


def test_the_same_command_carries_on_and_others_are_refused(
    run: Path, ask: Command, pictures: Path, page_run: Callable[[str], Path]
) -> None:
    command = (run, pictures, "--out", "many/", "--shard-rows", 8)
    assert ask(*command)[0] == 0
    first, whole = Path("many/predictions/part-00000.parquet"), predictions(Path("many"))
    kept = Path("many/predictions/part-00002.parquet").stat().st_mtime_ns
    first.unlink()
    Path("many/predictions/part-00001.parquet").unlink()  # which has one of the two that cannot be read
    status, said = ask(*command)
    assert status == 0, said
    assert "2 of 4 shards are done" in said
    assert "2 could not be read" in said
    pd.testing.assert_frame_equal(predictions(Path("many")), whole, check_exact=True)
    assert Path("many/predictions/part-00002.parquet").stat().st_mtime_ns == kept
    assert len(pd.read_parquet("many/failed.parquet")) == 2
    status, said = ask(page_run("spirals"), *command[1:])
    assert status == 1
    assert "another run" in said
    status, said = ask(run, pictures / "001.jpg", *command[2:])
    assert status == 1
    assert "other inputs" in said
    status, said = ask(*command, "--features")
    assert status == 1
    assert "features none then, too now" in said
    (Path("other") / "deep").mkdir(parents=True)
    status, said = ask(run, pictures, "--out", "other/")
    assert status == 2
    assert "other things" in said
    Path("many/index.json").unlink()
    shutil.rmtree("many/predictions")
    shutil.rmtree("many/failed")
    Path("many/failed.parquet").unlink()
    assert ask(*command)[0] == 0  # as where a command was killed right behind its listing
    pd.testing.assert_frame_equal(predictions(Path("many")), whole, check_exact=True)


def test_relative_paths_are_those_of_the_folder_where_it_began(
    run: Path, ask: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (run, "mine", "--out", f"{tmp_path}/many/", "--shard-rows", 8)
    assert ask(*command)[0] == 0
    whole = predictions(Path("many"))
    Path("many/predictions/part-00002.parquet").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, said = ask(*command)
    assert status == 0, said
    pd.testing.assert_frame_equal(predictions(tmp_path / "many"), whole, check_exact=True)


def test_a_column_of_ones_own_may_be_called_features(run: Path, ask: Command, pictures: Path) -> None:
    pd.DataFrame({"path": ["mine/000.jpg", "mine/001.jpg"], "features": ["a", "b"]}).to_csv("list.csv", index=False)
    assert ask(run, "list.csv", "--out", "many/")[0] == 0
    assert predictions(Path("many"))["features"].tolist() == ["a", "b"]


def test_what_is_the_machines_fault_does_not_count_as_a_broken_image(
    run: Path, ask: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("galaxyml.data.images.decode._contents", stale)
    with pytest.raises(UserError, match=r"000\.jpg could not be read: Stale file handle\. Run the same command again"):
        load(run).predict(str(pictures), bad=[])


def test_features_are_means_over_the_views(run: Path, ask: Command, pictures: Path) -> None:
    assert ask(run, pictures, "--out", "both/", "--features")[0] == 0
    assert ask(run, pictures, "--out", "only/", "--features-only")[0] == 0
    both, only = predictions(Path("both")), predictions(Path("only"))
    assert summary.summarise(Path("only")).is_file()
    assert list(only) == ["id", "path", "features"]
    assert only["features"].iloc[0].dtype == np.float16
    np.testing.assert_array_equal(np.stack(list(only["features"])), np.stack(list(both["features"])))
    import torch

    from galaxyml.data.images.views import scaled

    predictor = load(run)
    found = []
    for member in predictor.members:  # type: ignore[attr-defined]
        model: Any = member.model
        pixels = torch.from_numpy(member.framing.read(pictures / "003.jpg").copy())[None]
        with torch.inference_mode():
            views = list(model.predict_views.see(scaled(pixels), member.framing.size))
            found.append(torch.stack([model.net.features(view)[0] for view in views]).mean(0).numpy())
    row = only["features"][only["id"] == "003.jpg"].iloc[0]
    np.testing.assert_allclose(row, np.concatenate(found), rtol=2e-3, atol=1e-4)


def test_light_curves_have_the_scores_of_one_table(
    page_run: Callable[[str], Path], ask: Command, plasticc_sky: Path, tmp_path: Path
) -> None:
    run = page_run("plasticc")
    assert ask(run, plasticc_sky, "--out", "one.parquet")[0] == 0
    status, said = ask(run, plasticc_sky, "--out", "many/", "--shard-rows", 30)
    assert status == 0, said
    assert "light curves predicted" in said
    found = predictions(Path("many"))
    expected = pd.read_parquet("one.parquet").drop(columns="rank")
    assert len(list(Path("many/predictions").iterdir())) > 1
    assert set(found["object_id"]) == set(expected["object_id"])
    ordered = expected.set_index("object_id").loc[found["object_id"]].reset_index()
    pd.testing.assert_frame_equal(found, ordered, check_exact=True, check_dtype=False)
    assert pq.read_schema("many/predictions/part-00000.parquet").field("mjd").metadata[b"unit"] == b"d"
    status, said = ask(run, plasticc_sky, "--out", "f/", "--features")
    assert status == 2
    assert "of which there are no features" in said


def test_a_killed_command_and_a_killed_process_lose_nothing(
    run: Path, ask: Command, pictures: Path, tmp_path: Path
) -> None:
    assert ask(run, pictures, "--out", "whole/", "--shard-rows", 2)[0] == 0
    command = [sys.executable, "-m", "galaxyml", "predict", str(run), str(pictures), "--out", "killed/"]
    command += ["--shard-rows", "2", "--workers", "1"]
    parts = tmp_path / "killed" / "predictions"

    def begun(count: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        until = time.monotonic() + 120
        while not (parts.is_dir() and len(list(parts.glob("part*"))) >= count):
            assert time.monotonic() < until
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return process

    process = begun(2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = len(list(parts.glob("part*")))
    for draft in parts.glob(".part*"):  # of the one that was killed
        shutil.rmtree(draft)
    assert before < 15
    process = begun(before + 1)
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "The same command goes on" in said
    assert not [name for name in os.listdir(parts) if name.startswith(".")]  # that in hand came to its end
    process = begun(len(list(parts.glob("part*"))) + 1)
    for child in _children(process.pid):
        if "multiprocessing" in _command_line(child):
            os.kill(child, signal.SIGKILL)
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    pd.testing.assert_frame_equal(predictions(Path("killed")), predictions(Path("whole")), check_exact=True)
    assert len(pd.read_parquet("killed/failed.parquet")) == 2
    assert sorted(os.listdir(parts)) == [f"part-{shard:05}.parquet" for shard in range(15)]


def _children(pid: int) -> list[int]:
    """Processes that descend from one, without those that have children themselves: not the server that forks them."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue

    def descends(child: int) -> bool:
        return child in parents and (parents[child] == pid or descends(parents[child]))

    return [child for child in parents if descends(child) and child not in parents.values()]


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "many"], "--out many: write many/ for a folder"),
        (["--out", "many/", "--shard-rows", "0"], "--shard-rows 0: it must be a whole number, 1 or more"),
        (["--out", "many/", "--on-error", "stop"], "--on-error stop is of predictions in one table"),
        (["--out", "many/", "--interval", "70"], "--interval 70"),
        (["--out", "many/", "--columns", "time=MJD"], "--columns, --bands and --zero-point are of light curves"),
        (["--out", "many/", "--on", "ray", "--engine", "adress=auto"], "Did you mean address?"),
        (["--out", "many/", "--engine", "cpus=2"], "--on here has no such option. It has none."),
        (["--out", "a.csv", "--features"], "--features is of predictions in a folder: write --out FOLDER/"),
    ],
)
def test_wrong_options_are_answered_before_a_folder_is_made(
    run: Path, ask: Command, pictures: Path, options: list[str], said: str
) -> None:
    status, printed = ask(run, pictures, *options)
    assert status == 2, printed
    assert said in printed
    assert not Path("many").exists()


def test_a_folder_of_no_images_fails(run: Path, ask: Command, tmp_path: Path) -> None:
    status, printed = ask(run, "gone.jpg", "--out", "none/")
    assert status == 1, printed
    assert "None of the 1 images can be read: gone.jpg is not there; see none/failed.parquet" in printed


def test_a_manifest_has_the_rows_in_their_order_and_types_of_all(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    frame = pd.DataFrame({"path": [f"{number}.jpg" for number in range(120_000)], "x": ["1"] * 119_999 + ["1.5"]})
    frame["y"] = ["7"] * 120_000
    frame["z"] = [""] * 120_000
    frame.to_csv(tmp_path / "list.csv", index=False)
    assert write_manifest([str(tmp_path / "list.csv")], folder / "manifest.parquet", 7_000) == 120_000
    manifest = Manifest(folder / "manifest.parquet")
    assert manifest.shards == 18
    rows = pd.concat([manifest.read(shard) for shard in range(18)], ignore_index=True)
    assert rows["path"].tolist() == frame["path"].tolist()
    assert rows["_location"].iloc[-1] == str(tmp_path / "119999.jpg")
    assert (str(rows["x"].dtype), str(rows["y"].dtype)) == ("float64", "Int64")
    assert rows["x"].iloc[-1] == 1.5
    assert rows["z"].eq("").all()
    (tmp_path / "other.csv").write_text("path,w\na.jpg,1\n")
    with pytest.raises(DataError, match="w, x, y, z are in one of them alone"):
        write_manifest([str(tmp_path / "list.csv"), str(tmp_path / "other.csv")], folder / "m.parquet", 10)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.parquet"]


def test_what_is_no_folder_of_predictions_says_so(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no folder that predictions were written into"):
        ShardFolder(tmp_path).index()


def test_more_workers_than_gpus_share_them() -> None:
    gpus = [Slot("GPU 0", ("0",), 8), Slot("GPU 1", ("1",), 8)]
    assert _shared(gpus, None) == _shared(gpus, 2) == gpus
    assert _shared(gpus, 4) == [replace(slot, threads=4) for slot in gpus] * 2
    assert _shared([Slot("CPU 1", None, 2)], 4) == [Slot("CPU 1", None, 2)]  # as many as are asked for already
