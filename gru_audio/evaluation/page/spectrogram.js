// Spectrograms, drawn from what the browser decoded: the power of short pieces of a clip, over time
// (across) and mel frequency (up), all systems of a clip on one scale of time, frequency and level.

const WINDOW_S = 0.04;
const LEVELS_DB = 80;
const COLOURS = [
  [0, 0, 4],
  [59, 15, 112],
  [140, 41, 129],
  [222, 73, 104],
  [254, 159, 109],
  [252, 253, 191],
];
const FREQUENCY_MARKS_HZ = [200, 500, 1000, 2000, 4000, 8000, 16000];

const mel = (hz) => 1127 * Math.log(1 + hz / 700); // O'Shaughnessy's formula
const hz = (mels) => 700 * (Math.exp(mels / 1127) - 1);

/** The bytes of a data URI. */
function bytesOf(uri) {
  return Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
}

/** Samples (n,) of a data URI at the page's sample rate, decoded by the browser. */
async function decode(uri) {
  const context = new OfflineAudioContext(1, 1, data.sample_rate_hz);
  return (await context.decodeAudioData(bytesOf(uri).buffer)).getChannelData(0);
}

/** Radix-2 FFT in place. Args: real, imaginary (n,), n a power of two. Source: Cooley and Tukey, 1965. */
function fft(real, imaginary) {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const angle = (-2 * Math.PI * k) / size;
      const cos = Math.cos(angle);
      const sin = Math.sin(angle);
      for (let top = k; top < n; top += size) {
        const low = top + size / 2;
        const re = real[low] * cos - imaginary[low] * sin;
        const im = real[low] * sin + imaginary[low] * cos;
        real[low] = real[top] - re;
        imaginary[low] = imaginary[top] - im;
        real[top] += re;
        imaginary[top] += im;
      }
    }
  }
}

/** For each row of a picture, top first, the FFT bins that it shows: [first, last]. */
function rowBins(rows, fftSize) {
  const top = mel(data.sample_rate_hz / 2);
  const bin = (mels) => (hz(mels) / data.sample_rate_hz) * fftSize;
  return Array.from({ length: rows }, (_, row) => {
    const first = Math.floor(bin((top * (rows - 1 - row)) / rows));
    return [first, Math.max(first, Math.floor(bin((top * (rows - row)) / rows)) - 1)];
  });
}

/** Power (columns · rows,), column after column, of `duration_s` from the start of samples (n,). */
function powers(samples, duration_s, columns, rows) {
  const windowSize = Math.round(WINDOW_S * data.sample_rate_hz);
  const fftSize = 2 ** Math.ceil(Math.log2(windowSize));
  const bins = rowBins(rows, fftSize);
  const hann = Float64Array.from({ length: windowSize }, (_, i) => Math.sin((Math.PI * i) / windowSize) ** 2);
  const real = new Float64Array(fftSize);
  const imaginary = new Float64Array(fftSize);
  const power = new Float32Array(columns * rows);
  for (let column = 0; column < columns; column++) {
    const middle = ((column + 0.5) / columns) * duration_s * data.sample_rate_hz;
    const start = Math.round(middle - windowSize / 2);
    real.fill(0);
    imaginary.fill(0);
    for (let i = 0; i < windowSize; i++) real[i] = hann[i] * (samples[start + i] ?? 0);
    fft(real, imaginary);
    bins.forEach(([first, last], row) => {
      let most = 0;
      for (let bin = first; bin <= last; bin++) most = Math.max(most, real[bin] ** 2 + imaginary[bin] ** 2);
      power[column * rows + row] = most;
    });
  }
  return power;
}

/** The colour [red, green, blue] of a brightness from 0 to 1. */
function colour(brightness) {
  const place = brightness * (COLOURS.length - 1);
  const left = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[left].map((from, i) => from + (place - left) * (COLOURS[left + 1][i] - from));
}

/** Paint powers on a canvas; `loudest` is the power that is 0 dB. */
function paint(canvas, power, loudest) {
  const { width, height } = canvas;
  const image = new ImageData(width, height);
  const colours = Array.from({ length: 256 }, (_, i) => [...colour(i / 255), 255]);
  for (let column = 0; column < width; column++) {
    for (let row = 0; row < height; row++) {
      const level_db = 10 * Math.log10(Math.max(power[column * height + row], 1e-30) / loudest);
      const brightness = Math.min(Math.max(1 + level_db / LEVELS_DB, 0), 1);
      image.data.set(colours[Math.round(255 * brightness)], 4 * (row * width + column));
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Paint all systems of a clip: the first one's loudest point is 0 dB for all. */
async function paintClip(clip, canvases) {
  let loudest = 0;
  for (const [system, canvas] of canvases) {
    const samples = await decode(clip.audio[system]);
    const power = powers(samples, clip.duration_s, canvas.width, canvas.height);
    loudest ||= power.reduce((most, value) => Math.max(most, value), 1e-12);
    paint(canvas, power, loudest);
    canvas.dataset.painted = "yes";
  }
}

/** Label a plot's axes. */
function markAxes(panel, duration_s) {
  const nyquist_hz = data.sample_rate_hz / 2;
  panel.querySelector(".frequencies").append(
    ...FREQUENCY_MARKS_HZ.filter((mark) => mark < 0.95 * nyquist_hz).map((mark) => {
      const text = element("span", {}, mark < 1000 ? `${mark} Hz` : `${mark / 1000} kHz`);
      text.style.top = `${100 * (1 - mel(mark) / mel(nyquist_hz))}%`;
      return text;
    }),
  );
  const step_s = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60].find((step) => duration_s / step <= 6) ?? 300;
  for (let mark = 0; mark <= duration_s; mark += step_s) {
    const text = element("span", {}, `${Number(mark.toFixed(1))} s`);
    text.style.left = `${(100 * mark) / duration_s}%`;
    panel.querySelector(".times").append(text);
  }
}

function showLegend() {
  const stops = COLOURS.map((stop) => `rgb(${stop.join(" ")})`).join(", ");
  document.querySelector("#legend .ramp").style.background = `linear-gradient(to right, ${stops})`;
}
