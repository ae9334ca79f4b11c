from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from galaxyml.cli import overrides
from galaxyml.data.tables import labels
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import UserError


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def settings(folder: Path | None, **given: str) -> list[str]:
    """What the command adds to what was typed."""
    words = ["task=images", *([f"data_dir={folder}"] if folder else []), *(f"{key}={given[key]}" for key in given)]
    return overrides.prepare(words)[len(words) : -1]


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
    assert {labels.SIMULATED_CLASS, *labels.SIMULATED_NUMBERS} <= set(header)
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
    assert "classes" not in "".join(settings(tmp_path, classes="[E,e,S,s]"))  # they are said to differ


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
