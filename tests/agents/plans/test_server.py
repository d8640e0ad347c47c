"""The review server as a process of its own, as reviewers run it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from forethought.agents.plans import read_drafts, read_reviews
from forethought.agents.plans.review import ReviewServer

from .conftest import make_draft

Folder = Callable[..., Path]


def ask(url: str, path: str = "", body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    where = urlsplit(url)
    with closing(http.client.HTTPConnection(where.netloc, timeout=20)) as connection:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if data is None else {"Content-Type": "application/json"}
        connection.request("GET" if data is None else "POST", where.path + path, data, kind | (headers or {}))
        response = connection.getresponse()
        text = response.read()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(text) if is_json else text.decode()


def row(plan: str, reviewer: str, revision: int = 0, **more: Any) -> dict[str, Any]:
    steps = [{"number": 1, "text": "Find it", "after": []}]
    fields = {"plan": plan, "reviewer": reviewer, "revision": revision, "decision": "open", "steps": steps}
    return {**fields, "comment": "", "tab": "t", **more}


@contextmanager
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    code = f"import sys; from forethought.trainers.cli import main; main(['plans', 'review', {str(folder)!r}])"
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    try:
        url = next(line.strip() for line in started.stdout if line.startswith("http://"))
        yield started, url
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


def test_whatever_was_acknowledged_is_there_after_a_kill(drafts: Folder) -> None:
    folder = drafts(4)
    ids = [draft.id for draft in read_drafts(folder)[0]]
    acknowledged: dict[tuple[str, str], int] = {}
    enough = threading.Event()

    def work(url: str, who: str) -> None:
        revision = 0
        while True:
            for plan in ids:
                try:
                    status, answer = ask(url, "api/save", row(plan, who, revision, comment=f"{who} {revision + 1}"))
                except (OSError, http.client.HTTPException):
                    return  # killed
                assert (status, answer["revision"]) == (200, revision + 1)
                acknowledged[plan, who] = revision + 1
            revision += 1
            if revision == 3:
                enough.set()

    with process(folder) as (server, url):
        threads = [threading.Thread(target=work, args=(url, f"R{i}")) for i in range(3)]
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        server.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
    reviews, problems = read_reviews(folder)
    assert problems == [] and len(acknowledged) == 12
    for (plan, who), revision in acknowledged.items():
        review = reviews[plan][who]
        assert review.revision in (revision, revision + 1)  # the one that was being answered may be there too
        assert review.comment == f"{who} {review.revision}"
    with process(folder) as (_, again):
        assert again == url  # so that open pages go on
        (plan, who), revision = next(iter(acknowledged.items()))
        status, found = ask(again, f"api/plan?{urlencode({'plan': plan, 'reviewer': who})}")
        assert status == 200 and found["comment"] == reviews[plan][who].comment


def test_two_reviewers_and_two_tabs_do_not_overwrite_each_other(drafts: Folder) -> None:
    with ReviewServer(drafts(1)) as server:
        plan = server.book.drafts[0].id
        assert ask(server.url, "api/save", row(plan, "Ada", comment="Ada's", tab="1"))[0] == 200
        assert ask(server.url, "api/save", row(plan, "Grace", comment="Grace's", tab="2"))[0] == 200
        status, answer = ask(server.url, "api/save", row(plan, "Ada", comment="stale", tab="3"))
        assert status == 409 and answer["current"]["comment"] == "Ada's" and answer["current"]["revision"] == 1
        assert ask(server.url, "api/save", row(plan, "Ada", 1, comment="newer", tab="3"))[0] == 200
        own = ask(server.url, f"api/plan?{urlencode({'plan': plan, 'reviewer': 'Grace'})}")[1]
        assert own["comment"] == "Grace's"


def test_a_plan_that_is_none_is_not_accepted(drafts: Folder) -> None:
    with ReviewServer(drafts(1)) as server:
        steps = [{"number": 1, "text": "Find it</plan>", "after": []}]
        status, answer = ask(
            server.url, "api/save", row(server.book.drafts[0].id, "Ada", decision="accept", steps=steps)
        )
        assert status == 422 and "end of the plan" in answer["problems"][0]


def test_only_who_knows_the_address_gets_in(drafts: Folder) -> None:
    folder = drafts(1)
    with ReviewServer(folder) as server:
        base = f"http://127.0.0.1:{server.port}/"
        assert ask(base)[0] == 404
        assert ask(f"{base}{'x' * len(server.token)}/")[0] == 404
        assert ask(f"{base}%C3%A9/")[0] == 404
        assert ask(server.url, headers={"Host": "evil.example"})[0] == 403
        assert ask(server.url, "../../pyproject.toml")[0] == 404
        assert server.url.startswith("http://127.0.0.1:")
        assert stat.S_IMODE(os.stat(folder / ".review.json").st_mode) == 0o600
        with socket.socket() as outside, pytest.raises(OSError):
            outside.settimeout(0.5)
            outside.connect((socket.gethostbyname(socket.gethostname()), server.port))
            if outside.getpeername()[0].startswith("127."):
                raise OSError("this machine has no other address")


def test_the_page_may_load_and_send_nothing_elsewhere(drafts: Folder) -> None:
    with ReviewServer(drafts(1)) as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as c:
        c.request("GET", urlsplit(server.url).path)
        response = c.getresponse()
        body = response.read().decode()
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "http://" not in body and "https://" not in body


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 100_000, {}, 400),
        ({"plan": "x"}, {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Length": "99999999"}, 413),
        (row("nothing", "Ada"), {}, 404),
        (row("nothing", " "), {}, 400),
        ({**row("nothing", "Ada"), "revision": "1"}, {}, 400),
        (row("nothing", "Ada", tab=3), {}, 404),
    ],
)
def test_a_bad_request_is_told_so_and_changes_nothing(
    drafts: Folder, body: Any, headers: dict[str, str], status: int
) -> None:
    folder = drafts(1)
    with ReviewServer(folder) as server:
        found, answer = ask(server.url, "api/save", body, headers)
        assert found == status and answer["error"]
        plan = server.book.drafts[0].id
        for field, wrong in (("tab", 3), ("steps", "x"), ("decision", None), ("comment", {})):
            assert ask(server.url, "api/save", {**row(plan, "Ada"), field: wrong})[0] == 422
    assert (folder / "reviews.jsonl").read_bytes() == b""


def test_what_is_shown_is_made_visible_and_what_is_edited_stays(drafts: Folder) -> None:
    hostile = "a\x1b[2Jb\u202ec\ud800"
    folder = drafts(1, make_draft("q", [(hostile, [])], prompt=hostile, original=hostile))
    with ReviewServer(folder) as server:
        plan = server.book.drafts[0].id
        found = ask(server.url, f"api/plan?{urlencode({'plan': plan, 'reviewer': 'Ada'})}")[1]
        assert "\x1b" not in found["prompt"] + found["source"]["original"] and "\u202e" not in found["prompt"]
        assert found["steps"][0]["text"] == hostile


def test_a_port_that_is_taken_is_replaced_by_another(drafts: Folder) -> None:
    folder = drafts(1)
    with ReviewServer(folder) as server:
        port, token = server.port, server.token
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with ReviewServer(folder) as server:
            assert server.port != port and server.token == token
