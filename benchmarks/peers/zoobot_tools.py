"""Zoobot, as its documentation fine-tunes it: CatalogDataModule, FinetuneableZoobot…, get_trainer.

Needs `zoobot` and `galaxy-datasets`. Zoobot's own encoders, which have learnt from galaxies, are on the Hugging Face
hub alone; without it the encoder is timm's EfficientNet-Lite0 with ImageNet's weights, and a user with the hub will do
better.

All that can be is Zoobot's default: AdamW with its layer decay of 0.75 and weight decay of 0.05, dropout of 0.5 before
the head, early stopping with its patience, the epoch of the lowest validation loss, which a tenth of the objects to
learn from gives, and galaxy-datasets' views. What is set, and why:

- images of 96 px, batches of 16 (of few objects 8), and few epochs, so that a CPU comes to an end in minutes;
- a learning rate of 1e-3 (Zoobot's is 1e-4, meant for its own encoders): after four epochs its loss on the inner tenth
  of galaxyzoo's first fold is lower (0.031 against 0.070), some 30 galaxies that other folds hold out;
- views zoomed by 1.8 to 2.2 (of Galaxy10 1.6 to 2.0) instead of 1.2 to 1.4, as the galaxy is in the central half;
- ImageNet's mean and standard deviation, which timm's encoder expects.

Fractions of paths have one sigmoid each (0.031; linear outputs 0.041) and the mean squared error: a subclass, as
FinetuneableZoobotRegressor has one output alone. Votes have
FinetuneableZoobotTree with a schema of their questions, and counts of votes.
"""

import logging
import tempfile
import warnings
from functools import partial

import lightning as L
import numpy as np
import pandas as pd
import torch
from frozen_features import SCALES, load_net
from galaxy_datasets.pytorch.galaxy_datamodule import CatalogDataModule
from galaxy_datasets.transforms import default_view_config, get_galaxy_transform, minimal_view_config
from lesson import Lesson, Peer, inner_part
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from zoobot.pytorch.training.finetune import (
    FinetuneableZoobotAbstract,
    FinetuneableZoobotClassifier,
    FinetuneableZoobotTree,
    LinearHead,
    get_trainer,
)
from zoobot.shared.schemas import Schema

from galaxyml.trees.ontology import Ontology

log = logging.getLogger(__name__)

NET = "tf_efficientnet_lite0"
SIZE = 96
RATE = 1e-3
START = "ImageNet (Zoobot's own encoders need the hub)"
ABOUT = "Zoobot 2.9 on EfficientNet-Lite0, all of it fine-tuned; early stopping on a tenth of the objects to learn from"


