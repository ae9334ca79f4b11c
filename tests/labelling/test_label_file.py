"""The table of labels: nothing that is in it is lost, and no other table is touched."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from pathlib import Path

import pandas as pd
import pytest
from label_pages import some_objects

from galaxyml.inference.embedded import Embedded
from galaxyml.labelling import label_file
from galaxyml.labelling.label_file import OF_CURVES, OF_IMAGES, LabelFile, Named, opened, path_from
from galaxyml.labelling.question import Question, asked_about
from galaxyml.runs.errors import DataError, UsageError

QUESTION = Question("What is it?", ("smooth", "spiral", "odd"))
HEADER = "id,path,label,question,labelled_by,labelled_at\n"
TIME = r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


@pytest.fixture
def objects(tmp_path: Path) -> Embedded:
    return some_objects(tmp_path / "images")


def name(number: int) -> tuple[str, str]:
    return f"G{number}", f"images/{number}.png"


def labels(path: Path, question: Question = QUESTION) -> LabelFile:
    return LabelFile(path, OF_IMAGES, question, "Ada")


def test_each_answer_is_a_line_that_is_there_at_once(path: Path) -> None:
    file = labels(path)
    file.label(name(1), "smooth")
    file.label(name(2), "odd")
    table = pd.read_csv(path)
    assert list(table.columns) == HEADER.strip().split(",")
    assert table["id"].tolist() == ["G1", "G2"]
    assert table["path"].tolist() == ["images/1.png", "images/2.png"]
    assert table["label"].tolist() == ["smooth", "odd"]
    assert set(table["question"]) == {"What is it?"}
    assert set(table["labelled_by"]) == {"Ada"}
    assert table["labelled_at"].str.fullmatch(TIME).all()


def test_an_answer_is_only_added_to_the_end(path: Path) -> None:
    file = labels(path)
    file.label(name(1), "smooth")
    before, inode = path.read_bytes(), path.stat().st_ino
    file.label(name(2), "odd")
    assert path.read_bytes().startswith(before)
    assert path.stat().st_ino == inode


def test_undo_takes_back_answers_and_skips_in_their_order_also_of_a_command_before(path: Path) -> None:
    file = labels(path)
    file.label(name(1), "smooth")
    file.skip(name(2))
    file.label(name(3), "odd")
    again = labels(path)
    assert list(again.labels()) == ["images/1.png", "images/3.png"]
    assert again.skipped() == ["images/2.png"]
    assert [again.undo() for _ in range(4)] == ["images/3.png", "images/2.png", "images/1.png", None]
    assert (again.labels(), again.skipped()) == ({}, [])
    assert path.read_text() == HEADER


class Stopped(datetime):
    """A clock that does not go on."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Stopped":
        return cls(2026, 11, 29, 12, tzinfo=tz)


def test_answers_of_the_same_moment_keep_their_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_file, "datetime", Stopped)
    file = labels(path)
    for number in (1, 3, 5):
        file.label(name(number), "smooth")
        file.skip(name(number + 1))
    again = labels(path)
    assert [again.undo() for _ in range(7)] == [*(name(number)[1] for number in range(6, 0, -1)), None]


def test_undo_leaves_what_is_about_other_objects(path: Path) -> None:
    file = labels(path)
    file.label(name(1), "smooth")
    file.label(name(2), "odd")
    assert file.undo({"images/1.png"}) == "images/1.png"
    assert file.undo({"images/1.png"}) is None
    assert file.labels() == {"images/2.png": "odd"}


def test_an_answer_replaces_an_earlier_one_and_is_taken_back_whole(path: Path) -> None:
    file = labels(path)
    file.label(name(1), "smooth")
    file.label(name(2), "odd")
    file.label(name(1), "spiral")
    assert file.labels() == {"images/2.png": "odd", "images/1.png": "spiral"}
    assert len(path.read_text().splitlines()) == 3
    assert file.undo() == "images/1.png"
    assert file.labels() == {"images/2.png": "odd"}


def test_what_is_skipped_is_not_in_the_table_and_comes_last(path: Path) -> None:
    file = labels(path)
    file.skip(name(1))
    file.skip(name(2))
    file.skip(name(1))
    assert file.skipped() == ["images/2.png", "images/1.png"]
    assert not path.exists()
    file.label(name(2), "odd")
    assert file.skipped() == ["images/1.png"]
    assert "images/1.png" not in path.read_text()


