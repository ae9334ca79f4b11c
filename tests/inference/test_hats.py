import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prediction_folders import classes, write_folder

from galaxyml.inference import hats, healpix
from galaxyml.inference.hats import COLUMN, FINE, partition_orders, write_hats
from galaxyml.runs.errors import UsageError


def closed_form(ra: np.ndarray, dec: np.ndarray, order: int) -> np.ndarray:
    """Nested pixels by the equations of Górski et al. 2005, section 5 and appendix."""
    nside = 2**order
    z, turn = np.sin(np.radians(dec)), (ra % 360) / 90
    equator = np.abs(z) <= 2 / 3
    up, down = nside * (0.5 + turn - 0.75 * z), nside * (0.5 + turn + 0.75 * z)
    up, down = np.floor(up).astype(np.int64), np.floor(down).astype(np.int64)
    face_up, face_down = up // nside, down // nside
    face = np.where(
        face_up == face_down, face_up % 4 + 4, np.where(face_up < face_down, face_up % 4, face_down % 4 + 8)
    )
    x, y = down % nside, nside - up % nside - 1
    quarter = np.minimum(turn.astype(np.int64), 3)
    within, reach = turn - quarter, nside * np.sqrt(3 * (1 - np.abs(z)))
    right = np.minimum(np.floor(within * reach), nside - 1).astype(np.int64)
    left = np.minimum(np.floor((1 - within) * reach), nside - 1).astype(np.int64)
    face = np.where(equator, face, np.where(z > 0, quarter, quarter + 8))
    x = np.where(equator, x, np.where(z > 0, nside - left - 1, right))
    y = np.where(equator, y, np.where(z > 0, nside - right - 1, left))
    pixel = face * nside * nside
    for bit in range(order):
        pixel += ((x >> bit) & 1) << (2 * bit)
        pixel += ((y >> bit) & 1) << (2 * bit + 1)
    return np.asarray(pixel)


@pytest.mark.parametrize("order", [0, 1, 5, 9, 20])
def test_pixels_are_those_of_the_closed_form(order: int) -> None:
    rng = np.random.default_rng(order)
    ra, dec = rng.uniform(0, 360, 5000), np.degrees(np.arcsin(rng.uniform(-1, 1, 5000)))
    np.testing.assert_array_equal(healpix.pixels(ra, dec, order), closed_form(ra, dec, order))
    np.testing.assert_array_equal(healpix.pixels(ra - 360, dec, min(order, 9)), healpix.pixels(ra, dec, min(order, 9)))


def test_pixels_of_low_order_contain_those_of_high_order() -> None:
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 1000), rng.uniform(-90, 90, 1000)
    deep = healpix.pixels(ra, dec, 29)
    assert deep.dtype == np.int64
    np.testing.assert_array_equal(deep >> (2 * (29 - 12)), closed_form(ra, dec, 12))


