import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from galaxyml.cli import overrides
from galaxyml.data.tables import contents, labels
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def settings(folder: Path | None, **given: str) -> list[str]:
    """What the command adds to what was typed, but for the channels of the images, which are not there."""
    words = ["task=images", *([f"data_dir={folder}"] if folder else []), *(f"{key}={given[key]}" for key in given)]
    return [word for word in overrides.prepare(words)[len(words) : -1] if not word.startswith("channels=")]


def rows(*columns: str, count: int = 6) -> str:
    """A table with an id and a path, and what each column is in row i, as a format of i."""
    names = [column.partition(":")[0] for column in columns]
    lines = [",".join(["id", "path", *names])]
    for at in range(count):
        cells = [column.partition(":")[2].format(i=at, odd=at % 2, word="ab"[at % 2]) for column in columns]
        lines.append(",".join([str(at), f"{at}.jpg", *cells]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [
        (["kind:{word}"], {}, ["kind=classes", "columns=['kind']", "classes=['a','b']"]),
        (["kind:{odd}"], {}, ["kind=classes", "columns=['kind']", "classes=['0','1']"]),
        (["z:0.{i}"], {}, ["kind=numbers", "columns=['z']"]),
        (["z:0.{i}", "mass:{i}.5"], {}, ["kind=numbers", "columns=['z','mass']"]),
        (["z:0.{i}", "kind:{word}"], {"columns": "[kind]"}, ["kind=classes", "classes=['a','b']"]),
        (["z:0.{i}", "kind:{word}"], {"columns": "z"}, ["kind=numbers", "columns=['z']"]),
        (["kind:{odd}"], {"kind": "numbers"}, ["columns=['kind']"]),
        (["kind:{word}", "ra:1", "dec:2"], {}, ["kind=classes", "columns=['kind']", "classes=['a','b']"]),
        (["kind:{word}", "split:Test"], {}, ["split=folds", "kind=classes", "columns=['kind']", "classes=['a','b']"]),
        (
            ["kind:{word}", "split:test"],
            {"split": "holdout"},
            ["kind=classes", "columns=['kind']", "classes=['a','b']"],
        ),
        (["s_yes:0.{i}"], {"tree": "mine.yaml"}, ["kind=fractions"]),
        (["kind:{word}"], {"classes": "[b,a]"}, ["kind=classes", "columns=['kind']"]),
    ],
)
def test_a_table_says_what_is_to_be_learnt(
    columns: list[str], given: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    table(tmp_path, rows(*columns))
    assert settings(tmp_path, **given) == expected


def test_whole_numbers_stand_in_their_order_and_words_in_the_alphabet(tmp_path: Path) -> None:
    table(tmp_path, "path,n\n" + "".join(f"{at}.jpg,{(10, 2, 1)[at % 3]}\n" for at in range(9)))
    assert settings(tmp_path)[-1] == "classes=['1','2','10']"


def test_names_with_commas_and_quotes_reach_the_configuration_whole(tmp_path: Path) -> None:
    names = ["it's, well", "S0/a = lens", "{brace}", "ends in \\"]
    table(tmp_path, "path,kind\n" + "".join(f'{at}.jpg,"{names[at % 4]}"\n' for at in range(8)))
    line = ["task=images", f"data_dir={tmp_path}", "model=tiny"]
    prepared = [part for part in overrides.prepare(line) if not part.startswith("hydra.")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", prepared)
    assert set(config.classes) == set(names)
    assert config.columns == ["kind"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"source": "simulated", "data_dir": "nowhere", "labels": "labels.csv"}, []),
        ({"columns": "[r90,redshift]"}, ["kind=numbers"]),
        ({"columns": "kind"}, ["kind=classes", "columns=['kind']"]),
        ({"tree": "kaggle"}, ["kind=fractions"]),
        ({"columns": "null", "tree": "null"}, []),
    ],
)
def test_the_simulated_skys_table_is_known(
    given: dict[str, str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_sky: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings(None, **given) == expected
    header = (images_sky / "labels.csv").read_text().splitlines()[0].split(",")
    assert {contents.SIMULATED_CLASS, *contents.SIMULATED_NUMBERS} <= set(header)
    with pytest.raises(UserError, match=r"table has no column mass; it has kind .a class. and r90"):
        settings(None, columns="[mass]")


@pytest.mark.parametrize("value", ["null", ""])
def test_what_is_left_open_is_as_if_it_were_not_given(value: str, tmp_path: Path) -> None:
    table(tmp_path, rows("kind:{word}"))
    open_ = dict.fromkeys(("columns", "classes", "tree"), value)
    assert settings(tmp_path, **open_) == settings(tmp_path)


def test_a_column_of_folds_and_cells_without_a_number_are_left_out(tmp_path: Path) -> None:
    table(tmp_path, rows("z:0.{i}", "fold:{odd}") + "6,6.jpg,nan,0\n7,7.jpg,,1\n")
    assert settings(tmp_path) == ["kind=numbers", "columns=['z']"]


def test_words_that_yaml_takes_for_others_stay(tmp_path: Path) -> None:
    table(tmp_path, rows("on:{word}"))
    assert settings(tmp_path, columns="[on]") == ["kind=classes", "classes=['a','b']"]


def test_classes_that_differ_in_their_case_are_asked_about(tmp_path: Path) -> None:
    table(tmp_path, "path,kind\n" + "".join(f"{at}.jpg,{'eESsE'[at % 5]}\n" for at in range(10)))
    with pytest.raises(UserError, match=r"'E' \(4 rows\) and 'e' \(2 rows\); 'S' .* and 's' .*join_spellings=true"):
        settings(tmp_path)
    assert settings(tmp_path, join_spellings="true")[-1] == "classes=['E','S']"
    assert settings(tmp_path, classes="[E,e,S,s]") == ["kind=classes", "columns=['kind']"]  # they are said to differ


def test_a_missing_table_names_those_that_lie_there(tmp_path: Path) -> None:
    for name in ("votes.parquet", "galaxies.csv", "notes.txt"):
        (tmp_path / name).write_text("no table yet")
    advice = r"galaxies\.csv \(or votes\.parquet\): if that is your table, give labels=galaxies\.csv\.$"
    for given in ({}, {"labels": "other.csv"}):
        with pytest.raises(UserError, match=rf"(labels|other)\.csv is missing\. .* has {advice}"):
            settings(tmp_path, **given)
    (tmp_path / "sub").mkdir()
    table(tmp_path / "sub", rows("kind:{word}"), "mine.csv")
    with pytest.raises(UserError, match=r"give labels=sub/mine\.csv\.$"):
        settings(tmp_path, labels="sub/mien.csv")


def test_a_table_elsewhere_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    other = table(tmp_path, rows("kind:{word}"), "mine.csv")
    assert "kind=classes" in settings(tmp_path / "images", labels=str(other))


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (None, {}, "labels.csv is missing. .*labels=… names another table"),
        ("", {}, "labels.csv is empty. It must be CSV"),
        ("id,path,kind\n", {}, "has a header and no rows"),
        ("id,pth,kind\n1,a,b\n", {}, "has no column path, image, file or filename; it has id, pth, kind"),
        ("id,path\n1,a.jpg\n", {}, r"has nothing to predict: path \(path\), id \(names the rows\)"),
        ("path,a,a\n1,2,3\n", {}, "has two columns 'a'"),
        ("path,a\n1,2,3\n", {}, "line 2: 3 values, but the header has 2 columns"),
        (rows("a:"), {}, "the column a is empty"),
        (rows("a:{word}", "b:{word}"), {}, r"holds words in a, b: .*columns=\[a\] for a class; tree="),
        (rows("a:{word}", "b:{i}.5"), {}, r"columns=\[a\] for a class, or columns=\[b\] for numbers"),
        (rows("a:{word}"), {"columns": "[b]"}, "has no column b, which columns=… names"),
        (rows("a:{word}", "b:{word}"), {"kind": "classes"}, "a run learns one class, but there are a, b"),
        (
            rows("a:{word}"),
            {"kind": "numbers"},
            r"line 2: a is 'a', which is no finite number \(6 such cells",
        ),
        (
            rows("z:0.{i}", count=30) + "30,30.jpg,lost\n",
            {},
            "line 32: z is 'lost', which is no finite number. Correct",
        ),
        (rows("z:0.{i}") + "6,6.jpg,inf\n", {"kind": "numbers"}, "line 8: z is 'inf', which is no finite number"),
        (rows("kind:{word}x${{"), {}, "holds .{, which stands for a reference"),
        (rows("a:same"), {}, "a is same in all rows; a class needs two values or more"),
        (rows("a:name{i}", count=30), {}, "a has 30 different values in 30 rows, too many for a class"),
    ],
)
def test_what_a_table_does_not_tell_is_asked_for(
    text: str | None, given: dict[str, str], message: str, tmp_path: Path
) -> None:
    if text is not None:
        table(tmp_path, text)
    with pytest.raises(UserError, match=message):
        settings(tmp_path, **given)


