"""The page's server without a browser: who may ask it, and what becomes of answers."""

import io
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from label_pages import ANSWERS, COUNT, Page, serving, some_objects
from PIL import Image

from galaxyml.inference.embedded import Embedded
from galaxyml.labelling import labeller as labellers
from galaxyml.labelling import server as servers
from galaxyml.labelling.choose import Chooser
from galaxyml.runs.errors import UsageError

Serve = Callable[..., AbstractContextManager[servers.LabelServer]]


@pytest.fixture
def objects(tmp_path: Path) -> Embedded:
    return some_objects(tmp_path / "images")


@pytest.fixture
def table(objects: Embedded, tmp_path: Path) -> Path:
    return tmp_path / "images" / "labels.csv"


@pytest.fixture
def serve(objects: Embedded, table: Path) -> Serve:
    """Serves the page of some objects."""
    return partial(serving, objects, table)


def page_of(server: servers.LabelServer, window: str = "first") -> Page:
    return Page(server.server_port, window)


def rows(state: Mapping[str, Any]) -> list[int]:
    return [item["row"] for item in state["items"]]


# --- who may ask


def test_only_this_machine_is_listened_to_under_its_own_names(serve: Serve) -> None:
    with serve() as server:
        page = page_of(server)
        assert server.server_address[0] == "127.0.0.1"
        for host in (f"localhost:{server.server_port}", f"127.0.0.1:{server.server_port}"):
            assert page.get("/", Host=host)[0] == 200
        for host in ("evil.example", f"evil.example:{server.server_port}", f"127.0.0.1:{server.server_port + 1}", ""):
            for path in ("/", "/label.js", "/image/0/64"):
                status, _, content = page.get(path, Host=host)
                assert status == 403
                assert page.token.encode() not in content
            assert page.post("/open", {servers.TOKEN: page.token, "Host": host})[0] == 403


def test_what_does_not_know_the_token_changes_nothing(serve: Serve, table: Path) -> None:
    with serve() as server:
        page = page_of(server)
        page.ask("/open")
        for headers in ({}, {servers.TOKEN: ""}, {servers.TOKEN: "x" * len(page.token)}, {servers.TOKEN: "é"}):
            status, content = page.post("/label", headers, row=0, answer=0)
            assert (status, content["ended"]) == (403, True)
        assert not table.exists()


def test_tokens_differ(serve: Serve) -> None:
    with serve() as server:
        first = page_of(server).token
    with serve() as server:
        assert page_of(server).token != first


def test_the_browser_is_told_to_run_and_fetch_nothing_but_the_pages_own_files(serve: Serve) -> None:
    with serve() as server:
        page = page_of(server)
        for path in ("/", "/label.js", "/label.css", "/image/0/64", "/nothing"):
            _, headers, content = page.get(path)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            if not path.startswith("/image"):
                assert b"http" not in content
        assert b"<script>" not in page.get("/")[2]
        assert b"style=" not in page.get("/")[2]


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/label.py", "/labels.csv", "/image/40/64", "/image/0/9999", "/image/x/64"]
)
def test_nothing_else_can_be_had(path: str, serve: Serve) -> None:
    with serve() as server:
        status, _, content = page_of(server).get(path)
        assert status == 404
        assert set(json.loads(content)) == {"error"}


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("/label", {"row": COUNT, "answer": 0}, 400),
        ("/label", {"row": -1, "answer": 0}, 400),
        ("/label", {"row": 0, "answer": 3}, 400),
        ("/label", {"row": 0, "answer": True}, 400),
        ("/label", {"row": "0", "answer": 0}, 400),
        ("/label", {}, 400),
        ("/skip", {"row": 0.5}, 400),
        ("/state", {"window": None}, 400),
        ("/state", {"more": "x" * servers.LONGEST}, 413),
        ("/nothing", {}, 404),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_page_goes_on(
    path: str, given: dict[str, Any], status: int, serve: Serve
) -> None:
    with serve() as server:
        page = page_of(server)
        page.ask("/open")
        refused, content = page.post(path, **given)
        assert refused == status
        assert content["error"]
        assert page.ask("/state")["labelled"] == 0


def test_what_is_no_json_is_refused(serve: Serve) -> None:
    with serve() as server:
        page = page_of(server)
        for body in (b"", b"[1]", b"{", b"\xff"):
            status, _, content = page.send("POST", "/open", body, {servers.TOKEN: page.token})
            assert status == 400, content


def test_an_image_is_the_objects_own(serve: Serve, table: Path) -> None:
    with serve() as server:
        status, headers, content = page_of(server).get("/image/7/48?any")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    shown = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    expected = np.asarray(Image.open(table.with_name("07.png")).resize((48, 48), Image.Resampling.LANCZOS)).astype(int)
    assert shown.shape == (48, 48, 3)
    assert np.abs(shown - expected).mean() < 4


# --- what is asked, and what becomes of answers