@pytest.mark.parametrize("text", ['G,"a ""quoted"", name"', "Γαλαξίας 7", "two\nlines"])
def test_names_of_any_kind_come_back(path: Path, text: str) -> None:
    labels(path).label((text, f"images/{text}.png"), "odd")
    assert labels(path).labels() == {f"images/{text}.png": "odd"}
    assert pd.read_csv(path)["path"].tolist() == [f"images/{text}.png"]


def test_an_id_that_an_object_elsewhere_has_is_replaced_by_its_path(path: Path) -> None:
    file = labels(path)
    file.label(("1.png", "a/1.png"), "odd")
    file.label(("1.png", "b/1.png"), "odd")
    assert pd.read_csv(path)["id"].tolist() == ["1.png", "b/1.png"]


# --- what a kill or a power cut leaves


def written(path: Path) -> bytes:
    file = labels(path)
    for number in range(3):
        file.label(name(number), "odd")
    return path.read_bytes()


def test_wherever_the_last_line_is_cut_the_others_stay_and_the_file_goes_on(path: Path) -> None:
    whole = written(path)
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        file = labels(path)
        kept = [f"images/{number}.png" for number in range(3 if end == len(whole) - 1 else 2)]
        assert list(file.labels()) == kept
        assert len(file.notes) == (last < end < len(whole) - 1)
        file.label(name(7), "smooth")
        assert list(labels(path).labels()) == [*kept, "images/7.png"]
        assert path.read_bytes().startswith(whole[:last])


def test_what_was_taken_out_is_told_once(path: Path) -> None:
    whole = written(path)
    path.write_bytes(whole[:-30])
    (note,) = labels(path).notes
    assert note.startswith(f"{path}: its last line was half written")
    assert "G2,images/2.png" in note
    assert labels(path).notes == []


@pytest.mark.parametrize("tail", [b"\0" * 60, b"G9,images/\xff\xfe", b'G9,"images/9', b"G9,i,odd,q,a,2026-01-01T00:00"])
def test_a_tail_of_any_bytes_is_taken_out(path: Path, tail: bytes) -> None:
    whole = written(path)
    path.write_bytes(whole + tail)
    assert len(labels(path).labels()) == 3
    assert path.read_bytes() == whole


@pytest.mark.parametrize("begun", ["", "id,pa", HEADER.strip(), HEADER])
def test_a_file_that_ends_in_its_header_is_begun_again(path: Path, begun: str) -> None:
    path.write_text(begun)
    labels(path).label(name(1), "odd")
    assert path.read_text().startswith(HEADER + "G1,images/1.png,odd,What is it?,Ada,")


