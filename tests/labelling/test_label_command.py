"""The command from the first answer to a net that has learnt from them: stopped, killed, typed wrong."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from label_pages import Page

from galaxyml.cli.commands import COMMANDS
from galaxyml.data.tables.contents import table_contents
from galaxyml.labelling import command as label_command
from galaxyml.tasks.images import Images

Command = Callable[..., tuple[int, str]]
Interact = Callable[[Page], None]
pytestmark = pytest.mark.usefixtures("apart")
PLACE = re.compile(r"The page is at http://127\.0\.0\.1:(\d+)/ until you press Ctrl\+C\.")


@pytest.fixture
def images(images_sky: Path, tmp_path: Path) -> Path:
    """A folder of images alone."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in sorted((images_sky / "images").iterdir())[:24]:
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture
def typed(in_process: Command) -> Command:
    """Runs `galaxyml label` in this process, as far as it is refused."""
    return partial(in_process, label_command.main)


@pytest.fixture
def stopped_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Interact], None]:
    """Lets the command end once a window has asked what it wants, in the place of Ctrl+C."""

    def stop(interact: Interact) -> None:
        def show(address: str, in_browser: bool) -> None:
            interact(Page(int(address.rstrip("/").rpartition(":")[2])))

        monkeypatch.setattr(label_command, "_show", show)

    return stop


def labels_all(page: Page, count: int, answers: int = 2) -> None:
    """Gives so many answers to what is asked, in turn."""
    state = page.ask("/open", take=True)
    for number in range(count):
        state = page.ask("/label", row=state["items"][0]["row"], answer=number % answers)


def printed(said: str) -> list[str]:
    """The words of the command that trains."""
    return shlex.split(re.findall(r"^  galaxyml (.*)$", said, re.MULTILINE)[0])


