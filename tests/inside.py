"""Data sets with their images inside, as the Hugging Face hub has them, made of files."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
CARD = """\
---
license: cc-by-nc-sa-4.0
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
- config_name: tiny
  data_files:
  - split: train
    path: tiny/train-*
  - split: test
    path: tiny/test-*
---
# Galaxies
"""


def parquet_of(path: Path, contents: Sequence[bytes | None], table: pd.DataFrame, row_group: int = 20) -> Path:
    """A parquet file of images, by the bytes of their files, and what is known of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pa.array(
        [{"bytes": content, "path": f"{row}.jpg"} if content else None for row, content in enumerate(contents)], IMAGE
    )
    columns = {name: pa.array(table[name].tolist()) for name in table}
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=row_group)
    return path


def write_parts(folder: Path, images: Path, table: pd.DataFrame) -> Path:
    """A data set of the images that a table names by `path`: three quarters to train on, and a tiny one."""
    contents = [(images / path).read_bytes() for path in table["path"]]
    known = table.drop(columns="path")
    count = len(table) * 3 // 4
    for name, start, stop in (
        ("data/train-00000-of-00002", 0, count // 2),
        ("data/train-00001-of-00002", count // 2, count),
        ("data/test-00000-of-00001", count, len(table)),
        ("tiny/train-00000-of-00001", 0, 15),
        ("tiny/test-00000-of-00001", 15, 20),
    ):
        parquet_of(folder / f"{name}.parquet", contents[start:stop], known[start:stop])
    (folder / "README.md").write_text(CARD, "utf-8")
    return folder
