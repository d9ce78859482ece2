"""Debian's Chromium without a window, driven as a person would; without it a test is skipped."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("chromium", "chromedriver")
PACKAGES = "Debian's packages chromium and chromium-driver"

# What Chromium asks its maker for by itself is no request of the page.
_ARGUMENTS = (
    *("--headless=new", "--no-first-run", "--no-default-browser-check", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    *("--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server"),
    "--disable-features=OptimizationHints,MediaRouter,Translate",
)


@contextmanager
def open_browser(profile: Path, width: int = 1280, height: int = 900) -> Iterator:
    """A browser with a profile of its own: two of them are two people.

    Skips the test where Chromium, its driver or selenium is not installed. Nothing is downloaded.

    Args:
        profile: Folder for it, below a test's ``tmp_path``.
        width: Of the page in pixels; below 500 it behaves as a phone does.
        height: Of the page in pixels.

    Yields:
        selenium's ``webdriver.Chrome``.
    """
    programs = [shutil.which(name) for name in PROGRAMS]
    if not all(programs):
        pytest.skip(f"{' and '.join(PROGRAMS)} are not installed ({PACKAGES})")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location, driver = programs
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to have one as root
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # Both programs are named, so selenium's manager, which would download them, is never asked.
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    try:
        set_size(browser, width, height)
        browser.get("about:blank")
        requested(browser)  # of the page that it opens with
        yield browser
    finally:
        browser.quit()


def set_size(browser, width: int, height: int) -> None:
    """The page's size in pixels; a window cannot be as narrow as a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def requested(browser) -> list[str]:
    """Addresses asked for since the last call, but for the browser's own and what a page holds."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    found = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in found if not url.startswith(("data:", "blob:", "chrome:"))]


def complaints(browser) -> list[str]:
    """What the browser's console holds since the last call: errors of scripts, refused requests."""
    return [entry["message"] for entry in browser.get_log("browser")]
