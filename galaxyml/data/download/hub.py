"""Data sets of the Hugging Face hub: which files they consist of now, under which commit, and who may have them."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from galaxyml.data.download import server
from galaxyml.data.download.manifest import Dataset, File, HubPart, Source
from galaxyml.data.download.server import Refused, RetryPolicy, answer, retried
from galaxyml.data.tables.data_set import CARD, DEFAULT, configurations
from galaxyml.runs.errors import DataError, UserError, shorten
from galaxyml.runs.files import write_json

if TYPE_CHECKING:
    from requests import Session

HUB = "https://huggingface.co"
STARTS = {".parquet": "PAR1", ".h5": "\x89HDF", ".hdf5": "\x89HDF"}


@dataclass(frozen=True)
class Listing:
    """Files of a repository at one commit, which all of a data set is then fetched of.

    Attributes:
        commit: Its SHA-1.
        licence: As the card has it; None if it has none.
        gated: Whether it is given to those alone who have agreed to its terms.
        card: The card's text.
        files: Size and, where the hub tells it, digest of each.
    """

    commit: str
    licence: str | None
    gated: bool
    card: str
    files: dict[str, tuple[int, str | None]]


def endpoint() -> str:
    """Address of the hub, or of the one that `HF_ENDPOINT` names in its place."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def open_session() -> "Session":
    """A session that shows the user's token to the hub, where there is one."""
    from huggingface_hub import get_token

    session = server.open_session()
    if (token := get_token()) is not None:
        session.headers["Authorization"] = f"Bearer {token}"  # which requests takes off where another host is asked
    return session


def address(repo: str, commit: str, path: str) -> str:
    """Address of a file."""
    return f"{endpoint()}/datasets/{repo}/resolve/{commit}/{quote(path)}"


def listing(root: Path, part: HubPart, session: "Session | None", policy: RetryPolicy) -> Listing | None:
    """The files of a data set's repository: as they were when it was first asked for, so that all are of one commit.

    Args:
        root: Folder of all data, in which they are kept.
        part: Of the data set.
        session: From `open_session`; None to ask nobody.
        policy: How long the hub is waited for.

    Returns:
        None if nobody is asked, and nobody was before.

    Raises:
        UserError: If the hub cannot be reached or does not give it to this user.
    """
    repo = part.repo
    kept = root / ".fetch" / "hub" / f"{repo.replace('/', '--')}.json"
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        return Listing(
            **content | {"files": {name: (size, digest) for name, (size, digest) in content["files"].items()}}
        )
    except (OSError, ValueError, TypeError, KeyError):
        if session is None:
            return None
    with refusals(part.source):
        found = retried(lambda: _ask(session, part.source, policy), f"the hub's {repo}", policy)
    write_json(kept, {name: getattr(found, name) for name in Listing.__dataclass_fields__})
    return found


def resolved(dataset: Dataset, found: Listing, shards: int | None = None) -> Dataset:
    """A data set with its places: the card, and the parts of its configuration in their order.

    Args:
        dataset: From the hub.
        found: The files of its repository.
        shards: How many parts of each split are wanted; None for all.

    Raises:
        DataError: If it has no such configuration.
    """
    part = dataset.hub
    assert part is not None
    of_config = configurations(found.card, list(found.files))
    if part.config == DEFAULT and len(of_config) == 1:  # whatever its name is
        of_config = {DEFAULT: next(iter(of_config.values()))}
    if part.config not in of_config:
        raise DataError(
            f"{part.source.page} has no configuration {part.config}; it has {shorten(list(of_config)) or 'no parquet'}."
        )
    counts: dict[str | None, int] = {}
    names = [CARD] if CARD in found.files else []
    for name, split in of_config[part.config].items():
        counts[split] = counts.get(split, 0) + 1
        if shards is None or counts[split] <= shards:
            names.append(name)
    places: dict[str, File] = {}
    for name in names:
        size, digest = found.files[name]
        starts = STARTS.get(Path(name).suffix.lower(), "")
        file = File(f"{part.repo}/{name}", part.source, size, digest=digest, starts=starts, commit=found.commit)
        places |= {f"{folder}/{name}": file for folder in part.folders}
    return replace(dataset, places=places)


@contextmanager
def refusals(source: Source) -> Iterator[None]:
    """Turns what the hub refuses into a sentence."""
    try:
        yield
    except Refused as error:
        if error.status in (401, 403):
            raise UserError(f"The hub does not give you {source.hub} ({error.status}). {_way_in(source)}") from None
        raise


def _way_in(source: Source) -> str:
    return (
        f"Open {source.page}, log in and agree to its terms (or ask for access, which its owner then gives); make a "
        "token at https://huggingface.co/settings/tokens, put it into the variable HF_TOKEN (or run `hf auth login`), "
        "and run the same command again."
    )


def _ask(session: "Session", source: Source, policy: RetryPolicy) -> Listing:
    repo = str(source.hub)
    about = _json(session, f"{endpoint()}/api/datasets/{repo}/revision/main", policy)[0]
    try:
        commit, gated = str(about["sha"]), bool(about.get("gated"))
        if gated and "Authorization" not in session.headers:
            raise UserError(f"{repo} is gated: its owner gives it to those who ask. {_way_in(source)}")
        files: dict[str, tuple[int, str | None]] = {}
        page: str | None = f"{endpoint()}/api/datasets/{repo}/tree/{commit}?recursive=true&expand=false"
        while page is not None:
            entries, page = _json(session, page, policy)
            for entry in entries:
                if entry["type"] == "file":
                    digest = (entry.get("lfs") or {}).get("oid")
                    files[str(entry["path"])] = (int(entry["size"]), f"sha256:{digest}" if digest else None)
        licence = (about.get("cardData") or {}).get("license")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"The hub describes {repo} in a way that is not understood ({error!r}).") from None
    card = ""
    if CARD in files:
        with answer(session, address(repo, commit, CARD), policy) as response:
            card = response.content.decode("utf-8", errors="replace")
    licence = ", ".join(licence) if isinstance(licence, list) else licence
    return Listing(commit, licence, gated, card, files)


def _json(session: "Session", asked: str, policy: RetryPolicy) -> tuple[Any, str | None]:
    """A document, and the address of the next page, if there is one."""
    with answer(session, asked, policy) as response:
        return response.json(), response.links.get("next", {}).get("url")