@contextmanager
def started(*words: object) -> Iterator[tuple[subprocess.Popen[str], Page]]:
    """The command in a process of its own, once its page is there."""
    arguments = [sys.executable, "-m", "galaxyml", "label", *map(str, words)]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            while (found := PLACE.search(said)) is None:
                line = process.stdout.readline()
                assert line, said
                said += line
            yield process, Page(int(found[1]))
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Status and last words of a process that gets a signal."""
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def test_killed_stopped_and_interrupted_it_loses_nothing_and_goes_on(images: Path, typed: Command) -> None:
    table = images / "labels.csv"
    with started("sky", images) as (process, page):
        labels_all(page, 7)
        assert len(pd.read_csv(table)) == 7
        status, said = typed("sky", images, "--port", "9")
        assert (status, "another command labels into this file" in said) == (1, True), said
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    assert len(pd.read_csv(table)) == 7
    with table.open("a") as file:
        file.write("half,a li")
    with started("sky", images) as (process, page):
        assert page.ask("/open")["labelled"] == 7
        labels_all(page, 2)
        assert ended(process, signal.SIGTERM)[0] == 128 + signal.SIGTERM
    with started("sky", images) as (process, page):
        labels_all(page, 3)
        status, said = ended(process, signal.SIGINT)
    assert status == 0
    assert "12 labels (ordinary: 7, odd: 5) in" in said
    assert "Traceback" not in said
    assert pd.read_csv(table)["path"].is_unique
    assert sorted(path.name for path in images.iterdir() if path.suffix not in (".jpg", ".lock")) == ["labels.csv"]


def test_the_command_that_it_prints_trains_on_the_labels(
    images: Path, typed: Command, stopped_after: Callable[[Interact], None], command: Command
) -> None:
    stopped_after(partial(labels_all, count=24, answers=3))
    status, said = typed("sky", images, "--answers", "smooth,spiral,odd", "--by", "random")
    assert status == 0, said
    words = printed(said)
    assert words == ["task=images", f"data_dir={images}", "start=sky", "name=labelled"]
    status, said = command(*words, "epochs=1")
    assert status == 0, said
    assert "label, a class (odd: 8, smooth: 8, spiral: 8)" in said
    assert "question, labelled_by, labelled_at (how it was labelled)" in said


def test_a_table_elsewhere_is_read_with_its_paths(
    images: Path, tmp_path: Path, typed: Command, stopped_after: Callable[[Interact], None]
) -> None:
    stopped_after(partial(labels_all, count=20))
    table = tmp_path / "answers" / "odd ones.csv"
    status, said = typed(
        "sky", images, "--labels", table, "--question", "Is it odd?", "--answers", "no,yes", "--name", "Ada"
    )
    assert status == 0, said
    assert printed(said)[1:3] == [f"data_dir={table.parent}", "labels=odd ones.csv"]
    found = pd.read_csv(table)
    assert set(found["question"]) == {"Is it odd?"}
    assert set(found["labelled_by"]) == {"Ada"}
    data = Images(table.parent, labels=table.name, size=32, batch_size=4, cache_dir=str(tmp_path / "cache"))
    data.setup()
    assert data.catalog is not None
    assert sorted(data.catalog["image"]) == sorted(found["path"])
    assert data.kind.outputs == ["no", "yes"]


def test_no_column_of_how_it_was_labelled_is_a_target_whoever_labelled(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "id": [f"G{number}" for number in range(20)],
            "path": [f"{number}.jpg" for number in range(20)],
            "label": ["odd", "ordinary"] * 10,
            "question": ["What is it?"] * 19 + ["Which is it?"],
            "labelled_by": ["Ada"] * 8 + ["Bob"] * 12,
            "labelled_at": [f"2026-01-01T00:00:{number // 2:02}Z" for number in range(20)],
        }
    )
    table.to_csv(tmp_path / "labels.csv", index=False)
    contents = table_contents(tmp_path / "labels.csv")
    assert (contents.kind, contents.columns, contents.classes) == ("classes", ["label"], ["odd", "ordinary"])
    assert table_contents(tmp_path / "labels.csv", ["labelled_by"]).classes == ["Ada", "Bob"]


def test_a_runs_classes_are_the_answers(
    images: Path, page_run: Callable[[str], Path], typed: Command, stopped_after: Callable[[Interact], None]
) -> None:
    asked: list[dict[str, Any]] = []
    stopped_after(lambda page: asked.append(page.ask("/open")))
    status, said = typed(page_run("spirals"), images)
    assert status == 0, said
    assert asked[0]["answers"] == ["elliptical", "spiral"]
    assert asked[0]["items"][0]["prediction"]["verdict"] in ("elliptical", "spiral")
    assert "There are no labels in" in said
    assert not (images / "labels.csv").exists()


def test_light_curves_are_labelled_by_their_ids(
    plasticc_sky: Path,
    tmp_path: Path,
    page_run: Callable[[str], Path],
    typed: Command,
    stopped_after: Callable[[Interact], None],
) -> None:
    shown: list[tuple[int, dict[str, str], bytes]] = []

    def interact(page: Page) -> None:
        labels_all(page, 12)
        shown.append(page.get("/image/3/300"))

    stopped_after(interact)
    status, said = typed(page_run("plasticc"), plasticc_sky)
    assert (status, "--labels FILE.csv" in said) == (2, True), said
    table = tmp_path / "night.csv"
    status, said = typed(page_run("plasticc"), plasticc_sky, "--labels", table)
    assert status == 0, said
    assert shown[0][1]["Content-Type"] == "image/png"
    found = pd.read_csv(table)
    assert list(found.columns) == ["object_id", "label", "question", "labelled_by", "labelled_at"]
    assert set(found["object_id"]) < set(pd.read_csv(plasticc_sky / "test_set_metadata.csv")["object_id"])
    assert "task=images" not in said


def test_a_folder_of_predictions_with_features_begins_at_once(
    images: Path, tmp_path: Path, typed: Command, in_process: Command, stopped_after: Callable[[Interact], None]
) -> None:
    from galaxyml.inference import predict

    stopped_after(partial(labels_all, count=4))
    status, said = in_process(
        predict.main, "sky", images, "--out", f"{tmp_path / 'out'}/", "--features", "--workers", 1
    )
    assert status == 0, said
    status, said = typed("sky", tmp_path / "out")
    assert (status, "--labels FILE.csv" in said) == (2, True), said
    status, said = typed("sky", tmp_path / "out", "--labels", tmp_path / "labels.csv")
    assert status == 0, said
    found = pd.read_csv(tmp_path / "labels.csv")
    assert all((tmp_path / path).is_file() for path in found["path"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing", "MINE"], "nothing is not there"),
        (["sky", "nothing"], "nothing is not there"),
        (["sky", "MINE", "--by", "novelti"], "Did you mean novelty?"),
        (["sky", "MINE", "--by", "x"], "There are: disagreement, likely, novelty, random, relevance, uncertainty."),
        (["sky", "MINE", "--answers", "odd"], "there must be 2 to 10"),
        (["sky", "MINE", "--answers", "odd,Odd"], "odd and Odd would be taken for one"),
        (
            ["sky", "MINE", "--answers", "a,b", "--target", "c"],
            "--target c: it is none of the answers. There are: a, b.",
        ),
        (["sky", "MINE", "--every", "0"], "--every 0: it must be a whole number, 1 or more"),
        (["sky", "MINE", "--labels", "labels.txt"], "--labels labels.txt: it must be the name of a CSV file"),
        (["sky", "MINE", "MINE"], "is not one folder of images: say by --labels FILE.csv where labels go"),
        (["sky", "MINE/*.jpg"], "say by --labels FILE.csv"),
        (["sky", "MINE", "--host", "0.0.0.0"], "has no option --host"),
        (["sky", "EMPTY"], "the folder holds no images"),
    ],
)
def test_what_is_typed_wrong_gets_a_sentence(
    words: list[str], told: str, images: Path, tmp_path: Path, typed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    status, said = typed(*[word.replace("MINE", str(images)).replace("EMPTY", "empty") for word in words])
    assert status == 2, said
    assert told in said


def test_what_cannot_be_used_gets_a_sentence(images: Path, typed: Command, tmp_path: Path) -> None:
    status, said = typed("sky", images, "--labels", images / sorted(images.iterdir())[0].name / "labels.csv")
    assert (status, "cannot be written" in said) == (1, True), said
    (images / "labels.csv").write_text("id,path,kind\n1,1.jpg,odd\n")
    status, said = typed("sky", images)
    assert (status, "has the columns id, path, kind" in said) == (1, True), said
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        status, said = typed("sky", images, "--labels", tmp_path / "other.csv", "--port", taken)
    assert (status, f"--port {taken}: another program uses it" in said) == (2, True), said
    for text in ("0", "x", "65536"):
        with pytest.raises(SystemExit):
            label_command._parser().parse_args(["sky", "mine", "--port", text])


def test_images_that_cannot_be_read_are_named_and_left_out(
    images: Path, typed: Command, stopped_after: Callable[[Interact], None]
) -> None:
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    asked: list[dict[str, Any]] = []
    stopped_after(lambda page: asked.append(page.ask("/open")))
    status, said = typed("sky", images)
    assert status == 0, said
    assert "1 of 25 images cannot be read and are left out: " in said
    assert "broken.jpg" in said
    assert asked[0]["total"] == 24


def test_it_is_one_of_the_commands() -> None:
    assert COMMANDS["label"][0] == label_command.__name__
