"""The listening page in a real browser: Debian's chromium, driven by its chromium-driver."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from support.browser import (
    assert_fits_and_can_be_read,
    chromium,
    nameless,
    needs_browser,
    text_of,
    wait_for,
)
from support.evaluations import CLIPS, DURATION_S, HOSTILE, SAMPLE_RATE_HZ, SYSTEMS, TONE_HZ, small_evaluation

from gru_audio.evaluation.report import write_report
from gru_audio.signal.audio import to_int16

pytestmark = needs_browser

LABELS = {"reference": "Original", "voice": "Voice", "g722": "G.722"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report"), *small_evaluation(), SAMPLE_RATE_HZ)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def browser(driver: Any, page: Path) -> Iterator[Any]:
    """The page, freshly opened from disk; at the end nothing may have gone wrong or over the network."""
    driver.set_window_size(1200, 900)
    driver.get(page.as_uri())
    yield driver
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requested = [
        event["params"]["request"]["url"] for event in events if event["method"].endswith("WillBeSent")
    ]
    assert requested
    assert all(url == page.as_uri() or url.startswith(("data:", "blob:")) for url in requested)


def press(browser: Any, key: str) -> None:
    browser.switch_to.active_element.send_keys(key)


def shown_clips(browser: Any) -> list[str]:
    headings = browser.find_elements("css selector", "#clip-list h3")
    return [heading.text for heading in headings if heading.is_displayed()]


def choose(browser: Any, select_id: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", select_id)).select_by_visible_text(text)


def test_every_player_decodes_the_samples_that_went_in(browser: Any) -> None:
    _, audio = small_evaluation()
    loaded = """return [...arguments[0].querySelectorAll("audio")].every((audio) => audio.readyState >= 1)
        && !arguments[0].querySelector("canvas:not([data-painted])")"""
    decode = """
        const done = arguments[1], uri = arguments[0].src;
        const bytes = Uint8Array.from(atob(uri.split(",")[1]), (c) => c.charCodeAt(0));
        new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer).then((buffer) => done(
            [arguments[0].duration, [...buffer.getChannelData(0)].map((x) => Math.round(x * 32768))]));"""
    seen = []
    for card in browser.find_elements("css selector", "#clip-list > li"):
        browser.execute_script("arguments[0].scrollIntoView()", card)
        wait_for(partial(browser.execute_script, loaded, card), "players and spectrograms")
        for panel in card.find_elements("class name", "system"):
            player = panel.find_element("tag name", "audio")
            duration_s, samples = browser.execute_async_script(decode, player)
            assert duration_s == pytest.approx(DURATION_S, abs=0.01)
            seen.append((card.find_element("tag name", "h3").text, panel.get_attribute("data-system")))
            # Chromium scales what is above 0 by 1/32767, what is below by 1/32768.
            np.testing.assert_allclose(samples, to_int16(audio[seen[-1]]), rtol=0, atol=1)
    assert sorted(seen) == sorted(audio)


def test_a_spectrogram_shows_the_tone_and_plays_from_where_it_is_clicked(browser: Any) -> None:
    panel = browser.find_element("css selector", ".system[data-system=reference]")
    canvas, player = (panel.find_element("tag name", tag) for tag in ("canvas", "audio"))
    wait_for(lambda: canvas.get_attribute("data-painted"), "the spectrogram")
    # Row by row, the red of the middle column: brightest where the tone is on the mel scale.
    reds = browser.execute_script(
        "const c = arguments[0]; return [...c.getContext('2d').getImageData(c.width / 2, 0, 1, c.height).data]"
        ".filter((_, i) => i % 4 === 0)",
        canvas,
    )
    height = np.log1p(TONE_HZ / 700) / np.log1p(SAMPLE_RATE_HZ / 2 / 700)
    assert abs(np.argmax(reds) - len(reds) * (1 - height)) < 5
    wait_for(lambda: browser.execute_script("return arguments[0].readyState >= 1", player), "the player")
    canvas.click()  # in its middle
    at_s = wait_for(lambda: browser.execute_script("return arguments[0].currentTime", player), "the sound")
    assert at_s > 0.45 * DURATION_S
    assert panel.find_element("class name", "playhead").is_displayed()


def test_clips_are_sorted_worst_first_and_filtered(browser: Any) -> None:
    assert shown_clips(browser) == ["worst", "middling", "best", HOSTILE]
    choose(browser, "sort-order", "the best")
    assert shown_clips(browser) == ["best", "middling", "worst", HOSTILE]
    choose(browser, "sort-system", LABELS["g722"])
    assert shown_clips(browser) == ["middling", "best", "worst", HOSTILE]
    choose(browser, "sort-order", "the worst")
    choose(browser, "sort-system", LABELS["voice"])
    choose(browser, "sort-measure", "Silence level (dB)")  # −2, 0.6, −3.2: the farthest from 0 first
    assert shown_clips(browser) == ["best", "middling", "worst", HOSTILE]
    choose(browser, "speaker-filter", "bert")
    assert shown_clips(browser) == ["worst", HOSTILE]
    assert text_of(browser, "clips-shown") == "2 of 4 clips"
    choose(browser, "sort-measure", "order of evaluation")
    choose(browser, "speaker-filter", "everyone")
    assert shown_clips(browser) == list(CLIPS)


def test_summary_tables(browser: Any) -> None:
    rows = browser.find_elements("css selector", "#by-system tr")
    assert rows[0].text.split() == ["Figure", *LABELS.values()]
    assert rows[1].text.split() == ["PESQ", "higher", "is", "better", "–", "2.27", "1.20", "3.70", "3.50"]
    choose(browser, "speaker-measure", "Silence level (dB)")
    assert text_of(browser, "by-speaker-caption") == "Silence level (dB), best at 0"
    anna = browser.find_element("css selector", "#by-speaker tbody tr")
    assert anna.text.split() == ["anna", "−2.60", "−3.20", "−4.60", "−4.80"]


def test_blind_comparison_by_keyboard_alone(browser: Any, page: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    listen = """window.heard = []; const play = HTMLMediaElement.prototype.play;
        HTMLMediaElement.prototype.play = function () { heard.push(this.src); return play.call(this); }"""
    browser.execute_script(listen)
    browser.find_element("id", "blind-auto").send_keys(Keys.SPACE)  # play nothing unasked
    press(browser, Keys.TAB)
    press(browser, Keys.ENTER)
    assert text_of(browser, "trial-heading") == "Pair 1 of 4"
    press(browser, Keys.ARROW_RIGHT)
    assert text_of(browser, "trial-status") == "Playing B"
    press(browser, Keys.SPACE)  # A, then B
    wait_for(lambda: browser.execute_script("return heard.length") == 3, "A and B")
    assert not any(word in text_of(browser, "trial") for word in (*LABELS.values(), *CLIPS))
    b, a, b_again = browser.execute_script("return heard")
    assert b == b_again

    press(browser, "a")
    press(browser, "1")
    assert text_of(browser, "trial-heading") == "Pair 3 of 4"
    press(browser, Keys.BACKSPACE)
    assert text_of(browser, "trial-heading") == "Pair 2 of 4"
    press(browser, Keys.ESCAPE)
    browser.refresh()  # what was answered is still there
    assert text_of(browser, "blind-note") == "4 pairs, 1 answered."
    browser.find_element("id", "blind-start").send_keys(Keys.ENTER)
    assert text_of(browser, "trial-heading") == "Pair 2 of 4"
    assert text_of(browser, "trial-status").startswith("Playing")  # unasked, as is the default
    for key in ("b", "2", "a"):
        press(browser, key)
    assert text_of(browser, "trial-heading") == "Result"

    for _ in range(4):
        press(browser, Keys.TAB)
        if browser.switch_to.active_element.get_attribute("id") == "trial-save":
            break
    press(browser, Keys.ENTER)
    file = tmp_path / "blind-voice-reference.json"
    wait_for(lambda: file.exists() and file.read_text().endswith("\n}"), "the saved answers")
    saved = json.loads(file.read_text())
    answers = saved["answers"]
    assert sorted(answer["clip"] for answer in answers) == sorted(CLIPS)
    assert [answer[letter] for answer, letter in zip(answers, "ABBA", strict=True)] == [
        answer["chosen"] for answer in answers
    ]
    voices = sum(answer["chosen"] == "voice" for answer in answers)
    assert saved["counts"] == {"voice": voices, "reference": 4 - voices}
    assert saved["p_value"] == pytest.approx(binomtest(voices, 4).pvalue)
    assert f"Voice {voices}, Original {4 - voices}" in text_of(browser, "trial-verdict")
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    sounds = {clip["name"]: clip["audio"] for clip in data["clips"]}[answers[0]["clip"]]
    assert (a, b) == (sounds[answers[0]["A"]], sounds[answers[0]["B"]])


def test_fits_a_phone_and_can_be_read_by_everyone(browser: Any) -> None:
    assert_fits_and_can_be_read(browser)


def test_everything_to_use_has_a_name(browser: Any) -> None:
    selector = "button, select, input, audio, canvas, table, main section, nav, [role=region], [role=img]"
    n_shown, without_name = nameless(browser, selector)
    assert n_shown > 3 * len(CLIPS) * len(SYSTEMS)
    assert without_name == []
    headings = browser.find_elements("css selector", "h1, h2, h3, h4")
    levels = [int(heading.tag_name[1]) for heading in headings if heading.is_displayed()]
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1
    first = browser.execute_script("return document.querySelector('a').textContent")
    assert first == "Skip to the clips"
