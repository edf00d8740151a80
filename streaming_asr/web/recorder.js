// One source of speech, one stream, one transcript: what both pages do between start and stop.

import {
  LiveStream,
  Microphone,
  MicrophoneError,
  UnreadableAudio,
  aboutServer,
  decodeAudioFile,
  streamFile,
} from "../client/streaming-asr.js";
import { LatencyMeter } from "./latency.js";

export const STREAM_URL = new URL("v1/stream", document.baseURI);
STREAM_URL.protocol = STREAM_URL.protocol.replace("http", "ws");

/**
 * DOM events, what they carry in `detail`:
 * - `change`: phase, paused, connection or source did
 * - `utterance`: an Utterance that changed
 * - `server`: an event of the server
 * - `level`: 0..1 of the audio, for a meter
 * - `latency`: {first} or {final}, ms
 * - `problem`: {code, message}: nothing starts, or it is over; codes of MicrophoneError and of the protocol, or
 *   "unreachable", "unreadable", "unplugged"
 * - `retry`, `reconnected`, `overflow`, `dropped`: as of LiveStream
 */
export class Recorder extends EventTarget {
  /** @param {Transcript} transcript @param {number} [keepSeconds] of audio, over a break of the connection */
  constructor(transcript, keepSeconds = 120) {
    super();
    this.phase = "idle"; // "starting", "live", "stopping"
    this.paused = false;
    this.connection = "off"; // or a state of LiveStream
    this.fileName = "";
    this.fileMs = 0;
    this.microphone = null;
    this._transcript = transcript;
    this._keepSeconds = keepSeconds;
    this._resumed = [];
    document.addEventListener("visibilitychange", () => {
      if (document.hidden || this.phase === "idle") return;
      this.microphone?.resume();
      this._stayAwake();
    });
  }

  /** ms of audio given so far, or last time, and how much of it has its finals. */
  get progress() {
    return { audioMs: this._latestStream?.audioMs ?? 0, settledMs: this._latestStream?.settledMs ?? 0 };
  }

  /** @param {object} settings options of the session, API key, device */
  async startMicrophone({ options, key, deviceId }) {
    await this._start(key, async () => {
      const microphone = await Microphone.open({ deviceId });
      this.microphone = microphone;
      const stream = this._open({ sampleRate: microphone.sampleRate, options, key, live: true });
      microphone.addEventListener("audio", ({ detail }) => this._captured(stream, detail.samples, detail.level));
      microphone.addEventListener("ended", () => {
        this._emit("problem", { code: "unplugged", message: "The microphone is gone." });
        this.stop();
      });
    });
  }

  /** @param {File} file @param {object} settings options of the session, API key, whether at the pace it was spoken */
  async startFile(file, { options, key, realTime }) {
    await this._start(key, async () => {
      this.fileName = file.name;
      this._emit("change");
      const audio = await decodeAudioFile(file);
      this.fileMs = audio.durationMs;
      const stream = this._open({ sampleRate: audio.sampleRate, options, key, live: realTime });
      this._sendFile(stream, audio, realTime);
    });
  }

  set(options) {
    this._stream?.configure(options);
  }

  pause(paused) {
    if (this.phase !== "live" || paused === this.paused) return;
    this.paused = paused;
    if (this.microphone) this.microphone.paused = paused;
    if (paused) this._stream.finalize();
    else this._resumed.splice(0).forEach((resolve) => resolve());
    this._emit("level", 0);
    this._emit("change");
  }

  /** End; the last words still come. A second call leaves without them. */
  async stop() {
    if (this.phase === "stopping") {
      this._stream?.close();
    } else if (this.phase === "live") {
      this._become("stopping");
      this._abort.abort();
      this._resumed.splice(0).forEach((resolve) => resolve());
      await this._closeMicrophone();
      await this._stream.stop();
    }
  }