def test_objects_come_in_the_choosers_order_with_what_the_run_predicts(serve: Serve, objects: Embedded) -> None:
    with serve() as server:
        state = page_of(server).ask("/open")
    assert state["question"] == "What is it?"
    assert state["answers"] == list(ANSWERS)
    assert state["strategy"] == "random: in words"
    assert rows(state) == Chooser(objects, ANSWERS, "random").order(())[: servers.SHOWN].tolist()
    first = state["items"][0]
    assert first["id"] == objects.ids[first["row"]]
    assert first["prediction"]["verdict"] == objects.table["class"][first["row"]]
    assert first["suggested"] is None


def test_answers_are_kept_counted_and_not_asked_again(serve: Serve, table: Path, objects: Embedded) -> None:
    with serve() as server:
        page = page_of(server)
        state = page.ask("/open")
        first, second = rows(state)[:2]
        page.ask("/label", row=first, answer=2)
        state = page.ask("/label", row=second, answer=0)
        assert (state["labelled"], state["counts"], state["session"]) == (2, [1, 0, 1], 2)
        assert not {first, second} & set(rows(state))
        found = pd.read_csv(table)
    assert found["path"].tolist() == [objects.ids[first], objects.ids[second]]
    assert found["label"].tolist() == ["odd", "smooth"]


def test_undo_asks_about_the_same_object_at_once(serve: Serve) -> None:
    with serve() as server:
        page = page_of(server)
        order = rows(page.ask("/open"))
        for row in order[:3]:
            page.ask("/label", row=row, answer=1)
        state = page.ask("/undo")
        assert state["undone"]["row"] == order[2]
        state = page.ask("/undo")
        assert state["undone"]["row"] == order[1]
        assert rows(state) == [*order[1:], *rows(state)[len(order) - 1 :]]
        page.ask("/undo")
        assert page.ask("/undo")["undone"] is None


def test_skipped_objects_come_back_behind_all_others(serve: Serve) -> None:
    with serve() as server:
        page = page_of(server)
        state = page.ask("/open")
        skipped = rows(state)[:2]
        for row in skipped:
            page.ask("/skip", row=row)
        state = page.ask("/state")
        assert state["skipped"] == 2
        while left := [row for row in rows(state) if row not in skipped]:
            state = page.ask("/label", row=left[0], answer=0)
        assert rows(state) == skipped
        for row in skipped:
            state = page.ask("/label", row=row, answer=0)
        assert (rows(state), state["labelled"], state["skipped"]) == ([], COUNT, 0)


def test_the_same_command_goes_on_where_it_was(serve: Serve) -> None:
    with serve() as server:
        page = page_of(server)
        order = rows(page.ask("/open"))
        page.ask("/label", row=order[0], answer=1)
        page.ask("/skip", row=order[1])
    with serve() as server:
        state = page_of(server).ask("/open")
        assert (state["labelled"], state["skipped"], state["session"]) == (1, 1, 0)
        assert rows(state)[: len(order) - 2] == order[2:]


def test_a_label_that_cannot_be_written_is_told_and_asked_again(serve: Serve, table: Path) -> None:
    with serve() as server:
        page = page_of(server)
        row = rows(page.ask("/open"))[0]
        table.write_text("my,own\ntable,now\n")
        status, content = page.post("/label", row=row, answer=0)
        assert status == 500
        assert "is not a file of labels" in content["error"]
        table.unlink()
        assert rows(page.ask("/state"))[0] == row
        assert page.ask("/label", row=row, answer=0)["labelled"] == 1


# --- one window at a time


def test_a_second_window_is_told_and_may_take_over(serve: Serve) -> None:
    with serve() as server:
        first, second = page_of(server, "first"), page_of(server, "second")
        first.ask("/open")
        status, content = second.post("/open")
        assert (status, content["stale"]) == (409, True)
        assert "another window" in content["error"]
        assert first.post("/state")[0] == 200
        row = rows(second.ask("/open", take=True))[0]
        status, content = first.post("/label", row=row, answer=0)
        assert (status, content["stale"]) == (409, True)
        assert second.ask("/state")["labelled"] == 0


def test_a_window_that_is_loaded_again_goes_on_and_a_copy_of_it_is_told(serve: Serve) -> None:
    with serve() as server:
        page = page_of(server, "load 1")
        page.ask("/open")
        copy = page_of(server, "load 1")
        page.window = "load 2"
        page.ask("/open", before=["load 1"])
        assert copy.post("/state")[0] == 409
        page.window = "load 4"  # the third was never heard of
        page.ask("/open", before=["load 2", "load 3"])


