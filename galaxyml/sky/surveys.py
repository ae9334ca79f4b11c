"""Writes simulated galaxies in the files of several surveys: SDSS, DECaLS and UKIDSS, each with its campaign."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxyml.runs.errors import UserError
from galaxyml.runs.files import atomic_write
from galaxyml.sky.campaigns import ballots, expected_shares, through
from galaxyml.sky.population import population
from galaxyml.sky.positions import degrees, hours, object_ids, place
from galaxyml.sky.survey import GZD, SDSS, UKIDSS, Survey, one_thing_changed
from galaxyml.sky.visibility import seen_clearly
from galaxyml.sky.writers import begin, check, draw_to_files
from galaxyml.trees import DecisionTree

SOUTH, NORTH = -2.0, 30.0  # declinations that all three surveys have seen, degrees
JITTER, FARTHEST = 0.10, 0.16  # arcsec, of a survey's position in each coordinate: scatter, and most
TRUST = 0.3  # weight of a vote of those who click without a look, whom consistency gives away
AGAIN = 0.25  # share of DECaLS's fifth campaign that its first two have had
DECALS_PART = "decals/gz_decals_dr5_png_part1"
# Who sees each sample, and in which campaign.
CAMPAIGNS = {"sdss": ("gz2", SDSS), "decals12": ("gzd12", GZD), "decals5": ("gzd5", GZD), "ukidss": ("ukidss", UKIDSS)}


@dataclass(frozen=True)
class Sample:
    """Galaxies of one survey.

    Attributes:
        rows: Of the population, shape (N,).
        galaxies: These, numbered anew, with `ra` and `dec` as the survey has measured them.
        counts: Votes for each answer of the campaign's tree, shape (N, K).
        weights: The same, those of volunteers who click without a look counting less.
        clear: Shares that infinitely many would give who see all clearly, shape (N, K).
        seen: Those that they give who see what the survey shows, shape (N, K).
        tree: Of the campaign.
    """

    rows: NDArray[np.int64]
    galaxies: pd.DataFrame
    counts: NDArray[np.int64]
    weights: NDArray[np.float64]
    clear: NDArray[np.float64]
    seen: NDArray[np.float64]
    tree: DecisionTree

    @property
    def totals(self) -> NDArray[np.int64]:
        """Votes of each question, shape (N, Q)."""
        return self._per_question(self.counts)

    @property
    def fractions(self) -> NDArray[np.float64]:
        """Shares of the question's votes, NaN where it was not asked, shape (N, K)."""
        votes = self.of_question(self.counts)
        return np.where(votes > 0, self.counts / np.maximum(votes, 1), np.nan)

    @property
    def debiased(self) -> NDArray[np.float64]:
        """Fractions moved as far as clear sight would move them, shape (N, K)."""
        moved = np.clip(self.fractions + self.clear - self.seen, 0, None)
        sums = self.of_question(moved)
        return moved / np.where(sums > 0, sums, 1)

    def of_question(self, votes: NDArray) -> NDArray:
        """For each answer the sum over those of its question, shape (N, K) -> (N, K)."""
        return self._per_question(votes)[:, self.tree.question_of]

    def _per_question(self, votes: NDArray) -> NDArray:
        starts = np.flatnonzero(np.diff(self.tree.question_of, prepend=-1))
        return np.asarray(np.add.reduceat(votes, starts, axis=1))


