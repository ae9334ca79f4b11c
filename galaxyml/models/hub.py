"""Files of encoders: from the Hugging Face hub's cache or else the hub, or from a folder in the same format."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from galaxyml.models.sources import Source
from galaxyml.runs.errors import UserError, did_you_mean

# Seconds for the hub to answer, asked once; its own client would ask for 47 s before it says that there is no network.
REQUEST_TIMEOUT = 10
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")  # as timm and transformers write
ON_HUB = WEIGHTS[:2]
# Arguments of the net that the run's own images and targets decide.
DECIDED = ("num_classes", "in_chans", "img_size", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")
DINOV2 = {384: "small", 768: "base", 1024: "large", 1536: "giant"}  # by the width that transformers' files have


@dataclass(frozen=True)
class Encoder:
    """What a `config.json` says.

    Attributes:
        name: Of the net in timm.
        arguments: More arguments of the net.
        pretrained_cfg: As timm has it, such as `mean`, `std` and `license`; empty where the file has none.
        commit: Of the repository; None of a folder.
    """

    name: str
    arguments: dict[str, Any]
    pretrained_cfg: dict[str, Any]
    commit: str | None


def net_arguments(source: Source) -> dict[str, Any]:
    """The arguments of `timm_net` for an encoder.

    Raises:
        UserError: If its `config.json` cannot be had, or names no net of timm.
    """
    encoder = read_encoder(source)
    return {"name": encoder.name, "pretrained": str(source), **encoder.arguments}


def read_encoder(source: Source) -> Encoder:
    """What the `config.json` of an encoder says, fetched first if it is not there.

    Raises:
        UserError: If it cannot be had, or names no net of timm.
    """
    path = _file(source, (CONFIG,))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = dict(content.get("pretrained_cfg") or content)
        name = str(content.get("architecture") or _of_transformers(content))
        arguments = dict(content.get("model_args") or {})
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{source}: its config.json is no description of a net ({error}).") from error
    if not timm.is_model(name):
        if not name and isinstance(content.get("galaxyml"), dict):
            raise UserError(
                f"{source}: its net is galaxyml's own, and none of timm. Give its folder with start=FOLDER."
            )
        named = f"names the architecture '{name}'" if name else "names no architecture"
        near = f" {near}" if name and (near := did_you_mean(name, timm.list_models())).startswith("Did") else ""
        raise UserError(
            f"{source}: its config.json {named}, and timm {timm.__version__} has no such net.{near} A newer timm may "
            "have it; weights of a net that this one has are given as model=NAME model.weights=FILE."
        )
    return Encoder(name, {key: arguments[key] for key in arguments if key not in DECIDED}, config, commit_of(path))


def commit_of(path: Path) -> str | None:
    """The commit that a file of the hub's cache is of, `snapshots/COMMIT/FILE`; None for other files."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None


def _of_transformers(content: dict[str, Any]) -> str:
    """The net of timm that a `config.json` of Hugging Face's transformers means; '' for others than DINOv2."""
    kind, width = content.get("model_type"), DINOV2.get(content.get("hidden_size") or 0)
    if kind not in ("dinov2", "dinov2_with_registers") or width is None:
        return ""
    return f"vit_{width}_patch14{'_reg4' if kind != 'dinov2' else ''}_dinov2"


def weights_file(source: Source, commit: str | None = None) -> Path:
    """The weights of an encoder, fetched first if they are not there.

    Args:
        source: The encoder.
        commit: Of its `config.json`, so that both are of one.

    Raises:
        UserError: If they cannot be had.
    """
    return _file(source, WEIGHTS if source.is_folder else ON_HUB, commit)


def _file(source: Source, files: tuple[str, ...], commit: str | None = None) -> Path:
    """The first file of a source that there is."""
    if not source.is_folder:
        advice = (
            f"Where there is a network, `hf download {source.place} --local-dir FOLDER` gets all of it: give that with "
            "model=local-dir:FOLDER"
        )
        revision = commit or source.revision
        return fetched(source.place, files, revision, what=f"{source}: {files[0]}", advice=advice)
    folder = Path(source.place).expanduser()
    if not folder.is_dir():
        raise UserError(f"{source}: there is no such folder.")
    if not (there := [folder / name for name in files if (folder / name).is_file()]):
        raise UserError(f"{source}: the folder has no {' or '.join(files)}.")
    return there[0]


def fetched(repository: str, files: tuple[str, ...], revision: str | None, what: str, advice: str) -> Path:
    """The first of some files that the hub's cache has, or else the hub.

    Args:
        repository: `OWNER/NAME`.
        files: Their names, the best first.
        revision: A branch, a tag or a commit; None for the main branch.
        what: What is fetched, for messages.
        advice: What else may be done, for messages; `{url}` is the first file's.

    Raises:
        UserError: If there is none; the message says why, and what to do.
    """
    for file in files:
        if isinstance(cached := try_to_load_from_cache(repository, file, revision=revision), str):
            return Path(cached)
    urls = [hf_hub_url(repository, file, revision=revision) for file in files]
    failure: Exception | None = None
    for file, url in zip(files, urls, strict=True):
        try:
            get_hf_file_metadata(url, timeout=REQUEST_TIMEOUT)
            return Path(hf_hub_download(repository, file, revision=revision))
        except Exception as error:  # the hub's client raises those of its HTTP library, which has changed
            failure = failure or error
            if not isinstance(error, EntryNotFoundError):
                break
    assert failure is not None
    if refusal := _refusal(failure, repository, revision):
        raise UserError(refusal) from failure
    reason = "HF_HUB_OFFLINE is set" if isinstance(failure, OfflineModeIsEnabled) else in_short(failure)
    folder = f"models--{repository.replace('/', '--')}"
    raise UserError(
        f"{what} cannot be fetched from the hub, nor is it in its cache ({reason}). {advice.format(url=urls[0])}; or "
        f"run there `hf download {repository}`, and copy {folder} from its cache to {constants.HF_HUB_CACHE}. Nothing "
        "else has been read or written yet."
    ) from failure


def _refusal(error: Exception, repository: str, revision: str | None) -> str | None:
    """What the hub says against a repository or a revision, in a sentence; None if it says nothing of the kind."""
    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, GatedRepoError):  # which is a RepositoryNotFoundError
        return (
            f"hf-hub:{repository} is gated: accept its terms at {page}, and let this machine know who you are with "
            "`hf auth login`, or HF_TOKEN."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"hf-hub:{repository} has no revision '{revision}': give a branch, tag or commit of {page}/commits/main."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"hf-hub:{repository}: the hub has no repository of this name, or it is private: look at {page}; a private "
            "one needs `hf auth login`, or HF_TOKEN."
        )
    return None


def in_short(error: BaseException) -> str:
    """An error's class and the first line of what it says."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
