"""Pages in headless Chromium. Skipped, with the reason, where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DESKTOP = {"width": 1280, "height": 900}


# A module, not a session: while it is open, nothing else in the process may run asyncio.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens HTML as a file, in a context of its own, and waits until its scripts have run."""
    contexts = []

    def open_it(html: str, **dials: Any) -> Any:
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(html, encoding="utf-8")
        contexts.append(
            chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **dials})
        )
        page = contexts[-1].new_page()
        page.asked_for = []
        page.on("request", lambda request: page.asked_for.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        if page.locator("#question-rows").count():
            page.wait_for_selector("html[data-questions]", state="attached")
        return page

    yield open_it
    for context in contexts:
        context.close()