def write_surveys(
    folder: Path | str, count: int, seed: int, overlap: float = 0.3, size: int = SDSS.cutout, causes: bool = False
) -> None:
    """Writes folders of the surveys' votes and images, and what there is known besides.

    `sdss/`: `gz2_hart16.csv` (Hart et al. 2016), `gz2_filename_mapping.csv`, `images/{asset_id}.jpg`; `count` galaxies.
    `decals/`: `gz_decals_volunteers_1_and_2.csv` (half as many), `gz_decals_volunteers_5.csv` (a quarter), and
    `gz_decals_dr5_png_part1/{iauname[:4]}/{iauname}.png`. `ukidss/`: `ukidss_catalog.csv` (half as many),
    `images/{subfolder}/{filename}`, and `ukidss_positions.csv`, as the catalogue has none. `truth.csv`: of each row of
    each table the galaxy (the same number is the same galaxy) and its parameters.

    `causes/{sdss,psf,depth,bands,ukidss}/`: UKIDSS's galaxies seen by SDSS, by SDSS with only the PSF, only the depth
    or only the bands of UKIDSS, and by UKIDSS, each with the votes that volunteers gave on SDSS's images: only the
    image differs.

    Args:
        folder: Appears when all is written, or not at all; one that exists already is kept as it is.
        count: Galaxies in SDSS; at least 8.
        seed: Of all of it.
        overlap: Share of each other survey's galaxies that SDSS has seen as well, in [0, 1].
        size: Side of the images, pixels.
        causes: Whether to write the folders of causes.

    Raises:
        UserError: If a number is too small, or the share is none.
    """
    check(count=(count, 8), seed=(seed, 0), size=(size, 8))
    if not 0 <= overlap <= 1:
        raise UserError(f"simulate.overlap={overlap}: it must be a share in [0, 1].")
    rows = members(count, overlap, seed)
    drawn = population(1 + max(int(numbers.max()) for numbers in rows.values()), seed)
    drawn = place(drawn, SOUTH, NORTH, np.random.default_rng([seed, 51]))
    coordinates = zip(hours(drawn.ra), degrees(drawn.dec), strict=True)
    drawn["iauname"] = [f"J{ra}{dec}".replace(":", "") for ra, dec in coordinates]
    samples = {name: _sample(drawn, rows[name], *seen_by, seed) for name, seen_by in CAMPAIGNS.items()}
    with atomic_write(Path(folder)) as draft:
        begin(draft)
        # A galaxy that is in both tables of DECaLS has one name, and one image.
        decals = pd.concat([samples[name].galaxies for name in ("decals12", "decals5")]).drop_duplicates("iauname")
        paths = [draft / DECALS_PART / name[:4] / f"{name}.png" for name in decals.iauname]
        draw_to_files(decals, paths, seed, size, GZD)
        names = {
            "sdss": _write_sdss(draft / "sdss", samples["sdss"], seed, size),
            "decals12": _write_decals(draft / "decals", samples["decals12"], rows["decals5"], seed),
            "decals5": _write_decals(draft / "decals", samples["decals5"], rows["decals12"], seed),
            "ukidss": _write_ukidss(draft / "ukidss", samples["ukidss"], UKIDSS, seed, size),
        }
        if causes:
            cameras = {"sdss": SDSS, **one_thing_changed(SDSS, UKIDSS), "ukidss": UKIDSS}
            steady = _sample(drawn, rows["ukidss"], "ukidss", SDSS, seed)
            for number, (name, camera) in enumerate(cameras.items()):
                cause = draft / "causes" / name
                names[f"cause_{name}"] = _write_ukidss(cause, steady, camera, seed, size, prefix=f"c{number}")
                samples[f"cause_{name}"] = steady
        tables = (
            pd.DataFrame({"survey": name, "id": names[name], "galaxy": sample.rows}).join(sample.galaxies)
            for name, sample in samples.items()
        )
        pd.concat(tables).to_csv(draft / "truth.csv", index=False)


