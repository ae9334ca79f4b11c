import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.time import Time

from galaxyml.data.light_curves import reader, store
from galaxyml.data.light_curves.columns import LightCurves, open_curves
from galaxyml.data.light_curves.reader import BANDS, HEADER, Block
from galaxyml.runs.errors import DataError

BAND = r"a number from 0 to 5 \(for u, g, r, i, z, y\)"
DATE = r"a Modified Julian Date from 15,000 to 100,000 \(1899 to 2132\)"
NAMES = ("ids", "offsets", "mjd", "band", "flux", "error", "detected")


def observations(objects: int = 40, seed: int = 0) -> pd.DataFrame:
    """Rows in the order of object and time, several of them at one time in other bands."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, objects)
    ids = np.repeat(np.sort(rng.choice(10**9, objects, replace=False)), counts)
    total = len(ids)
    table = pd.DataFrame(
        {
            "object_id": ids,
            "mjd": 59580 + rng.integers(0, 5000, total) / 4,
            "passband": rng.integers(0, 6, total),
            "flux": rng.normal(0, 100, total).round(6),
            "flux_err": rng.uniform(0.01, 50, total).round(6),
            "detected": rng.integers(0, 2, total),
        }
    )
    keys = ["object_id", "mjd", "passband"]
    return table.drop_duplicates(keys).sort_values(keys, ignore_index=True)


def written(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False)
    return path


def agree(curves: LightCurves, table: pd.DataFrame) -> None:
    """Compares with pandas' own reading and sorting."""
    table = table.drop_duplicates().sort_values(["object_id", "mjd", "passband"])
    ids, counts = np.unique(table["object_id"], return_counts=True)
    np.testing.assert_array_equal(curves.ids, ids)
    np.testing.assert_array_equal(np.diff(curves.offsets), counts)
    assert curves.offsets[0] == 0
    assert len(curves) == len(ids)
    np.testing.assert_array_equal(curves.mjd, table["mjd"])
    np.testing.assert_array_equal(curves.band, table["passband"])
    np.testing.assert_array_equal(curves.detected, table["detected"] == 1)
    np.testing.assert_array_equal(curves.flux, table["flux"].astype(np.float32))
    np.testing.assert_array_equal(curves.error, table["flux_err"].astype(np.float32))
    kinds = [getattr(curves, name).dtype for name in NAMES]
    assert kinds == [np.int64, np.int64, np.float64, np.int8, np.float32, np.float32, np.bool_]