def test_labels_without_a_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"labels=a\.csv needs data_dir="):
        settings(None, labels="a.csv")


def test_a_sweep_asks_one_question(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="columns=a,b: a sweep has one columns, as it asks one question"):
        overrides.prepare(["task=images", f"data_dir={tmp_path}", "columns=a,b", "-m"])


# --- what is no target


def numbers(columns: dict[str, object]) -> str:
    """A table of an `axis_ratio`, and of further columns before it, with 12 rows."""
    values = np.random.default_rng(1).uniform(0.3, 1, 12).round(4)
    frame = pd.DataFrame(columns).assign(path=[f"{at}.png" for at in range(12)], axis_ratio=values)
    return frame.to_csv(index=False)


ROWS = np.arange(12)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"": ROWS}, "Unnamed: 0 (numbers the rows)"),
        ({"Unnamed: 0": ROWS}, "Unnamed: 0 (numbers the rows)"),
        ({"Unnamed: 0.1": ROWS[::-1]}, ""),
        ({"index": ROWS[::-1]}, "index (numbers the rows)"),
        ({"number": ROWS + 1}, "number (numbers the rows)"),
        ({"running": [f"{row}.0" for row in ROWS]}, "running (numbers the rows)"),
        ({"objid": 587722981742084096 + ROWS**2}, "called by objid"),
        ({"OBJID": 587722981742084096 + ROWS**2}, "called by OBJID"),
        ({"GalaxyID": 100008 + ROWS**2}, "called by GalaxyID"),
        ({"iauname": [f"J{row}" for row in ROWS]}, "called by iauname"),
        ({"id_str": [f"a{row}" for row in ROWS]}, "called by id_str"),
        ({"plate_id": ROWS % 3}, "plate_id (names the rows)"),
        ({"RA": ROWS * 9.5, "DEC": ROWS * 3.5}, "at RA and DEC"),
        ({"RAJ2000": ["01 02 03.4"] * 12, "DEJ2000": ["-01 02 03.4"] * 12}, "at RAJ2000 and DEJ2000"),
        ({"_RA": ROWS * 9.5, "_DE": ROWS * 3.5}, "at _RA and _DE"),
        ({"RA_ICRS": ROWS * 9.5, "DE_ICRS": ROWS * 3.5}, "at RA_ICRS and DE_ICRS"),
        ({"ra": ROWS * 9.5}, "ra (position)"),
        ({"png_loc": [f"/elsewhere/{row}.png" for row in ROWS]}, "png_loc (path)"),
        ({"mask": [f"{row}_mask.fits" for row in ROWS]}, "mask (path)"),
        ({"survey": ["SDSS"] * 12}, "survey (the same in all rows)"),
        ({"remark": [f"seen on {row}" for row in ROWS]}, "remark (another word in each row)"),
        ({"nothing": [""] * 12}, "nothing (empty)"),
        ({"redshift": ROWS * 0.013 + 0.01}, "kept"),
        ({"spheroid": ROWS % 2 + 0.5}, "kept"),
        ({"grid": ROWS % 2 + 0.5}, "kept"),
    ],
)
def test_what_numbers_names_or_places_rows_is_no_target(
    columns: dict[str, object], reason: str, tmp_path: Path
) -> None:
    from galaxyml.tasks.images import Images

    path = table(tmp_path, numbers(columns))
    kept = reason in ("kept", "")
    assert table_columns(tmp_path) == [*(columns if kept else ()), "axis_ratio"]
    (learnt, *_) = Images(str(tmp_path))._read(tmp_path)[2]
    assert learnt.startswith(f"{path.name}: learns ")
    assert kept or reason in learnt


