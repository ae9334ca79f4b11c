"""The model card of a run that is published: the README.md of its repository."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from galaxyml.data.download import manifest
from galaxyml.data.source import Simulated
from galaxyml.inference.bundle import without_folder
from galaxyml.models.sources import Source
from galaxyml.reports import run_report, verdict
from galaxyml.runs.errors import shorten
from galaxyml.runs.run_dir import RunDir

if TYPE_CHECKING:
    from galaxyml.inference.image_predictor import ImagePredictor

SHOWN = 40  # outputs that are named
UNKNOWN = "unknown"
# Identifiers by which the hub knows licences, the usual ones of models; any other is `other` with a name of its own.
ON_HUB = {
    "agpl-3.0",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "gpl-2.0",
    "gpl-3.0",
    "lgpl-3.0",
    "mit",
    "mpl-2.0",
    "openrail",
    "unknown",
}
SMOKE = "**This is a smoke test, which only tries that everything works: rely on nothing that it predicts.**"


def text(predictor: "ImagePredictor", repository: str, licence: str | None, of_timm: bool) -> str:
    """The card.

    Args:
        predictor: The run.
        repository: `OWNER/NAME`.
        licence: Of the model, as the hub spells it; None for that of the first weights.
        of_timm: Whether timm loads the weights.
    """
    run, metrics = predictor.run, predictor.run.metrics()
    words = predictor.kind.words
    noun = run.provenance()["data"].get("things", "galaxies")
    smoke = verdict.sentence(metrics) == verdict.SMOKE
    lines = [
        *_front(predictor, licence, of_timm),
        "",
        f"# {repository.partition('/')[2]}",
        *run_report.question(run.config),
        *(["", SMOKE] if smoke else []),
        *run_report.answer({key: value for key, value in metrics.items() if not smoke or key != verdict.KEY}, words),
        *_model(predictor),
        *_use(predictor, repository, of_timm),
        *_data(predictor, noun),
        *_licences(run, licence),
        *run_report.summaries(metrics, words, noun),
        *_limits(predictor, noun),
        *run_report.cited(run),
    ]
    return "\n".join(lines) + "\n"


def licence_of(run: RunDir) -> str | None:
    """The licence of a run's first weights, where all have one that is known; None of others, and without any."""
    licences = {origin.licence for origin in run_report.origins(run)}
    known = {licence for licence in licences if licence and licence.lower() != UNKNOWN}
    return known.pop() if len(licences) == len(known) == 1 and not _starts(run) else None


