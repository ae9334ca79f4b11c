from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from galaxyml.data.light_curves import inputs
from galaxyml.data.light_curves.data_module import referred
from galaxyml.data.source import Real
from galaxyml.data.splits import Folds, Holdout
from galaxyml.data.tables.plasticc import CLASSES
from galaxyml.runs.errors import DataError, UserError
from galaxyml.tasks.plasticc import Plasticc, class_code

KNOWN = [name for code, name in CLASSES.items() if code < 99]


def data(folder: Path, cache: Path, **options: Any) -> Plasticc:
    """The small sky's data, set up."""
    given: dict[str, Any] = {
        "classes": KNOWN,
        "source": Real("plasticc", str(folder.parent)),
        "cache_dir": str(cache),
        "fold": 0,
        "split": Holdout(0.2, 0.2, 2),
        "seed": 0,
        "batch_size": 16,
        "workers": 0,
    }
    made = Plasticc(**(given | options))
    made.setup()
    return made


def observations(**columns: list[float]) -> dict[str, Tensor]:
    flux = torch.tensor([columns["flux"]])
    return {
        "mjd": torch.tensor([columns["mjd"]], dtype=torch.float64),
        "flux": flux,
        "error": torch.tensor([columns.get("error", [1.0] * len(columns["flux"]))]),
        "mask": torch.ones_like(flux, dtype=torch.bool),
    }


def test_the_reference_is_where_the_object_is_brightest_for_its_errors() -> None:
    moments = [60000.0, 60100.2, 60100.6, 60101.0, 60300.0]
    # The brightest observation is the least certain one.
    batch = observations(mjd=moments, flux=[1.0, 20.0, 22.0, 18.0, 90.0], error=[1.0, 1.0, 1.0, 1.0, 30.0])
    found = referred(batch)
    assert float(found["reference"][0]) == pytest.approx(60100.6, abs=1e-6)
    np.testing.assert_allclose(found["time"][0].numpy(), np.array(moments) - 60100.6, atol=1e-4)


def test_the_reference_moves_with_the_object() -> None:
    generator = np.random.default_rng(0)
    mjd = np.sort(generator.uniform(59600, 60600, 400))
    flux = 50 * np.exp(-0.5 * ((mjd - 60111) / 20) ** 2) + generator.normal(size=400)
    one, two = (
        referred(observations(mjd=(mjd + shift).tolist(), flux=flux.tolist()))["reference"][0] for shift in (0, 256.5)
    )
    assert float(two - one) == pytest.approx(256.5)
    assert float(one) == pytest.approx(60111, abs=15)


def test_padding_does_not_move_the_reference() -> None:
    batch = observations(mjd=[60000.0, 60010.0, 60020.0], flux=[1.0, 9.0, 2.0])
    more = {
        name: torch.nn.functional.pad(values, (0, 4), value=1 if name == "error" else 0)
        for name, values in batch.items()
    }
    assert torch.equal(referred(more)["reference"], referred(batch)["reference"])
    assert (referred(more)["time"][0, 3:] == 0).all()


def test_every_known_class_is_in_every_part_and_no_unknown_one_is_trained_on(
    plasticc_sky: Path, tmp_path: Path
) -> None:
    made = data(plasticc_sky, tmp_path, leave_out=["Mira", 42])
    catalog = made.catalog
    assert catalog is not None
    learnt = catalog[catalog["split"].isin(["train", "val"])]
    assert learnt["known"].all()
    assert not learnt["unknown"].any()
    assert not {"Mira", "SNII"} & set(learnt["name"])
    left_out = catalog[catalog["name"].isin(["Mira", "SNII"]) & (catalog["split"] != "survey")]
    assert (left_out["split"] == "test").all()
    assert left_out["unknown"].all()
    assert (left_out["label"] == -1).all()
    for name, count in learnt["name"].value_counts().items():
        if count >= 10:
            assert {"train", "val"} <= set(learnt.loc[learnt["name"] == name, "split"])
    strange = catalog["name"].isin(["MicroLens-Binary", "ILOT", "CaRT", "PISN"])
    assert strange.any()
    assert (catalog.loc[strange, "split"] == "survey").all()
    assert catalog.loc[strange, "unknown"].all()
    assert [CLASSES[90], made.classes[int(catalog.loc[catalog["name"] == "SNIa", "label"].iloc[0])]] == ["SNIa"] * 2


def test_the_split_is_of_objects_and_the_same_for_the_same_seed(plasticc_sky: Path, tmp_path: Path) -> None:
    one, two, other = (data(plasticc_sky, tmp_path, seed=seed).catalog for seed in (3, 3, 4))
    assert one is not None
    assert two is not None
    assert other is not None
    assert one["id"].is_unique
    assert one["split"].equals(two["split"])
    assert not one["split"].equals(other["split"])