def members(count: int, overlap: float, seed: int) -> dict[str, NDArray[np.int64]]:
    """Numbers of the galaxies of a population that each survey has.

    SDSS has the first `count`; a share `overlap` of the other surveys' galaxies is SDSS's.
    """
    rng = np.random.default_rng([seed, 50])
    numbers = {"sdss": np.arange(count)}
    fresh = count
    for name, size in (("decals12", count // 2), ("decals5", count // 4), ("ukidss", count // 2)):
        shared = round(overlap * size)
        again = np.array([], np.int64)
        if name == "decals5":
            others = numbers["decals12"][numbers["decals12"] >= count]
            again = rng.choice(others, min(round(AGAIN * (size - shared)), len(others)), replace=False)
        own = np.arange(fresh, fresh + size - shared - len(again))
        fresh += len(own)
        numbers[name] = rng.permutation(np.concatenate([rng.choice(count, shared, replace=False), again, own]))
    return numbers


def _sample(drawn: pd.DataFrame, rows: NDArray[np.int64], campaign: str, survey: Survey, seed: int) -> Sample:
    tree = DecisionTree.load(campaign)
    galaxies = drawn.iloc[rows].reset_index(drop=True)
    # A survey has one position of a galaxy, whichever the campaign: all rows are thrown for, and some taken.
    rng = np.random.default_rng([seed, 52, *survey.name.encode()])
    away = np.clip(rng.normal(0, JITTER, (2, len(drawn))), -FARTHEST, FARTHEST)[:, rows] / 3600
    seen = through(galaxies, survey)
    cos = np.cos(np.radians(galaxies.dec))
    galaxies = galaxies.assign(ra=(galaxies.ra + away[0] / cos) % 360, dec=galaxies.dec + away[1])
    looking, clicking = ballots(seen, tree, seed)
    return Sample(
        rows,
        galaxies,
        looking + clicking,
        looking + TRUST * clicking,
        expected_shares(seen_clearly(seen), tree),
        expected_shares(seen, tree),
        tree,
    )


def _write_sdss(folder: Path, sample: Sample, seed: int, size: int) -> NDArray:
    galaxies = sample.galaxies
    ids = object_ids(len(galaxies), seed)
    assets = np.sort(np.random.default_rng([seed, 53]).choice(10 * len(ids) + 300_000, len(ids), replace=False)) + 1
    draw_to_files(galaxies, [folder / "images" / f"{asset}.jpg" for asset in assets], seed, size, SDSS)
    fractions, debiased = np.nan_to_num(sample.fractions), np.nan_to_num(sample.debiased)
    weighted = sample.weights / np.maximum(sample.of_question(sample.weights), 1e-9)
    columns: dict[str, object] = {
        "dr7objid": ids,
        "ra": galaxies.ra.to_numpy(),
        "dec": galaxies.dec.to_numpy(),
        "rastring": hours(galaxies.ra),
        "decstring": degrees(galaxies.dec),
        "sample": "original",
        "gz2_class": _gz2_class(sample),
        "total_classifications": sample.totals[:, 0],
        "total_votes": sample.counts.sum(1),
    }
    for index, stem in enumerate(sample.tree.columns):
        columns |= {
            f"{stem}_count": sample.counts[:, index],
            f"{stem}_weight": sample.weights[:, index].round(3),
            f"{stem}_fraction": fractions[:, index].round(3),
            f"{stem}_weighted_fraction": weighted[:, index].round(3),
            f"{stem}_debiased": debiased[:, index],
            f"{stem}_flag": (debiased[:, index] >= 0.8).astype(int),
        }
    pd.DataFrame(columns).to_csv(folder / "gz2_hart16.csv", index=False)
    mapping = pd.DataFrame({"objid": ids, "sample": "original", "asset_id": assets})
    mapping.to_csv(folder / "gz2_filename_mapping.csv", index=False)
    return ids


def _gz2_class(sample: Sample) -> list[str]:
    """Names as in the catalogue (Willett et al. 2013, section 4.1), such as `Er`, `Sa2m`, `SBc?t`, `Ser` and `A`."""
    share = dict(zip(sample.tree.columns, np.nan_to_num(sample.fractions).T, strict=True))
    first, rounded, bulge = (
        np.stack([values for stem, values in share.items() if stem.startswith(task)]) for task in ("t01", "t07", "t05")
    )
    names = []
    for row in range(len(sample.rows)):
        if first[2, row] > 0.5:
            name = "A"
        elif first[0, row] >= first[1, row]:
            name = "E" + "ric"[rounded[:, row].argmax()]
        elif share["t02_edgeon_a04_yes"][row] > 0.5:
            name = "Se" + "rbn"[np.argmax([values[row] for stem, values in share.items() if stem.startswith("t09")])]
        else:
            name = "SB" if share["t03_bar_a06_bar"][row] > 0.5 else "S"
            name += "dcba"[bulge[:, row].argmax()]
            if share["t04_spiral_a08_spiral"][row] > 0.5:
                arms = np.argmax([values[row] for stem, values in share.items() if stem.startswith("t11")])
                tight = np.argmax([values[row] for stem, values in share.items() if stem.startswith("t10")])
                name += ("1", "2", "3", "4", "+", "?")[arms] + "tml"[tight]
        names.append(name)
    return names


def _write_decals(folder: Path, sample: Sample, others: NDArray[np.int64], seed: int) -> NDArray:
    """Writes one of the two tables, and says in it which galaxies are among the rows of the other."""
    galaxies, fifth = sample.galaxies, sample.tree.name == "gzd5"
    names = galaxies.iauname.to_numpy()
    rng = np.random.default_rng([seed, 54, fifth])
    also = np.isin(sample.rows, others)
    flux = 10 ** (0.4 * (22.5 - galaxies.magnitude.to_numpy()))
    columns: dict[str, object] = {
        "iauname": names,
        "ra": galaxies.ra.to_numpy(),
        "dec": galaxies.dec.to_numpy(),
        "redshift": galaxies.redshift.to_numpy(),
        "elpetro_absmag_r": galaxies.magnitude.to_numpy() - 42.4 - 5 * np.log10(galaxies.redshift.to_numpy()),
        "sersic_nmgy_r": flux,
        "petro_th50": 0.42 * galaxies.r90.to_numpy(),
        "petro_th90": galaxies.r90.to_numpy(),
        "petro_theta": 0.9 * galaxies.r90.to_numpy(),
        "upload_group": "active_baseline" if fifth else "pre_active",
        "active_learning_on": False,
        "in_gzd_ab" if fifth else "in_gzd_c": also,
    }
    columns |= (
        {"png_loc": [f"dr5/{name[:4]}/{name}.png" for name in names]}
        if fifth
        else {"data_release": rng.choice(["DR1", "DR2"], len(names))}
    )
    fractions = sample.fractions if fifth else np.nan_to_num(sample.fractions)
    # The release has debiased fractions only of galaxies whose redshift is known, and within its range.
    without = rng.random(len(names)) < 0.25
    debiased = np.where(without[:, None], np.nan, sample.debiased if fifth else np.nan_to_num(sample.debiased))
    for number, question in enumerate(sample.tree.questions):
        columns[f"{question.name}_total-votes"] = sample.totals[:, number]
        for column in question.columns:
            index = sample.tree.columns.index(column)
            columns[column] = sample.counts[:, index]
            columns[f"{column}_fraction"] = fractions[:, index]
            columns[f"{column}_debiased"] = debiased[:, index]
    columns |= {"wrong_size_statistic": rng.normal(150, 8, len(names)), "wrong_size_warning": False}
    file = f"gz_decals_volunteers_{'5' if fifth else '1_and_2'}.csv"
    pd.DataFrame(columns).to_csv(folder / file, index=False)
    return names


def _write_ukidss(folder: Path, sample: Sample, survey: Survey, seed: int, size: int, prefix: str = "52") -> NDArray:
    numbers = np.random.default_rng([seed, 55]).choice(16**6, len(sample.rows), replace=False)
    ids = [f"{prefix}4482bb3ae74054bf{number:06x}" for number in numbers]
    subfolders = [name[:21] for name in ids]
    columns: dict[str, object] = {
        "subject_id": ids,
        "subfolder": subfolders,
        "url": [f"http://www.galaxyzoo.org/subjects/standard/{name}.jpg" for name in ids],
        "filename": [f"{name}.jpg" for name in ids],
    }
    fractions = np.nan_to_num(sample.fractions)
    for number, question in enumerate(sample.tree.questions):
        for column in question.columns:
            index = sample.tree.columns.index(column)
            columns[column] = sample.counts[:, index]
            columns[f"{column}_fraction"] = fractions[:, index]
        columns[f"{question.name}_total-votes"] = sample.totals[:, number]
    paths = [folder / "images" / subfolder / f"{name}.jpg" for subfolder, name in zip(subfolders, ids, strict=True)]
    draw_to_files(sample.galaxies, paths, seed, size, survey)
    pd.DataFrame(columns).to_csv(folder / "ukidss_catalog.csv", index=False)
    measured = pd.DataFrame({"subject_id": ids}).join(sample.galaxies[["ra", "dec"]])
    measured.to_csv(folder / "ukidss_positions.csv", index=False)
    return np.array(ids)