def test_a_full_disk_leaves_the_file_as_it_was_and_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written(path)
    file, write = labels(path), os.write

    def half(number: int, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(number, content[: len(content) // 2])

    with monkeypatch.context() as patch:
        patch.setattr("os.write", half)
        with pytest.raises(DataError, match="the disk is full"):
            file.label(name(7), "odd")
    assert path.read_bytes() == whole
    assert len(file.labels()) == 3
    file.label(name(7), "odd")
    assert len(labels(path).labels()) == 4


# --- what others do with the file


def test_a_table_of_the_users_own_is_refused_and_stays(path: Path) -> None:
    path.write_text("id,path,kind\n1,images/1.png,smooth\n")
    with pytest.raises(DataError, match=r"labels\.csv is not .* columns id, path, kind, .* --labels other\.csv"):
        labels(path)
    path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match="is not a file of labels"):
        labels(path)
    assert path.read_bytes() == b"\x89PNG\r\n"


def test_what_another_program_changes_meanwhile_is_kept(path: Path) -> None:
    file = labels(path)
    file.label(name(1), "smooth")
    file.label(name(2), "odd")
    replaced = path.with_suffix(".new")
    replaced.write_text(path.read_text().replace("smooth", "spiral"))
    os.replace(replaced, path)
    file.label(name(3), "odd")
    assert labels(path).labels() == {"images/1.png": "spiral", "images/2.png": "odd", "images/3.png": "odd"}
    assert file.undo() == "images/3.png"
    assert file.labels() == {"images/1.png": "spiral", "images/2.png": "odd"}


def test_a_spreadsheets_line_ends_and_mark_are_read(path: Path) -> None:
    text = written(path).decode()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    file = labels(path)
    assert len(file.labels()) == 3
    file.label(name(7), "odd")
    assert len(labels(path).labels()) == 4


def test_an_emptied_label_is_asked_again_and_has_one_line(path: Path) -> None:
    text = written(path).decode()
    path.write_text(text.replace("G1,images/1.png,odd", "G1,images/1.png,"))
    file = labels(path)
    assert list(file.labels()) == ["images/0.png", "images/2.png"]
    file.label(name(1), "smooth")
    assert pd.read_csv(path)["path"].is_unique


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("G9,images/9.png,odd", "line 5: it has 3 values, not 6"),
        ("G0,images/0.png,odd,What is it?,Ada,2026-01-01T00:00:00Z", r"line 5: path images/0\.png occurs a second"),
    ],
)
def test_a_line_that_is_no_answer_is_told_with_its_number(path: Path, line: str, told: str) -> None:
    written(path)
    with path.open("a") as file:
        file.write(f"{line}\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=told):
        labels(path)
    assert path.read_bytes() == before


# --- answers and questions


def test_more_answers_go_on_and_others_are_refused(path: Path) -> None:
    labels(path, Question("What is it?", ("smooth", "odd"))).label(name(1), "odd")
    assert labels(path, Question("What is it?", ("odd", "smooth", "merger"))).labels() == {"images/1.png": "odd"}
    with pytest.raises(DataError, match=r"has the answers odd, .*--answers smooth,merger,odd"):
        labels(path, Question("What is it?", ("smooth", "merger")))
    with pytest.raises(DataError, match=r"another question, 'What is it\?'.*--question 'What is it\?'"):
        labels(path, Question("Is it odd?", ("smooth", "odd")))


def test_a_question_made_of_answers_may_get_more_of_them(path: Path) -> None:
    labels(path, Question.of(None, "smooth,odd")).label(name(1), "odd")
    labels(path, Question.of(None, "smooth,spiral,odd")).label(name(2), "spiral")
    assert len(labels(path, Question.of(None, "smooth,spiral,odd,merger")).labels()) == 2


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ("smooth", "2 to 10"),
        (",".join(map(str, range(11))), "2 to 10"),
        ("smooth,,odd", "one of them is empty"),
        ("smooth,Smooth", "smooth and Smooth"),
        ("a,a", "a and a"),
        ("1,1.0", "1 and 1.0"),
        ("0.5,1", "whole numbers"),
        ("1,odd", "whole numbers"),
        ("odd,N/A", "N/A stands for no value"),
        ("odd,None", "None stands for no value"),
        ("odd,\x07bell", "cannot be shown"),
    ],
)
def test_answers_that_cannot_be_told_apart_are_refused(answers: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Question.of(None, answers)


def test_a_question_is_made_of_its_answers() -> None:
    assert Question.of(None) == Question("Which is it: ordinary or odd?", ("ordinary", "odd"))
    assert Question.of(None, " yes , no ", " Is  it odd? ") == Question("Is it odd?", ("yes", "no"))
    assert asked_about(["none", "weak", "strong"]) == "Which is it: none, weak or strong?"


# --- one command at a time


@contextmanager
def other(path: Path) -> Iterator[LabelFile]:
    with opened(path, OF_IMAGES, QUESTION, "Bob") as file:
        yield file


def test_a_second_command_is_refused_by_any_name_of_the_file(path: Path) -> None:
    link = path.with_name("link.csv")
    link.symlink_to(path)
    with other(path) as file:
        file.label(name(1), "odd")
        for same in (path, link):
            with pytest.raises(DataError, match="another command labels into this file"), other(same):
                pass
    with other(link) as file:
        file.undo()
        file.label(name(2), "odd")
    assert link.is_symlink()
    assert path.is_file()


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataError, match=r"labels\.csv cannot be written: .*--labels other\.csv"),
        other(tmp_path / "file" / "labels.csv"),
    ):
        pass


# --- what objects are called


def test_paths_begin_in_the_tables_folder(objects: Embedded, tmp_path: Path) -> None:
    beside, elsewhere = Named.of(objects, tmp_path / "images"), Named.of(objects, tmp_path / "labels")
    assert beside.columns == OF_IMAGES
    assert beside.names[3] == ("03.png", "03.png")
    assert elsewhere.names[3] == ("03.png", "../images/03.png")


def test_paths_of_a_folder_that_is_a_link_lead_to_the_images(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "deep")
    assert (link / path_from(f"{link}{os.sep}", str(tmp_path / "images" / "1.png"))).is_file()


def test_light_curves_go_by_their_id(objects: Embedded, tmp_path: Path, path: Path) -> None:
    curves = Embedded(objects.ids, objects.features, objects.table, "latents", object())  # type: ignore[arg-type]
    named = Named.of(curves, tmp_path)
    assert (named.columns, named.names[3]) == (OF_CURVES, ("03.png",))
    LabelFile(path, named.columns, QUESTION, "Ada").label(named.names[3], "odd")
    assert path.read_text().startswith("object_id,label,question,labelled_by,labelled_at\n03.png,odd,")
