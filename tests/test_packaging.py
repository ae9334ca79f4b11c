"""What is built, locked and published: the wheel, requirements.lock, the version, the workflows and forms of GitHub."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import pytest
import yaml
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import galaxyml

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LARGE = ("lora", "mlflow", "ray", "wandb")  # extras that `make setup` does without
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"})


def parsed(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # for which `on` is a word


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    """Version of each package of requirements.lock that this machine takes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    requirements = [Requirement(line.split(" --hash=")[0]) for line in text.splitlines() if line[:1].isalnum()]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


# --- requirements.lock


def test_the_lock_has_what_is_declared_and_each_file_by_its_hash(locked: dict[str, str]) -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    used = [line for extra in re.findall(r"--extra (\w+)", MAKEFILE) for line in extras[extra]]
    assert used
    for line in (*PROJECT["project"]["dependencies"], *used, *PROJECT["dependency-groups"]["dev"]):
        requirement = Requirement(line)
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{line}, but {version} in requirements.lock"


@pytest.mark.parametrize("name", ["requirements.lock", "docs/requirements.txt", "benchmarks/peers/requirements.txt"])
def test_locks_have_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\w)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "--index" not in text


def test_peers_are_measured_with_the_versions_of_the_lock() -> None:
    pinned, peers = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("requirements.lock", "benchmarks/peers/requirements.txt")
    )
    assert "zoobot" in peers
    assert {name: peers[name] for name in pinned.keys() & peers} == {
        name: pinned[name] for name in pinned.keys() & peers
    }


def test_what_only_large_extras_bring_is_not_set_up(locked: dict[str, str]) -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert not names([line for extra in LARGE for line in extras[extra]]) & locked.keys()
    assert "transformers" not in locked
    every = next(iter(Requirement(line) for line in extras["all"]))
    assert every.extras == set(extras) - {"all"}


# --- versions


def test_versions_agree(locked: dict[str, str]) -> None:
    assert PROJECT["project"]["version"] == galaxyml.__version__
    assert parsed(ROOT / "CITATION.cff")["version"] == galaxyml.__version__
    hooks = {repo["repo"]: repo.get("rev") for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"]}
    assert hooks["https://github.com/astral-sh/ruff-pre-commit"] == f"v{locked['ruff']}"


def test_the_pythons_that_are_promised_are_tested() -> None:
    prefix = "Programming Language :: Python :: "
    promised = [
        line.removeprefix(prefix) for line in PROJECT["project"]["classifiers"] if re.match(rf"{prefix}3\.\d", line)
    ]
    matrix = parsed(ROOT / ".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == promised
    lowest, highest = promised[0], promised[-1]
    assert PROJECT["project"]["requires-python"] == f">={lowest},<3.{int(highest.split('.')[1]) + 1}"
    assert f"PYTHON_VERSION ?= {PROJECT['project']['requires-python']}\n" in MAKEFILE
    assert PROJECT["tool"]["mypy"]["python_version"] == lowest
    assert f"--python {lowest} .venv-lowest" in MAKEFILE


# --- GitHub


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_targets_of_the_makefile_and_pin_what_others_wrote(path: Path) -> None:
    jobs = parsed(path)["jobs"]
    steps = [step for job in jobs.values() for step in job.get("steps", ())]
    assert steps
    for step in steps:
        for target in re.findall(r"\bmake ([\w-]+)", step.get("run", "")):
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"no target {target} in the Makefile"
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
    for job in jobs.values():
        needed = job.get("needs", [])
        assert set([needed] if isinstance(needed, str) else needed) <= jobs.keys()


def test_check_runs_what_the_workflow_runs() -> None:
    prerequisites = re.search(r"^check: (.*?) *##", MAKEFILE, re.MULTILINE)
    assert prerequisites
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    here = set(prerequisites[1].split())
    there = set(re.findall(r"- run: make ([\w-]+)", workflow))
    assert there - {"test-extras", "test-lowest"} == here


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_ask_by_fields_of_their_own(path: Path) -> None:
    form = parsed(path)
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) > 0
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in form["body"])


