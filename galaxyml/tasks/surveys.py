"""From survey to survey: catalogues of several campaigns, mixed for training, and galaxies that are only judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from galaxyml.data import duplicates
from galaxyml.data.catalog import LEFT_OUT
from galaxyml.data.images.data_module import ImageData
from galaxyml.data.images.views import Augment, RandomViews
from galaxyml.data.splits import Folds
from galaxyml.data.tables.vote_catalogue import VoteCatalogue
from galaxyml.kinds.votes import Votes
from galaxyml.runs.conf_dir import CONF
from galaxyml.runs.errors import DataError, UserError, did_you_mean, shorten
from galaxyml.runs.files import known_digest
from galaxyml.runs.seeds import derive
from galaxyml.trees.vocabulary import KIND, Vocabulary, check_names

VIEWS = Augment(zoom=1.2, shift=0.04, colour=0.1)
STRATIFIED = "smooth_or_features"  # the question whose answers all parts of the split should share alike
ADVICE = "Lower least_votes, choose other surveys or features, or give a larger separation."


@dataclass(frozen=True)
class Survey:
    """A survey whose images volunteers have looked at.

    Attributes:
        title: As figures and reports call it.
        catalogue: Its files.
        fraction: Which of the catalogue's fractions counts as the fraction of votes: `fraction`, or
            `weighted_fraction` or `debiased` where the table has them.
    """

    title: str
    catalogue: VoteCatalogue
    fraction: str = KIND

    @property
    def campaign(self) -> str:
        """Name of the decision tree."""
        return self.catalogue.campaign


class Surveys(ImageData):
    """Galaxies of some surveys to train on, in folds, and of others to be judged.

    Args:
        source: The folder with a folder a survey; see CatalogData.
        surveys: All that may be named; None for those of `conf/task/surveys.yaml`.
        train: Names of those that are trained on; their held-out galaxies are in distribution.
        test: Names of those that are never trained on.
        features: What is predicted, as `Vocabulary` takes it.
        heads: `shared` or `own`, as `Vocabulary` takes it.
        kind: The kind of target; None for votes of that vocabulary.
        numbers: By survey, how many of its galaxies are used, drawn by the seed: a number, or the name of another
            survey for as many as it has; the others are used whole.
        least_votes: Fewest votes of a galaxy, in its first question.
        overlap: Whether only galaxies are trained on that all surveys of `train` have seen.
        leakage: What happens to galaxies to train on that are judged as well, by id, position or image: `remove`
            leaves them out of training, `error` refuses to go on.
        size: As for ImageData.
        crop: Images hold the galaxy in the central half.
        margin: As for ImageData.
        augment: As for ImageData.
        **options: As for ImageData and CatalogData; `separation` is the largest between two positions of one galaxy,
            `balance` is over surveys.

    Raises:
        UserError: If an argument is impossible; of the files, in `setup`, a DataError that names file and line.

    Example:
        Learnt from SDSS alone, judged on UKIDSS::

            data = Surveys("data/surveys", train=["sdss"], test=["ukidss"])
            trainer.fit(SupervisedModule.for_data(data, net="dinov2_small"), datamodule=data)
    """

    task = "surveys"
    simulated: ClassVar = {"count": 2000, "overlap": 0.3, "size": 424}
    own_split = Folds()

    def __init__(
        self,
        source: Any = None,
        *,
        surveys: Mapping[str, Survey] | None = None,
        train: Sequence[str] = ("sdss", "decals12"),
        test: Sequence[str] = ("ukidss",),
        features: str | int | Sequence[str] = "all",
        heads: str = "shared",
        kind: Votes | None = None,
        numbers: Mapping[str, int | str | None] | None = None,
        least_votes: int = 1,
        overlap: bool = False,
        leakage: str = "remove",
        size: int = 224,
        crop: float = 0.5,
        margin: float = 1.42,
        augment: RandomViews = VIEWS,
        **options: Any,
    ) -> None:
        surveys = surveys if surveys is not None else published_surveys()
        check_names(surveys, train, test)
        if kind is None:
            kind = Votes(Vocabulary(features, heads, surveys, list(train), list(test)))
        super().__init__(source, kind=kind, size=size, crop=crop, margin=margin, augment=augment, **options)
        self.surveys = dict(surveys)
        self.train_names, self.test_names = list(train), list(test)
        self.vocabulary = kind.vocabulary
        self.numbers = _check_numbers(dict(numbers or {}), self.names)
        self.least_votes, self.overlap, self.leakage = least_votes, overlap, leakage
        if leakage not in ("remove", "error"):
            raise UserError(f"leakage={leakage}: it must be remove or error.")
        if least_votes < 1:
            raise UserError(f"least_votes={least_votes}: it must be a whole number, 1 or more.")
        if overlap and (drawn := [name for name in self.train_names if name in self.numbers]):
            raise UserError(
                f"numbers.{drawn[0]}={self.numbers[drawn[0]]}: with overlap=true all surveys keep the same galaxies. "
                "Leave numbers out for the surveys to train on."
            )
        if overlap and len(train) < 2:
            raise UserError(f"overlap=true needs two surveys to train on; train={self.train_names}.")
        if not isinstance(self.split, Folds):
            raise UserError("split=holdout: test galaxies of this task are those of other surveys. Use split=folds.")
        if self.separation is None:
            raise UserError("separation=null: a number of arcseconds is needed, such as 3.0.")
        self.audit = pd.DataFrame({"trained": [], "judged": [], "separation_arcsec": [], "by": []})

    @property
    def names(self) -> list[str]:
        """The surveys in use, those to train on first."""
        return [*self.train_names, *self.test_names]

    def digests(self) -> dict[str, str]:
        root = self.source.path
        files = [file for name in self.names for file in self.surveys[name].catalogue.files(root)]
        return {file: known_digest(root / file, self.cache) for file in dict.fromkeys(files) if (root / file).is_file()}

    def check_folder(self, root: Path) -> None:
        for name in self.names:
            self.surveys[name].catalogue.table_name(root)

    def load_tables(self, root: Path) -> pd.DataFrame:
        """One row a galaxy of a survey, with the features of the vocabulary and the votes of their questions."""
        samples = {name: self._read(root, name) for name in self.names}
        self._note_features(samples)
        self._audit_tables(samples)
        if self.overlap:
            self._keep_overlap(samples)
        for name in sorted(self.names, key=lambda name: isinstance(self.numbers.get(name), str)):
            samples[name] = self._drawn(name, samples)
        self.vote_targets = np.concatenate([sample.targets for sample in samples.values()])
        catalog = pd.concat([sample.galaxies for sample in samples.values()], ignore_index=True)
        self._row_of = pd.Series(np.arange(len(catalog)), catalog["id"])
        for name in self.train_names:
            if samples[name].galaxies.empty:
                raise DataError(f"{root}: no galaxies of {name} are left to train on. {ADVICE}")
        return catalog

    def target_tensor(self, catalog: pd.DataFrame) -> Tensor:
        """Fractions and the votes of their questions, float32 of shape (N, K, 2)."""
        return torch.from_numpy(self.vote_targets[self._row_of[catalog["id"]].to_numpy()])

    def stratify_by(self, catalog: pd.DataFrame) -> np.ndarray:
        """One column a survey, and the answers of the first question."""
        surveys = np.stack([catalog["survey"] == name for name in self.train_names], axis=1).astype(float)
        first = [name for name in self.vocabulary.ontology.features if name.startswith(f"{STRATIFIED}_")]
        columns = [name for name in first if name in catalog]
        return np.hstack([surveys, catalog[columns].fillna(0).to_numpy(float)])

    def groups(self) -> Tensor:
        """Numbers of the surveys."""
        assert self.catalog is not None
        return torch.from_numpy(pd.Categorical(self.catalog["survey"], self.names).codes.astype(np.int64))

    def drop_leaks(self, catalog: pd.DataFrame, objects: np.ndarray) -> pd.DataFrame:
        """Leaves out of training what shares its image with a galaxy to be judged."""
        judged = catalog["split"] == "test"
        shared = ~judged & np.isin(objects, objects[judged])
        if not shared.any():
            return catalog
        first = catalog.loc[judged].assign(object=objects[judged]).drop_duplicates("object").set_index("object")["id"]
        judged_ids = first.reindex(objects[shared]).to_numpy()
        self._found_leaks(catalog.loc[shared, "id"].to_numpy(), judged_ids, np.full(shared.sum(), np.nan), "image")
        return catalog.assign(split=np.where(shared, LEFT_OUT, catalog["split"]))

    def _read(self, root: Path, name: str) -> "Sample":
        survey = self.surveys[name]
        kinds = {kind: survey.fraction if kind == KIND else kind for kind in self.vocabulary.kinds}
        table = survey.catalogue.read(root, list(kinds.values()), self.notes, self.log_step)
        fractions = {kind: table.fractions[own] for kind, own in kinds.items() if own in table.fractions}
        votes = table.galaxies["votes"].to_numpy(float)
        enough = votes >= self.least_votes
        step = f"{name}: at least {self.least_votes} vote{'s' * (self.least_votes > 1)}"
        self.log_step(step, len(enough), int(enough.sum()))
        target, asked = self.vocabulary.target_features(survey.campaign, table.votes, fractions)
        galaxies = table.galaxies.assign(
            id=f"{name}:" + table.galaxies["id"].astype(str),
            survey=name,
            campaign=survey.campaign,
            split="train" if name in self.train_names else "test",
        )
        features = self.vocabulary.features
        columns = [*features, *(f"{feature}_votes" for feature in features)]
        galaxies = pd.concat([galaxies, pd.DataFrame(np.hstack([target, asked]), columns=columns)], axis=1)
        targets = self.vocabulary.targets(survey.campaign, table.votes, fractions)
        useful = enough & (asked > 0).any(1)
        if (without := int((enough & ~useful).sum())) and name in self.train_names:
            self.notes.append(f"{name}: {without:,} galaxies answer none of the questions that are predicted.")
        if not useful.any():
            raise DataError(
                f"{root}: no galaxy of {name} has a vote on any of {shorten(features)} "
                f"(kinds of fractions: {shorten(list(kinds.values()))}). {ADVICE}"
            )
        return Sample(galaxies[useful].reset_index(drop=True), targets[useful])

    def _note_features(self, samples: "dict[str, Sample]") -> None:
        """Keeps which survey asks what, and of how many; notes what all have in common."""
        ontology = self.vocabulary.ontology
        rows = []
        for feature in self.vocabulary.features:
            plain = self.vocabulary.plain_of[feature]
            row = {"feature": feature, "label": ontology.label(plain)}
            for name, sample in samples.items():
                columns = ontology.question_of(plain).columns.get(self.surveys[name].campaign, {}).get(plain, ())
                row[name] = " + ".join(columns)
                row[f"{name}_asked"] = str(int(sample.galaxies[feature].notna().sum()))
            rows.append(row)
        self.artifacts["features"] = pd.DataFrame(rows)
        common = ontology.common([self.surveys[name].campaign for name in samples])
        shared = [feature for feature in self.vocabulary.plain if feature in common]
        of_question = pd.Series([ontology.question_of(feature).name for feature in shared], dtype=object)
        listed = ", ".join(f"{name} ({number})" for name, number in of_question.value_counts(sort=False).items())
        self.notes.append(
            f"features that {', '.join(samples)} have in common ({len(shared)} of {len(self.vocabulary.plain)}), by "
            f"question: {listed or 'none'}."
        )

    def _keep_overlap(self, samples: "dict[str, Sample]") -> None:
        """Keeps of the surveys to train on the galaxies that all of them have seen."""
        masks = duplicates.seen_by_all([samples[name].galaxies for name in self.train_names], self.separation or 0.0)
        for name, mask in zip(self.train_names, masks, strict=True):
            step = f"{name}: within {self.separation:g} arcsec of a galaxy of each other survey"
            self.log_step(step, len(mask), int(mask.sum()))
            samples[name] = samples[name].rows(mask)

    def _audit_tables(self, samples: "dict[str, Sample]") -> None:
        """Leaves out of training what is judged as well, by id or position."""
        if not self.test_names:
            return
        unknown = {name: int(samples[name].galaxies["ra"].isna().sum()) for name in self.names}
        self._note_unknown({name: count for name, count in unknown.items() if count})
        other = pd.concat([samples[name].galaxies for name in self.test_names], ignore_index=True)
        before = {name: len(samples[name].galaxies) for name in self.train_names}
        searching = True
        while searching:  # what is one galaxy with one that is left out is left out as well
            searching = False
            for name in self.train_names:
                own = samples[name].galaxies
                matches = duplicates.same_galaxies(own, other, self.separation or 0.0)
                if matches.empty:
                    continue
                searching = True
                self._found_leaks(
                    own["id"].to_numpy()[matches["row"]],
                    other["id"].to_numpy()[matches["other"]],
                    matches["separation"].to_numpy(),
                    matches["by"].to_numpy(),
                )
                leaks = np.isin(np.arange(len(own)), matches["row"])
                other = pd.concat([other, own[leaks]], ignore_index=True)
                samples[name] = samples[name].rows(~leaks)
        for name in self.train_names:
            blind = unknown[name] or any(unknown[test] for test in self.test_names)
            way = "id, and position where it is known" if blind else "id and position"
            self.log_step(
                f"{name}: not among {', '.join(self.test_names)}, by {way}", before[name], len(samples[name].galaxies)
            )

    def _note_unknown(self, unknown: dict[str, int]) -> None:
        """Notes galaxies whose positions are not known; with `leakage=error` they cannot be vouched for."""
        if not unknown:
            return
        listed = ", ".join(f"{count:,} of {name}" for name, count in unknown.items())
        what = f"galaxies have no position ({listed}), so ids and images alone can tell which are judged as well"
        if self.leakage == "error":
            raise DataError(
                f"leakage=error: {what}. Give their positions (UKIDSS's in ukidss_positions.csv, with subject_id, ra "
                "and dec, beside ukidss_catalog.csv), or go on unchecked with leakage=remove."
            )
        self.notes.append(f"audit: {what}.")

    def _found_leaks(self, ids: np.ndarray, others: np.ndarray, away: np.ndarray, by: Any) -> None:
        """Keeps leaks in the audit's table and in a note; refuses them where asked to."""
        if not len(ids):
            return
        leaks = pd.DataFrame({"trained": ids, "judged": others, "separation_arcsec": away, "by": by})
        self.audit = pd.concat([self.audit, leaks], ignore_index=True)
        self.artifacts["audit"] = self.audit
        pairs = [f"{one} = {other}" for one, other in zip(ids, others, strict=True)]
        if self.leakage == "error":
            raise DataError(
                f"leakage=error: galaxies to train on are judged as well ({len(ids):,}): {shorten(pairs)}. "
                "leakage=remove leaves them out of training."
            )
        ways = ", ".join(f"{number:,} by {way}" for way, number in leaks["by"].value_counts().items())
        self.notes.append(f"audit: left out of training, as they are judged ({ways}): {shorten(pairs)}.")

    def _drawn(self, name: str, samples: "dict[str, Sample]") -> "Sample":
        sample, wanted = samples[name], self.numbers.get(name)
        if wanted is None:
            return sample
        number = len(samples[wanted].galaxies) if isinstance(wanted, str) else wanted
        if len(sample.galaxies) < number:
            self.notes.append(
                f"numbers.{name}={wanted}: {name} has only {len(sample.galaxies):,} galaxies; all are used."
            )
            return sample
        chosen = np.random.default_rng(derive(self.seed, "numbers", name)).permutation(len(sample.galaxies))[:number]
        rows = np.isin(np.arange(len(sample.galaxies)), chosen)
        self.log_step(f"{name}: drawn by the seed", len(rows), number)
        return sample.rows(rows)


