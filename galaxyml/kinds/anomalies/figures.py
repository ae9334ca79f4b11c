"""Figures of anomaly scores, latents and light curves."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from hydra.utils import instantiate

from galaxyml.data.light_curves.data_module import CurveData
from galaxyml.evaluation.curve_plots import curves_figure
from galaxyml.evaluation.embedding import embedding
from galaxyml.evaluation.plots import LOSS_CURVES, loss_curves
from galaxyml.kinds.anomalies.detect import seen
from galaxyml.kinds.anomalies.plots import latent_figure, pr_figure, recall_figure, roc_figure, score_figure
from galaxyml.kinds.anomalies.rank import ranked
from galaxyml.kinds.anomalies.score import WORDS, ScoredAnomalies
from galaxyml.kinds.kind import check_whole
from galaxyml.runs.run_dir import NAMED, RunDir
from galaxyml.training.light_curve_predictions import reconstructed

FEWEST = 3  # objects that make a figure of the latent space
MISSED = 10  # light curves of unknown classes that are drawn as those with the lowest scores
EXAMPLES = 12  # known light curves that are drawn with their reconstruction


class AnomalyFigures:
    """Draws ROC, precision and recall, scores by class, the latent space, the highest scores and reconstructions.

    Args:
        labels: What scores are called, by the name of their column.
        top: How many of the highest scores are drawn as light curves; 0 for none, nor any reconstruction.
        embedded: How many objects the figures of the latent space show at most; 0 for no such figures.
        seed: Of the embedding.

    Raises:
        UserError: If a number is negative.
    """

    only_draws: ClassVar[bool] = True

    def __init__(self, labels: Mapping[str, str], top: int, embedded: int, seed: int) -> None:
        check_whole(0, top=top, embedded=embedded)
        self.labels = {"score": "model", **labels}
        self.top, self.embedded, self.seed = top, embedded, seed

    def __call__(self, run: RunDir) -> dict[str, float]:
        """Draws into the run's folder; has no numbers of its own."""
        catalog = run.catalog()
        fitted = run.fitted_values("threshold")["score"]
        level = np.inf if fitted is None else fitted
        for split in ("test", "survey"):
            objects = ScoredAnomalies.load(run, split, catalog, WORDS)
            if objects is None:
                continue
            noun = f"{NAMED[split]} objects"
            run.write_figure(
                f"4_scores_{split}",
                score_figure(objects.predicted[:, 0], objects.names, objects.target, level),
                f"Scores of {noun}, class by class{_classes_drawn(objects.target, 'in blue', 'in orange')}"
                f"{', the threshold as a line' if np.isfinite(level) else ''}.",
            )
            if not objects.both:
                continue
            names = [self.labels.get(name, name) for name in objects.columns]
            scores = dict(zip(names, objects.predicted.T, strict=True))
            run.write_figure(
                f"1_roc_{split}",
                roc_figure(scores, objects.target),
                f"Share of unknown {noun} that is found, against share of known ones that is taken for unknown.",
            )
            run.write_figure(
                f"2_precision_recall_{split}",
                pr_figure(scores, objects.target),
                f"Purity of the highest scores of {noun} against completeness.",
            )
            run.write_figure(
                f"3_recall_{split}",
                recall_figure(scores, objects.target),
                f"Share of the unknown {noun} among the first ones of the ranked list.",
            )
        first = run.nets()[0]
        if self.embedded:
            self._latents(run, first)
        if self.top:
            self._curves(run, first)
        run.write_figure("9_loss_curves", loss_curves(run.histories()), LOSS_CURVES)
        return {}

    def _latents(self, run: RunDir, member: RunDir) -> None:
        """Objects that the net has not seen, in two dimensions."""
        catalog = member.catalog().set_index("id")
        for split in ("test", "survey"):
            ids, latents = [], []
            for table in member.predictions_in_batches(split, by="encoded"):
                named = (catalog.loc[table["id"], "name"] != "").to_numpy()
                ids.append(table["id"].to_numpy()[named])
                latents.append(seen(table, ["latent"])[named].astype(np.float32))
            if sum(len(batch) for batch in ids) < FEWEST:
                continue
            rows, points = embedding(np.concatenate(latents), self.seed, self.embedded)
            shown = catalog.loc[np.concatenate(ids)[rows]]
            run.write_figure(
                f"5_latents_{split}",
                latent_figure(points, shown["name"].to_numpy(), shown["unknown"].to_numpy(), f"Latents ({split})"),
                f"Latents of {NAMED[split]} objects, laid out in the plane so that near ones stay near (UMAP)"
                f"{_classes_drawn(shown['unknown'].to_numpy(bool), 'as dots', 'on top, with marks of their own')}.",
            )

    def _curves(self, run: RunDir, member: RunDir) -> None:
        """The highest scores, and known objects, as light curves with what the net makes of them."""
        config = member.config
        config.data.augment = None  # which training alone needs
        data: CurveData = instantiate(config.data)
        data.setup()
        assert data.catalog is not None
        net = _fitted_net(member)
        names = data.catalog["name"].to_numpy()
        split = "survey" if run.has_predictions("survey") else "test"
        if run.has_predictions(split):
            ranking = ranked(run, split)
            unknown = data.catalog.set_index("id")["unknown"].eq(True)
            missed = ranking[unknown.loc[ranking["object_id"]].to_numpy()].tail(MISSED).iloc[::-1]
            for name, shown, caption in (
                ("6_best", ranking.head(self.top), "The best: light curves with the highest scores"),
                ("7_worst", missed, "The worst: light curves of unknown classes with the lowest scores"),
            ):
                if shown.empty:
                    continue
                rows = data.rows_of(shown["object_id"].to_numpy())
                columns = (shown["rank"], shown["object_id"], shown["score"], names[rows.numpy()])
                titles = [
                    f"{rank}. {object_id}, {score:.1f} nats" + (f"\n{true_class}" if true_class else "")
                    for rank, object_id, score, true_class in zip(*columns, strict=True)
                ]
                run.write_figure(
                    name,
                    curves_figure(reconstructed(net, data.batches[rows], titles, ringed=True)),
                    f"{caption}, and what the net makes of them; a ring marks where that is off most.",
                )
        rows = data.rows("val")
        firsts = np.unique(names[rows.numpy()], return_index=True)[1][:EXAMPLES]
        rows = rows[np.sort(firsts)]
        run.write_figure(
            "8_reconstructions",
            curves_figure(reconstructed(net, data.batches[rows], list(names[rows.numpy()]))),
            "Light curves of known classes that the net has not learnt from, and what it makes of them.",
        )


def _classes_drawn(unknown: np.ndarray, as_known: str, as_unknown: str) -> str:
    """How known and unknown classes are drawn, of those that there are, after a semicolon; unknown of shape (N,)."""
    if not unknown.any():
        return "; there is no unknown class"
    if unknown.all():
        return f"; unknown classes alone, {as_unknown}"
    return f"; known classes {as_known}, unknown ones {as_unknown}"


def _fitted_net(run: RunDir) -> Any:
    """The net of a run, with the weights that it predicts with."""
    module: Any = instantiate(run.config.module, _recursive_=False)
    module.load_state_dict(run.weights(run.config.predict_with))
    return module.eval().net
