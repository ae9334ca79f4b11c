"""Kaggle's data by kagglehub, which asks a server of this machine in Kaggle's place."""

import base64
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faulty import Server, broken_at, refuses, sends

from galaxyml.data.download import command, kaggle
from galaxyml.data.download.server import RetryPolicy
from galaxyml.data.tables.plasticc import find_files
from galaxyml.runs import files

pytest.importorskip("kagglehub", reason="needs galaxyml[kaggle]")

HURRIED = RetryPolicy(tries=3, unreached=2, wait=0.01, longest=0.02, stall=5.0)
TOKEN = "KGAT_1234"


def packed(folder: Path, name: str) -> bytes:
    """A file or a folder as Kaggle keeps it: in a zip, a folder with its name around it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob(f"{name}*")) + sorted((folder / name).glob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return content.getvalue()


@pytest.fixture
def at_kaggle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Kaggle: sends who asks for one to a bucket by an address that holds once."""
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.address)
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "KAGGLE_API_ENVIRONMENT", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)

    def redirect(asked: Any) -> None:
        if asked.headers["Authorization"] != f"Bearer {TOKEN}":
            return asked.refuse(401)
        count = server.count("DownloadDataFile", "POST")
        return asked.refuse(302, Location=f"{server.address}/bucket/{asked.body['fileName']}?signature={count}")

    server.always["DownloadDataFile"] = redirect
    return server


@pytest.fixture
def fetching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: Callable[..., tuple[int, str]]
) -> Callable[..., tuple[int, str]]:
    """The command; data come to `data`."""
    monkeypatch.setattr(command, "RETRIES", HURRIED)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))  # for the real sizes
    monkeypatch.chdir(tmp_path)
    return partial(in_process, command.main)


@pytest.fixture
def plasticc(at_kaggle: Server, plasticc_sky: Path) -> Server:
    """Kaggle with PLAsTiCC's files, of which it packs one on the way."""
    for name in ("training_set", "training_set_metadata", "test_set", "test_set_metadata"):
        at_kaggle.files[f"{name}.csv"] = (plasticc_sky / f"{name}.csv").read_bytes()
    at_kaggle.files["test_set.csv"] = packed(plasticc_sky, "test_set.csv")
    return at_kaggle


def test_the_challenge_lies_as_its_task_reads_it(
    at_kaggle: Server, fetching: Callable[..., tuple[int, str]], sky: Path
) -> None:
    for name in ("images_training_rev1", "images_test_rev1", "training_solutions_rev1", "all_zeros_benchmark"):
        at_kaggle.files[f"{name}.zip"] = packed(sky, name)
    status, said = fetching("galaxyzoo")
    assert status == 0, said
    assert "the competition's rules" in said
    assert "galaxyzoo/images_test_rev1 holds 12 files; 79,975 are published." in said
    fetched = {path.relative_to("data/galaxyzoo"): path for path in Path("data/galaxyzoo").rglob("*.*")}
    assert {"training_solutions_rev1.csv", "all_zeros_benchmark.csv"} <= {str(name) for name in fetched}
    assert len(fetched) == 2 + len(list(sky.glob("images_*_rev1/*.jpg")))
    assert all(path.read_bytes() == (sky / name).read_bytes() for name, path in fetched.items())
    for how, _, headers in at_kaggle.asked:  # Kaggle learns who asks; the bucket, from this command, does not
        if how == "POST":
            assert headers["Authorization"] == f"Bearer {TOKEN}"
        elif headers["User-Agent"].startswith("galaxyml/"):
            assert "Authorization" not in headers


def test_files_that_kaggle_packs_on_the_way_and_those_that_it_does_not_are_the_same(
    plasticc: Server, fetching: Callable[..., tuple[int, str]], plasticc_sky: Path
) -> None:
    status, said = fetching("plasticc-kaggle")
    assert status == 0, said
    files = find_files(Path("data/plasticc"))
    assert files.train_metadata is not None
    for path in (*files.train_curves, files.train_metadata, *files.test_curves):
        assert path.read_bytes() == (plasticc_sky / path.name).read_bytes()
    assert fetching("--check", "plasticc-kaggle")[0] == 0


