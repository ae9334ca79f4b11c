"""A run's answers about an uploaded image, and their reasons, as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxyml.data.images.views import plain
from galaxyml.inference.alike.searched import SearchedSet
from galaxyml.inference.alike.sheet import similarity
from galaxyml.inference.embedded import see
from galaxyml.inference.image_predictor import ImagePredictor
from galaxyml.kinds.view import LEVEL, Bar, Chart, Number, View
from galaxyml.page import explain, markup
from galaxyml.page.nearest import THUMBNAIL, TrainingSet, compared, has_features, training_set
from galaxyml.page.uploads import Upload

NEIGHBOURS = 8


@dataclass(frozen=True)
class ImageAnswer:
    """A run's answer about one image; nothing else is kept of it.

    Attributes:
        image: What the first net sees of it, in [0, 1], shape (1, C, H, W).
        table: Its predictions, one row, as `galaxyml.inference.predict` writes it.
        notes: What was made of it on the way, in sentences.
        features: What it is compared by with a set that is searched, shape (1, F); None where none is.
    """

    image: Tensor
    table: pd.DataFrame
    notes: tuple[str, ...]
    features: np.ndarray | None = None

    @property
    def row(self) -> dict[str, Any]:
        """The predictions by column."""
        return {str(name): value for name, value in self.table.iloc[0].items()}


class ImageModel:
    """A run of images that can be asked.

    Args:
        predictor: The run.
        source: Its folder, or the bundle.
        among: A set that is searched for what is most like an image, besides what the run has learnt from; or None.

    Attributes:
        outputs: Columns that may be explained, and what they are called.
        training: Galaxies that it learnt from, or a sentence why there are none.

    """

    def __init__(self, predictor: ImagePredictor, source: Path, among: SearchedSet | None = None) -> None:
        self.predictor, self.among = predictor, among
        self.outputs = predictor.kind.output_names()
        self.training: TrainingSet | str = training_set(predictor, source)

    def ask(self, upload: Upload) -> ImageAnswer:
        """Predictions for an image."""
        framed = [
            torch.from_numpy(framing.frame(upload.images[framing.decoding]).copy())[None]
            for framing in self.predictor.framings
        ]
        first = self.predictor.members[0].framing
        image = plain(framed[self.predictor.framings.index(first)], first.size)
        if self.among is None:
            return ImageAnswer(image, self.predictor.predict_framed([upload.name], framed), upload.notes)
        table, features = see(self.predictor, [upload.name], framed)
        return ImageAnswer(image, table, upload.notes, features)

    def numbers_html(self, answer: ImageAnswer) -> str:
        """The HTML of the predictions."""
        notes = "".join(markup.paragraph(note, "gx-note") for note in answer.notes)
        view = _view(self.predictor.kind.view(answer.row))
        saved = markup.download(answer.table.to_csv(index=False), "prediction.csv", "All numbers as CSV")
        return f'{notes}<div role="status">{_out_of_distribution(answer.row)}{view}{saved}</div>'

    def explained(self, answer: ImageAnswer) -> str:
        """The output that is explained unless another one is asked for."""
        return self.predictor.kind.view(answer.row).explained

    def attribution_html(self, answer: ImageAnswer, output: str | None = None) -> str:
        """The HTML of where the net looked.

        Args:
            answer: Of the image.
            output: Which of `outputs`; None for the likeliest.
        """
        output = output if output is not None and output in self.outputs else self.explained(answer)
        index = list(self.predictor.columns).index(output)
        attributed = explain.attribution(self.predictor.members[0].model, answer.image, index)
        name = self.outputs[output]
        images = (
            (explain.shown(answer.image), "The image as the net saw it", "as the net saw it"),
            (
                explain.overlaid(answer.image, explain.heat(attributed)),
                f"Where the net looked for {name}",
                f"for: {name}",
            ),
        )
        figures = "".join(markup.figure(markup.image(image, alt), caption) for image, alt, caption in images)
        return f'<div class="gx-pair">{figures}</div>{markup.paragraph(explain.METHOD, "gx-note")}'

    def neighbours_html(self, answer: ImageAnswer) -> str:
        """The HTML of the most alike galaxies of the training set."""
        training = self.training
        if isinstance(training, str):
            return markup.paragraph(training, "gx-note")
        member = self.predictor.members[0]
        nearest = training.nearest(compared(member, answer.image)[0], NEIGHBOURS)
        cards = [
            _card(markup.encoded_image(training.thumbnails[row], training.labels[row]), training.labels[row])
            for row, _ in nearest
        ]
        how = "what the last layer of the first net sees" if has_features(member) else "brightness, colours and noise"
        among = f"Of {len(training.labels):,} galaxies that it learnt from, the most alike by {how}, nearest first."
        return _cards(cards, among)

    def found_html(self, answer: ImageAnswer) -> str:
        """The HTML of the most alike objects of the set that is searched; '' where none is."""
        if self.among is None or answer.features is None:
            return ""
        (rows,), (similarities,) = self.among.nearest(answer.features, NEIGHBOURS)
        names = self.among.table(rows)["id"].astype(str)
        cards = [
            _card(markup.image(self.among.picture(int(row), THUMBNAIL), name), f"{name}: {similarity(value)}")
            for row, name, value in zip(rows, names, similarities, strict=True)
        ]
        return _cards(cards, f"Of {len(self.among):,} objects, the most alike by {self.among.by}, nearest first.")


def _card(image: str, label: str) -> str:
    return f"<li>{image}<span>{markup.text(label)}</span></li>"


def _cards(cards: Sequence[str], note: str) -> str:
    return f'<ul class="gx-alike">{"".join(cards)}</ul>{markup.paragraph(note, "gx-note")}'


def _out_of_distribution(row: Mapping[str, Any]) -> str:
    """A warning where the image is unlike those that the run has learnt from."""
    if not row.get("ood"):
        return ""
    distance = f"{row['ood_distance']:.2f}" if row["ood_distance"] < 100 else "more than 100"
    return (
        '<div class="gx-warning" role="alert"><strong>Unlike the training set.</strong> The distance of this image '
        f"from the galaxies that the model has learnt from is {distance}; all but 1 % of those that it was validated "
        "on are nearer than 1. The numbers may mean nothing, and the stated coverage does not apply.</div>"
    )


def _view(view: View) -> str:
    pieces = []
    if view.verdict:
        sure = f" <small>confidence {markup.number(view.confidence)}</small>" if view.confidence is not None else ""
        pieces.append(f'<h3 class="gx-verdict">{markup.text(view.verdict)}{sure}</h3>')
    if view.note:
        pieces.append(markup.paragraph(view.note, "gx-note"))
    if view.charts:
        pieces.append(f'<ol class="gx-way">{_items(view.charts)}</ol>')
    if view.others:
        pieces.append(markup.details(f"The other questions ({len(view.others)})", f"<ol>{_items(view.others)}</ol>"))
    if view.conclusion is not None:
        sentence, words = view.conclusion
        pieces.append(f'<p>{markup.text(sentence)} <strong class="gx-set">{markup.text(words)}</strong>.</p>')
    if view.numbers:
        rows = "".join(map(_number, view.numbers))
        pieces.append(f'<table class="gx-table"><caption>Predictions</caption><tbody>{rows}</tbody></table>')
    return "".join(pieces)


def _items(charts: tuple[Chart, ...]) -> str:
    return "".join(
        f'<li><table class="gx-bars"><caption>{markup.text(chart.caption)}</caption>'
        f"<tbody>{''.join(map(_bar, chart.bars))}</tbody></table></li>"
        for chart in charts
    )


def _bar(bar: Bar) -> str:
    chosen = ' class="gx-chosen"' if bar.chosen else ""
    mark = '<span class="gx-mark" aria-label="likeliest">&#9656;</span> ' if bar.chosen else ""
    interval = ""
    if bar.low is not None and bar.high is not None:
        interval = f'<small title="{LEVEL} % interval">{100 * bar.low:.0f} to {100 * bar.high:.0f}</small>'
    share = bar.share if bar.share == bar.share else 0.0
    return (
        f'<tr{chosen}><th scope="row">{mark}{markup.text(bar.name)}</th>'
        f"<td>{markup.bar(share, bar.low, bar.high)}</td><td>{markup.number(bar.share)}{interval}</td></tr>"
    )


def _number(number: Number) -> str:
    low, high = number.low, number.high
    interval = "" if low is None or high is None else f" <small>{low:.4g} to {high:.4g}</small>"
    return (
        f'<tr><th scope="row">{markup.text(number.name)}</th>'
        f'<td><data value="{float(number.value)!r}">{number.value:.4g}</data>{interval}</td></tr>'
    )
