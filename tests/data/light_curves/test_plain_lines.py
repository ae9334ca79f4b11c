import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from galaxyml import sky
from galaxyml.data.light_curves.plain_lines import read_plain
from galaxyml.data.light_curves.reader import COLUMNS, HEADER, blocks, parse

LINE = "615,59750.4229,2,-544.810303,3.622952,1"


def by_pandas(text: str) -> dict[str, np.ndarray]:
    table = pd.read_csv(io.StringIO(text), header=None, names=HEADER)
    return {name: table[column].to_numpy().astype(COLUMNS[name]) for name, column in zip(COLUMNS, HEADER, strict=True)}


def assert_same_bits(found: dict[str, np.ndarray] | None, expected: dict[str, np.ndarray]) -> None:
    assert found is not None
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].tobytes() == values.tobytes(), name


def read(text: str, names: tuple[str, ...] = HEADER) -> dict[str, np.ndarray] | None:
    return read_plain(text.encode(), names, text.count("\n") + (not text.endswith("\n")))


@pytest.mark.parametrize("name", ["training_set.csv", "test_set.csv"])
def test_real_lines_are_the_same_to_the_bit_as_pandas_reads_them(name: str, real: Path) -> None:
    for block in blocks(real / "plasticc" / name):
        assert_same_bits(
            read_plain(block.text, block.names, block.last - block.line + 1), by_pandas(block.text.decode())
        )


def test_simulated_lines_are_the_same_to_the_bit_as_pandas_reads_them(tmp_path: Path) -> None:
    sky.write_plasticc(tmp_path / "plasticc", 50, seed=0, test_count=100)
    for path in sorted(tmp_path.rglob("*_set.csv")):
        for block in blocks(path):
            found = read_plain(block.text, block.names, block.last - block.line + 1)
            assert_same_bits(found, by_pandas(block.text.decode()))
            assert_same_bits(found, parse(block))


@pytest.mark.parametrize("digits", range(1, 20))
def test_numbers_of_any_length_are_the_same_to_the_bit_as_pandas_reads_them(digits: int) -> None:
    rng = np.random.default_rng(digits)
    lines = []
    for _ in range(200):
        flux, error = ("".join(rng.choice(list("0123456789"), digits)) for _ in range(2))
        point, power = int(rng.integers(1, digits + 1)), int(rng.integers(-5, 6))
        flux = rng.choice(["-", ""]) + flux[:point] + (f".{flux[point:]}" if flux[point:] else "")
        flux += rng.choice(["", "", f"e{power}", f"E{power:+03}"])
        date = f"{rng.uniform(15_000, 100_000):.{min(digits, 9)}f}"
        lines.append(f"{rng.integers(10 ** min(digits, 18))},{date},{rng.integers(6)},{flux},0.{error}1,0")
    compared = [line for line in lines if read(line) is not None]
    assert len(compared) >= {17: 150, 18: 0, 19: 0}.get(digits, 199)  # others are left to pandas
    if compared:
        text = "\n".join(compared)
        assert_same_bits(read(text), by_pandas(text))
    assert (read("\n".join(lines)) is not None) == (len(compared) == len(lines))


def test_numbers_that_parsers_round_in_their_own_ways_are_read_where_it_makes_no_difference() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(0, 30, (5_000, 2)).round(6) * 1.1 / 1.1).tolist()  # as of 29.804108000000003
    lines = [f"1,59750.5,2,{flux!r},{abs(error) + 1e-3!r},1" for flux, error in values]
    compared = [line for line in lines if read(line) is not None]
    assert sum(len(line) > 40 for line in lines) > 500
    assert len(compared) > 0.999 * len(lines)
    assert_same_bits(read("\n".join(compared)), by_pandas("\n".join(compared)))
    middle = "16777217.0000000001"  # of two float32; pandas sees 16777217.000000000
    assert read(f"1,59750.5,2,1,{middle[:18]},1") is None


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        f"{LINE}\n",
        f"{LINE}\r\n{LINE}\r\n",
        "-7,15000,0,-0.0,1e-3,0",
        "12345678901234567,100000.0000,5,0,123456789012345.7,1",
        "00000615,59750.5,2,1E+2,0.00000000000001,1",
        "1,59750.42290000,2,12345678.12345678,1234567.1234567,1\n2,59750.5,2,12345678,1.5,1",
    ],
)
def test_plain_forms_are_read(text: str) -> None:
    assert_same_bits(read(text), by_pandas(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "615",
        "615,59750.4229,2,-544.810303,3.622952",
        "615,59750.4229,2,-544.810303,3.622952,",
        "615,59750.4229,2,-544.810303,3.622952,1,",
        "615,59750.4229,2,-544.810303,3.622952,1\r",
        "615,59750.4229,2,-544.810303,3.622952,12",
        "615,59750.4229,2,-544.810303,3.622952,2",
        "615,59750.4229,6,-544.810303,3.622952,1",
        "615,59750.4229,,-544.810303,3.622952,1",
        "615,59750.4229,2.0,-544.810303,3.622952,1",
        "615.0,59750.4229,2,-544.810303,3.622952,1",
        "1234567890123456789,59750.4229,2,-544.810303,3.622952,1",
        "615,14999.9,2,-544.810303,3.622952,1",
        "615,100000.1,2,-544.810303,3.622952,1",
        "615,59750.4229,2,--544.810303,3.622952,1",
        "615,59750.4229,2,.5,3.622952,1",
        "615,59750.4229,2,5.,3.622952,1",
        "615,59750.4229,2,5.1.2,3.622952,1",
        "615,59750.4229,2,5e,3.622952,1",
        "615,59750.4229,2,5e-,3.622952,1",
        "615,59750.4229,2,5e-30,3.622952,1",
        "615,59750.42290000000001,2,1,3.622952,1",
        "615,59750.4229000000001,2,1,3.622952,1",
        "615,59750.4229,2,1e22,1e39,1",
        "615,59750.4229,2,nan,3.622952,1",
        "615,59750.4229,2,1,0,1",
        "615,59750.4229,2,1,-1,1",
        "615, 59750.4229,2,1,1,1",
        '"615",59750.4229,2,1,1,1',
        f"{LINE}\n\n{LINE}",
        f"{LINE}\n{LINE}\n615,59750",
    ],
)
def test_whatever_else_a_line_may_hold_is_left_to_the_slower_parser(text: str) -> None:
    assert read(text) is None
    assert read(f"{LINE}\n{text}") is None or text == ""


def test_other_columns_are_passed_over_unless_they_are_quoted() -> None:
    names = ("note", *reversed(HEADER), "more")
    cells = ",".join(reversed(LINE.split(",")))
    assert_same_bits(read(f"some text,{cells},\n,{cells},1", names), by_pandas(f"{LINE}\n{LINE}"))
    assert read(f'"a, b",{cells},', names) is None
    assert read(f'"a",{cells},', names) is None
