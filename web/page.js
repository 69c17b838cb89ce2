// The page around the worker: speech comes in from a file, a sample or the microphone, and is shown and played beside
// what was made of it.

const LONGEST_S = 30;
const SYSTEMS = {
  original: ["Original", "what you chose"],
  voice: ["Voice", "from the mel spectrogram alone"],
  griffinLim: ["Griffin-Lim", "of the same, with no network"],
};

const worker = new Worker("worker.js", { type: "module" });
let clip = { id: 0, name: "" };
let recorder = null;

function tell(text) {
  byId("status").textContent = text;
}

/** Samples (n,) as a WAV of 32-bit floats. */
function wavOf(samples) {
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + samples.byteLength, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 3, true); // floats
  header.setUint16(22, 1, true);
  header.setUint32(24, data.sample_rate_hz, true);
  header.setUint32(28, 4 * data.sample_rate_hz, true);
  header.setUint16(32, 4, true);
  header.setUint16(34, 32, true);
  text(36, "data");
  header.setUint32(40, samples.byteLength, true);
  return new Blob([header, samples], { type: "audio/wav" });
}

/** The samples (n,) of an audio file, of one channel at the voice's rate. */
async function samplesOf(bytes) {
  const context = new OfflineAudioContext(1, 1, data.sample_rate_hz);
  const decoded = await context.decodeAudioData(bytes);
  const n = Math.min(decoded.length, LONGEST_S * data.sample_rate_hz);
  const mixed = new Float32Array(n);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const samples = decoded.getChannelData(channel);
    for (let i = 0; i < n; i++) mixed[i] += samples[i] / decoded.numberOfChannels;
  }
  if (n === 0) throw new Error("it has no samples");
  return mixed;
}

/** Shows and plays a system's samples (n,). The original comes first: its loudest point is 0 dB for all. */
function showSystem(system, samples) {
  const [label, meaning] = SYSTEMS[system];
  const panel = systemPanel(system, label, clip);
  panel.querySelector(".sorted-figure").textContent = meaning;
  panel.querySelector("audio").src = URL.createObjectURL(wavOf(samples));
  byId("systems").append(panel);
  const canvas = panel.querySelector("canvas");
  const power = powers(samples, clip.duration_s, canvas.width, canvas.height);
  clip.loudest ||= power.reduce((most, value) => Math.max(most, value), 1e-12);
  paint(canvas, power, clip.loudest);
  canvas.dataset.painted = "yes";
}

/** Takes a file's bytes as the clip that counts from now on. */
async function take(name, bytes) {
  const id = clip.id + 1;
  clip = { id, name };
  tell(`${name} is being read.`);
  try {
    const samples = await samplesOf(await bytes);
    if (clip.id !== id) return;
    clip = { id, name, duration_s: samples.length / data.sample_rate_hz, loudest: 0 };
    byId("sound").hidden = false;
    byId("systems").querySelectorAll("audio").forEach((player) => URL.revokeObjectURL(player.src));
    byId("systems").replaceChildren();
    byId("speed").textContent = "";
    showSystem("original", samples);
    tell(`Speech is being made of ${name}.`);
    byId("progress").hidden = false;
    byId("progress").value = 0;
    worker.postMessage({ id, audio: samples });
  } catch (error) {
    if (clip.id === id) tell(`${name} cannot be used: ${error.message}. Choose a file that this browser can play.`);
  }
}

const ANSWERS = {
  ready({ facts }) {
    fillFacts(facts);
    if (clip.id === 0) tell("The voice is ready.");
  },
  progress({ share }) {
    byId("progress").value = share;
  },
  voice({ audio, duration_s, took_s }) {
    byId("progress").hidden = true;
    showSystem("voice", audio);
    const times = (duration_s / took_s).toFixed(1);
    byId("speed").textContent = `The voice spoke ${times} times as fast as real time: ${duration_s.toFixed(1)} s of speech in ${took_s.toFixed(2)} s, on one core.`;
    tell(`The voice has spoken ${clip.name}, ${times} times as fast as real time. Griffin-Lim follows.`);
  },
  griffinLim({ audio }) {
    showSystem("griffinLim", audio);
    tell(`${clip.name} is ready to be heard in three ways.`);
  },
  error({ text }) {
    byId("progress").hidden = true;
    tell(`It failed: ${text}.`);
  },
};

worker.onmessage = ({ data: answer }) => {
  if (answer.id === undefined || answer.id === clip.id || answer.kind === "error") ANSWERS[answer.kind](answer);
};
worker.onerror = () => tell("It failed: the worker did not start. Open the page from a web server, in a browser that is up to date.");

function fillFacts({ name, memory, lookahead_s }) {
  const facts = {
    ...data.facts,
    "In use here": `${name}, ${(memory / 1e6).toFixed(0)} MB of memory`,
    Delay: `${(1000 * lookahead_s).toFixed(0)} ms behind its mel frames, where they come as a stream`,
  };
  byId("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]),
  );
}

/** Records until it is called again. */
async function toggleRecording() {
  if (recorder) {
    recorder.stop();
    return;
  }
  try {
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    recorder = new MediaRecorder(microphone);
    recorder.ondataavailable = ({ data: part }) => parts.push(part);
    recorder.onstop = () => {
      microphone.getTracks().forEach((track) => track.stop());
      recorder = null;
      byId("record").textContent = "Record";
      take("your recording", new Blob(parts).arrayBuffer());
    };
    recorder.start();
    byId("record").textContent = "Stop and speak";
    tell("Recording.");
  } catch (error) {
    recorder = null;
    tell(`There is no microphone to record from: ${error.message}.`);
  }
}

function begin() {
  byId("longest").textContent = String(LONGEST_S);
  byId("sample").append(...data.samples.map(([file, label]) => element("option", { value: file }, label)));
  byId("sample").addEventListener("change", ({ target }) => {
    if (target.value) take(target.selectedOptions[0].textContent, fetch(`samples/${target.value}`).then((a) => a.arrayBuffer()));
  });
  const takeFile = (file) => file && take(file.name, file.arrayBuffer());
  byId("file").addEventListener("change", ({ target }) => takeFile(target.files[0]));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    takeFile(event.dataTransfer.files[0]);
  });
  byId("record").addEventListener("click", toggleRecording);
  showLegend();
}

begin();
