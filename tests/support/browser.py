"""Debian's chromium, driven by its chromium-driver."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver"
)

# Root, as in CI, may not use the sandbox; small containers have little shared memory; what scrolls smoothly is not
# where a click goes.
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--force-prefers-reduced-motion",
)


@contextlib.contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """A browser, which keeps what its pages log and request."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in (*_ARGUMENTS, *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def wait_for(condition: Callable[[], Any], what: str, limit_s: float = 60) -> Any:
    """The first true value of a condition."""
    end_s = time.monotonic() + limit_s
    while not (result := condition()):
        assert time.monotonic() < end_s, f"waited {limit_s} s in vain for {what}"
        time.sleep(0.03)
    return result


def text_of(browser: Any, element_id: str) -> str:
    return str(browser.find_element("id", element_id).text)


# Text whose contrast with its ground is under 4.5 to 1. Source: WCAG 2.2, success criterion 1.4.3.
LOW_CONTRAST = """
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => numbers(colour).slice(0, 3).map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {
        const own = getComputedStyle(element).backgroundColor;
        return numbers(own)[3] === 0 && element.parentElement ? ground(element.parentElement) : own;
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const hasText = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!hasText || !element.checkVisibility()) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.push([element.outerHTML.slice(0, 100), ratio]);
    }
    return found;"""


def assert_fits_and_can_be_read(browser: Any) -> None:
    """On a phone and a screen nothing is wider than the window, and all text stands out, by light and by dark."""
    for width in (360, 1200):
        metrics = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_script("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        widths = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        wanted, given = browser.execute_script(widths)
        assert wanted <= given, width
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        assert browser.execute_script(LOW_CONTRAST) == [], scheme
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def nameless(browser: Any, selector: str) -> tuple[int, list[str]]:
    """How many elements are shown, and those that a screen reader has no name for."""
    shown = [found for found in browser.find_elements("css selector", selector) if found.is_displayed()]
    return len(shown), [found.get_attribute("outerHTML") for found in shown if not found.accessible_name]
