"""Predictions for one image, as HTML."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from galaxyml.kinds import Kind
from galaxyml.kinds.view import LEVEL, Bar, Chart, Number, View
from galaxyml.page import markup


def first_row(table: pd.DataFrame) -> dict[str, Any]:
    """The first row of a table of predictions, by column."""
    return {str(name): value for name, value in table.iloc[0].items()}


def answer(kind: Kind, table: pd.DataFrame) -> str:
    """The HTML of the predictions for one image, a table of one row."""
    row = first_row(table)
    saved = markup.download(table.to_csv(index=False), "prediction.csv", "All numbers as CSV")
    return f'<div role="status">{_out_of_distribution(row)}{_view(kind.view(row))}{saved}</div>'


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
    parts = []
    if view.verdict:
        sure = f" <small>confidence {markup.number(view.confidence)}</small>" if view.confidence is not None else ""
        parts.append(f'<h3 class="gx-verdict">{markup.text(view.verdict)}{sure}</h3>')
    if view.note:
        parts.append(markup.paragraph(view.note, "gx-note"))
    if view.charts:
        parts.append(f'<ol class="gx-way">{_items(view.charts)}</ol>')
    if view.others:
        parts.append(markup.details(f"The other questions ({len(view.others)})", f"<ol>{_items(view.others)}</ol>"))
    if view.conclusion is not None:
        sentence, words = view.conclusion
        parts.append(f'<p>{markup.text(sentence)} <strong class="gx-set">{markup.text(words)}</strong>.</p>')
    if view.numbers:
        rows = "".join(map(_number, view.numbers))
        parts.append(f'<table class="gx-table"><caption>Predictions</caption><tbody>{rows}</tbody></table>')
    return "".join(parts)


def _items(charts: tuple[Chart, ...]) -> str:
    return "".join(f"<li>{_chart(chart)}</li>" for chart in charts)


def _chart(chart: Chart) -> str:
    rows = "".join(map(_bar, chart.bars))
    return f'<table class="gx-bars"><caption>{markup.text(chart.caption)}</caption><tbody>{rows}</tbody></table>'


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
