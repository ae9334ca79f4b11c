"""The Kaggle Galaxy Zoo challenge: its folder of images and tables, read and checked."""

from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.views import Augment, RandomViews
from galaxyml.data.source import Simulated, without_files
from galaxyml.data.splits import Folds
from galaxyml.data.tables.fractions import check_fractions
from galaxyml.data.tables.reading import read_table
from galaxyml.kinds.fractions import Fractions
from galaxyml.runs.errors import DataError, UserError, shorten
from galaxyml.trees import DecisionTree

TRAINING, TEST = "images_training_rev1", "images_test_rev1"
ID = "GalaxyID"
SUFFIXES = (".jpg", ".jpeg")
SOLUTIONS, TEST_SOLUTIONS = "training_solutions_rev1.csv", "test_solutions_rev1.csv"
BENCHMARK = "all_zeros_benchmark.csv"
VIEWS = Augment(zoom=1.2, shift=0.04, colour=0.1)
SIMULATED = "kaggle"  # the tree whose questions the simulated volunteers of this task are asked

WHERE = (
    "The files are those of https://www.kaggle.com/c/galaxy-zoo-the-galaxy-challenge/data (free account): "
    f"`python -m galaxyml fetch galaxyzoo` fetches them; or put {TRAINING}/, {TEST}/, {SOLUTIONS} and {BENCHMARK} into "
    f"a folder galaxyzoo/ and give the folder above it as data_dir=… {without_files('GalaxyZoo')}"
)


class GalaxyZoo(ImageData):
    """Images of the Kaggle Galaxy Zoo challenge with their 37 vote fractions.

    Args:
        source: The folder with the challenge's files; see CatalogData.
        tree: Name of the decision tree whose columns the tables have.
        kind: The kind of target; None for fractions of the tree.
        crop: SDSS cutouts hold the galaxy in the central 212 of 424 px.
        margin: As for ImageData.
        augment: As for ImageData.
        separation: None, as the challenge tells no positions.
        **options: As for ImageData and CatalogData.

    Raises:
        UserError: If an argument is impossible; of the files, in `setup`, a DataError that names file and line.

    Example:
        The first of five folds of the challenge's galaxies, seen in 128 px, or of 300 simulated ones in the same files;
        `GalaxyZoo()` draws the whole simulated sky once, 4,800 galaxies in about a minute::

            data = GalaxyZoo("data/galaxyzoo", size=128, fold=0)

            galaxyml.sky.write_galaxyzoo("galaxies", count=300, seed=0)
            data = GalaxyZoo("galaxies", size=64, fold=0)
            trainer.fit(SupervisedModule.for_data(data, net="resnet50"), datamodule=data)
    """

    task = "galaxyzoo"
    simulated: ClassVar = {"count": 4000, "size": 424}
    tables = (SOLUTIONS, BENCHMARK, TEST_SOLUTIONS)
    own_split = Folds()
    needs_all_tests = True  # a submission has a row for each

    def __init__(
        self,
        source: Any = None,
        *,
        tree: str = "kaggle",
        kind: Fractions | None = None,
        crop: float = 0.5,
        margin: float = 1.42,
        augment: RandomViews = VIEWS,
        separation: float | None = None,
        **options: Any,
    ) -> None:
        kind = kind if kind is not None else Fractions(tree)
        super().__init__(source, kind=kind, crop=crop, margin=margin, augment=augment, separation=separation, **options)
        self.tree = DecisionTree.load(tree)
        if self.source.name == Simulated.name and self.tree.columns != DecisionTree.load(SIMULATED).columns:
            raise UserError(
                f"tree={tree}: the simulated sky of this task has the columns of the tree '{SIMULATED}'. Give files "
                f"with those of '{tree}' by data_dir=…, or set tree={SIMULATED}."
            )

    def check_folder(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"There is no folder {root}. {WHERE}")
        if not any(root.iterdir()):
            raise DataError(f"The folder {root} is empty. {WHERE}")
        if missing := [name for name in (SOLUTIONS, TRAINING) if not (root / name).exists()]:
            raise DataError(f"{root} has no {' and no '.join(missing)}. {WHERE}")

    def load_tables(self, root: Path) -> pd.DataFrame:
        """Labelled galaxies, then those of the test set in the benchmark's order."""
        self.check_folder(root)
        labelled = read_votes(root / SOLUTIONS, self.tree, self.notes)
        labelled.insert(1, "image", _images(root, TRAINING, labelled["id"], SOLUTIONS, self.notes))
        labelled.insert(2, "split", "train")
        if not (root / BENCHMARK).is_file():
            self.notes.append(f"{BENCHMARK} is not there: no test galaxies are predicted and no submission is written.")
            return labelled
        test = read_table(root / BENCHMARK, ID, self.tree.columns, where=WHERE).frame[[ID]].rename(columns={ID: "id"})
        if both := set(test["id"]) & set(labelled["id"]):
            raise DataError(
                f"{root / BENCHMARK}: ids that are in {SOLUTIONS} too ({len(both)}): {shorten(sorted(both))}. "
                "A galaxy is either labelled or tested; take it out of one of them."
            )
        test["image"] = _images(root, TEST, test["id"], BENCHMARK, self.notes)
        test["split"] = "test"
        if (root / TEST_SOLUTIONS).is_file():
            truth = read_votes(root / TEST_SOLUTIONS, self.tree, self.notes)
            test = test.merge(truth, on="id", how="left", validate="one_to_one")
        return pd.concat([labelled, test], ignore_index=True)


def read_votes(path: Path, tree: DecisionTree, notes: list[str]) -> pd.DataFrame:
    """Reads a table of vote fractions: `id` and the tree's columns.

    Args:
        path: A CSV with GalaxyID and the tree's columns.
        tree: The decision tree.
        notes: Gets a sentence if groups are off by more than rounding of the sixth digit, but within rounding of
            real catalogues.

    Raises:
        DataError: If the table breaks a rule; the message names the row, the galaxy, and what is allowed.
    """
    rows = read_table(path, ID, tree.columns, where=WHERE)
    check_fractions(rows, tree, notes)
    return rows.frame.rename(columns={ID: "id"}).reset_index(drop=True)


def _images(root: Path, folder: str, ids: pd.Series, table: str, notes: list[str]) -> list[str]:
    """Paths of the galaxies' images; notes images without a row, refuses rows without an image."""
    files = {path.stem: path.name for path in (root / folder).glob("*") if path.suffix.lower() in SUFFIXES}
    wanted = [str(number) for number in ids]
    if missing := [f"{name}.jpg" for name in wanted if name not in files]:
        raise DataError(
            f"{root / folder}: galaxies of {table} without an image here ({len(missing)} of {len(wanted)}): "
            f"{shorten(missing)}. Put them there, or take their rows out of {table}."
        )
    if extra := sorted(files.keys() - set(wanted)):
        notes.append(f"{folder}: images without a row in {table}, left out ({len(extra):,}): {shorten(extra)}.")
    return [f"{folder}/{files[name]}" for name in wanted]
