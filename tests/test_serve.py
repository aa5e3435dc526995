"""`surepose serve` as a process: stopped, killed, refused; and its page in a real browser."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from benchmarks.rtsp_server import RtspServer
from tracker.cli import main
from tracker.sinks.records import read_records

# The real program with fake networks, in a process of its own.
_PROGRAM = f"""
import sys
sys.path.insert(0, "{Path(__file__).parent}")
import fakes, numpy as np
from tracker.cli import main
from tracker.pipeline import PoseTracker
networks = [make(fakes.person(150)) for make in (fakes.FakeDetector, fakes.FakePoseNet)]
PoseTracker.load = classmethod(lambda cls, **_: cls(*networks))
sys.exit(main())
"""
CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "serve", "--port", str(port), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or answers(f"{url}/healthz"))
        yield url, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


def told(url: str) -> list[dict[str, object]]:
    with urllib.request.urlopen(f"{url}/api/streams", timeout=5) as answer:
        return list(json.load(answer))


def wait_until(condition: Callable[[], bool], patience: float = 30.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


def test_sigterm_ends_a_service_cleanly_and_no_password_was_told(tmp_path: Path) -> None:
    log, table = tmp_path / "run.log", tmp_path / "people.csv"
    with RtspServer(fps=20, password="admin:hunter2") as server:
        source = "front=" + server.url.replace("//", "//admin:hunter2@")
        wrong = "yard=" + server.url.replace("//", "//admin:wrong-pw@")
        arguments = ("--source", source, "--source", wrong, "--csv", str(table), "--log", str(log))
        with serving(*arguments) as (url, process):
            wait_until(lambda: int(str(told(url)[0]["processed"])) > 10)
            streams = told(url)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert (streams[0]["state"], streams[1]["state"]) == ("live", "failed")
    rows = read_records(next(tmp_path.glob("people-front-*.csv")))
    assert len({row.frame for row in rows}) > 5
    for text in (said, log.read_text(), json.dumps(streams)):
        assert "refuses this user name" in text or text is said
        assert "hunter2" not in text
        assert "wrong-pw" not in text


def test_a_killed_service_loses_no_row_and_starts_again_beside_what_it_had(tmp_path: Path) -> None:
    for round_ in range(2):
        table = str(tmp_path / "people.csv")
        with (
            RtspServer(fps=20) as server,
            serving("--source", server.url, "--csv", table) as (url, process),
        ):
            wait_until(lambda url=url: int(str(told(url)[0]["processed"])) > 5)  # type: ignore[misc]
            done = int(str(told(url)[0]["processed"]))
            process.kill()
            process.wait()
        tables = sorted(tmp_path.glob("people-*.csv"))
        assert len(tables) == round_ + 1
        # A person is confirmed after some frames; from then on each has its rows.
        assert len({row.frame for row in read_records(tables[-1])}) >= done - 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "serving on 0.0.0.0 needs a token"),
        (["--token-file", "gone"], "cannot read --token-file gone"),
        (["--port", "70000"], "--port must be 0 to 65535"),
        (["--source", "gone.mp4"], "no such file or folder: gone.mp4"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_told() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        serving("--port", str(taken.getsockname()[1])) as (_, process),
    ):
        _, said = process.communicate(timeout=20)
        assert "cannot serve on 127.0.0.1" in said
        assert process.returncode == 1


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or which("chromedriver") is None:
        pytest.skip("needs Chromium and its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


def test_the_page_in_a_browser(browser, tmp_path: Path) -> None:
    """It opens, the picture moves, numbers change, a dead stream is shown and its return is too."""

    def text(name: str) -> str:
        return str(
            browser.execute_script(f"return document.getElementById('{name}')?.textContent ?? ''")
        )

    def shown() -> str:
        return str(browser.execute_script("return document.getElementById('picture').src"))

    def pixels() -> list[int]:
        return list(
            browser.execute_script(
                "const c = document.createElement('canvas').getContext('2d');"
                "c.drawImage(document.getElementById('picture'), 0, 0, 32, 24);"
                "return [...c.getImageData(0, 0, 32, 24).data]"
            )
        )

    server = RtspServer(fps=15, size=(640, 480))
    with server, serving("--source", f"front={server.url}", "--source", "yard=demo") as (url, _):
        browser.set_window_size(1300, 900)
        browser.get(url)
        wait_until(lambda: text("health-state") == "live" and text("people-count") == "1")
        source, before, count = shown(), pixels(), int(text("health-processed"))
        wait_until(lambda: shown() != source and int(text("health-processed")) > count + 5)
        assert np.abs(np.array(pixels()) - before).max() > 30
        assert "confirmed" in text("people")
        assert "person 1" in text("sigma-who")
        assert text("age-p95").endswith(" ms")
        server.kill()
        wait_until(lambda: text("health-state") == "reconnecting")
        assert "trying again" in text("notice")
        with RtspServer(fps=15, size=(640, 480), port=server.server_address[1]):
            wait_until(
                lambda: text("health-state") == "live" and text("health-reconnections") == "1"
            )
            browser.execute_script("document.querySelectorAll('#streams button')[1].click()")
            wait_until(lambda: text("health-source") == "demo")
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
        )
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 390
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
