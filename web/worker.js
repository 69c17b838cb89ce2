// Runs the core away from the page, which stays alive meanwhile.
//
//     in    {id, audio}                                      a clip (n,) at the voice's sample rate; the newest counts
//     out   {kind: "ready", facts}                           once
//           {kind: "progress", id, share}                    from 0 to 1
//           {kind: "voice", id, audio, duration_s, took_s}   and the same of kind "griffinLim"
//           {kind: "error", id, text}

import { Core } from "./core.js";

const FRAMES_AT_ONCE = 16;
const GRIFFIN_LIM_ROUNDS = 60;
const WARM_UP_FRAMES = 120; // a browser compiles what runs often a second time, for speed

let newest = 0;

/** Lets messages come in. */
const breathe = () =>
  new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });

function joined(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Speaks a mel; null if a newer clip has come. */
async function speak(core, mel, id) {
  const step = FRAMES_AT_ONCE * core.nMels;
  const parts = [];
  let took_ms = 0;
  const timed = (run) => {
    const began = performance.now();
    const result = run();
    took_ms += performance.now() - began;
    return result;
  };
  const stream = timed(() => core.start());
  for (let at = 0; at < mel.length; at += step) {
    parts.push(timed(() => stream.push(mel.subarray(at, at + step))));
    if (id === undefined) continue;
    postMessage({ kind: "progress", id, share: at / mel.length });
    await breathe();
    if (id !== newest) break;
  }
  parts.push(timed(() => stream.finish()));
  return id === undefined || id === newest ? { audio: joined(parts), took_s: took_ms / 1000 } : null;
}

async function answer(core, { id, audio }) {
  const mel = core.mel(audio);
  const spoken = await speak(core, mel, id);
  if (!spoken) return;
  const duration_s = spoken.audio.length / core.sampleRate;
  postMessage({ kind: "voice", id, duration_s, ...spoken });
  await breathe();
  if (id !== newest) return;
  const began = performance.now();
  const compared = core.griffinLim(mel, GRIFFIN_LIM_ROUNDS);
  postMessage({ kind: "griffinLim", id, duration_s, audio: compared, took_s: (performance.now() - began) / 1000 });
}

const opening = Core.open(new URL("./", import.meta.url)).then(async (core) => {
  await speak(core, new Float32Array(WARM_UP_FRAMES * core.nMels));
  const { name, sampleRate, lookaheadFrames, hop, memory } = core;
  postMessage({ kind: "ready", facts: { name, sampleRate, memory, lookahead_s: (lookaheadFrames * hop) / sampleRate } });
  return core;
});
opening.catch((error) => postMessage({ kind: "error", id: 0, text: error.message }));

// One clip after the other: what is newer ends what is under way, see `speak`.
let done = Promise.resolve();

onmessage = ({ data: clip }) => {
  newest = clip.id;
  done = done.then(async () => {
    try {
      if (clip.id === newest) await answer(await opening, clip);
    } catch (error) {
      postMessage({ kind: "error", id: clip.id, text: error.message });
    }
  });
};
