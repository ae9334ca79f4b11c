"""Commands of README.md are run, on fewer and smaller galaxies, those of docs/ checked; what both name is there."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import grimp
import pandas as pd
import pytest
from encoder_hub import EncoderHub, write_encoder
from hydra import compose, initialize_config_dir
from inside import write_parts

import galaxyml
from galaxyml.cli import overrides
from galaxyml.cli.commands import COMMANDS
from galaxyml.evaluation.words import Words
from galaxyml.kinds import of_config
from galaxyml.kinds.anomalies.score import WORDS as anomalies
from galaxyml.kinds.classes.score import WORDS as classes
from galaxyml.kinds.fractions.score import WORDS as fractions
from galaxyml.kinds.numbers.score import WORDS as numbers
from galaxyml.kinds.votes.scored import WORDS as votes
from galaxyml.runs.conf_dir import CONF
from galaxyml.trees import DecisionTree

Command = Callable[..., tuple[int, str]]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").rglob("*.md")))


def blocks(text: str, language: str) -> list[str]:
    """Blocks of code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def typed(text: str) -> list[str]:
    """Lines of shell commands without their comments."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines if line.strip()]


LINES = typed(README)
MAIN = "python -m galaxyml "
# Of the table of tasks, the command of each row.
ROWS = re.findall(r"^\| \[`\w+`\]\(\S+\) \| .*? \| `(.*?)` \| ", README, re.MULTILINE)
OTHERS = [line for line in LINES if line.startswith(MAIN) and line.split()[3] in COMMANDS]
RUNS = [line for line in LINES if line.startswith(MAIN) and "--help" not in line and line not in OTHERS] + [
    MAIN + row for row in ROWS
]
# Commands of the guides: in blocks, in sentences, and in tables without their beginning.
GUIDED = sorted(
    {
        *typed(GUIDES),
        *(MAIN + " ".join(words.split()) for words in re.findall(r"`python -m galaxyml ([^`…]+)`", GUIDES)),
        *(MAIN + words for words in re.findall(r"^\| `((?:task|experiment)=[^`]+)`", GUIDES, re.MULTILINE)),
    }
)
ASKED = re.findall(r"^\*\*`([^`]+)`.*?\*\*", (ROOT / "docs" / "questions.md").read_text(encoding="utf-8"), re.MULTILINE)
FILLED_IN = re.compile(r"…|'[^']*'|\b[\w.]*\d[\w.]*\b|\b\w+\.csv|: ?|\bkind\b|model\?")  # names, numbers, files
# Those that `make test` runs from end to end; the others are composed and checked there, as tests of the tasks train
# the same, and run by `make test-all`.
TRAINED = ("task=galaxyzoo model=resnet50 -m fold=0,1,2,3,4", "columns=[kind] model=tiny", "start=sky")
# What is changed of a command so that it is quick: the rest stays as a user types it.
SMALLER = {
    "fold=0,1,2,3,4": "fold=0,1",
    "fold=0,1,2": "fold=0",
    "seed=0,1,2": "seed=0",
    "model=resnet50": "model=test_resnet",
    "model=convnext_tiny": "model=test_convnext",
    "model=zoobot_nano": "model=test_convnext",
    "model.pretrained=true": "model.pretrained=false",
    "model.weights=FILE": "model.weights=null",
    "scale=demo": "scale=smoke",
}


def task(words: list[str]) -> str:
    """The task that a command is about."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    return given.get("task") or given["experiment"].partition("_")[0]


def smaller(line: str) -> list[str]:
    """The words of a command, on fewer and smaller galaxies."""
    words = [SMALLER.get(word, word) for word in shlex.split(line.removeprefix(MAIN))]
    of = task(words)
    given = {word.split("=")[0] for word in words}
    words = [word for word in words if not word.startswith("source=")]  # the small sky of the tests
    words += ["epochs=1"]
    if of == "surveys":
        words += ["size=56", "tuning.head_epochs=1", "model.pretrained=false"]
        words += [] if "model" in given else ["model=test_vit"]
    elif of != "plasticc":
        words += ["size=40"]
    return words + ([] if "name" in given else ["name=read"])


