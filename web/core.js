// The vocoder's core in a browser or in Node: WebAssembly around the C interface gru_audio.h.
//
//     const core = await Core.open(new URL("./", import.meta.url));   // core*.wasm and voice.gru.gz from there
//     const stream = core.start();
//     play(stream.push(mel), stream.finish());                        // Float32Array each

const PAGE_BYTES = 65536;
const ALIGNMENT = 64;
// The faster one first; what a browser lacks, or computes otherwise than the core expects, is passed over.
const MODULES = ["core-relaxed.wasm", "core.wasm"];
const FOUR_OF_128 = 0x80808080 | 0;

async function bytesAt(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

/** What a file holds that gzip made; where the server said so, the browser has undone it on the way. */
async function unpacked(bytes) {
  const [first, second] = new Uint8Array(bytes);
  if (first !== 0x1f || second !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** One voice. Shapes: F frames, M mel bands; a mel is a Float32Array (F M,), a frame after the other. */
export class Core {
  #exports;
  #top; // of the memory in use
  #unused = []; // memory of streams that were finished
  #voice;

  /** Fetches the core and the voice from a folder. */
  static async open(folder) {
    const voice = await unpacked(await bytesAt(new URL("voice.gru.gz", folder)));
    for (const name of MODULES) {
      const bytes = await bytesAt(new URL(name, folder));
      if (!WebAssembly.validate(bytes)) continue;
      const { instance } = await WebAssembly.instantiate(bytes, {});
      if (instance.exports.gru_audio_products_are_exact(FOUR_OF_128)) return new Core(instance, voice, name);
    }
    throw new Error("this browser has no WebAssembly SIMD; a newer one is needed");
  }

  constructor(instance, voiceBytes, name) {
    this.name = name;
    this.#exports = instance.exports;
    this.#top = instance.exports.__heap_base.value;
    const file = this.#put(new Uint8Array(voiceBytes));
    const place = this.#take(4);
    const memory = this.#take(this.#exports.gru_audio_voice_size());
    this.#check(this.#exports.gru_audio_open(file, voiceBytes.byteLength, memory, place));
    this.#voice = this.#pointerAt(place);
    const facts = new DataView(this.#buffer, this.#exports.gru_audio_facts_of(this.#voice));
    const fact = (i) => Number(facts.getBigInt64(8 * i, true));
    this.sampleRate = fact(0);
    this.hop = fact(1);
    this.nMels = fact(2);
    this.lookaheadFrames = fact(3) + fact(4);
  }

  /** Bytes of memory in use, the voice included. */
  get memory() {
    return this.#buffer.byteLength;
  }

  /** The mel (F M,) of a whole clip (n,) at the voice's sample rate. */
  mel(audio) {
    return this.#scoped(() => {
      const nFrames = this.#exports.gru_audio_mel_frames(this.#voice, audio.length);
      const [given, mel] = [this.#put(audio), this.#take(4 * nFrames * this.nMels)];
      const memory = this.#take(this.#exports.gru_audio_mel_size(this.#voice, audio.length));
      this.#check(this.#exports.gru_audio_mel(this.#voice, given, audio.length, memory, mel));
      return this.#floats(mel, nFrames * this.nMels);
    });
  }

  /** Starts a stream with the voice's usual settings: {push(mel), finish()}, each gives audio (n,). Finish each one: its
   * memory goes to another then. */
  start() {
    const memory = this.#unused.pop() ?? this.#take(this.#exports.gru_audio_stream_size(this.#voice));
    const stream = this.#scoped(() => {
      const place = this.#take(4);
      this.#check(this.#exports.gru_audio_start(this.#voice, 0, memory, place));
      return this.#pointerAt(place);
    });
    const audioOf = (nFrames, run) =>
      this.#scoped(() => {
        const [audio, count] = [this.#take(4 * nFrames * this.hop), this.#take(4)];
        this.#check(run(audio, count));
        return this.#floats(audio, this.#pointerAt(count));
      });
    return {
      push: (mel) =>
        audioOf(mel.length / this.nMels, (audio, count) =>
          this.#exports.gru_audio_push(stream, this.#put(mel), mel.length / this.nMels, audio, count),
        ),
      finish: () => {
        const last = audioOf(this.lookaheadFrames, (audio, count) =>
          this.#exports.gru_audio_finish(stream, audio, count),
        );
        this.#unused.push(memory);
        return last;
      },
    };
  }

  /** Audio (F hop,) of a mel by Griffin and Lim's algorithm, without the voice's network. */
  griffinLim(mel, rounds) {
    return this.#scoped(() => {
      const nFrames = mel.length / this.nMels;
      const [given, audio] = [this.#put(mel), this.#take(4 * nFrames * this.hop)];
      const memory = this.#take(this.#exports.gru_audio_griffin_lim_size(this.#voice, nFrames));
      this.#exports.gru_audio_griffin_lim(this.#voice, given, nFrames, rounds, memory, audio);
      return this.#floats(audio, nFrames * this.hop);
    });
  }

  get #buffer() {
    return this.#exports.memory.buffer; // another one whenever the memory has grown
  }

  /** Runs with memory that is free again after. */
  #scoped(run) {
    const mark = this.#top;
    try {
      return run();
    } finally {
      this.#top = mark;
    }
  }

  #take(nBytes) {
    const first = Math.ceil(this.#top / ALIGNMENT) * ALIGNMENT;
    this.#top = first + nBytes;
    const missing = this.#top - this.#buffer.byteLength;
    if (missing > 0) this.#exports.memory.grow(Math.ceil(missing / PAGE_BYTES));
    return first;
  }

  #put(array) {
    const first = this.#take(array.byteLength);
    new array.constructor(this.#buffer, first, array.length).set(array);
    return first;
  }

  #floats(first, n) {
    return new Float32Array(this.#buffer, first, n).slice();
  }

  #pointerAt(place) {
    return new Uint32Array(this.#buffer, place, 1)[0];
  }

  #check(status) {
    if (status === 0) return;
    const bytes = new Uint8Array(this.#buffer, this.#exports.gru_audio_error_text(status));
    throw new Error(new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0))));
  }
}
