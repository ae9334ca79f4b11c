"""What a run says of an uploaded picture, and why: the part of the page that is the same for one or many runs."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from galaxyml.data.images.views import plain
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.page import explain, markup
from galaxyml.page.answers import answer, first_row
from galaxyml.page.nearest import TrainingSet, by_features, compared, training_set
from galaxyml.page.uploads import Received

NEIGHBOURS = 8


@dataclass(frozen=True)
class Asked:
    """A picture that a run was asked about; nothing else is kept of it.

    Attributes:
        image: What the first net sees of it, in [0, 1], shape (1, 3, H, W).
        table: What the run says of it, one row, as `galaxyml.inference.predict` writes it.
        notes: What was made of it on the way, in sentences.
    """

    image: Tensor
    table: pd.DataFrame
    notes: tuple[str, ...]


class Pictures:
    """A run of pictures that can be asked.

    Args:
        predictor: The run.
        source: Its folder, or the bundle.

    Attributes:
        outputs: Columns that may be explained, and what they are called.
        training: Galaxies that it learnt from, or a sentence why there are none.

    """

    def __init__(self, predictor: ImagePredictor, source: Path) -> None:
        self.predictor = predictor
        self.outputs = predictor.kind.output_names()
        self.training: TrainingSet | str = training_set(predictor, source)

    def ask(self, received: Received) -> Asked:
        """What the run says of a picture."""
        framed = [torch.from_numpy(framing.frame(received.picture).copy())[None] for framing in self.predictor.framings]
        first = self.predictor.members[0].framing
        image = plain(framed[self.predictor.framings.index(first)], first.size)
        return Asked(image, self.predictor.predict_framed([received.name], framed), received.notes)

    def shown(self, asked: Asked) -> str:
        """The HTML of what is said."""
        notes = "".join(markup.paragraph(note, "gx-note") for note in asked.notes)
        return f"{notes}{answer(self.predictor.kind, asked.table)}"

    def explained(self, asked: Asked) -> str:
        """The output that is explained unless another one is asked for."""
        return self.predictor.kind.view(first_row(asked.table)).explained

    def looked(self, asked: Asked, output: str | None = None) -> str:
        """The HTML of where the net looked.

        Args:
            asked: The image.
            output: Which of `outputs`; None for the likeliest.
        """
        output = output if output is not None and output in self.outputs else self.explained(asked)
        place = list(self.predictor.columns).index(output)
        found = explain.attribution(self.predictor.members[0].model, asked.image, place)
        name = self.outputs[output]
        pictures = (
            (explain.shown(asked.image), "The picture as the net saw it", "as the net saw it"),
            (explain.overlaid(asked.image, explain.heat(found)), f"Where the net looked for {name}", f"for: {name}"),
        )
        figures = "".join(
            f"<figure>{markup.picture(image, alt)}<figcaption>{markup.text(caption)}</figcaption></figure>"
            for image, alt, caption in pictures
        )
        return f'<div class="gx-pair">{figures}</div>{markup.paragraph(explain.METHOD, "gx-note")}'

    def alike(self, asked: Asked) -> str:
        """The HTML of the most alike galaxies of the training set."""
        if isinstance(self.training, str):
            return markup.paragraph(self.training, "gx-note")
        member = self.predictor.members[0]
        found = self.training.nearest(compared(member, asked.image)[0], NEIGHBOURS)
        cards = "".join(
            f"<li>{markup.picture_of(self.training.thumbnails[place], self.training.labels[place])}"
            f"<span>{markup.text(self.training.labels[place])}</span></li>"
            for place, _ in found
        )
        how = "what the last layer of the first net sees" if by_features(member) else "brightness, colours and noise"
        among = (
            f"Of {len(self.training.labels):,} galaxies that it learnt from, the most alike by {how}, nearest first."
        )
        return f'<ul class="gx-alike">{cards}</ul>{markup.paragraph(among, "gx-note")}'