@dataclass(frozen=True)
class Sample:
    """One survey's galaxies.

    Attributes:
        galaxies: Rows of the catalog.
        targets: What a loss compares outputs with, shape (N, K, 2).
    """

    galaxies: pd.DataFrame
    targets: np.ndarray

    def rows(self, mask: np.ndarray) -> "Sample":
        """Some of them, by a mask of shape (N,)."""
        return Sample(self.galaxies[mask].reset_index(drop=True), self.targets[mask])


def published_surveys() -> dict[str, Survey]:
    """The surveys of `conf/task/surveys.yaml`, in the layout of their published files."""
    return {
        name: instantiate(survey) for name, survey in OmegaConf.load(CONF / "task" / "surveys.yaml").surveys.items()
    }


def _check_numbers(given: dict[str, int | str | None], names: list[str]) -> dict[str, int | str]:
    """Refuses numbers of surveys that are not in use, and numbers that are none."""
    numbers = {name: number for name, number in given.items() if number is not None}
    for name, number in numbers.items():
        if name not in names:
            raise UserError(f"numbers.{name}: this run has no such survey. {did_you_mean(name, names)}")
        if isinstance(number, str):
            if number not in names or number == name or isinstance(numbers.get(number), str):
                others = [other for other in names if other != name]
                raise UserError(f"numbers.{name}={number}: give a number, or another survey of {others}.")
        elif isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UserError(f"numbers.{name}={number}: it must be a whole number, 1 or more, or another survey's name.")
    return numbers
