"""A headless Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import httpx
from websockets.sync.client import connect

from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")

CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
"""Where it is, or ``None`` on a machine without it."""


class Browser:
    """One tab. What its pages write to the console or fail to load is collected in ``complaints``."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self._process = Process(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--window-size=1280,1600",
                f"--user-data-dir={folder}",
                f"--remote-debugging-port={port}",
                "about:blank",
            ],
            name="chromium",
        )
        self._process.wait_listening("127.0.0.1", port)

        def tab() -> dict[str, Any] | None:
            tabs = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False, timeout=PATIENCE).json()
            return next((it for it in tabs if it["type"] == "page"), None)

        address = eventually(tab, "the browser has a tab")["webSocketDebuggerUrl"]
        self._open = ExitStack()
        self._open.callback(self._process.stop)
        self._socket = self._open.enter_context(
            connect(address, max_size=None, open_timeout=PATIENCE, proxy=None)
        )
        self._last = 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command; its result."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == self._last:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message["method"]:
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"])[:2000])
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(parameters["args"]))
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])

    def open(self, url: str) -> None:
        """Load a page."""
        self.command("Page.navigate", url=url)
        eventually(lambda: self.run("document.readyState") == "complete", f"{url} is loaded")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        result = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script: str, what: str) -> Any:
        """The value of an expression once it is true."""
        return eventually(lambda: self.run(script), what)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key, as a person without a mouse does."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        keys = {"key": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **keys)
        self.command("Input.dispatchKeyEvent", type="keyUp", **keys)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.command("Input.insertText", text=text)

    def prefer(self, scheme: str) -> None:
        """Ask pages for ``light`` or ``dark``."""
        self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def picture(self) -> bytes:
        """A PNG of the tab."""
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])
