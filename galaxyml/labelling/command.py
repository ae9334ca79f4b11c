"""Labels by a person in a web page: `galaxyml label RUN FOLDER --answers smooth,spiral,odd`."""

import getpass
import glob
import logging
import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml.labelling.strategies import SEEKING, STRATEGIES
from galaxyml.runs.browser import open_browser, port
from galaxyml.runs.errors import UsageError, did_you_mean, shorten
from galaxyml.runs.options import Parser
from galaxyml.runs.packaged import note, packaged
from galaxyml.runs.signals import Stop, watched

if TYPE_CHECKING:
    from galaxyml.inference.embedded import Embedded
    from galaxyml.inference.predictor import Predictor
    from galaxyml.labelling.question import Question

EXAMPLES = """\
examples:
  galaxyml label sky images/
  galaxyml label multirun/galaxy10/mine images/ --open
  galaxyml label multirun/galaxyzoo/mine images/ --answers smooth,spiral,odd --by likely --target odd
  galaxyml label model.zip survey.parquet --labels tails.csv --question 'Is there a tidal tail?' --answers yes,no
  galaxyml label multirun/plasticc/mine night/ --labels night.csv --answers ordinary,supernova,odd

Each answer is on the disk before the next one is written. The same command goes on where it was stopped."""
LABELS = "labels.csv"
FEWEST = 10  # labels that task=images learns from
EVERY = 10  # labels after which the order is learnt again


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, and serves the page until it is interrupted."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    run = packaged(given.run)
    if not run.exists():
        raise UsageError(f"{run} is not there. Give the folder of a finished run or sweep, or a bundle (.zip), or sky.")
    for path in given.inputs:
        if not Path(path).expanduser().exists() and not glob.has_magic(path):
            raise UsageError(f"{path} is not there. Give a folder of images, or whatever galaxyml predict takes.")
    if given.by not in STRATEGIES:
        raise UsageError(f"--by {given.by}: there is no such strategy. {did_you_mean(given.by, STRATEGIES)}")
    if given.every < 1:
        raise UsageError(f"--every {given.every}: it must be a whole number, 1 or more.")
    table = _table(given.labels, given.inputs)
    if given.answers is not None:  # before the run is loaded, which takes a while
        _check_target(given.target, _question(None, given))
    label(run, table, given)


def _parser() -> Parser:
    parser = Parser(
        prog="galaxyml label",
        description="Asks a person about images or light curves in a web page on this machine, in the order in which "
        "answers teach most, and writes them into a table, which task=images learns from.",
        epilog=EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run or sweep, a bundle of it (.zip), or sky")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FOLDER",
        help="folder of images, or whatever galaxyml predict takes, or a folder of predictions with features",
    )
    parser.add_argument(
        "--answers", help="with commas between, such as smooth,spiral,odd (default: the run's classes, or ordinary,odd)"
    )
    parser.add_argument("--question", help="text that is shown, and written beside labels (default: from the answers)")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE.csv", help="where labels go (default: FOLDER/labels.csv, of images)"
    )
    parser.add_argument("--name", help="who answers, written beside labels (default: the login name)")
    strategies = "; ".join(f"{name}: {description}" for name, description in STRATEGIES.items())
    by = f"what is asked next (default: uncertainty). {strategies}"
    every = f"labels until the order is learnt again (default: {EVERY})"
    parser.add_argument("--by", default="uncertainty", metavar="STRATEGY", help=by)
    parser.add_argument(
        "--target",
        metavar="ANSWER",
        help="the answer that is looked for, as unusual (default: odd of ordinary,odd, and the last one for novelty, "
        "relevance and likely)",
    )
    parser.add_argument("--every", type=int, default=EVERY, metavar="N", help=every)
    parser.add_argument("--seed", type=int, default=0, help="of what is random in the order (default: 0)")
    parser.add_argument("--port", type=port, help="from 1 to 65535 (default: the next free one from 7870)")
    parser.add_argument("--open", action="store_true", help="open a browser, if there is one")
    return parser


def _table(labels: Path | None, inputs: Sequence[str]) -> Path:
    """Where labels go.

    Raises:
        UsageError: If that is not said, or is no CSV file.
    """
    if labels is not None:
        labels = labels.expanduser()
        if labels.suffix.lower() != ".csv" or labels.is_dir():
            raise UsageError(f"--labels {labels}: it must be the name of a CSV file, such as {LABELS}.")
        return labels
    folder = Path(inputs[0]).expanduser()
    if len(inputs) > 1 or not folder.is_dir() or (folder / "index.json").is_file():
        raise UsageError(f"{shorten(inputs)} is not one folder of images: say by --labels FILE.csv where labels go.")
    return folder / LABELS