@pytest.fixture(autouse=True, params=["pandas", "compiled"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two ways that files are parsed, by their size."""
    if request.param == "compiled":
        monkeypatch.setattr(store, "COMPILED", 0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few lines, checkpoints after some, and a merge of a few objects at once."""
    monkeypatch.setattr(reader, "BLOCK", 300)
    monkeypatch.setattr(store, "CHECKPOINT", 2000)
    monkeypatch.setattr(store, "MERGED", 100)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Files and first lines of the blocks that have been parsed."""
    found: list[tuple[str, int]] = []
    parse = store.parse

    def counted(block: Block, compiled: bool) -> dict[str, np.ndarray]:
        found.append((block.path.name, block.line))
        return parse(block, compiled)

    monkeypatch.setattr(store, "parse", counted)
    return found


def test_real_files_are_read_as_pandas_reads_them(real: Path, tmp_path: Path) -> None:
    paths = [real / "plasticc" / name for name in ("training_set.csv", "test_set.csv")]
    curves = open_curves(paths, tmp_path)
    agree(curves, pd.concat([pd.read_csv(path) for path in paths]))
    assert curves.notes == ()
    assert len(curves) == 1189 + 300


@pytest.mark.parametrize(
    "form", ["plain", "gzip", "zenodo", "order", "spaces", "bom", "crlf", "no end", "blank", "floats"]
)
def test_forms_of_a_file_give_the_same(form: str, tmp_path: Path) -> None:
    table = observations()
    shown = table
    if form == "zenodo":
        shown = table.rename(columns={"detected": "detected_bool"}).astype({"detected_bool": bool})
    if form == "order":
        shown = table[reversed(HEADER)].assign(more="text").reindex(columns=["more", *reversed(HEADER)])
    if form == "floats":
        shown = table.astype({"object_id": float, "passband": float})
    text = shown.to_csv(index=False)
    if form == "spaces":
        text = text.replace(",", " , ")
    if form == "crlf":
        text = text.replace("\n", "\r\n")
    if form == "no end":
        text = text.rstrip()
    if form == "blank":
        text = text.replace("\n", "\n\n", 5) + "\n\n"
    content = ("\ufeff" * (form == "bom") + text).encode()
    path = tmp_path / "curves.csv"
    path.write_bytes(gzip.compress(content) if form == "gzip" else content)
    agree(open_curves([path], tmp_path), table)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packed", [False, True])
def test_objects_that_are_split_over_blocks_and_files_are_put_together(packed: bool, tmp_path: Path) -> None:
    table = observations()
    cuts = [0, 101, 102, 350, len(table)]
    paths = []
    for number, (start, end) in enumerate(pairwise(cuts)):
        paths.append(written(table[start:end], tmp_path / f"part{number}.csv{'.gz' * packed}"))
    curves = open_curves(paths, tmp_path)
    agree(curves, table)
    assert curves.notes == ()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(3))
def test_rows_in_any_order_are_sorted(seed: int, tmp_path: Path) -> None:
    table = observations(seed=seed)
    mixed = table.sample(frac=1, random_state=seed)
    paths = [written(mixed[:200], tmp_path / "a.csv"), written(mixed[200:], tmp_path / "b.csv")]
    curves = open_curves(paths, tmp_path)
    agree(curves, table)
    assert curves.notes == ("rows that were not in the order of object and time were sorted: a.csv, b.csv.",)


@pytest.mark.parametrize("ids", [[-(2**62), -1, 0, 7, 2**62], list(range(300))])
@pytest.mark.parametrize("dates", [3, 10**6])
def test_rows_are_ordered_as_by_three_sorts(ids: list[int], dates: int) -> None:
    rng = np.random.default_rng(dates)
    rows = {
        "object": rng.choice(np.array(ids), 3000),
        "mjd": np.linspace(15_000, 100_000, dates)[rng.integers(0, dates, 3000)],
        "band": rng.integers(0, 6, 3000).astype(np.int8),
    }
    order = store._order(rows)
    assert order.tolist() == np.lexsort((rows["band"], rows["mjd"], rows["object"])).tolist()  # copies, too


def test_one_file_out_of_order_is_named(tmp_path: Path) -> None:
    table = observations()
    paths = [written(table[:200], tmp_path / "a.csv"), written(table[200:][::-1], tmp_path / "b.csv")]
    assert open_curves(paths, tmp_path).notes == (
        "rows that were not in the order of object and time were sorted: b.csv.",
    )


@pytest.mark.usefixtures("small")
def test_files_in_order_with_objects_in_between_each_other_are_not_called_out_of_order(tmp_path: Path) -> None:
    table = observations()
    odd = table["object_id"] % 2 == 1
    curves = open_curves([written(table[odd], tmp_path / "a.csv"), written(table[~odd], tmp_path / "b.csv")], tmp_path)
    agree(curves, table)
    assert curves.notes == ()


@pytest.mark.usefixtures("small")
def test_objects_in_another_order_are_sorted_even_if_each_is_whole(tmp_path: Path) -> None:
    table = observations()
    falling = table.sort_values("object_id", ascending=False, kind="stable")
    curves = open_curves([written(falling, tmp_path / "a.csv")], tmp_path)
    agree(curves, table)
    assert len(curves.notes) == 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("place", ["beside", "far away", "in another file"])
def test_copies_are_kept_once_and_counted(place: str, tmp_path: Path) -> None:
    table = observations()
    copies = table[5:12]
    if place == "beside":
        paths = [written(pd.concat([table, copies]).sort_index(kind="stable"), tmp_path / "a.csv")]
    elif place == "far away":
        paths = [written(pd.concat([table, copies]), tmp_path / "a.csv")]
    else:
        paths = [written(table, tmp_path / "a.csv"), written(copies, tmp_path / "b.csv")]
    curves = open_curves(paths, tmp_path)
    agree(curves, table)
    assert curves.notes[0].startswith("7 observations occur more than once with all values equal")
    assert len(curves.notes) == 1 + (place == "far away")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("column", ["flux", "flux_err", "detected"])
@pytest.mark.parametrize("place", ["beside", "in another file"])
def test_two_fluxes_at_one_time_and_band_are_refused(place: str, column: str, tmp_path: Path) -> None:
    table = observations()
    other = table[5:6].assign(**{column: 1 - table[column][5] if column == "detected" else 7.0})
    if place == "beside":
        paths = [written(pd.concat([table, other]).sort_index(kind="stable"), tmp_path / "a.csv")]
    else:
        paths = [written(table, tmp_path / "a.csv"), written(other, tmp_path / "b.csv")]
    with pytest.raises(DataError) as error:
        open_curves(paths, tmp_path)
    row = table.iloc[5]
    where = f"object {row.object_id:.0f}: two observations at mjd {row.mjd} in passband {row.passband:.0f}"
    assert where in str(error.value)
    assert f"({BANDS[int(row.passband)]}) differ" in str(error.value)
    assert "a.csv" in str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("mjd", "nan", DATE),
        ("mjd", "inf", DATE),
        ("mjd", "", DATE),
        ("mjd", "1e7", DATE),
        ("mjd", "2459580.5", DATE),  # a Julian Date
        ("mjd", "14999.9", DATE),
        ("mjd", "-59580", DATE),
        ("flux", "", "a finite number"),
        ("flux", "-inf", "a finite number"),
        ("flux", "1e300", "a finite number"),
        ("flux", "bright", "a finite number"),
        ("flux_err", "NaN", "a finite number above 0"),
        ("flux_err", "0", "a finite number above 0"),
        ("flux_err", "0.0", "a finite number above 0"),
        ("flux_err", "-1", "a finite number above 0"),
        ("flux_err", "1e-60", "a finite number above 0"),
        ("passband", "6", BAND),
        ("passband", "-1", BAND),
        ("passband", "2.5", BAND),
        ("passband", "256", BAND),
        ("passband", "g", BAND),
        ("object_id", "1e300", "a whole number"),
        ("object_id", "615.5", "a whole number"),
        ("object_id", "99999999999999999999", "a whole number"),
        ("object_id", "x", "a whole number"),
        ("detected", "2", "0 or 1"),
        ("detected", "", "0 or 1"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(column: str, value: str, allowed: str, tmp_path: Path) -> None:
    table = observations().astype(object)
    table.loc[[70, 90], column] = value
    path = written(table, tmp_path / "a.csv")
    found = f"'{value}'" if value else "empty"
    object_id = value if column == "object_id" else table["object_id"][70]
    with pytest.raises(
        DataError,
        match=rf"a\.csv, line 72, object {object_id}: {column} is {found}; it must be {allowed}"
        rf" \(2 such rows in lines 2 to {len(table) + 1}\)\. Correct the value or take the row out",
    ):
        open_curves([path], tmp_path)
    assert not list((tmp_path / "light_curves").glob(".*.reading"))  # nobody would ever go on with it


def test_dates_from_1899_to_2132_are_read(tmp_path: Path) -> None:
    table = observations()
    table.loc[[0, len(table) - 1], "mjd"] = [15_000.0, 100_000.0]
    agree(open_curves([written(table, tmp_path / "a.csv")], tmp_path), table)
    years = Time([15_000, 100_000], format="mjd", scale="tt").jyear  # in UTC, astropy warns of leap seconds to come
    assert np.floor(years).tolist() == [1899, 2132]


@pytest.mark.usefixtures("small")
def test_lines_are_counted_over_blocks(tmp_path: Path) -> None:
    table = observations().astype(object)
    table.loc[290, "flux"] = "x"
    text = table.to_csv(index=False).replace("\n", "\n\n", 3)
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=r"a\.csv, line 295, object \d+: flux is 'x'"):
        open_curves([tmp_path / "a.csv"], tmp_path)


@pytest.mark.parametrize(
    ("line", "count"), [("1,2,3,4,5", "are 5 values"), ("1,2,3,4,5,1,7", "are 7 values"), ("1", "is 1 value")]
)
@pytest.mark.parametrize("every", [False, True])
def test_lines_with_too_few_or_too_many_values_are_refused(line: str, count: str, every: bool, tmp_path: Path) -> None:
    rows = ["1,2,3,4,5,1"] * 3
    (tmp_path / "a.csv").write_text("\n".join([",".join(HEADER), *(rows if not every else []), line, line, ""]))
    number = 2 if every else 5
    with pytest.raises(DataError, match=rf"a\.csv, line {number}, there {count} for 6 columns \(2 such rows in lines"):
        open_curves([tmp_path / "a.csv"], tmp_path)


def test_a_short_and_a_long_line_do_not_make_up_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x," + ",".join(HEADER) + "\n0,1,1,2,3,4,5\n0,1,2,3,4,5,1,9\n0,1,3,2,3,4,0\n")
    with pytest.raises(DataError, match=r"line 2, object 1: detected is '5'|line 3, there are 8 values"):
        open_curves([tmp_path / "a.csv"], tmp_path)


def test_a_file_that_ends_in_the_middle_of_a_line_is_refused(tmp_path: Path) -> None:
    table = observations()
    text = table.to_csv(index=False)
    (tmp_path / "a.csv").write_text(text[: text.rindex(",")])
    with pytest.raises(
        DataError,
        match=rf"a\.csv, line {len(table) + 1}, there are 5 values for 6 columns\. The file ends in the middle of a",
    ):
        open_curves([tmp_path / "a.csv"], tmp_path)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fault", ["cut", "damaged"])
def test_a_packed_file_that_is_cut_or_damaged_is_refused(fault: str, tmp_path: Path) -> None:
    content = bytearray(gzip.compress(observations(300).to_csv(index=False).encode()))
    if fault == "cut":
        del content[len(content) // 2 :]
    else:
        content[-6] ^= 1  # in the checksum
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(
        DataError, match=r"a\.csv\.gz is cut off or damaged after line [\d,]{4,} \(.*Fetch the file again"
    ):
        open_curves([tmp_path / "a.csv.gz"], tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.csv is empty"),
        ("\n\n", "a.csv is empty"),
        (",".join(HEADER), "has a header and no rows"),
        (",".join(HEADER) + "\n", "has a header and no rows"),
        (",".join(HEADER) + "\n\n\n", "no rows"),
        (
            "object_id,mjd,passbnd,flux,flux_err,detected\n1,2,3,4,5,1\n",
            r"missing columns \(1\): passband.*Did you mean passbnd",
        ),
        ("object_id;mjd;passband;flux;flux_err;detected\n1;2;3;4;5;1\n", r"missing columns \(6\).*with commas"),
        ("object_id,mjd,passband,flux,flux_err,detected,mjd\n1,2,3,4,5,1,2\n", "the header names mjd twice"),
    ],
)
def test_what_is_no_table_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        open_curves([tmp_path / "a.csv"], tmp_path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.csv is missing"):
        open_curves([tmp_path / "nope.csv"], tmp_path)


def test_objects_without_metadata_are_refused(tmp_path: Path) -> None:
    table = observations()
    path = written(table, tmp_path / "a.csv")
    ids = table["object_id"].unique()
    known = np.delete(ids, [7, 20, 39])
    with pytest.raises(
        DataError, match=rf"a\.csv, lines 2 to .*object {ids[7]} has observations and no row .*\(3 such"
    ):
        open_curves([path], tmp_path, known)
    agree(open_curves([path], tmp_path, np.append(ids, 5)[::-1]), table)
    with pytest.raises(DataError, match=rf"a\.csv: object {ids[7]} has observations"):
        open_curves([path], tmp_path, known)  # of a store that is there, too


def test_what_has_been_read_is_not_read_again(tmp_path: Path, parsed: list[tuple[str, int]]) -> None:
    path = written(pd.concat([observations(), observations()[:3]]), tmp_path / "a.csv")
    first = open_curves([path], tmp_path)
    done = len(parsed)
    second = open_curves([path.rename(tmp_path / "renamed.csv")], tmp_path)
    assert len(parsed) == done
    assert second.notes == first.notes != ()
    assert isinstance(second.mjd, np.memmap)
    assert not second.mjd.flags.writeable
    kept = sorted(path.name for path in next((tmp_path / "light_curves").glob("[!.]*")).iterdir())
    assert kept == [
        "band.bin",
        "detected.bin",
        "error.bin",
        "flux.bin",
        "ids.npy",
        "mjd.bin",
        "offsets.npy",
        "store.json",
    ]
    written(observations(seed=1), tmp_path / "a.csv")
    agree(open_curves([tmp_path / "a.csv"], tmp_path), observations(seed=1))


def stores(cache: Path) -> dict[str, bytes]:
    (folder,) = (path for path in (cache / "light_curves").iterdir() if path.is_dir())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_an_interrupted_reading_goes_on_and_ends_the_same(
    packed: bool, mixed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[tuple[str, int]]
) -> None:
    table = observations()
    table = table.sample(frac=1, random_state=0) if mixed else table
    paths = [
        written(part, tmp_path / f"{name}.csv{'.gz' * packed}")
        for name, part in (("a", table[:200]), ("b", table[200:]))
    ]
    open_curves(paths, tmp_path / "at once")
    whole = list(parsed)
    parsed.clear()
    add, calls, stop = store.Writer.add, 0, 0

    def interrupted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        add(*arguments)

    monkeypatch.setattr(store.Writer, "add", interrupted)
    for after in (len(whole) // 3, len(whole) // 2):  # counted from the last interruption
        calls, stop = 0, after
        with pytest.raises(KeyboardInterrupt):
            open_curves(paths, tmp_path / "in steps")
    monkeypatch.setattr(store.Writer, "add", add)
    agree(open_curves(paths, tmp_path / "in steps"), table)
    assert set(parsed) == set(whole)
    assert len(parsed) < 1.5 * len(whole)  # what came after the last checkpoint was read again, and nothing else
    assert parsed.count(whole[0]) == 1
    assert stores(tmp_path / "in steps") == stores(tmp_path / "at once")
    assert not list((tmp_path / "in steps" / "light_curves").glob(".*.reading"))


@pytest.mark.usefixtures("small")
def test_an_interrupted_sort_reads_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[tuple[str, int]]
) -> None:
    table = observations()
    paths = [written(table.sample(frac=1, random_state=0), tmp_path / "a.csv")]
    index = store._index

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_index", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_curves(paths, tmp_path)
    monkeypatch.setattr(store, "_index", index)
    done = len(parsed)
    agree(open_curves(paths, tmp_path), table)
    assert len(parsed) == done


def test_a_broken_checkpoint_starts_anew(tmp_path: Path) -> None:
    table = observations()
    written(table, tmp_path / "a.csv")
    writer = store.Writer.resume(tmp_path / "work" / "rows")
    with writer:
        writer.save()
    writer.state.rows = 50
    with writer:
        writer.save()  # says 50 rows and has none
    assert store.Writer.resume(tmp_path / "work" / "rows").state.rows == 0


def test_runs_at_the_same_time_read_the_files_once(
    tmp_path: Path, parsed: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    table = observations()
    path = written(table, tmp_path / "a.csv")
    found: list[LightCurves] = []
    threads = [threading.Thread(target=lambda: found.append(open_curves([path], tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parsed) == 1
    assert len(found) == 4
    for curves in found:
        agree(curves, table)


def test_a_disk_that_is_too_small_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(observations(), tmp_path / "a.csv")
    monkeypatch.setattr("galaxyml.runs.files.shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(DataError, match=r"GB are free\. Free some space, or choose another folder with cache_dir"):
        open_curves([path], tmp_path)


def test_progress_counts_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []

    def track(items: Iterator[None], description: str, total: int) -> Iterator[None]:
        seen.append((description, total, len(list(items))))
        return iter(())

    monkeypatch.setattr(store, "track", track)
    path = written(pd.concat([observations(1000, seed) for seed in range(4)]), tmp_path / "a.csv")
    open_curves([path], tmp_path)
    megabytes = path.stat().st_size // 10**6
    assert megabytes >= 2
    assert seen[0] == ("Reading light curves (MB)", megabytes, megabytes)


MEMORY = """
import re, sys
import numpy as np
from pathlib import Path
from typing import Any
from galaxyml.data.light_curves import reader, store

reader.BLOCK, store.MERGED, store.CHECKPOINT = 1 << 19, 20_000, 1 << 23
folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
for rows in (40_000, 800_000):
    path = folder / f"{rows}.csv"
    with path.open("w") as file:
        file.write("object_id,mjd,passband,flux,flux_err,detected\\n")
        for part in range(rows // 20_000):
            ids = rng.integers(10_000, 20_000, 20_000)
            times = 59_580 + (np.arange(20_000) + 20_000 * part) / 100
            file.writelines(f"{i},{t},1,-12.345678,1.234567,0\\n" for i, t in zip(ids.tolist(), times.tolist()))
    store.build([path], folder / f"work{rows}", None)
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak memory")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    few, many = map(float, done.stdout.split())
    assert many - few < 10  # MB; the rows are 20 MB, their text is 26 MB


def plain(curves: LightCurves, row: int) -> dict[str, np.ndarray]:
    """The observations of one object, by a slice."""
    part = slice(curves.offsets[row], curves.offsets[row + 1])
    return {name: getattr(curves, name)[part] for name in NAMES[2:]}


@pytest.fixture
def curves(tmp_path: Path) -> LightCurves:
    return open_curves([written(observations(), tmp_path / "a.csv")], tmp_path)


def test_taken_objects_keep_their_observations_in_the_order_asked_for(curves: LightCurves) -> None:
    rows = np.array([30, 2, 2, 17, -1])
    taken = curves.take(rows)
    np.testing.assert_array_equal(taken.ids, curves.ids[rows])
    for place, row in enumerate(rows):
        for name, values in plain(curves, row % 40).items():
            np.testing.assert_array_equal(plain(taken, place)[name], values)
    assert [getattr(taken, name).dtype for name in NAMES] == [getattr(curves, name).dtype for name in NAMES]
    np.testing.assert_array_equal(curves.take(curves.ids > curves.ids[25]).ids, curves.ids[26:])
    assert len(curves.take(np.array([], int))) == 0


def test_padded_curves_are_the_slices_and_padding(curves: LightCurves) -> None:
    rows = np.array([5, 0, 33, 5])
    batch = curves.padded(rows)
    lengths = np.diff(curves.offsets)[rows]
    kinds = {"mjd": torch.float64, "band": torch.int64, "flux": torch.float32, "error": torch.float32}
    kinds |= {"detected": torch.bool, "mask": torch.bool}
    assert {name: values.dtype for name, values in batch.items()} == kinds
    for name, values in batch.items():
        assert values.shape == (4, lengths.max())
        for place, row in enumerate(rows):
            seen, rest = values[place, : lengths[place]].numpy(), values[place, lengths[place] :].numpy()
            wanted = np.ones(lengths[place], bool) if name == "mask" else plain(curves, row)[name]
            np.testing.assert_array_equal(seen, wanted)
            np.testing.assert_array_equal(rest, np.full(len(rest), name == "error"))
    assert curves.padded(np.array([], int))["mask"].shape == (0, 1)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = written(observations(), tmp_path / "a.csv")
    monkeypatch.setattr(store.Writer, "add", full)
    with pytest.raises(DataError, match=r"cannot be written: the disk is full\. Free some space"):
        open_curves([path], tmp_path)
    assert not list((tmp_path / "light_curves").glob("[!.]*"))