def test_folds_hold_each_known_training_object_out_once(plasticc_sky: Path, tmp_path: Path) -> None:
    catalogs = [data(plasticc_sky, tmp_path, split=Folds(3), fold=fold).catalog for fold in range(3)]
    held_out = np.sum([(catalog["split"] == "val").to_numpy() for catalog in catalogs if catalog is not None], axis=0)
    first = catalogs[0]
    assert first is not None
    np.testing.assert_array_equal(held_out, first["split"].isin(["train", "val"]))


def test_batches_hold_the_files_own_numbers(plasticc_sky: Path, tmp_path: Path) -> None:
    import pandas as pd

    made = data(plasticc_sky, tmp_path)
    assert made.catalog is not None
    rows = made.rows("survey")[:5]
    batch = made.batches[rows]
    table = pd.read_csv(plasticc_sky / "test_set.csv")
    metadata = pd.read_csv(plasticc_sky / "test_set_metadata.csv").set_index("object_id")
    for place, number in enumerate(made.catalog["id"].to_numpy()[rows.numpy()]):
        own = table[table["object_id"] == number].sort_values(["mjd", "passband"])
        kept = batch["mask"][place]
        assert int(kept.sum()) == len(own)
        mjd = batch["time"][place][kept].double() + batch["reference"][place].double()
        np.testing.assert_allclose(mjd.numpy(), own["mjd"], atol=5e-3)
        np.testing.assert_allclose(np.diff(batch["time"][place][kept]), np.diff(own["mjd"]), atol=2e-4)
        np.testing.assert_allclose(batch["flux"][place][kept].numpy(), own["flux"], rtol=1e-6)
        np.testing.assert_allclose(batch["error"][place][kept].numpy(), own["flux_err"], rtol=1e-6)
        assert batch["band"][place][kept].tolist() == own["passband"].tolist()
        condition = dict(zip(inputs.CONDITIONS, batch["condition"][place].tolist(), strict=True))
        assert condition["photoz"] == pytest.approx(metadata["hostgal_photoz"][number])
        assert condition["mwebv"] == pytest.approx(metadata["mwebv"][number])
        assert condition["galactic"] == (metadata["hostgal_photoz"][number] == 0)


def test_rare_classes_are_drawn_more_often(plasticc_sky: Path, tmp_path: Path) -> None:
    made = data(plasticc_sky, tmp_path, balance=1.0)
    rows = made.rows("train")
    weights, labels = made.row_weights(rows), made.batches.targets[rows]
    assert weights is not None
    sums = [float(weights[labels == label].sum()) for label in labels.unique()]
    np.testing.assert_allclose(sums, sums[0])
    assert data(plasticc_sky, tmp_path, balance=0.0).row_weights(rows) is None


def test_a_limit_keeps_so_many_of_each_split(plasticc_sky: Path, tmp_path: Path) -> None:
    made = data(plasticc_sky, tmp_path, limit=50)
    assert made.catalog is not None
    assert (made.catalog["split"] == "survey").sum() == 50
    assert made.catalog["split"].isin(["train", "val", "test"]).sum() <= 100


@pytest.mark.parametrize("given", [6, "6", "MicroLens-Single", "microlens-single"])
def test_classes_go_by_code_or_name(given: int | str) -> None:
    assert class_code("leave_out", given) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leave_out": "Mirra"}, r"leave_out=Mirra: there is no such class.*Mira"),
        ({"leave_out": 7}, "leave_out=7: there is no such class"),
        ({"leave_out": 994}, r"leave_out=PISN: .*training_set_metadata\.csv has no object of that class"),
        ({"balance": 1.5}, r"balance=1\.5"),
    ],
)
def test_impossible_settings_are_refused(
    plasticc_sky: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        data(plasticc_sky, tmp_path, **options)


def test_at_least_two_classes_must_be_left(plasticc_sky: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"of 1 known classes .* of 2 classes, are needed"):
        data(plasticc_sky, tmp_path, leave_out=[name for name in KNOWN if name != "SNIa"])


def test_the_real_sample_is_read(real: Path, tmp_path: Path) -> None:
    made = data(real / "plasticc", tmp_path, leave_out=[6, 53, 95])
    assert made.catalog is not None
    counts = made.catalog["name"][made.catalog["split"] != "survey"].value_counts()
    assert (counts["SNIa"], counts["KN"], counts["Mira"]) == (300, 19, 12)
    assert made.catalog["unknown"].sum() == 29 + 12 + 33
    assert (made.catalog["split"] == "survey").sum() == 300
