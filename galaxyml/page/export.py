"""Writes the page of some runs as a folder that a public Hugging Face Space, or any machine, can serve."""

import io
import re
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from platform import python_version_tuple

import galaxyml
from galaxyml.runs.errors import UsageError, UserError
from galaxyml.runs.files import atomic_write

PACKAGE = Path(galaxyml.__file__).parent
CODE = (".py", ".yaml", ".css")
RUNS = "runs"
# Read through the web at each build; without it pip brings torch for GPUs, which free Spaces do not have: 4 GB.
TORCH_FOR_CPUS = "--extra-index-url https://download.pytorch.org/whl/cpu"
LARGE_FILES = "".join(f"*.{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in ("zip", "parquet", "jpg", "fits"))
APP = '''\
"""Serves the runs of this folder: `python app.py`."""

from pathlib import Path

from galaxyml.page.serving import serve_folder

if __name__ == "__main__":
    serve_folder(Path(__file__).parent)
'''
README = """\
---
title: "{title}"
emoji: 🌌
colorFrom: blue
colorTo: indigo
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
pinned: false
license: mit
short_description: Try a trained net on a galaxy of your own
---

# {title}

A page on which people try nets that were trained with galaxyml {version} on images of their own.

{runs}

Try it here: `pip install -r requirements.txt`, then `python app.py`. Put it on the web: make a Space with the Gradio
SDK at <https://huggingface.co/new-space>, then `hf upload YOU/NAME . . --repo-type space` in this folder.

What visitors upload is removed within minutes, and the page fetches nothing from elsewhere. The galaxies of
`examples/` are simulated; the thumbnails in `alike.parquet` are of the galaxies that the runs learnt from: see whether
their survey's terms let you publish them.
"""


def export(sources: Sequence[Path], folder: Path) -> None:
    """Writes the folder, whole or not at all, and prints what to do with it.

    Args:
        sources: Folders of finished runs on images, of sweeps whose folds were joined, or bundles.
        folder: It must not exist yet, or be empty.

    Raises:
        UserError: If a run is not finished or is one of light curves, or the folder is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--export {folder} is there already and not empty. Choose another folder, or remove it.")
    names = _names(sources)
    if folder.is_dir():
        folder.rmdir()
    with atomic_write(folder, "Choose another --export.") as draft:
        runs = [_write_run(source, draft / RUNS / name) for source, name in zip(sources, names, strict=True)]
        (draft / "app.py").write_text(APP, encoding="utf-8")
        (draft / "requirements.txt").write_text("\n".join(_requirements()) + "\n", encoding="utf-8")
        (draft / ".gitattributes").write_text(LARGE_FILES, encoding="utf-8")  # as Hugging Face has it
        readme = README.format(
            title="galaxyml: try a trained net",
            gradio=version("gradio"),
            python=".".join(python_version_tuple()[:2]),
            version=galaxyml.__version__,
            runs="\n".join(runs),
        )
        (draft / "README.md").write_text(readme, encoding="utf-8")
        # The code that runs here, so that the exported runs are read by what read them.
        for path in PACKAGE.rglob("*"):
            if path.suffix in CODE:
                copy = draft / PACKAGE.name / path.relative_to(PACKAGE)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {', '.join(names)}; {size / 1e6:.1f} MB")
    print(f"Try it: python {folder / 'app.py'}. Its README.md says how to put it on the web.")


def _write_run(source: Path, folder: Path) -> str:
    """Writes a run's bundle, galaxies that it learnt from and examples; gives a line about it."""
    from galaxyml.inference import bundle, load
    from galaxyml.inference.image_predictor import ImagePredictor
    from galaxyml.page import examples, nearest
    from galaxyml.page.provenance import about

    folder.mkdir(parents=True)
    target = folder / "model.zip"
    predictor = load(source)
    if not isinstance(predictor, ImagePredictor):
        raise UsageError(f"{source} is a run of light curves; only runs on images can be exported.")
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        with redirect_stdout(io.StringIO()):  # it tells how to predict by a file that is still to be moved
            bundle.write(source, target)
    training = nearest.training_set(predictor, source)
    if isinstance(training, nearest.TrainingSet):
        training.write(folder / nearest.FILE)
    (folder / examples.FOLDER).mkdir()
    for example in examples.galaxies(predictor.task, predictor.decodings[0]):
        (folder / examples.FOLDER / example.name).write_bytes(example.content)
    run = about(predictor)
    facts = "; ".join(f"{name} {fact}" for name, fact in run.facts.items())
    return f"- `{RUNS}/{folder.name}`: {run.question} ({facts}.) Data: {run.cite}."


def _names(sources: Sequence[Path]) -> list[str]:
    """Names of the runs' folders in the exported one, in the order of the page's tabs."""
    names = []
    for number, source in enumerate(sources, start=1):
        parts = (source.resolve().parent.name, source.stem) if source.is_file() else source.resolve().parts[-2:]
        names.append("-".join([str(number), *(re.sub(r"[^A-Za-z0-9._-]", "", part) for part in parts)]))
    return names


def _requirements() -> list[str]:
    """Packages that galaxyml needs, at the versions that are installed here."""
    try:
        needed = requires("galaxyml") or []
    except PackageNotFoundError:
        raise UserError(
            "galaxyml is not installed, so that what it needs is not known: pip install -e '.[demo]'"
        ) from None
    names = [re.split(r"[ ;<>=!~\[(]", line, maxsplit=1)[0] for line in needed if "extra ==" not in line]
    pinned = [f"{name}=={version(name).partition('+')[0]}" for name in (*names, "captum")]
    return [TORCH_FOR_CPUS, *sorted(pinned), f"gradio=={version('gradio')}"]