def table_columns(folder: Path, **given: str) -> list[str]:
    from galaxyml.data.tables.contents import table_contents

    return table_contents(folder / "labels.csv").columns


def test_a_class_id_is_a_target_and_the_path_is_found_by_its_values(tmp_path: Path) -> None:
    table(tmp_path, "picture,class_id\n" + "".join(f"{at}.JPG,{at % 2}\n" for at in range(8)))
    assert settings(tmp_path) == ["kind=classes", "columns=['class_id']", "classes=['0','1']"]


def test_columns_asked_for_are_targets_whatever_they_are_called(tmp_path: Path) -> None:
    table(tmp_path, numbers({"redshift_id": ROWS * 0.5, "RA": ROWS * 2.5}))
    assert settings(tmp_path, columns="[RA,redshift_id]") == ["kind=numbers"]


def test_redshift_beside_a_class_is_shown_and_not_learnt(tmp_path: Path) -> None:
    table(tmp_path, rows("kind:{word}", "redshift:0.1{i}"))
    assert settings(tmp_path) == ["kind=classes", "columns=['kind']", "classes=['a','b']"]


# --- missing cells


@pytest.mark.parametrize(
    "word",
    ["NA", "na", "N/A", "n/a", "null", "NULL", "None", "nan", "NaN", "--", "-", "", "<NA>", "...", "—", "INDEF", "\\N"],
)
def test_words_for_nothing_are_missing_in_classes_and_numbers(word: str, tmp_path: Path) -> None:
    for cells, kind in ((["a", "b"], "classes"), (["0.25", "0.75"], "numbers")):
        lines = [f"{at}.png,{word if at % 3 == 0 else cells[at % 2]}" for at in range(30)]
        path = table(tmp_path, "\n".join(["path,value", *lines]))
        assert settings(tmp_path)[:2] == [f"kind={kind}", "columns=['value']"]
        note = labels.missing_note(labels.LabelTable.read(path), ["value"])
        assert note == f"labels.csv: value missing in 10 of 30 rows ({word or 'empty'}: 10), which are left out."