class FractionRegressor(FinetuneableZoobotAbstract):
    """FinetuneableZoobotRegressor with a sigmoid for each of several columns.

    Args:
        columns: Names of the targets.
        **options: Of Zoobot's models.
    """

    def __init__(self, columns: list[str], **options: object) -> None:
        super().__init__(**options)
        self.columns = columns
        self.head = LinearHead(self.encoder_dim, len(columns), self.head_dropout_prob, torch.sigmoid)
        self.loss = partial(torch.nn.functional.mse_loss, reduction="none")

    def batch_to_supervised_tuple(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Images and targets, (N, K), of a batch."""
        return batch["image"], torch.stack([batch[name] for name in self.columns], dim=1).float()


def question_name(feature: str) -> str:
    """The question that a feature answers."""
    return Ontology.load().question_of(feature).name


def question_schema(columns: tuple[str, ...]) -> Schema:
    """A schema of the questions that features `<question>_<answer>` answer, each independent of the others.

    Dependencies are not needed for fractions within a question; Zoobot uses them to tell which votes are relevant.
    """
    pairs: dict[str, list[str]] = {}
    for name in columns:
        question = question_name(name)
        pairs.setdefault(question, []).append(name.removeprefix(question))
    return Schema(pairs, dict.fromkeys(pairs))


def views(lesson: Lesson) -> dict[str, object]:
    """Zoobot's views for training, and its minimal ones."""
    mean, deviation = SCALES[NET]
    low, high = (1.6, 2.0) if lesson.task == "galaxy10" else (1.8, 2.2)
    found = {}
    for name, config, zoom in (
        ("train_transform", default_view_config(), (low, high)),
        ("test_transform", minimal_view_config(), ((low + high) / 2,) * 2),
    ):
        config.output_size = SIZE
        config.random_affine.scale = zoom
        config.normalize = {"mean": list(mean), "std": list(deviation)}
        found[name] = get_galaxy_transform(config)
    return found


def catalog(lesson: Lesson, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as galaxy-datasets takes them: `id_str`, `file_loc` and the targets."""
    files = [str(file) for file in lesson.files(rows)]
    return rows.assign(id_str=rows["id"].astype(str), file_loc=files).reset_index(drop=True)


def with_targets(lesson: Lesson) -> tuple[pd.DataFrame, list[str]]:
    """The catalog to learn from, and the columns of its targets: classes, fractions, or counts of votes."""
    train = catalog(lesson, lesson.train)
    if lesson.kind == "classes":
        return train, ["label"]
    if lesson.kind == "votes":
        counts = np.nan_to_num(lesson.fractions()) * lesson.votes()
        train = train[["id_str", "file_loc"]].join(pd.DataFrame(counts.round(), columns=list(lesson.columns)))
    return train, list(lesson.columns)


def model_of(lesson: Lesson) -> FinetuneableZoobotAbstract:
    """The model of Zoobot's that suits the targets."""
    options = {
        "encoder": load_net(NET, lesson.weights),
        "learning_rate": RATE,
        "prog_bar": False,
        "seed": lesson.draw,
    }
    if lesson.kind == "classes":
        return FinetuneableZoobotClassifier(num_classes=len(lesson.columns), **options)
    if lesson.kind == "votes":
        return FinetuneableZoobotTree(schema=question_schema(lesson.columns), **options)
    return FractionRegressor(columns=list(lesson.columns), **options)


def finetune(lesson: Lesson, epochs: int) -> np.ndarray:
    """Fine-tunes a model of Zoobot's and predicts what is held out."""
    for name in ("lightning.pytorch", "lightning.fabric", None):  # galaxy-datasets tells the root of having no workers
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # in this process, of the peer alone
    L.seed_everything(lesson.draw, verbose=False)
    train, columns = with_targets(lesson)
    inner = inner_part(len(train), 0.1, lesson.draw)
    data = CatalogDataModule(
        label_cols=columns,
        train_catalog=train[~inner],
        val_catalog=train[inner],
        predict_catalog=catalog(lesson, lesson.held).assign(**dict.fromkeys(columns, 0)),
        batch_size=16 if len(train) > 100 else 8,  # what is left over of a batch is dropped
        num_workers=0,
        **views(lesson),
    )
    model = model_of(lesson)
    with tempfile.TemporaryDirectory() as folder:
        trainer = get_trainer(
            folder,
            max_epochs=lesson.epochs(epochs),
            accelerator="cpu",
            devices=1,
            logger=CSVLogger(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, data)
        best = trainer.checkpoint_callback
        model.load_state_dict(torch.load(best.best_model_path, weights_only=False)["state_dict"])
        log.info("%s, fold %d: lowest inner loss %.4f", lesson.task, lesson.fold, float(best.best_model_score))
        outputs = torch.cat([part.reshape(-1, len(lesson.columns)) for part in trainer.predict(model, data)]).numpy()
    return expected_fractions(outputs, lesson.columns) if lesson.kind == "votes" else outputs


def expected_fractions(concentrations: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """Mean fractions of Dirichlet distributions, one a question, shape (N, K)."""
    question = pd.Series([question_name(name) for name in columns])
    sums = pd.DataFrame(concentrations.T).groupby(question.to_numpy()).transform("sum").to_numpy().T
    return concentrations / sums


PEERS = tuple(
    Peer(f"Zoobot, {model}", task, START, SIZE, epochs, ABOUT, partial(finetune, epochs=epochs), seeds=seeds)
    for task, model, epochs, seeds in (
        ("galaxyzoo", "a regressor of 37 columns", 24, 1),
        ("spirals", "FinetuneableZoobotClassifier", 12, 1),
        ("galaxy10", "FinetuneableZoobotClassifier", 30, 3),
        ("surveys", "FinetuneableZoobotTree", 24, 1),
    )
)
