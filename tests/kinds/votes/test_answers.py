"""Outputs of nets as fractions that all surveys are judged by, in a run's folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from galaxyml.evaluation.joined import NetOutputs, join
from galaxyml.kinds.votes.answers import Answers
from galaxyml.runs.run_dir import RunDir
from galaxyml.trees.vocabulary import Vocabulary


@dataclass(frozen=True)
class Asked:
    campaign: str


def stage() -> Answers:
    surveys = {"sdss": Asked("gz2"), "ukidss": Asked("ukidss")}
    return Answers(Vocabulary(9, "shared", surveys, ["sdss"], ["ukidss"]))


def test_tables_of_each_phase_become_fractions(tmp_path: Path) -> None:
    run, made = RunDir(tmp_path), stage()
    campaign = ["gz2", "ukidss", "gz2"]
    run.write_catalog(pd.DataFrame({"id": ["a", "b", "c"], "campaign": campaign}))
    rng = np.random.default_rng(0)
    for split, ids in (("val", ["c", "a"]), ("test", ["b"])):
        for by in ("net", "net_untrained", "net_head"):
            table = pd.DataFrame(99 * rng.random((len(ids), 9)), columns=made.vocabulary.columns)
            run.write_predictions(split, table.assign(id=ids), by=by)
    assert made(run) == {}
    for split in ("val", "test"):
        for by, net in (("", "net"), ("untrained", "net_untrained"), ("head", "net_head")):
            said, outputs = run.predictions(split, by), run.predictions(split, net)
            assert said is not None
            assert outputs is not None
            assert said["id"].tolist() == outputs["id"].tolist()
            for names in (made.vocabulary.features[:3], made.vocabulary.features[3:5]):
                alone = outputs[names].to_numpy()
                np.testing.assert_allclose(said[names], alone / alone.sum(1, keepdims=True))


def test_images_from_elsewhere_get_the_answers_of_the_first_campaign() -> None:
    made = stage()
    outputs = [pd.DataFrame(np.full((2, 9), value), columns=made.vocabulary.columns) for value in (1.0, 3.0)]
    said = made.combine(RunDir("nowhere"), NetOutputs.equal(outputs), outputs[0])
    np.testing.assert_allclose(said[made.vocabulary.features[:3]], 1 / 3)
    np.testing.assert_allclose(said[made.vocabulary.features[3:]], 1 / 2)


def test_folds_are_joined_phase_by_phase(tmp_path: Path) -> None:
    made = stage()
    runs = []
    for fold in range(2):
        run = RunDir(tmp_path / f"fold-{fold}")
        split = ["val" if fold == place else "train" for place in (0, 1)] + ["test", "left out"]
        catalog = pd.DataFrame({"id": list("abcd"), "fold": [0, 1, -1, -1], "split": split, "campaign": "gz2"})
        run.write_catalog(catalog)
        run.write_provenance(0, "CPU", {"source": "", "sha256": {}, "objects": {}})
        for number, by in enumerate(("net", "net_head"), start=1):
            for name, ids in (("val", ["ab"[fold]]), ("test", ["c"])):
                table = pd.DataFrame(np.full((1, 9), float(number + fold)), columns=made.vocabulary.columns)
                run.write_predictions(name, table.assign(id=ids), by=by)
        runs.append(run)
    into = RunDir(tmp_path / "joined")
    join([runs], into)
    assert into.catalog()["split"].tolist() == ["val", "val", "test", "left out"]
    for by, first in (("net", 1.0), ("net_head", 2.0)):
        val, test = into.predictions("val", by), into.predictions("test", by)
        assert val is not None
        assert test is not None
        assert val.set_index("id")[made.vocabulary.columns[0]].to_dict() == {"a": first, "b": first + 1}
        assert test[made.vocabulary.columns[0]].tolist() == [first + 0.5]