def test_none_is_an_answer_among_words_and_nothing_among_numbers(tmp_path: Path) -> None:
    table(tmp_path, "path,bulge\n" + "".join(f"{at}.png,{['none', 'small'][at % 2]}\n" for at in range(8)))
    assert settings(tmp_path)[-1] == "classes=['none','small']"
    table(tmp_path, "path,z\n" + "".join(f"{at}.png,{['none', f'0.{at}'][at % 2]}\n" for at in range(8)))
    assert settings(tmp_path)[0] == "kind=numbers"


def test_classes_that_are_given_are_classes_whatever_they_are_called(tmp_path: Path) -> None:
    path = table(tmp_path, "path,bar\n" + "".join(f"{at}.png,{['None', 'NA', 'Weak'][at % 3]}\n" for at in range(9)))
    assert settings(tmp_path, classes="[None,NA,Weak]") == ["kind=classes", "columns=['bar']"]
    assert not labels.LabelTable.read(path).says_nothing("bar", ["None", "NA", "Weak"]).any()


@pytest.mark.parametrize("forms", [["0", "0.0", "1", "1.0"], ["0", "-0", "+1", "1e0"], ["2.50", "2.5", "7", "7."]])
def test_numbers_written_in_several_ways_are_one_class(forms: list[str], tmp_path: Path) -> None:
    table(tmp_path, "path,ring\n" + "".join(f"{at}.png,{forms[at % 4]}\n" for at in range(12)))
    expected = ",".join(f"'{float(form):g}'" for form in forms[::2])
    assert settings(tmp_path, kind="classes")[-1] == f"classes=[{expected}]"