def test_a_broken_download_goes_on_by_a_fresh_address(
    plasticc: Server, fetching: Callable[..., tuple[int, str]]
) -> None:
    plasticc.always["training_set.csv"] = broken_at(1_500_000)
    status, said = fetching("plasticc-kaggle")
    assert status == 1
    assert "1,048,576 bytes of it are kept" in said
    assert not Path("data/plasticc").exists()
    del plasticc.always["training_set.csv"]
    assert fetching("plasticc-kaggle")[0] == 0
    fetched = [(path, about.get("Range")) for _, path, about in plasticc.asked if "bucket/training_set.csv" in path]
    assert "bytes=1048576-" in [ranged for _, ranged in fetched]
    assert len({path for path, _ in fetched}) >= 3  # each attempt has its own signature


def test_without_a_token_it_is_told_where_to_get_one_and_where_to_put_it(
    plasticc: Server, fetching: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    status, said = fetching("plasticc-kaggle")
    assert status == 1
    assert re.fullmatch(r"error: Kaggle's data need a token .*kaggle\.com/settings/api.*KAGGLE_API_TOKEN.*\n", said)
    assert plasticc.asked == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"does not know the token \(401\).*kaggle\.com/settings/api"),
        (403, r"\(403\)\. Open https://www\.kaggle\.com/competitions/PLAsTiCC-2018/rules.*accept its rules"),
        (404, r"no such file in PLAsTiCC-2018 \(404\)"),
        (500, r"Kaggle answers 500.*later"),
    ],
)
def test_what_kaggle_refuses_is_told_with_what_to_do(
    plasticc: Server, fetching: Callable[..., tuple[int, str]], status: int, words: str
) -> None:
    plasticc.always["DownloadDataFile"] = refuses(status)
    ended, said = fetching("plasticc-kaggle")
    assert ended == 1
    assert re.search(f"^error: .*{words}", said, re.MULTILINE)
    assert not Path("data/plasticc").exists()


def test_a_file_of_something_else_is_not_kept(plasticc: Server, fetching: Callable[..., tuple[int, str]]) -> None:
    plasticc.always["training_set.csv"] = sends(gzip.compress(b"object_id,mjd,passband\n"))
    status, said = fetching("plasticc-kaggle")
    assert status == 1
    assert "training_set.csv does not hold what it should" in said
    assert not Path("data/plasticc").exists()
    plasticc.always.pop("training_set.csv")
    assert fetching("plasticc-kaggle")[0] == 0


@pytest.mark.parametrize("folder", ["mine", None])
def test_an_older_key_is_found_where_kagglehub_looks(
    plasticc: Server,
    fetching: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str | None,
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    if folder is None:
        monkeypatch.setenv("KAGGLE_USERNAME", "ada")
        monkeypatch.setenv("KAGGLE_KEY", "secret")
    else:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "kaggle.json").write_text(json.dumps({"username": "ada", "key": "secret"}))
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / folder))
    plasticc.always["DownloadDataFile"] = refuses(404)
    assert fetching("plasticc-kaggle")[0] == 1
    given = plasticc.asked[-1][2]["Authorization"]
    assert base64.b64decode(given.removeprefix("Basic ")) == b"ada:secret"


def test_a_spoilt_kaggle_json_is_named(
    plasticc: Server, fetching: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (tmp_path / "kaggle.json").write_text("{")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    status, said = fetching("plasticc-kaggle")
    assert status == 1
    assert re.search(r"error: Invalid Kaggle credentials file at .*kaggle\.json\. Make one at", said)


def test_without_kaggles_client_it_is_told_what_to_install(
    fetching: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kaggle, "find_spec", lambda _: None)
    status, said = fetching("galaxyzoo")
    assert (status, said) == (1, "error: Kaggle's data need its client: pip install 'galaxyml[kaggle]'.\n")