@pytest.fixture
def folder(
    sky: Path,
    galaxy10_sky: Path,
    spirals_sky: Path,
    surveys_sky: Path,
    plasticc_sky: Path,
    images_sky: Path,
    tmp_path: Path,
) -> Path:
    """A folder with `data/` and `mine/`, as the README has them."""
    (tmp_path / "data").symlink_to(sky.parent)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "images").symlink_to(images_sky / "images")
    shutil.copyfile(images_sky / "labels.csv", tmp_path / "mine" / "labels.csv")
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=[pytest.mark.slow] * (not any(part in line for part in TRAINED))) for line in RUNS],
)
def test_a_command_that_trains_ends_with_a_report(line: str, command: Command, folder: Path) -> None:
    if "lora" in line:
        pytest.importorskip("peft", reason="galaxyml[lora] is not installed")
    words = smaller(line)
    if "experiment=spirals_votes" in words:  # the table that it is about, made of the one that is there
        _vote_classes(folder)
        words = [word.replace("data_dir=data", "data_dir=votes") for word in words]
    _as_above(words, folder)
    status, said = command(*words)
    assert status == 0, said
    assert "Warning" not in said
    name = next(word.partition("=")[2] for word in words if word.startswith("name="))
    assert (folder / "multirun" / task(words) / name / "report.html").is_file()


def _as_above(words: list[str], folder: Path) -> None:
    """Makes the table of labels what stands above a command that leaves the choice to it."""
    if task(words) == "images" and not any(word.startswith(("columns=", "tree=")) for word in words):
        table = pd.read_csv(folder / "mine" / "labels.csv")
        table[["id", "path", "kind"]].to_csv(folder / "mine" / "labels.csv", index=False)


@pytest.mark.parametrize("line", RUNS)
def test_a_command_that_trains_can_be_composed(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = [word for word in shlex.split(line.removeprefix(MAIN)) if not word.startswith("-")]
    words = [word if "[" in word else word.partition(",")[0] for word in words]  # the first of what is swept
    _as_above(words, folder)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [word for word in overrides.prepare(words) if not word.startswith("hydra")])
    assert of_config(config).stages()
    assert config.task == task(words)


def _vote_classes(folder: Path) -> None:
    """A folder `votes/spirals` of the experiment's layout: OBJID and CLASS, images named by OBJID."""
    there, spirals = folder / "votes" / "spirals", folder / "data" / "spirals"
    (there / "images_gz1").mkdir(parents=True)
    mapping = pd.read_csv(spirals / "gz2_filename_mapping.csv").drop_duplicates("objid")
    flags = pd.read_csv(spirals / "GalaxyZoo1_DR_table2.csv").set_index("OBJID")
    rows = []
    for objid, asset in zip(mapping["objid"], mapping["asset_id"], strict=True):
        image = spirals / "images" / f"{asset}.jpg"
        if objid in flags.index and image.is_file():
            shutil.copyfile(image, there / "images_gz1" / f"{objid}.jpg")
            rows.append({"OBJID": objid, "CLASS": int(flags.loc[objid, "P_CS"] > flags.loc[objid, "P_EL"])})
    pd.DataFrame(rows).to_csv(there / "gz1_class_labels.csv", index=False)


def test_every_tool_does_what_is_said(command: Command, folder: Path, in_process: Command) -> None:
    for name in ("RUN", "OTHER", "kinds"):
        own = {"kinds": ["task=images", "data_dir=mine", "columns=[kind]"], "OTHER": ["optim.lr=2e-3"]}.get(name, [])
        status, said = command(*own, f"name={name}", "epochs=1")
        assert status == 0, said
    places = {name: f"multirun/galaxyzoo/{name}" for name in ("RUN", "OTHER", "BOTH")}
    (folder / "images").symlink_to(folder / "mine" / "images")
    (folder / "drawn").mkdir()
    pd.read_parquet(folder / places["OTHER"] / "predictions" / "val.parquet").to_csv(folder / "theirs.csv", index=False)
    paths = sorted((folder / "mine" / "images").iterdir())[:6]
    pd.DataFrame({"path": [str(path) for path in paths]}).to_parquet(folder / "survey.parquet")
    for line in OTHERS:
        _, _, _, name, *words = shlex.split(line)
        words = [places.get(word, word) for word in words]
        if name == "sky":
            words = ["drawn/mine", "--labels", "12"]
        if name == "page":
            pytest.importorskip("gradio", reason="galaxyml[demo] is not installed")
            words += ["--export", f"space{len(words)}"]  # what serves a page does not end
        if name == "label":
            continue  # which serves until it is stopped; tests/labelling/test_label_command.py does so
        if name == "fetch" and "--list" not in words:
            continue  # tests/test_fetch.py has a server for it; that the name exists is seen below
        status, said = in_process(import_module(COMMANDS[name][0]).main, *words)
        assert status == 0, f"{line}\n{said}"


def test_each_data_set_that_is_named_can_be_fetched(in_process: Command, tmp_path: Path) -> None:
    from galaxyml.data.download import command

    named = {
        word
        for line in OTHERS
        if line.startswith("python -m galaxyml fetch ")
        for word in shlex.split(line)[4:]
        if word[0] != "-"
    }
    status, said = in_process(command.main, "--list", "--to", tmp_path)
    assert status == 0
    assert named
    assert all(re.search(rf"\b{name}\b", said) for name in named)