def label(run: Path, table: Path, given: Any) -> None:
    """Asks about objects until it is interrupted.

    Args:
        run: The run, or a bundle.
        table: Where labels go.
        given: The options of the command.

    Raises:
        UserError: If something that is given cannot be used.
        Stop: If SIGTERM ended it.
    """
    from galaxyml.inference import load
    from galaxyml.inference.image_predictor import ImagePredictor
    from galaxyml.labelling.choose import Chooser
    from galaxyml.labelling.label_file import OF_CURVES, OF_IMAGES, Named, opened
    from galaxyml.labelling.labeller import Labeller
    from galaxyml.labelling.question import USUAL
    from galaxyml.labelling.server import served

    if said := note(run):
        print(f"note: {said}", file=sys.stderr)
    print(f"Loading {run}", flush=True)
    predictor = load(run, for_features=True)
    is_of_images = isinstance(predictor, ImagePredictor)
    if not is_of_images and given.labels is None:
        raise UsageError(f"{run} is a run of light curves: say by --labels FILE.csv where labels go.")
    question = _question(predictor, given)
    _check_target(given.target, question)
    with ExitStack() as stack:
        columns = OF_IMAGES if is_of_images else OF_CURVES
        file = stack.enter_context(opened(table, columns, question, _name(given.name)))
        for sentence in file.notes:
            print(f"note: {sentence}")
        objects = _objects(predictor, run, given.inputs)
        target = given.target if given.target is not None or question.answers != USUAL else USUAL[-1]
        chooser = Chooser(objects, question.answers, given.by, target, given.seed)
        named = Named.of(objects, table.parent)
        labeller = stack.enter_context(closing(Labeller(objects, predictor.kind, named, file, chooser, given.every)))
        server = stack.enter_context(served(labeller, _strategy(given.by, target, question), given.port))
        print(f"{len(objects):,} objects, {labeller.state()['labelled']:,} of them labelled; labels go to {table}.")
        try:
            _show(server.address, given.open)
        finally:
            labeller.close()
            print(f"\n{_summary(table, file.labels(), given.run if is_of_images else None)}", flush=True)


def _strategy(by: str, target: str | None, question: "Question") -> str:
    """What is asked next, in words."""
    sought = target if target is not None or by not in SEEKING else question.answers[-1]
    return f"{by}: {STRATEGIES[by]}{f' (target: {sought})' if sought is not None else ''}"


def _show(address: str, in_browser: bool) -> None:
    """Says where the page is, and waits until the user presses Ctrl+C.

    Raises:
        Stop: On SIGTERM.
    """
    try:
        with watched():
            print(f"The page is at {address} until you press Ctrl+C.", flush=True)
            if in_browser and not open_browser(address):
                print("There is no browser to open here; copy the address.", flush=True)
            threading.Event().wait()
    except Stop as stop:
        if stop.number != signal.SIGINT:
            raise


def _question(predictor: "Predictor | None", given: Any) -> "Question":
    from galaxyml.labelling.question import Question

    return Question.of(predictor.kind if predictor is not None else None, given.answers, given.question)


def _check_target(target: str | None, question: "Question") -> None:
    """Makes sure that what is sought is one of the answers.

    Raises:
        UsageError: If it is none of the answers.
    """
    if target is not None and target not in question.answers:
        raise UsageError(f"--target {target}: it is none of the answers. {did_you_mean(target, question.answers)}")


def _objects(predictor: "Predictor", run: Path, inputs: Sequence[str]) -> "Embedded":
    """The objects with what the run makes of them; those that cannot be read are named and left out."""
    from galaxyml.inference.embedded import cache_of, embed

    bad: list[str] = []
    objects = embed(predictor, run, inputs, cache_of(predictor), bad)
    if bad:
        count = len(objects) + len(bad)
        print(
            f"{len(bad):,} of {count:,} images cannot be read and are left out: {shorten(bad, '; ')}", file=sys.stderr
        )
    return objects


def _name(given: str | None) -> str:
    """Who answers; '' where a machine does not know its user."""
    try:
        return " ".join((given if given is not None else getpass.getuser()).split())
    except (KeyError, OSError, ImportError):
        return ""


def _summary(table: Path, labels: Mapping[str, str], run: str | None) -> str:
    """How many labels there are, and the command that trains on them.

    Args:
        table: The labels' file.
        labels: By what they are about.
        run: What a net that learns from them begins with; None for light curves, which no task trains on so.
    """
    counts = Counter(labels.values())
    if not counts:
        return f"There are no labels in {table}."
    each = ", ".join(f"{answer}: {count:,}" for answer, count in counts.most_common())
    said = f"{len(labels):,} label{'s' * (len(labels) > 1)} ({each}) in {table}."
    if run is None:
        return said
    if len(labels) < FEWEST or len(counts) < 2 or 2 * len(counts) > len(labels):
        return f"{said} A net learns from {FEWEST} and more, of two answers at least, and twice as many as answers."
    words = ["task=images", f"data_dir={table.parent}", *([f"labels={table.name}"] * (table.name != LABELS))]
    return f"{said} To train on them:\n  galaxyml {shlex.join([*words, f'start={run}', 'name=labelled'])}"
