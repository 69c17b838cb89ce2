"""Drawing in text: the waveform and the log-mel spectrogram as panels with labelled axes.

In colour a panel is made of block characters and 24-bit colours; without colour it is plain ASCII, fit for a
pipe, a log or a dumb terminal.

Shapes: n samples, F frames, M mel bands; R text rows and C columns of the drawn area.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import groupby
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

from gru_audio.config import MelConfig
from gru_audio.signal.audio import FULL_SCALE
from gru_audio.signal.mel import filterbank, to_linear

BOLD = Style(bold=True)

_Floats = NDArray[np.float32]
_Array = NDArray[np.float64]
_Cell = tuple[str, Style | None]
_Row = list[_Cell]

_MARGIN = 6  # columns for the labels and the axis on the left
_MAGMA = ("000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf")
"""Every eighth of magma, a perceptually uniform colour map. Source: matplotlib, CC0."""
_N_COLOURS = 64
_DENSITIES = " .:-=+*#%@"
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_CLIPPED = "#ff2020"
_LEAST_RANGE_DB, _GREATEST_RANGE_DB = 40.0, 80.0
_TIME_STEPS_S = (
    *(digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)),
    *(10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0),
)


def plot_columns(width: int) -> int:
    """How many of `width` columns a picture draws in."""
    return max(width - _MARGIN, 1)


def waveform(audio: _Floats, sample_rate_hz: int, width: int, height: int, colour: bool) -> Text:
    """The envelope of audio (n,) around a middle line: each column reaches from its minimum to its maximum.

    The vertical scale is linear in amplitude; its end is the least multiple of 3 dBFS that holds the peak.
    Columns with samples at full scale are red. A clip with fewer samples than columns is stretched.

    Args:
        audio: samples, full scale 1.
        sample_rate_hz: its rate.
        width: columns, labels included.
        height: rows, title and time axis included; an odd row is left out, so that the halves are equal.
        colour: draw with blocks and colours, not in ASCII.
    """
    n_columns, half = plot_columns(width), max((height - 2) // 2, 1)
    if not audio.size:
        return _panel("dBFS", "waveform", [], [_nothing("no samples")], {}, 0.0, width, colour)
    starts = np.arange(n_columns) * audio.size // n_columns
    above = np.maximum(np.maximum.reduceat(audio, starts), 0).astype(np.float64)  # (C,)
    below = np.maximum(-np.minimum.reduceat(audio, starts), 0).astype(np.float64)
    peak = float(max(above.max(), below.max()))
    limit_db = 3 * min(max(ceil(20 * log10(peak) / 3), -24), 16) if peak > 0 else 0
    limit = 10 ** (limit_db / 20)
    clipped = np.maximum(above, below) >= FULL_SCALE
    upper = _half_rows(above / limit, clipped, half, colour, up=True)
    lower = _half_rows(below / limit, clipped, half, colour, up=False)
    labels = _level_labels(limit_db, half)
    duration_s = audio.size / sample_rate_hz
    return _panel("dBFS", "waveform", [], upper + lower[::-1], labels, duration_s, width, colour)


def spectrogram(
    mel: _Floats, config: MelConfig, width: int, height: int, colour: bool, duration_s: float | None = None
) -> Text:
    """A log-mel spectrogram, low frequencies at the bottom, in dB under its loudest point.

    A cell shows the mean power of the frames and bands that fall in it, so that long clips are averaged and
    short ones stretched. In colour a row holds two cells, one above the other.

    Args:
        mel: (F, M) as the contract stores it.
        config: the contract.
        width: columns, labels included.
        height: rows, title and time axis included.
        colour: draw with half blocks and magma, not in ASCII densities.
        duration_s: of the audio, which may end within the last frame; None: of the frames.
    """
    n_columns, n_rows = plot_columns(width), max(height - 2, 1)
    title = "log-mel spectrogram"
    if not len(mel):
        return _panel("kHz", title, [], [_nothing("no frames")], {}, 0.0, width, colour)
    exponent = 2 / config.spectrum_power
    power = to_linear(mel, config).astype(np.float64) ** exponent
    cells = _box_mean(_box_mean(power, n_columns).T, n_rows * (2 if colour else 1))[::-1]  # (R or 2 R, C)
    floor_db = 10 * exponent * log10(config.floor)
    level_db = 10 * np.log10(np.maximum(cells, 10 ** (floor_db / 10)))
    top_db = max(level_db.max(), floor_db + _LEAST_RANGE_DB)  # silence stays dark
    range_db = min(max(top_db - np.percentile(level_db, 1), _LEAST_RANGE_DB), _GREATEST_RANGE_DB)
    shade = np.clip(1 + (level_db - top_db) / range_db, 0, 1)
    rows = _colour_rows(shade) if colour else _density_rows(shade)
    if duration_s is None:
        duration_s = len(mel) * config.hop_samples / config.sample_rate_hz
    labels = _frequency_labels(config, n_rows)
    return _panel("kHz", title, _legend(range_db, colour), rows, labels, duration_s, width, colour)


def clock(seconds: int) -> str:
    """Minutes and seconds, with hours where there are any."""
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def duration_text(duration_s: float) -> str:
    """A duration in the unit that suits it."""
    if duration_s >= 3600:
        return f"{duration_s / 3600:.2f} h"
    if duration_s >= 60:
        return f"{duration_s / 60:.1f} min"
    return f"{duration_s:.2f} s" if duration_s >= 0.1 or not duration_s else f"{1000 * duration_s:.3g} ms"


def _box_mean(values: _Array, n_out: int) -> _Array:
    """Means of (n, k) over `n_out` equal stretches of its first axis; a value may be split between two."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    edges = np.linspace(0, len(values), n_out + 1)
    whole = np.minimum(edges.astype(int), len(values) - 1)
    at_edges = total[whole] + (edges - whole)[:, None] * values[whole]
    means: _Array = np.diff(at_edges, axis=0) * (n_out / len(values))
    return means


