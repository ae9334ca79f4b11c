import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from galaxyml.data import mapped
from galaxyml.data.mapped import MappedRows, map_file
from galaxyml.runs.errors import DataError


@pytest.mark.parametrize("large", [0.25, 0.0])
def test_rows_are_those_that_numpy_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: float) -> None:
    monkeypatch.setattr(mapped, "LARGE", large)
    values = np.random.default_rng(0).integers(0, 256, (300, 7, 11, 3), np.uint8)  # rows end within pages
    values.tofile(tmp_path / "values")
    rows = torch.tensor([299, 0, 17, 17, 18, 150])
    gathered = MappedRows(tmp_path / "values", values.shape, torch.uint8).gather(rows)
    np.testing.assert_array_equal(gathered.numpy(), values[rows.numpy()])
    gathered.zero_()  # a copy, which may be written to
    np.testing.assert_array_equal(np.fromfile(tmp_path / "values", np.uint8), values.ravel())


def test_numbers_of_other_types(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    values.tofile(tmp_path / "values")
    torch.testing.assert_close(map_file(tmp_path / "values", (5, 2, 3), torch.float32)[1], torch.from_numpy(values))


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes, and how much memory there is")
def test_a_file_larger_than_the_memory_is_mapped(tmp_path: Path) -> None:
    sizes = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    memory = 1024 * sum(int(sizes[name].split()[0]) for name in ("MemTotal", "SwapTotal"))
    count = 2 * memory // 4096
    with (tmp_path / "values").open("wb") as file:
        file.truncate(count * 4096)  # a hole, which takes no room
        file.seek((count - 2) * 4096)
        file.write(b"\7")
    rows = MappedRows(tmp_path / "values", (count, 4096), torch.uint8)
    assert rows.gather(torch.tensor([0, count - 2])).sum(1).tolist() == [0, 7]


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "values").write_bytes(b"abc")
    with pytest.raises(DataError, match="it has 3 bytes of 4"):
        map_file(tmp_path / "values", (2, 2), torch.uint8)
