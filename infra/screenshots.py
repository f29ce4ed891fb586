"""The pictures of README.md: campaigns that really ran, looked at in a browser as a user does.

Wants Chromium (Debian: `apt-get install chromium`), which it drives over its DevTools protocol, and a stack
of its own, since it adds campaigns:

    export L2L_HOME=/tmp/shots L2L_CAMPAIGNS=/tmp/shots/campaigns
    mkdir -p $L2L_CAMPAIGNS && make up
    $L2L_HOME/venv/bin/python -m infra.screenshots [FOLDER]     # default: docs/images
    make clean

Takes about seven minutes: three optimizers work on the same problem first. Look at the pictures afterwards.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from websockets.sync.client import ClientConnection, connect

from infra import demo
from infra.demo import setting
from l2l_tasks import airflow_api, dag_names, settings
from l2l_tasks.errors import L2LError
from l2l_tasks.store import engine
from l2l_tasks.store.campaigns import Campaign

OPTIMIZERS = ("random", "genetic", "cmaes")
CAMPAIGN = """\
name: sphere-{optimizer}
description: How far {optimizer} gets on a sum of squares in 240 evaluations
optimizee: {{ name: sphere, options: {{ dimension: 4 }} }}
optimizer: {{ name: {optimizer} }}
budget: {{ generations: 20 }}
execution: {{ batch: 12, workers: 2, linger: 20s }}
seed: 1
tags: [test-function]
"""

WIDTH = 1400  # pixels
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
PATIENCE = 90.0  # seconds


def main() -> int:
    """Run the campaigns, take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m infra.screenshots")
    parser.add_argument("folder", nargs="?", type=Path, default=settings.REPOSITORY / "docs" / "images")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        campaigns = run_campaigns()
        airflow_pictures(folder, campaigns["cmaes"])
        mlflow_picture(folder / "mlflow-compare.png", campaigns)
    except L2LError as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 1
    return 0


def run_campaigns() -> dict[str, Campaign]:
    """Run one campaign after the other to its end; returns them by optimizer."""
    if not (folder := os.environ.get("L2L_CAMPAIGNS")):
        raise L2LError("L2L_CAMPAIGNS is not set: name a folder of your own, and start the stack with it")
    for optimizer in OPTIMIZERS:
        Path(folder, f"sphere-{optimizer}.yaml").write_text(CAMPAIGN.format(optimizer=optimizer))
    airflow = airflow_api.connect()
    database = engine.connect(setting("L2L_DATABASE_URL"))
    done = {}
    for optimizer in OPTIMIZERS:
        name = f"sphere-{optimizer}"
        airflow.wait_for_dag(name)
        airflow.unpause(name)
        watch = demo.Watch(database, airflow, name, airflow.trigger(name, {}))
        done[optimizer] = watch.follow()
        watch.wait_for_log(done[optimizer])
    database.dispose()
    return done


def airflow_pictures(folder: Path, campaign: Campaign) -> None:
    """The grid with the log of one task beside it, and the trigger form."""
    url = setting("L2L_AIRFLOW_URL")
    with browser(WIDTH, 640) as page:
        page.open(url, "Sign in")
        page.type("input[name=username]", setting("L2L_AIRFLOW_USER"))
        page.type("input[name=password]", setting("L2L_AIRFLOW_PASSWORD"))
        page.click("button", "Sign in")
        page.wait_for_text("Dags")
        # Where a user would drag the line between the grid and the rest.
        panels = {"details-panel,main-panel": {"expandToSizes": {}, "layout": [30, 70]}}
        page.evaluate(f"localStorage['react-resizable-panels:grid-ltr'] = {json.dumps(json.dumps(panels))}")
        run = dag_names.run_id(campaign.id, campaign.generations_told - 2)
        page.open(f"{url}/dags/{campaign.name}/runs/{run}/tasks/update", "best so far")
        page.picture(folder / "airflow-grid.png")
        page.resize(WIDTH, 1140)
        page.open(f"{url}/dags/{campaign.name}", "next_generation")
        page.click("[aria-label='Trigger Dag']")
        page.wait_for_text("Population")
        page.type("[name=element_note]", "Baseline for the comparison with random search")
        page.picture(folder / "airflow-form.png")


