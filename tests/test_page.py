"""The page and its feeds: who may look, what is told, and what never is."""

import json
import time
from collections.abc import Iterator

import fakes
import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tracker.live.app import application
from tracker.live.board import Board
from tracker.live.tally import Tally
from tracker.sources.feed import Feed
from tracker.sources.health import Health, StreamState
from tracker.sources.secrets import without_secrets
from tracker.types import Frame, TrackedFrame

TOKEN = "0123456789abcdef"
SECRET = "rtsp://admin:hunter2@10.0.0.7/cam?token=hunter2"


def no_frames() -> Iterator[None]:
    yield from ()


@pytest.fixture
def board() -> Board:
    feeds = []
    for name in ("front", "yard"):
        health = Health()
        feed = Feed(without_secrets(SECRET), no_frames, lambda: None, health=health)  # type: ignore[arg-type]
        feed.close()
        feed.stream = name
        health.state = StreamState.LIVE
        health.arrive(time.monotonic())
        feeds.append(feed)
    tallies = {feed.stream: Tally(feed.health, 0.5) for feed in feeds}
    board = Board(feeds, tallies)
    tracked = result(7)
    tallies["front"].add(tracked)
    board.show(tracked)
    return board


def result(index: int, stream: str = "front") -> TrackedFrame:
    plain = fakes.frame(index)
    frame = Frame(plain.image, index, plain.time, stream, time.time() - 0.1)
    return TrackedFrame(frame, (fakes.make_track(fakes.person(150), track_id=3),))


@pytest.fixture
def client(board) -> TestClient:
    return TestClient(application(board, None), base_url="http://127.0.0.1:8080")


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")],
)
def test_the_page_is_self_contained(client, path, kind):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert "://" not in answer.text.replace("${location.origin", "")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_people_are_told_with_their_error_bars(client):
    told = client.get("/api/streams/front").json()
    (person,) = told["people"]
    track = fakes.make_track(fakes.person(150), track_id=3)
    assert person["id"] == 3
    np.testing.assert_allclose(person["keypoints"], track.keypoints, atol=0.01)
    cov = np.array(person["cov"])
    np.testing.assert_allclose(cov[:, 0], track.keypoint_cov[:, 0, 0], atol=1e-3)
    np.testing.assert_allclose(cov[:, 1], track.keypoint_cov[:, 0, 1], atol=1e-3)
    assert told["captured"].endswith("Z")
    assert len(told["keypoint_names"]) == 17


def test_the_picture_is_a_jpeg_no_wider_than_wished(client):
    import cv2

    for width, due in (("100", 100), ("nonsense", 640), ("99999", 640)):
        answer = client.get("/api/streams/front/picture.jpg", params={"width": width})
        image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[1] == due
    assert client.get("/api/streams/yard/picture.jpg").status_code == 503
    assert client.get("/api/streams/attic").status_code == 404


def test_health_is_told_as_json_to_prometheus_and_in_short(client, board):
    front, yard = client.get("/api/streams").json()
    assert (front["state"], front["people"], front["received"]) == ("live", 1, 1)
    assert front["age_ms"]["p50"] == pytest.approx(100, abs=80)
    assert yard["processed"] == 0
    text = client.get("/metrics").text
    assert 'surepose_processed_total{stream="front"} 1.0' in text
    assert 'surepose_stream_up{stream="yard"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert client.get("/healthz").json()["status"] == "ok"
    board.feeds["yard"].health.state = StreamState.RECONNECTING
    assert client.get("/healthz").json()["status"] == "degraded"
    board.feeds["front"].health.state = StreamState.FAILED
    assert client.get("/healthz").status_code == 503
    board._beat -= 60
    assert client.get("/healthz").json()["status"] == "hangs"


def test_programs_get_every_result(client, board):
    with client.websocket_connect("ws://127.0.0.1:8080/api/tracks?stream=front") as socket:
        assert socket.receive_json()["frame"] == 7
        board.show(result(8))
        assert socket.receive_json()["frame"] == 8
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("ws://127.0.0.1:8080/api/tracks?stream=attic"),
    ):
        pass


def test_the_page_gets_health_people_and_picture_when_it_asks(client, board):
    with client.websocket_connect("ws://127.0.0.1:8080/api/live") as socket:
        socket.send_text("front")
        told = socket.receive_json()
        assert [s["stream"] for s in told["streams"]] == ["front", "yard"]
        assert told["people"]["people"][0]["id"] == 3
        assert socket.receive_bytes()[:2] == b"\xff\xd8"
        socket.send_text("front")
        assert socket.receive_json()["people"] is None  # nothing new came
        socket.send_text("yard")
        assert socket.receive_json()["people"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/pyproject.toml",
        "/page/page.html",
        "/etc/passwd",
        "//etc/passwd",
        "/api/streams/..%2f..%2fetc%2fpasswd",
        "/api/streams/%2e%2e/picture.jpg",
        "/page.js/../board.py",
    ],
)
def test_no_other_path_reaches_anything(client, path):
    answer = client.get(path)
    assert answer.status_code == 404 or answer.headers["content-type"].startswith("text/html; ")
    assert "surepose" not in answer.text


def test_only_names_of_this_machine_are_answered_without_a_token(board):
    app = application(board, None)
    for host, status in (("localhost", 200), ("[::1]", 200), ("evil.example", 403)):
        assert TestClient(app, base_url=f"http://{host}").get("/").status_code == status


def test_pages_from_elsewhere_may_not_listen(client):
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(
            "ws://127.0.0.1:8080/api/live", headers={"origin": "http://evil.example"}
        ),
    ):
        pass
    with client.websocket_connect(
        "ws://127.0.0.1:8080/api/live", headers={"origin": "http://127.0.0.1:8080"}
    ):
        pass


def test_with_a_token_all_but_the_short_health_need_it(board):
    client = TestClient(application(board, TOKEN), base_url="http://camera.example")
    assert client.get("/healthz").status_code == 200
    for path in ("/", "/page.js", "/api/streams", "/api/streams/front/picture.jpg", "/metrics"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        given = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get(path, headers=given).status_code == 200
    assert client.get("/api/streams", params={"token": TOKEN}).status_code == 401
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("ws://camera.example/api/tracks"),
    ):
        pass


def test_a_browser_gets_its_token_as_a_cookie_and_an_address_without_it(board):
    client = TestClient(application(board, TOKEN), base_url="http://camera.example")
    assert client.get("/", params={"token": "wrong"}).status_code == 401
    answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/streams").status_code == 200
    with client.websocket_connect("ws://camera.example/api/tracks?stream=front") as socket:
        assert socket.receive_json()["frame"] == 7


def test_no_password_is_exported_anywhere(client):
    for path in ("/", "/api/streams", "/api/streams/front", "/metrics", "/healthz"):
        assert "hunter2" not in client.get(path).text
    with client.websocket_connect("ws://127.0.0.1:8080/api/live") as socket:
        socket.send_text("front")
        assert "hunter2" not in json.dumps(socket.receive_json())