def test_a_bug_is_told_with_its_provenance() -> None:
    fields = {field["id"]: field for field in parsed(ROOT / ".github/ISSUE_TEMPLATE/bug.yml")["body"]}
    assert fields["provenance"]["validations"]["required"] == "true"


# --- wheel and sdist


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the wheel and the sdist, as `make dist` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def files(*folders: str) -> set[str]:
    """The files of folders of this repository that are no by-products."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_is_the_package_with_its_configuration_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        described = {name.partition(".dist-info/")[2] for name in wheel.namelist()} - {""}
    assert found == files("galaxyml") | {f"galaxyml/{name}" for name in files("conf")}
    assert {"licenses/LICENSE", "entry_points.txt"} <= described


def test_the_sdist_has_what_the_wheel_is_built_from(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        found = {name.partition("/")[2] for name in sdist.getnames()}
    assert found - {"PKG-INFO", ".gitignore"} == files("galaxyml", "conf") | {
        "CITATION.cff",
        "LICENSE",
        "README.md",
        "pyproject.toml",
    }


def test_the_page_on_pypi_leads_to_the_files_of_its_version(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        headers, _, description = wheel.read(name).decode().partition("\n\n")
    assert "Description-Content-Type: text/markdown" in headers.splitlines()
    targets = [
        str(part.attrs.get("src") or part.attrs["href"])
        for token in MarkdownIt().enable("table").parse(description)
        for part in token.children or ()
        if part.type in ("image", "link_open")
    ]
    tag = f"v{galaxyml.__version__}"
    beginnings = {
        f"https://raw.githubusercontent.com/galaxyml/galaxyml/{tag}/": (".jpg", ".png"),
        f"https://github.com/galaxyml/galaxyml/blob/{tag}/": (".md", ".cff"),
    }
    for target in targets:
        assert target.startswith(tuple(beginnings)), target
    for beginning, suffixes in beginnings.items():
        files = [urldefrag(target).url.removeprefix(beginning) for target in targets if target.startswith(beginning)]
        assert files
        assert all((ROOT / file).is_file() and file.endswith(suffixes) for file in files)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(targets) == len(re.findall(r"\]\([^)]+\)", readme))
    assert re.sub(r"https://(raw\.githubuser|git)[^)]*/v[\d.]+/", "", description) == readme


@pytest.mark.slow
def test_the_wheel_trains_in_an_environment_of_its_own_and_an_empty_folder(dist: Path, tmp_path: Path) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=ROOT / ".venv-uv" / "bin")
    if uv is None:
        pytest.skip("needs uv: make .venv-uv/bin/uv")
    python, here = tmp_path / "env" / "bin" / "python", tmp_path / "empty"
    here.mkdir()
    environment = os.environ | {"GALAXYML_CACHE": str(tmp_path / "cache")}
    environment.pop("PYTHONPATH", None)  # which may lead to the checkout

    def run(*line: str | Path) -> str:
        done = subprocess.run(line, cwd=here, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(uv, "venv", "-q", "--python", sys.executable, tmp_path / "env")
    wheel = next(dist.glob("*.whl"))
    run(uv, "pip", "install", "-q", "--python", python, "--constraints", ROOT / "requirements.lock", wheel)
    installed = {line.partition("==")[0] for line in run(uv, "pip", "freeze", "--python", python).splitlines()}
    extras = PROJECT["project"]["optional-dependencies"]
    optional = names([line for extra, lines in extras.items() if extra != "all" for line in lines])
    assert len(installed) > 30
    assert not optional & installed
    assert (tmp_path / "env") in Path(run(python, "-c", "import galaxyml; print(galaxyml.__file__)").strip()).parents
    assert "task=galaxyzoo" in run(python.with_name("galaxyml"), "--help")
    words = ("source=simulated", "scale=smoke", "model=tiny", "trainer=cpu", "figures=false", "name=first")
    run(python, "-m", "galaxyml", "task=galaxyzoo", *words)
    assert (here / "multirun" / "galaxyzoo" / "first" / "report.md").is_file()
