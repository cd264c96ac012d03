"""A page in a real browser, without a window: Qt's Chromium. Runs in a process of its own (`visit`).

python browser.py <page> <folder for downloads> <file with a list of steps as JSON>

A step is JavaScript whose value is kept, or null: wait. What comes out is JSON: the values, what the console said of
errors, every address that was asked for, and files that were downloaded.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FLAGS = "--no-sandbox --disable-gpu"  # tests run as root, in containers


def visit(page: Path, steps: Sequence[str], downloads: Path) -> dict:
    """Open a page, do the steps one after the other, and tell what was seen."""
    file = downloads / "steps.json"
    file.write_text(json.dumps(list(steps)))
    quiet = {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_CHROMIUM_FLAGS": FLAGS, "QTWEBENGINE_DISABLE_SANDBOX": "1"}
    command = [sys.executable, __file__, str(page), str(downloads), str(file)]
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def main(page: str, downloads: str, steps: str) -> None:
    from PySide6.QtCore import QEventLoop, QTimer, QUrl
    from PySide6.QtWebEngineCore import QWebEnginePage, QWebEngineProfile, QWebEngineUrlRequestInterceptor
    from PySide6.QtWebEngineWidgets import QWebEngineView
    from PySide6.QtWidgets import QApplication

    application = QApplication(sys.argv[:1])
    application.setApplicationName("pages")
    seen: dict = {"values": [], "errors": [], "addresses": [], "files": []}

    class Asked(QWebEngineUrlRequestInterceptor):
        def interceptRequest(self, info):  # noqa: N802
            seen["addresses"].append(info.requestUrl().toString()[:200])

    class Page(QWebEnginePage):
        def javaScriptConsoleMessage(self, level, message, line, source):  # noqa: N802
            if level != QWebEnginePage.JavaScriptConsoleMessageLevel.InfoMessageLevel:
                seen["errors"].append(f"{message} (line {line})")

    def wait(start, milliseconds: int = 60_000) -> None:
        """Start something that calls what it is given when it is done."""
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        start(lambda *_: loop.quit())
        loop.exec()

    def download(request) -> None:
        request.setDownloadDirectory(downloads)
        request.accept()
        seen["files"].append(request.downloadFileName())

    profile, asked = QWebEngineProfile(), Asked()
    profile.setUrlRequestInterceptor(asked)
    profile.downloadRequested.connect(download)
    view = QWebEngineView()
    view.resize(1200, 900)
    view.setPage(Page(profile, view))
    view.show()

    def opened(done) -> None:
        view.loadFinished.connect(done)
        view.load(QUrl.fromLocalFile(page))

    wait(opened)
    for step in json.loads(Path(steps).read_text()):
        if step is None:
            wait(lambda done: None, 400)
            continue

        def run(done, step=step) -> None:
            view.page().runJavaScript(f"JSON.stringify({step})", lambda value: (seen["values"].append(value), done()))

        wait(run)
    print("\n" + json.dumps(seen), flush=True)
    os._exit(0)  # Qt's own way out may crash without a screen


if __name__ == "__main__":
    main(*sys.argv[1:])