@pytest.mark.parametrize("target", sorted({line.split()[1] for line in LINES if line.startswith("make ")}))
def test_each_target_is_in_the_makefile(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", ASKED)
def test_errors_that_are_explained_exist(error: str) -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "galaxyml").rglob("*.py"))
    source = re.sub(r'"\s*f?"', "", source)  # a text over several lines
    told = [part.strip(" .,;") for part in FILLED_IN.split(error) if len(part.split()) > 2]
    assert told
    for part in told:
        assert part in source, part


def test_nothing_that_is_typed_is_left_out() -> None:
    known = ("git clone ", "make ", MAIN, *OTHERS)
    assert all(line.startswith(known) for line in LINES)
    assert len(ROWS) == 7
    assert not any("…" in line for line in LINES)


# A folder of one's own (--config-dir) is the reader's to make; tests of examples/ have one.
@pytest.mark.parametrize("line", [line for line in GUIDED if line.startswith(MAIN) and "--config-dir" not in line])
def test_what_the_guides_say_can_be_typed(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, in_process: Command, hub: EncoderHub
) -> None:
    monkeypatch.chdir(folder)
    for repository in re.findall(r"hf-hub:([\w-]+/[\w.-]+)", line):
        hub.folders[repository] = folder / "encoder"
        write_encoder(folder / "encoder")
    words = shlex.split(line.removeprefix(MAIN))
    if words[0] in COMMANDS:
        _, told = in_process(import_module(COMMANDS[words[0]][0]).main, "--help")
        assert {word for word in words if word.startswith("-")} <= set(re.findall(r"--?[\w-]+", told))
        return
    if "data_dir=data/gz_candels" in words:  # which is fetched first
        _candels(folder)
        words = [word.replace("data/gz_candels", "candels") for word in words]
    prepared = overrides.prepare([word for word in words if word != "-q"])  # which checks each key
    if not any(word.startswith("-") for word in words):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose("config", [word for word in prepared if not word.startswith("hydra")])


def _candels(folder: Path) -> None:
    """Writes `candels/`, a data set of the hub, whose votes are none's."""
    votes = pd.DataFrame(1, range(20), DecisionTree.load("gz_candels").columns)
    paths = [f"images/{path.name}" for path in sorted((folder / "mine" / "images").iterdir())[:20]]
    write_parts(folder / "candels", folder / "mine", votes.assign(id_str=paths, path=paths))


def test_nothing_else_is_typed_in_the_guides() -> None:
    targets = re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {line for line in GUIDED if not line.startswith(MAIN)} <= {f"make {target}" for target in targets}
    assert len(GUIDED) > 80


@pytest.mark.parametrize("code", [*blocks(README, "python"), *blocks(GUIDES, "python")])
def test_names_that_code_imports_are_public(code: str) -> None:
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    named = {name.name for node in imports if node.module == "galaxyml" for name in node.names}
    assert named <= set(galaxyml.__all__)


@pytest.mark.parametrize("words", [anomalies, classes, fractions, numbers, votes], ids=lambda words: words.targets)
def test_each_metric_of_reports_is_explained(words: Words) -> None:
    table = (
        (ROOT / "docs" / "numbers.md").read_text(encoding="utf-8").partition("\n## Metrics\n")[2].partition("\n## ")[0]
    )
    explained = set(re.findall(r"`([\w<>]+)`", "\n".join(line.split(" | ")[0] for line in table.splitlines())))
    shown = {words.main, *words.headline, *words.labels, *words.by_column, *words.brief, *words.counts}
    of_others = (*words.variants, "features_")
    own = {name for name in shown if not name.startswith(of_others)}
    assert {re.sub(r"^(purity|recall)_\d+$", r"\1_<k>", name) for name in own} <= explained


def test_the_picture_of_the_rooms_has_the_imports_of_the_code() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "layers.py"], check=True)
    picture = (ROOT / "docs" / "layers.svg").read_text(encoding="utf-8")
    graph = grimp.build_graph("galaxyml", exclude_type_checking_imports=True, cache_dir=None)
    arrows = {
        (importer.split(".")[1], imported.split(".")[1])
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if "." in importer and "." in imported and importer.split(".")[1] != imported.split(".")[1]
    }
    assert set(re.findall(r"<title>(\w+) imports (\w+) in \d+ modules?<", picture)) == arrows
    assert 'class="up"' not in picture


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_and_images_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:galaxyml|conf|tests|benchmarks|docs)/[\w./-]+)`", text):
        assert (ROOT / name).exists() or list(ROOT.glob(f"{name}*")), name