@pytest.mark.parametrize("pair", [("round", "Round"), ("S0", "S 0"), ("in between", "in  between"), ("É", "é")])
def test_spellings_are_asked_about_and_joined(pair: tuple[str, str], tmp_path: Path) -> None:
    names = [pair[0], pair[1], pair[0], "other"]
    table(tmp_path, "path,kind\n" + "".join(f"{at}.png,{names[at % 4]}\n" for at in range(12)))
    with pytest.raises(
        UserError, match=rf"'{pair[0]}' \(6 rows\).*join_spellings=true|'{pair[1]}' \(3 rows\).*join_sp"
    ):
        settings(tmp_path)
    joined = settings(tmp_path, join_spellings="true")[-1]
    assert pair[0] in joined
    assert pair[1] not in joined.replace(pair[0], "")


# --- sentinels


@pytest.mark.parametrize(
    ("values", "sentinel"),
    [
        ([0.3, 0.5, 0.9, -999], -999),
        ([0.3, 0.5, 0.9, -99.0], -99),
        ([14.2, 17.5, 21.1, 99.99], 99.99),
        ([14.2, 17.5, 21.1, -9999], -9999),
        ([0.01, 0.1, 0.3, -9], -9),
        ([1e9, 5e10, 1e11, -999], -999),
        ([1.5, 2.5, 3.5, -1e30], -1e30),
        ([1.5, 2.5, 3.5, -32768], -32768),
        ([91.0, 95.0, 98.0, 99.0], None),
        ([-120.0, -80.0, 3.0, -99.0], None),
        ([0.0, 500.0, 1500.0, 999.0], None),
        ([0.3, 0.5, 0.9, 5.0], None),
    ],
)
def test_numbers_that_stand_for_no_value_are_said(values: list[float], sentinel: float | None, tmp_path: Path) -> None:
    varied = [value if number % 4 == 3 else value * (1 + number / 1000) for number, value in enumerate(values * 5)]
    path = table(tmp_path, "path,z\n" + "".join(f"{at}.png,{value!r}\n" for at, value in enumerate(varied)))
    note = labels.sentinel_note(labels.LabelTable.read(path).column("z"))
    if sentinel is None:
        assert note is None
        return
    assert note is not None
    assert f"z is {sentinel:.10g} in 5 of 20 rows" in note
    assert f"missing=[{sentinel:.10g}] leaves these rows out" in note
    left = labels.LabelTable.read(path, missing=[f"{sentinel:.10g}"]).column("z")
    assert left.filled == 15
    assert labels.sentinel_note(left) is None


# --- trees


def test_a_tree_is_matched_and_a_key_wins(tmp_path: Path) -> None:
    from galaxyml.trees import DecisionTree

    columns = DecisionTree.load("gz_euclid").columns
    table(tmp_path, ",".join(["id_str", "file_loc", *columns]) + "\n" + ",".join(["a", "a.png", *["3"] * 46]) + "\n")
    assert settings(tmp_path) == ["kind=fractions", "tree=gz_euclid"]
    assert settings(tmp_path, kind="fractions") == ["tree=gz_euclid"]
    assert settings(tmp_path, tree="gz_euclid") == ["kind=fractions"]
    assert settings(tmp_path, columns=f"[{columns[0]}]", kind="numbers") == []
    table(tmp_path, rows("kind:{word}"))
    with pytest.raises(
        UserError, match="has the columns of no decision tree that is known here; it has id, path, kind"
    ):
        settings(tmp_path, kind="fractions")


@pytest.mark.parametrize("suffix", ["parquet", "tsv", "csv.gz"])
def test_a_table_of_another_format_is_found_under_the_usual_name(suffix: str, tmp_path: Path) -> None:
    frame = pd.read_csv(io.StringIO(rows("kind:{word}")))
    if suffix == "parquet":
        frame.to_parquet(tmp_path / "labels.parquet")
    else:
        frame.to_csv(tmp_path / f"labels.{suffix}", index=False, sep="\t" if suffix == "tsv" else ",")
    assert settings(tmp_path) == ["kind=classes", "columns=['kind']", "classes=['a','b']"]