def test_partitions_are_as_large_as_may_be() -> None:
    counts = np.zeros(12 * 4**FINE, np.int64)
    rng = np.random.default_rng(0)
    np.add.at(counts, rng.integers(0, len(counts) // 50, 3000), 1)
    counts[7] += 500  # more than fit into any
    orders = partition_orders(counts, 100)
    rows: dict[tuple[int, int], int] = {}
    for pixel in np.flatnonzero(counts).tolist():
        order = int(orders[pixel])
        own = pixel >> (2 * (FINE - order))
        rows[order, own] = rows.get((order, own), 0) + int(counts[pixel])
    assert sum(rows.values()) == counts.sum()
    for (order, pixel), count in rows.items():
        assert count <= 100 or order == FINE
        if order:
            parent = pixel >> 2
            width = 4 ** (FINE - order + 1)
            assert counts[parent * width : (parent + 1) * width].sum() > 100  # else it were one partition


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine", classes(2000), "classes", {"smooth": "", "disk": "", "merger|odd": ""})


@pytest.mark.parametrize("held_bytes", [1000, 10**9])
def test_each_row_with_a_position_is_in_its_pixel_once_and_in_order(predictions: Path, held_bytes: int) -> None:
    table = classes(2000)
    known = table[table["ra"].notna() & table["dec"].notna()]
    catalogue = write_hats(predictions, most_rows=150, held_bytes=held_bytes)
    assert (catalogue.rows, catalogue.without_position) == (len(known), len(table) - len(known))
    dataset = predictions / "hats" / "dataset"
    parts = []
    for path in sorted(dataset.rglob("Npix=*.parquet")):
        order, pixel = int(path.parts[-3].removeprefix("Norder=")), int(path.stem.removeprefix("Npix="))
        assert path.parent.name == f"Dir={pixel // 10_000 * 10_000}"
        rows = pq.read_table(path, partitioning=None).to_pandas()
        assert rows.columns[0] == COLUMN
        assert 0 < len(rows) <= 150
        assert rows[COLUMN].is_monotonic_increasing
        assert set(rows[COLUMN].to_numpy() >> (2 * (29 - order))) == {pixel}
        parts.append(rows)
    assert len(parts) == catalogue.partitions
    found = pd.concat(parts).sort_values("id").reset_index(drop=True)
    np.testing.assert_array_equal(found[COLUMN], healpix.pixels(found["ra"].to_numpy(), found["dec"].to_numpy(), 29))
    pd.testing.assert_frame_equal(
        found.drop(columns=COLUMN), known.sort_values("id").reset_index(drop=True), check_dtype=False
    )


def test_files_beside_the_rows_are_those_of_the_standard(predictions: Path) -> None:
    catalogue = write_hats(predictions, most_rows=150)
    out = predictions / "hats"
    lines = (out / "hats.properties").read_text().splitlines()
    said = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert (
        said.items()
        >= {
            "obs_collection": "mine",
            "dataproduct_type": "object",
            "hats_nrows": str(catalogue.rows),
            "hats_col_ra": "ra",
            "hats_col_dec": "dec",
            "hats_col_healpix": "_healpix_29",
            "hats_col_healpix_order": "29",
            "hats_npix_suffix": ".parquet",
            "hats_version": "v1.0",
        }.items()
    )
    assert (out / "properties").read_text() == (out / "hats.properties").read_text()
    partitions = pd.read_csv(out / "partition_info.csv")
    assert list(partitions) == ["Norder", "Npix"]
    assert said["hats_order"] == str(partitions["Norder"].max())
    footer = pq.read_metadata(out / "dataset" / "_metadata")
    assert (footer.num_rows, footer.num_row_groups) == (catalogue.rows, catalogue.partitions)
    for group in range(footer.num_row_groups):
        assert (out / "dataset" / footer.row_group(group).column(0).file_path).is_file()
    assert pq.read_schema(out / "dataset" / "_common_metadata").names[0] == COLUMN
    assert {path.name for path in out.iterdir()} == {"dataset", "hats.properties", "properties", "partition_info.csv"}
    assert sorted(path.name for path in predictions.glob(".*") if path.is_dir()) == []


def test_rows_that_wait_are_bounded(predictions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    append = hats._append

    def spy(aside: Path, waiting: dict[int, list[pa.RecordBatch]]) -> None:
        held.append(sum(rows.nbytes for batches in waiting.values() for rows in batches))
        append(aside, waiting)

    monkeypatch.setattr(hats, "_append", spy)
    monkeypatch.setattr("galaxyml.inference.prediction_folder.ROWS_AT_ONCE", 50)
    write_hats(predictions, most_rows=150, held_bytes=20_000)
    assert len(held) > 5
    assert max(held) < 20_000 + 50 * 400


def test_features_and_columns_of_several_types_are_kept(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", classes(200), "classes", {"smooth": ""})
    rng = np.random.default_rng(0)
    vectors: dict[str, list[float]] = {}
    for number, path in enumerate(sorted((folder / "predictions").glob("*"))):
        table = pq.read_table(path)
        flat = rng.random(len(table) * 8).astype(np.float16)
        vectors.update(zip(table["id"].to_pylist(), flat.reshape(-1, 8).tolist(), strict=True))
        features = pa.FixedSizeListArray.from_arrays(pa.array(flat), 8)
        mixed = pa.array(["a"] * len(table)) if number == 2 else pa.array([number] * len(table))
        words = pa.array(["x"] * len(table)).dictionary_encode()
        old = pa.array([0] * len(table))  # of a catalogue that the images were listed in
        for name, column in {"features": features, "mixed": mixed, "word": words, COLUMN: old}.items():
            table = table.append_column(name, column)
        pq.write_table(table, path)
    write_hats(folder, most_rows=50)
    parts = [pq.read_table(path, partitioning=None) for path in (folder / "hats").rglob("Npix=*.parquet")]
    table = pa.concat_tables(parts)
    assert table.schema.names.count(COLUMN) == 1
    assert all(table[COLUMN].to_numpy() > 0)
    assert dict(zip(table["id"].to_pylist(), table["features"].to_pylist(), strict=True)) == {
        name: vectors[name] for name in table["id"].to_pylist()
    }
    assert set(table["mixed"].to_pylist()) == {"0", "1", "3", "a"}
    assert set(table["word"].to_pylist()) == {"x"}


def test_a_catalogue_appears_whole_or_not_at_all(predictions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (predictions / ".hats.killed" / "hats").mkdir(parents=True)  # of a process that was killed

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hats, "_write_partition", fail)
        with pytest.raises(KeyboardInterrupt):
            write_hats(predictions)
    assert not (predictions / "hats").exists()
    assert [path for path in predictions.glob(".hats.*") if path.is_dir()] == []
    write_hats(predictions)
    with pytest.raises(UsageError, match=r"hats is there already\. Delete it"):
        write_hats(predictions)


def test_what_cannot_be_a_catalogue_is_told(tmp_path: Path) -> None:
    table = classes(100)
    unfinished = write_folder(tmp_path / "half", table, "classes", {"smooth": ""}, missing=1)
    with pytest.raises(UsageError, match=r"half is not finished: 3 of 4 parts are there\. The same predict command"):
        write_hats(unfinished)
    nowhere = write_folder(tmp_path / "nowhere", table.drop(columns=["ra", "dec"]), "classes", {"smooth": ""})
    with pytest.raises(UsageError, match=r"nowhere: A HATS catalogue needs .* columns ra and dec"):
        write_hats(nowhere)
    with pytest.raises(UsageError, match=r"has no column alpha; its positions are to be in alpha and delta\."):
        write_hats(nowhere, ("alpha", "delta"))
    lost = write_folder(tmp_path / "lost", table.assign(ra=np.nan), "classes", {"smooth": ""})
    with pytest.raises(UsageError, match="none of its objects has a position"):
        write_hats(lost)


OPENED = """
import json, sys
import lsdb
from hats.io.validation import is_valid_catalog
catalog = lsdb.open_catalog(sys.argv[1])
cone = catalog.cone_search(ra=120, dec=20, radius_arcsec=20 * 3600).compute()
valid = is_valid_catalog(sys.argv[1], strict=True)
print(json.dumps({"valid": valid, "rows": len(catalog.compute()), "cone": sorted(cone["id"])}))
"""


IMPORTED = """
import sys
from pathlib import Path
from dask.distributed import Client
from hats_import.catalog.arguments import ImportArguments
from hats_import.pipeline import pipeline_with_client
if __name__ == "__main__":
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    files = sorted(folder.glob("predictions/*.parquet"))
    arguments = ImportArguments(
        ra_column="ra", dec_column="dec", sort_columns="id", input_file_list=files, file_reader="parquet",
        output_path=out, output_artifact_name="imported", progress_bar=False,
    )
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        pipeline_with_client(arguments, client)
"""


@pytest.fixture
def in_lsdb(tmp_path: Path) -> Callable[..., str]:
    """Runs a script where LSDB and hats-import are, with some arguments; gives its last line."""
    packages = all(importlib.util.find_spec(name) for name in ("lsdb", "hats_import"))
    python = sys.executable if packages else os.environ.get("GALAXYML_LSDB")
    if not python:
        pytest.skip("set GALAXYML_LSDB to the python of an environment with lsdb (pip install lsdb hats-import)")

    def run(content: str, *args: Path) -> str:
        script = tmp_path / "script.py"
        script.write_text(content)
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        command = [python, str(script), *(str(arg) for arg in args)]
        ended = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip().rpartition("\n")[2]

    return run


def test_lsdb_opens_it_and_finds_what_is_in_a_cone(predictions: Path, in_lsdb: Callable[..., str]) -> None:
    catalogue = write_hats(predictions, most_rows=150)
    said = json.loads(in_lsdb(OPENED, predictions / "hats"))
    table = classes(2000)
    ra, dec = np.radians(table["ra"] - 120), np.radians(table["dec"])
    cosine = np.sin(dec) * np.sin(np.radians(20)) + np.cos(dec) * np.cos(np.radians(20)) * np.cos(ra)
    inside = sorted(table["id"][np.degrees(np.arccos(np.clip(cosine, -1, 1))) < 20])
    assert inside
    assert said == {"valid": True, "rows": catalogue.rows, "cone": inside}


def test_hats_import_makes_the_same_rows_of_the_parts(tmp_path: Path, in_lsdb: Callable[..., str]) -> None:
    table = classes(2000).dropna(subset=["ra", "dec"])  # hats-import takes no others
    folder = write_folder(tmp_path / "mine", table, "classes", {"smooth": "", "disk": "", "merger|odd": ""})
    write_hats(folder)
    in_lsdb(IMPORTED, folder, tmp_path)
    ours, theirs = (
        pd.concat(pq.read_table(path, partitioning=None).to_pandas() for path in catalogue.rglob("Npix=*.parquet"))
        for catalogue in (folder / "hats", tmp_path / "imported")
    )
    theirs = theirs.sort_values("id").reset_index(drop=True)[list(ours)]
    pd.testing.assert_frame_equal(ours.sort_values("id").reset_index(drop=True), theirs, check_dtype=False)