def mlflow_picture(file: Path, campaigns: Mapping[str, Campaign]) -> None:
    """The best fitness of all campaigns against the generation."""
    url = setting("L2L_MLFLOW_URL")
    account = f"{setting('MLFLOW_TRACKING_USERNAME')}:{setting('MLFLOW_TRACKING_PASSWORD')}"
    password = {"Authorization": f"Basic {base64.b64encode(account.encode()).decode()}"}
    runs = [campaign.mlflow_run_id for campaign in campaigns.values()]
    answer = requests.get(f"{url}/api/2.0/mlflow/runs/get", {"run_id": runs[0]}, headers=password, timeout=30)
    query = {
        "runs": runs,
        "experiments": [answer.json()["run"]["info"]["experiment_id"]],
        "metric": "loss/best_so_far",
        "plot_metric_keys": ["loss/best_so_far"],
    }
    text = "&".join(f"{name}={quote(json.dumps(value))}" for name, value in query.items())
    with browser(WIDTH, 840) as page:
        page.call("Network.enable")
        page.call("Network.setExtraHTTPHeaders", headers=password)
        page.open(url, "Welcome")
        page.click("[role=button]", "Model training")
        page.evaluate("localStorage['mlflow.assistant.panelOpen_v1'] = 'false'")
        page.open("about:blank", "")  # another fragment of the same page would not load it anew
        page.open(f"{url}/#/metric?{text}&x_axis=step", "Max")
        page.click("[role=switch]")  # the last one: a logarithmic axis
        page.picture(file)


class BrowserError(L2LError):
    """The browser does not start, or a page does not show what it should."""


@contextmanager
def browser(width: int, height: int) -> Iterator[Page]:
    """The page of an own, empty Chromium that ends with the block; its window's size in pixels."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_page_address(Path(profile)), max_size=None, proxy=None) as connection:
                page = Page(connection)
                page.resize(width, height)
                yield page
                page.call("Browser.close")
        finally:
            process.terminate()
            process.wait(30)


def _page_address(profile: Path) -> str:
    """The address of the first page, as soon as the browser listens."""
    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE
    with requests.Session() as session:
        session.trust_env = False  # a proxy has no business on loopback
        while time.monotonic() < deadline:
            if port_file.exists() and (lines := port_file.read_text().split()):
                targets = session.get(f"http://127.0.0.1:{lines[0]}/json/list", timeout=10).json()
                for target in targets:
                    if target["type"] == "page":
                        return str(target["webSocketDebuggerUrl"])
            time.sleep(0.2)
    raise BrowserError("Chromium does not start: try `chromium --headless --no-sandbox about:blank`")


class Page:
    """A page of the browser, over its DevTools connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """A command of the DevTools protocol; returns its result."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(PATIENCE))
            if answer.get("id") == number:  # the others are events
                if "error" in answer:
                    raise BrowserError(f"Chromium refused {method}: {answer['error']['message']}")
                return dict(answer["result"])

    def evaluate(self, script: str) -> Any:
        """The value (JSON) of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{script}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of a JavaScript expression once it is true."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.evaluate(script)):
            if time.monotonic() > deadline:
                text = str(self.evaluate("document.body.innerText"))[:2000]
                raise BrowserError(f"after {PATIENCE:.0f} s still not: {script}\nThe page says:\n{text}")
            time.sleep(0.3)
        return value

    def open(self, url: str, shows: str) -> None:
        """Go to a page and return when it shows a text."""
        self.call("Page.navigate", url=url)
        self.wait_for_text(shows)

    def wait_for_text(self, text: str) -> None:
        """Return when the page shows a text."""
        self.wait(f"!!document.body && document.body.innerText.includes({json.dumps(text)})")

    def click(self, selector: str, text: str = "") -> None:
        """Click the last element of a CSS selector that begins with this text."""
        found = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".filter(e => (e.innerText || '').trim().startsWith({json.dumps(text)})).pop()"
        )
        x, y = self.wait(
            "(e => { if (!e) return null; e.scrollIntoView({block: 'nearest'}); const b = "
            f"e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] }})({found})"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Type into the field of a CSS selector."""
        self.click(selector)
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, file: Path) -> None:
        """What the window shows once it has come to rest, as PNG."""
        time.sleep(3)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


if __name__ == "__main__":
    sys.exit(main())