def test_what_is_sent_again_is_done_once(serve: Serve) -> None:
    with serve() as server:
        page = page_of(server)
        order = rows(page.ask("/open"))
        for number, row in enumerate(order[:3]):
            page.ask("/label", row=row, answer=0, operation=f"label {number}")
        for _ in range(2):
            state = page.ask("/undo", operation="undo")
        assert (state["labelled"], rows(state)[0]) == (2, order[2])
        page.ask("/label", row=order[2], answer=1, operation="label 2")
        assert page.ask("/state")["labelled"] == 2
        page.ask("/undo")
        assert page.ask("/undo")["labelled"] == 0


def test_a_closed_window_makes_room(serve: Serve) -> None:
    with serve() as server:
        first, second = page_of(server, "first"), page_of(server, "second")
        first.ask("/open")
        first.ask("/close")
        second.ask("/open")
        first.ask("/close")  # which says nothing of the second
        assert second.post("/state")[0] == 200


# --- learning


class Teachable(Chooser):
    """Puts what was labelled most rarely first, once it is let."""

    let = threading.Event()
    fails = False
    seen: list[dict[int, str]]

    def learn(self, labels: Mapping[int, str]) -> None:
        self.seen.append(dict(labels))
        assert self.let.wait(30)
        if self.fails:
            raise ValueError("no order")
        self.probabilities = np.full((COUNT, len(ANSWERS)), 1 / len(ANSWERS))

    def order(self, without: Collection[int] = ()) -> np.ndarray:
        every = np.arange(COUNT) if self.probabilities is None else np.arange(COUNT)[::-1]
        return every[~np.isin(every, list(without))]


@pytest.fixture
def teachable(monkeypatch: pytest.MonkeyPatch) -> type[Teachable]:
    monkeypatch.setattr(Teachable, "let", threading.Event())
    monkeypatch.setattr(Teachable, "fails", False)
    Teachable.seen = []
    return Teachable


def wait_for(page: Page) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (state := page.ask("/state"))["learning"] and time.monotonic() < deadline:
        time.sleep(0.02)
    return state


def test_answers_go_on_while_the_order_is_learnt_which_then_changes(serve: Serve, teachable: type[Teachable]) -> None:
    with serve(every=3, of=teachable) as server:
        page = page_of(server)
        page.ask("/open")
        for row in range(5):
            state = page.ask("/label", row=row, answer=row % 2)
        assert state["learning"]
        assert (rows(state)[0], state["learnt_from"]) == (5, 0)
        teachable.let.set()
        state = wait_for(page)
        assert state["learnt_from"] == 3
        assert rows(state) == list(range(COUNT - 1, 15, -1))
        assert state["items"][0]["suggested"] == pytest.approx([1 / 3] * 3)
    assert teachable.seen == [{0: "smooth", 1: "spiral", 2: "smooth"}]


def test_labels_that_are_there_are_learnt_from_before_anything_is_asked(
    serve: Serve, teachable: type[Teachable]
) -> None:
    teachable.let.set()
    with serve(of=teachable) as server:
        page = page_of(server)
        page.ask("/open")
        page.ask("/label", row=4, answer=2)
    with serve(of=teachable) as server:
        state = page_of(server).ask("/open")
        assert (state["learnt_from"], rows(state)[0]) == (1, COUNT - 1)
    assert teachable.seen == [{4: "odd"}]


def test_an_order_that_cannot_be_learnt_is_told_and_answers_go_on(
    serve: Serve, teachable: type[Teachable], caplog: pytest.LogCaptureFixture
) -> None:
    teachable.let.set()
    teachable.fails = True
    with serve(every=1, of=teachable) as server:
        page = page_of(server)
        page.ask("/open")
        page.ask("/label", row=0, answer=0)
        assert wait_for(page)["failure"] == "The order is not learnt again: no order"
        teachable.fails = False
        page.ask("/label", row=1, answer=0)
        assert wait_for(page)["failure"] == ""


def test_the_rate_counts_no_pauses(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 102.0, 104.0, 10_000.0])
    monkeypatch.setattr(labellers, "time", SimpleNamespace(monotonic=partial(next, clock)))
    with serve() as server:
        page = page_of(server)
        page.ask("/open")
        found = [page.ask("/label", row=row, answer=0)["per_minute"] for row in range(4)]
    assert found == [None, 30, 30, pytest.approx(60 * 3 / 64)]


# --- ports


def test_a_port_that_is_taken_is_told_and_the_next_free_one_is_found(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve() as server, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"--port {taken}: another program uses it"),
            servers.served(server.labeller, "", taken),
        ):
            pass
        monkeypatch.setattr(servers, "FIRST_PORT", taken)
        with servers.served(server.labeller, "") as found:
            assert found.server_port > taken
            assert urllib.request.urlopen(found.address).status == 200


def test_nothing_is_kept_once_the_command_is_stopped(serve: Serve, table: Path) -> None:
    with serve() as server:
        page = page_of(server)
        row = rows(page.ask("/open"))[0]
        server.labeller.close()
        status, content = page.post("/label", row=row, answer=0)
        assert (status, "has been stopped" in content["error"]) == (500, True)
    assert not table.exists()
