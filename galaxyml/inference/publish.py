"""A finished run as a repository of the Hugging Face hub: `galaxyml publish RUN OWNER/NAME`.

It has the bundle, which predicts; the weights of the (first) net as safetensors with a `config.json`, which timm loads
where the net is timm's and which `start=` takes of any; and a model card that is made from the run.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galaxyml import __version__
from galaxyml.runs.errors import UsageError, UserError
from galaxyml.runs.files import atomic_write, write_json, write_text
from galaxyml.runs.options import Parser

if TYPE_CHECKING:
    from torch import Tensor

    from galaxyml.inference.image_predictor import ImagePredictor

EXAMPLES = """\
examples:
  galaxyml publish multirun/galaxyzoo/mine ada/galaxy-votes --dry-run published
  galaxyml publish multirun/galaxyzoo/mine ada/galaxy-votes --license cc-by-4.0
  galaxyml publish multirun/galaxyzoo/mine ada/galaxy-votes --update --yes

Nothing is sent before you have typed the name once more, or given --yes. It needs a token that may write, from
`hf auth login` or in HF_TOKEN. Images, tables of galaxies and paths of this machine are not published."""

HUB = "https://huggingface.co"
CARD, CONFIG, WEIGHTS, BUNDLE = "README.md", "config.json", "model.safetensors", "model.zip"
REPOSITORY = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
# Of `pretrained_cfg` what is of the weights that the net began with, not of these.
OF_OTHERS = (
    "source file url hf_hub_id hf_hub_filename tag origin_url paper_ids notes license test_input_size test_crop_pct "
    "test_pool_size"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, and writes or sends the repository."""
    parser = Parser(
        prog="galaxyml publish",
        description="Puts a finished run, sweep or ensemble on images on the Hugging Face hub, with a model card.",
        epilog=EXAMPLES,
    )
    parser.add_argument("run", type=Path, help="folder of a run, of a sweep whose folds were joined, or of an ensemble")
    parser.add_argument("repository", metavar="OWNER/NAME", help="of the hub; OWNER is you or an organisation of yours")
    parser.add_argument("--dry-run", type=Path, metavar="FOLDER", help="write what would be sent, and send nothing")
    parser.add_argument("--license", metavar="ID", help="of the model, as the hub spells it, such as mit or cc-by-4.0")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--public", action="store_true", help="for everybody to see; without it the repository is private"
    )
    target.add_argument("--update", action="store_true", help="send to a repository that is there")
    parser.add_argument("--yes", action="store_true", help="send without asking")
    given = parser.parse_args(arguments)
    name = given.repository
    if not re.fullmatch(REPOSITORY, name, flags=re.ASCII) or re.search(r"--|\.\.", name) or name.endswith((".", "-")):
        raise UsageError(f"'{name}' is no name of a repository: give OWNER/NAME, such as ada/galaxy-votes.")
    if given.license is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", given.license):
        raise UsageError(
            f"--license {given.license}: give one of the hub's names, such as mit, apache-2.0 or cc-by-4.0."
        )
    if given.dry_run is not None:
        predictor = write(given.run, given.dry_run, name, given.license)
        _warn(predictor, given.license)
        print(f"{given.dry_run}: {_listing(given.dry_run)}. Nothing was sent.")
        return
    _publish(given.run, name, given.license, given.public, given.update, given.yes)