def _front(predictor: "ImagePredictor", licence: str | None, of_timm: bool) -> list[str]:
    """Lines of YAML that the hub reads."""
    run = predictor.run
    named = (licence or licence_of(run) or UNKNOWN).lower()
    front: dict[str, Any] = {"license": named} if named in ON_HUB else {"license": "other", "license_name": named}
    front["library_name"] = "galaxyml"
    front["tags"] = ["galaxyml", "astronomy", "galaxies", predictor.task, *(["timm"] if of_timm else [])]
    if predictor.kind.name == "classes":
        front["pipeline_tag"] = "image-classification"
    sources = [Source.read(origin.weights) for origin in run_report.origins(run)]
    if models := list(dict.fromkeys(source.place for source in sources if source and not source.is_folder)):
        front["base_model"] = models
    if sets := list(dict.fromkeys(source.hub for source in _publishers(run) if source.hub)):
        front["datasets"] = sets
    return ["---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(), "---"]


def _model(predictor: "ImagePredictor") -> list[str]:
    """Lines with what it is, what it sees, and what it says."""
    run, framing, kind = predictor.run, predictor.members[0].framing, predictor.kind
    provenance, nets = run.provenance(), len(predictor.members)
    channels = framing.decoding.channels
    many = f", the mean of {nets} nets" if nets > 1 else ""
    outputs = shorten([f"`{name}`" for name in predictor.columns], shown=SHOWN)
    commit = f", commit {provenance['commit'][:8]}" if provenance["commit"] else ""
    return [
        "",
        "## Model",
        "",
        f"- Net: {predictor.model}{many}; made by [galaxyml](https://github.com/galaxyml/galaxyml) "
        f"{provenance['versions']['galaxyml']}{commit}, seed {provenance['seed']}.",
        f"- Input: images of {channels} channel{'s' * (channels > 1)}, of which the central {framing.crop:.0%} of the "
        f"shorter side are seen at {framing.size} x {framing.size} px. `galaxyml predict` reads JPEG, PNG, TIFF, FITS "
        "and HDF5 and does this itself.",
        f"- Output: {len(predictor.columns)} {kind.words.targets}: {outputs}.",
    ]


def _use(predictor: "ImagePredictor", repository: str, of_timm: bool) -> list[str]:
    """Lines with how to predict, and how to go on from the weights."""
    lines = [
        "",
        "## Use",
        "",
        "```sh",
        "pip install galaxyml",
        f"hf download {repository} model.zip --local-dir .",
        "galaxyml predict model.zip IMAGES --out predictions.csv",
        "```",
        "",
        "`model.zip` is all that predicts: weights, configuration, what was fitted to the validation split. Reading it "
        "runs no code.",
    ]
    own = "The weights" if len(predictor.members) == 1 else "The weights of the first net alone"
    lines += ["", f"{own} are in `model.safetensors`, to train from:", "", "```sh"]
    lines += [f"hf download {repository} --local-dir FOLDER", "galaxyml task=… start=FOLDER", "```"]
    if of_timm:
        lines += ["", "or as a net of timm:", "", "```python", "import timm", ""]
        lines += [f'net = timm.create_model("hf-hub:{repository}", pretrained=True).eval()', "```", ""]
        lines += [_timm_note(predictor)]
    return lines


def _timm_note(predictor: "ImagePredictor") -> str:
    """What timm's net gives, and what is not in it."""
    described, final = predictor.description["nets"][0], type(predictor.members[0].model.final).__name__
    gives = "scores" if final == "Identity" else f"scores, before what makes outputs of them (`{final}`)"
    if described["net"].get("hidden"):
        gives = "features, as the last two layers are in `model.zip` alone"
    of_views = " In galaxyml the net averages its features over views." if described["symmetry"] is not None else ""
    return (
        f"It takes images in [0, 1], normalised by the mean and standard deviation of its `config.json`, and gives "
        f"{gives}; calibration, intervals and the mean over views and nets are galaxyml's.{of_views}"
    )


def _data(predictor: "ImagePredictor", noun: str) -> list[str]:
    """Lines with what was learnt from."""
    data = predictor.run.provenance()["data"]
    counts = data["objects"]
    held_out = counts["test"] + counts.get("survey", 0)
    tested = f", and {held_out:,} others to test or predict" if held_out else ""
    digests = [f"- `{Path(name).name}`: SHA-256 `{digest}`" for name, digest in data["sha256"].items()]
    what = [f" {source.title} ({source.page})." for source in _publishers(predictor.run)]
    learnt = f"{counts['train'] + counts['val']:,} {noun} to learn from and to validate on{tested}, "
    return ["", "## Data", "", f"{learnt}from {data['source']}.{''.join(what)}", *([""] if digests else []), *digests]


def _publishers(run: RunDir) -> list[manifest.Source]:
    """Who publishes the data of a run, as far as its folder tells: that of a data set which `galaxyml fetch` knows."""
    data = run.provenance()["data"]
    if data["source"] == Simulated.name:
        return []
    dataset = manifest.load().get(Path(data["folder"]).name)
    if dataset is None:
        return []
    if dataset.hub is not None:
        return [dataset.hub.source]
    return list(dict.fromkeys(file.source for file in dataset.places.values()))


def _licences(run: RunDir, licence: str | None) -> list[str]:
    """Lines with the licence of the model, and of what it was made from."""
    own = licence or licence_of(run)
    said = "not stated: ask before you use it" if own is None or own.lower() == UNKNOWN else own
    lines = ["", "## Licence", "", f"- This model: {said}{'' if licence or own is None else ', as its first weights'}."]
    for origin in run_report.origins(run):
        lines.append(f"- It began with {replace(origin, weights=without_folder(origin.weights)).sentence()}.")
        if not origin.licence:
            lines[-1] = lines[-1].removesuffix(".") + "; their licence is not known here."
    lines += [f"- It began with the weights of `{name}`, whose licence holds, too." for name in _starts(run)]
    if run.provenance()["data"]["source"] == Simulated.name:
        return [*lines, "- Data: simulated by galaxyml; nobody's images."]
    publishers = _publishers(run)
    lines += [f"- Data, {source.title}: {source.licence}." for source in publishers]
    return lines if publishers else [*lines, "- Data: its licence is not recorded."]


def _starts(run: RunDir) -> list[str]:
    """Names of the runs or files that nets began with."""
    starts = (net.provenance().get("start") for net in run.nets())
    return list(dict.fromkeys(Path(start["path"]).name for start in starts if start))


def _limits(predictor: "ImagePredictor", noun: str) -> list[str]:
    """Lines with what it is for, and what it is not for."""
    data, metrics, kind = predictor.run.provenance()["data"], predictor.run.metrics(), predictor.kind
    counts = data["objects"]
    limits = [
        f"It repeats the errors and the biases of the {kind.words.targets} that it learnt from.",
        "The numbers above are of objects like those that it learnt from. Images of another survey, depth, resolution "
        "or scaling of brightness are others: check it on some that you have labelled yourself.",
    ]
    if data["source"] == Simulated.name:
        limits.insert(0, "It has seen simulated galaxies alone: its numbers say nothing of real ones.")
    if metrics.get(verdict.KEY, {}).get("better") is False:
        limits.insert(0, "It is not shown to be better than a baseline that sees no image.")
    if any(member.training_set is not None for member in predictor.members):
        limits.append("The column `ood` marks images that are unlike the training set; do not rely on those.")
    return [
        "",
        "## Intended use and limits",
        "",
        f"For research: {kind.words.targets} of samples of {noun} from images like those that it learnt from "
        f"({counts['train'] + counts['val']:,} {noun}, {data['source']}). Not for decisions about single objects "
        "without a look at them.",
        "",
        *(f"- {limit}" for limit in limits),
        "",
        kind.promise,
    ]