@lru_cache(maxsize=1)
def _palette() -> list[str]:
    """`_N_COLOURS` colours of magma, dark to bright, as #rrggbb."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _MAGMA])  # (9, 3)
    where = np.linspace(0, len(anchors) - 1, _N_COLOURS)
    channels = [np.interp(where, np.arange(len(anchors)), channel) for channel in anchors.T]
    return ["#" + bytes(np.round(rgb).astype(np.uint8)).hex() for rgb in np.transpose(channels)]


@lru_cache(maxsize=4096)
def _style(foreground: str, background: str | None = None, reverse: bool = False) -> Style:
    return Style(color=foreground, bgcolor=background, reverse=reverse)


def _half_rows(share: _Array, clipped: NDArray[np.bool_], half: int, colour: bool, up: bool) -> list[_Row]:
    """One side of the waveform: `half` rows of cells, the outermost first; `share` (C,) is of full height."""
    eighths = np.maximum(np.round(share * half * 8).astype(int), 1)  # at least the middle line
    rows: list[_Row] = []
    for row in range(half):
        filled = np.clip(eighths - 8 * (half - 1 - row), 0, 8)  # (C,) of this row's cells
        if colour:
            inks = np.where(clipped, _CLIPPED, _palette()[int(_N_COLOURS * (0.85 - 0.4 * row / half))])
            rows.append([_block(int(n), str(ink), up) for n, ink in zip(filled, inks, strict=True)])
        else:
            rows.append([((" ...:::##" if up else " ''':::##")[n], None) for n in filled])
    return rows


def _block(eighths: int, ink: str, up: bool) -> _Cell:
    """A cell filled by `eighths` from its bottom, or from its top."""
    if eighths in (0, 8):
        return " ", _style("default", ink) if eighths else None
    if up:
        return _EIGHTHS[eighths], _style(ink)
    return _EIGHTHS[8 - eighths], _style(ink, reverse=True)  # no block hangs from the top: leave the rest out


def _colour_rows(shade: _Array) -> list[_Row]:
    """Cells for (2 R, C) shades in [0, 1]: the upper half block over its background."""
    colours = np.array(_palette())[np.round(shade * (_N_COLOURS - 1)).astype(int)]
    pairs = zip(colours[::2], colours[1::2], strict=True)
    return [[("▀", _style(str(a), str(b))) for a, b in zip(*pair, strict=True)] for pair in pairs]


def _density_rows(shade: _Array) -> list[_Row]:
    """Cells for (R, C) shades in [0, 1]."""
    index = np.minimum((shade * len(_DENSITIES)).astype(int), len(_DENSITIES) - 1)
    rows: list[_Row] = [[(_DENSITIES[i], None) for i in row] for row in index]
    return rows


def _nothing(text: str) -> _Row:
    return [(f" ({text})", None)]


def _legend(range_db: float, colour: bool) -> _Row:
    """The scale of levels: its quietest end, its colours or characters, its loudest end."""
    ends = (f"{-range_db:.0f} dB ", " 0 dB")
    scale: _Row = [(letter, None) for letter in _DENSITIES]
    if colour:
        scale = [(" ", _style("default", ink)) for ink in _palette()[:: _N_COLOURS // 16]]
    return [(ends[0], None), *scale, (ends[1], None)]


def _level_labels(limit_db: int, half: int) -> dict[int, str]:
    """Labels in dBFS of the rows of both halves whose outer edge is at the limit, or 6 or 12 dB under it."""
    labels: dict[int, str] = {}
    for octave in range(3):
        row, below_edge = divmod(half * (1 - 0.5**octave), 1)
        if not below_edge and (not octave or row < half - 1):
            labels[int(row)] = labels[2 * half - 1 - int(row)] = f"{limit_db - 6 * octave}"
    return labels


def _frequency_labels(config: MelConfig, n_rows: int) -> dict[int, str]:
    """Labels in kHz of rows, counted from the top: the roundest frequencies that leave a row between them."""
    bank = filterbank(config)
    weights = bank.sum(axis=1)
    bands = np.flatnonzero(weights)  # a band narrower than the FFT's bins may be empty
    centres_hz = (bank @ np.linspace(0, config.sample_rate_hz / 2, bank.shape[1]))[bands] / weights[bands]
    labels: dict[int, str] = {}
    for hz in (1000, 4000, 16_000, 500, 2000, 8000, 250):
        if centres_hz[0] <= hz <= config.f_max_hz:
            band = np.interp(hz, centres_hz, bands + 0.5)
            row = n_rows - 1 - floor(band / config.n_mels * n_rows)
            if not {row - 1, row, row + 1} & set(labels):
                labels[row] = f"{hz / 1000:g}"
    return labels


def _panel(
    unit: str,
    title: str,
    legend: _Row,
    rows: list[_Row],
    labels: Mapping[int, str],
    duration_s: float,
    width: int,
    colour: bool,
) -> Text:
    """Title, labelled rows and time axis."""
    tick, bar = ("┤", "│") if colour else ("+", "|")
    lines = [_title(unit, title, legend, width, colour)]
    for index, cells in enumerate(rows):
        label = labels.get(index, "")
        lines.append(_cells([(f"{label:>4} {tick if label else bar}", None), *cells]))
    lines.append(_time_axis(duration_s, plot_columns(width), colour))
    for line in lines:
        line.truncate(width)
        if not colour:
            line.rstrip()
    return Text("\n").join(lines)


def _title(unit: str, title: str, legend: _Row, width: int, colour: bool) -> Text:
    text = _cells([(f"{unit:>4}  ", None), (title, BOLD if colour else None)])
    right = _cells(legend)
    gap = width - text.cell_len - right.cell_len
    return text.append(" " * gap).append_text(right) if legend and gap > 1 else text


def _time_axis(duration_s: float, n_columns: int, colour: bool) -> Text:
    """Marks at round times, each with its label at its right."""
    if duration_s <= 0:
        return Text("")
    mark = "╵" if colour else "|"
    step = next((s for s in _TIME_STEPS_S if s * n_columns / duration_s >= 9), _TIME_STEPS_S[-1])
    line = [" "] * n_columns
    for index in range(floor(duration_s / step) + 1):
        column = int(index * step / duration_s * n_columns)
        label = mark + _time_label(index * step, step, duration_s)
        if column + len(label) <= n_columns:
            line[column : column + len(label)] = label
    unit = "ms" if duration_s < 0.1 else "s" if duration_s < 120 else "m:s"
    return Text(f"{unit:>4}  " + "".join(line).rstrip())


def _time_label(time_s: float, step_s: float, duration_s: float) -> str:
    if duration_s >= 120:
        return clock(round(time_s))
    scale = 1000 if duration_s < 0.1 else 1
    decimals = max(0, -floor(log10(step_s * scale) + 1e-9))
    return f"{time_s * scale:.{decimals}f}"


def _cells(cells: Iterable[_Cell]) -> Text:
    """Neighbouring cells of one style become one span."""
    text = Text(no_wrap=True, end="")
    for style, run in groupby(cells, key=lambda cell: cell[1]):
        text.append("".join(letter for letter, _ in run), style)
    return text