def write(path: Path, folder: Path, repository: str, licence: str | None = None) -> "ImagePredictor":
    """Writes the files of a repository, whole or not at all; the same run gives the same bytes.

    Args:
        path: Folder of a finished run on images, of a sweep whose folds were joined, or of an ensemble.
        folder: It must not exist yet, or be empty.
        repository: `OWNER/NAME`, which the card names.
        licence: Of the model, as the hub spells it; None for that of the first weights.

    Returns:
        The predictor that was written.

    Raises:
        UserError: If the run is not finished, is one of light curves, or needs a class that is not galaxyml's own; if
            the folder is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and not empty. Choose another folder, or remove it.")
    if path.is_file():
        raise UsageError(f"{path} is a file. Give the folder of the run, which has the numbers of the model card.")
    from safetensors.torch import save

    from galaxyml.inference import bundle, load, model_card
    from galaxyml.inference.image_predictor import ImagePredictor

    predictor = load(path)
    if not isinstance(predictor, ImagePredictor):
        raise UsageError(f"{path} is a run of light curves; only runs on images can be published.")
    if folder.is_dir():
        folder.rmdir()
    with atomic_write(folder) as draft:
        draft.mkdir(exist_ok=True)
        bundle.pack(predictor, draft / BUNDLE)
        weights, config = weights_and_config(predictor)
        if (known := licence or model_card.licence_of(predictor.run)) and "pretrained_cfg" in config:
            config["pretrained_cfg"]["license"] = known
        (draft / WEIGHTS).write_bytes(save(bundle.contiguous(weights), metadata={"format": "pt"}))
        write_json(draft / CONFIG, config)
        write_text(draft / CARD, model_card.text(predictor, repository, licence, "architecture" in config))
    return predictor


def weights_and_config(predictor: "ImagePredictor") -> tuple["dict[str, Tensor]", dict[str, Any]]:
    """The weights of the (first) net by name, and what they are.

    Returns:
        Of a net of timm, timm's names and `config.json`; with a hidden layer before the outputs, those of the net
        without it, as timm has no such layer. Of other nets, their own names. `galaxyml` is in each `config.json`.
    """
    from galaxyml.models.backbones import Normalised
    from galaxyml.models.symmetry import Symmetric
    from galaxyml.runs.weights_about import KEY
    from galaxyml.training.description import encode
    from galaxyml.training.start import merged

    member, described = predictor.members[0], predictor.description["nets"][0]
    net: Any = member.model.net
    net = net.net if isinstance(net, Symmetric) else net
    weights = merged(net.state_dict(), described["lora"])
    labels = predictor.kind.score_names or predictor.columns
    own = {
        "version": __version__,
        "task": predictor.task,
        "net": encode({"net": described["net"]}, str(predictor.run.path))["net"],
        "size": member.framing.size,
        "channels": member.framing.decoding.channels,
        "scores": labels,
        "head": type(member.model.final).__name__,
    }
    if not isinstance(net, Normalised):
        return weights, {KEY: own}
    of_timm = {name.removeprefix("net."): value for name, value in weights.items() if name.startswith("net.")}
    return of_timm, _timm_config(net, labels, own["size"], own["channels"], member.framing.crop) | {KEY: own}


def _timm_config(net: Any, labels: list[str], size: int, channels: int, crop: float) -> dict[str, Any]:
    """The `config.json` that timm reads: how to build the net, and how its images are scaled.

    Args:
        net: `Normalised`.
        labels: Names of the scores.
        size: Side of the images in pixels.
        channels: Of the images.
        crop: What the net sees of an image's shorter side, a fraction.
    """
    from timm.models._hub import save_config_for_hf  # the public save_for_hf writes the weights, too

    # The shortest numbers that are the same in single precision: 0.485, not 0.48500001430511475.
    scaling = {key: [float(str(value)) for value in getattr(net, key).flatten().numpy()] for key in ("mean", "std")}
    seen = {"input_size": [channels, size, size], "crop_pct": crop, "crop_mode": "center", "interpolation": "bilinear"}
    with tempfile.TemporaryDirectory(prefix="galaxyml-publish-") as folder:
        path = Path(folder, CONFIG)
        save_config_for_hf(net.net, str(path), {"pretrained_cfg": scaling | seen})
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    pretrained = {key: value for key, value in config["pretrained_cfg"].items() if key not in OF_OTHERS.split()}
    if config["num_classes"] == len(labels):
        config["label_names"] = labels
    return config | {"pretrained_cfg": pretrained}


def _publish(path: Path, repository: str, licence: str | None, public: bool, update: bool, yes: bool) -> None:
    """Writes a repository to a folder that goes again, asks, and sends it."""
    from huggingface_hub import constants, get_token

    from galaxyml.reports import verdict

    if constants.ENDPOINT != HUB and "HF_HUB_DISABLE_XET" not in os.environ:
        constants.HF_HUB_DISABLE_XET = True  # a protocol of Hugging Face's own, which other servers need not speak
    if constants.is_offline_mode() if hasattr(constants, "is_offline_mode") else constants.HF_HUB_OFFLINE:
        raise UsageError(
            "HF_HUB_OFFLINE is set, so that nothing can be sent. Unset it, or write with --dry-run FOLDER."
        )
    if get_token() is None:
        raise UsageError(
            f"There is no token for {constants.ENDPOINT}: `hf auth login`, or set HF_TOKEN to one that may write "
            f"({constants.ENDPOINT}/settings/tokens). Without one, --dry-run FOLDER writes what would be sent."
        )
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            "Nothing was sent, as nobody can be asked here: add --yes, or look first with --dry-run FOLDER."
        )
    with tempfile.TemporaryDirectory(prefix="galaxyml-publish-") as parent:
        folder = Path(parent, "repository")
        predictor = write(path, folder, repository, licence)
        _warn(predictor, licence)
        if not yes and verdict.sentence(predictor.run.metrics()) == verdict.SMOKE:
            raise UsageError(f"{path} is a smoke test. Nothing was sent; --yes publishes it nevertheless.")
        print(f"{repository}: {_listing(folder)}")
        if not yes:
            _ask(repository, "as a commit" if update else "for everybody to see" if public else "privately")
        _send(folder, repository, public, update)
    print(f"{constants.ENDPOINT}/{repository}{'' if public or update else ' (private)'}")


def _warn(predictor: "ImagePredictor", licence: str | None) -> None:
    """Says what should be thought of before a run is published."""
    from galaxyml.inference import model_card
    from galaxyml.reports import verdict

    if verdict.sentence(predictor.run.metrics()) == verdict.SMOKE:
        print("note: this is a smoke test, too small to judge; the card says so.")
    if licence is None and model_card.licence_of(predictor.run) is None:
        print("note: the card states no licence, so that nobody may use the model: --license mit, for example.")


def _listing(folder: Path) -> str:
    files = sorted(folder.iterdir())
    return ", ".join(f"{file.name} ({_size(file.stat().st_size)})" for file in files)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _ask(repository: str, how: str) -> None:
    """Goes on where the user types the name of the repository.

    Raises:
        UsageError: If they type anything else.
    """
    try:
        answer = input(f"Type {repository} to send this {how}: ").strip()
    except EOFError:
        answer = ""
    if answer != repository:
        raise UsageError(f"Nothing was sent: '{answer}' is not {repository}.")


def _send(folder: Path, repository: str, public: bool, update: bool) -> None:
    """Creates a repository, unless it is there, and makes a commit of a folder's files.

    Raises:
        UserError: If the hub refuses it, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi()
    created = update
    try:
        if not update:
            api.create_repo(repository, private=not public)
            created = True
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Published by galaxyml {__version__}")
    except Exception as error:  # the hub's client raises those of its HTTP library, which has changed
        after = (
            " The repository is there now, without the files: --update sends them." if created and not update else ""
        )
        raise UserError(_failure(error, repository, update) + after) from error


def _failure(error: BaseException, repository: str, update: bool) -> str:
    """Why the hub has not taken a repository, in a sentence, and what to do."""
    from huggingface_hub import constants

    from galaxyml.models.hub import in_short

    while error.__cause__ is not None and getattr(error, "response", None) is None:
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    owner, page = repository.partition("/")[0], f"{constants.ENDPOINT}/{repository}"
    if update and (status == 404 or type(error).__name__ == "RepositoryNotFoundError"):
        return f"The hub has no {repository} that your token may write to: look at {page}, or leave --update out."
    if status == 401:
        return "The hub does not accept your token (401): make another, and tell it by `hf auth login` or HF_TOKEN."
    if status == 403:
        return (
            f"The hub does not let you write to {repository} (403): the token must be one that may write, and {owner} "
            "you or an organisation of yours."
        )
    if status == 409 and not update:
        return f"The name is taken: {page} is there. Choose another, or send to that one with --update."
    if status is not None:
        return f"The hub has refused {repository} ({status}, {in_short(error)})."
    if isinstance(error, ValueError):
        return f"The hub has refused {repository} ({in_short(error)})."
    return f"{constants.ENDPOINT} cannot be reached ({in_short(error)}). --dry-run FOLDER writes what would be sent."