  async _start(key, open) {
    if (this.phase !== "idle") return;
    this._become("starting");
    this._abort = new AbortController();
    this.paused = false;
    try {
      const about = await aboutServer(STREAM_URL, key);
      if (about === null) throw new Problem("unreachable", "The server does not answer.");
      if (about.key === "wanted") throw new Problem("unauthorized", key ? "The API key is not the right one." : "");
      await open();
      this._become("live");
      this._stayAwake();
    } catch (error) {
      const known = error instanceof MicrophoneError || error instanceof Problem;
      const code = known ? error.code : error instanceof UnreadableAudio ? "unreadable" : "internal";
      this._emit("problem", { code, message: error.message });
      this._over();
    }
  }

  _open(settings) {
    const stream = new LiveStream({ url: STREAM_URL, keepSeconds: this._keepSeconds, ...settings });
    this._stream = this._latestStream = stream;
    const latency = settings.live ? new LatencyMeter() : null;
    this._latency = latency;
    let done = false;
    stream.addEventListener("state", ({ detail }) => {
      this.connection = detail === "closed" ? "off" : detail;
      if (detail === "closed") this._closed(stream, done);
      else this._emit("change");
    });
    stream.addEventListener("event", ({ detail }) => {
      done ||= detail.type === "done";
      const utterance = this._transcript.apply(detail);
      if (utterance) this._emit("utterance", utterance);
      this._emit("server", detail);
      const delays = latency?.observe(detail, performance.now()) ?? {};
      if (Object.keys(delays).length > 0) this._emit("latency", delays);
    });
    for (const name of ["retry", "reconnected", "overflow", "dropped"]) {
      stream.addEventListener(name, ({ detail }) => this._emit(name, detail));
    }
    stream.addEventListener("refused", ({ detail }) => this._emit("problem", detail));
    this.connection = stream.state;
    return stream;
  }

  _captured(stream, samples, level) {
    stream.send(samples);
    this._latency?.captured(stream.audioMs, performance.now());
    this._emit("level", meterOf(level));
  }

  async _sendFile(stream, audio, realTime) {
    await streamFile(stream, audio, {
      realTime,
      signal: this._abort.signal,
      gate: async () => {
        while (this.paused && this.phase === "live") await new Promise((resolve) => this._resumed.push(resolve));
      },
      sending: (piece) => {
        this._latency?.captured(stream.audioMs, performance.now());
        this._emit("level", realTime ? meterOf(rms(piece)) : 0);
      },
    });
    if (this.phase === "live" && stream === this._stream) await this.stop();
  }

  async _closed(stream, done) {
    for (const utterance of this._transcript.finishOpen(!done)) this._emit("utterance", utterance);
    this._transcript.beginStream(stream.audioMs);
    this._abort.abort();
    await this._closeMicrophone();
    this._over();
  }

  async _closeMicrophone() {
    const microphone = this.microphone;
    this.microphone = null;
    await microphone?.close();
  }

  _over() {
    this._stream = null;
    this.connection = "off";
    this.paused = false;
    this.fileName = "";
    this.fileMs = 0;
    this._awake?.release().catch(() => {});
    this._awake = null;
    this._emit("level", 0);
    this._become("idle");
  }

  /** Keep the screen on while somebody reads. */
  async _stayAwake() {
    try {
      this._awake = await navigator.wakeLock?.request("screen");
    } catch {
      // Low battery, or an older browser: the screen may sleep.
    }
  }

  _become(phase) {
    this.phase = phase;
    this._emit("change");
  }

  _emit(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

class Problem extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

function rms(samples) {
  let energy = 0;
  for (const sample of samples) energy += sample * sample;
  return Math.sqrt(energy / Math.max(1, samples.length)) / 32768;
}

/** -60 to -6 dB of RMS, where speech is, as 0 to 1. */
function meterOf(level) {
  return Math.max(0, Math.min(1, (20 * Math.log10(Math.max(level, 1e-6)) + 60) / 54));
}
