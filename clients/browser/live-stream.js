// One live transcription, over as many connections as it takes.

import { AudioLedger } from "./audio-ledger.js";
import { Attempts, backoffMs } from "./retry.js";

const WATCH_EVERY_MS = 1000;
const KEEP_ALIVE_MS = 15_000;
/** A live connection that owes an answer this long is dead, even if nobody has told the browser. */
const SILENT_MS = 10_000;
/** If this many handshakes in a row fail while the server itself is ready, something between blocks them. */
const BLOCKED_HANDSHAKES = 4;
const UNSENT_SECONDS = 2;
const UNSENT_BYTES = 256 * 1024;
/** Options too long for an address; they follow in a message. */
const WORDY = ["keywords", "context"];

/** Errors of the server after which a new connection can go on; docs/protocol.md has the reasons. */
const TRANSIENT_CODES = new Set([
  "busy",
  "not_ready",
  "restarting",
  "session_too_long",
  "idle",
  "slow_reader",
  "recognizer_failed",
  "internal",
]);
/** Close codes that say that the client did something it would only do again. */
const PERMANENT_CLOSES = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

/**
 * What the server says of itself: {status, version, key, model, languages, …}; null when it does not answer.
 *
 * @param {string | URL} url of the stream
 * @param {string} key API key; the answer's `key` is "unneeded", "fits" or "wanted".
 */
export async function aboutServer(url, key = "") {
  const address = new URL("about", url);
  address.protocol = address.protocol.replace("ws", "http");
  address.search = "";
  try {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const answer = await fetch(address, { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/**
 * Sends audio, tells events, and goes on in a new connection when one breaks: audio without a final is kept (within a
 * bound), and sent again, so that no words are lost and none come twice; times and utterance numbers run on.
 *
 * DOM events, what they carry in `detail`:
 * - `state`: "connecting", "open", "reconnecting", "stopping" or "closed"
 * - `event`: an event of the server, as docs/protocol.md has it
 * - `retry`: {attempt, delayMs, reason}; the connection could not be had, or broke
 * - `reconnected`: {resentMs}; the text of utterances without a final comes again, under the same numbers
 * - `overflow`: more is spoken during a break than is kept; the oldest is being given up
 * - `dropped`: {startMs, endMs}; audio given up, after such a break or because the server takes it too slowly
 * - `refused`: {code, message}; it is over, and trying again is of no use
 */
export class LiveStream extends EventTarget {
  /**
   * @param {object} settings
   * @param {string | URL} settings.url ws:// or wss://
   * @param {number} settings.sampleRate Hz of the audio, 8000 to 48000
   * @param {object} [settings.options] of the session, as docs/protocol.md names them
   * @param {string} [settings.key] API key
   * @param {boolean} [settings.live] whether audio comes at the pace it is spoken; otherwise wait for `room()`
   * @param {number} [settings.keepSeconds] audio kept without a final, at most
   */
  constructor({ url, sampleRate, options = {}, key = "", live = true, keepSeconds = 120 }) {
    super();
    this.sampleRate = sampleRate;
    this.state = "connecting";
    this._url = url;
    this._options = { ...options };
    this._key = key;
    this._live = live;
    this._ledger = new AudioLedger(sampleRate, keepSeconds);
    this._attempts = new Attempts();
    this._blockedHandshakes = 0;
    this._begun = false;
    this._stopping = false;
    this._waiting = []; // for room
    this._ended = new Promise((resolve) => (this._end = resolve));
    this._watch = setInterval(() => this._check(), WATCH_EVERY_MS);
    this._online = () => this._retryNow();
    globalThis.addEventListener?.("online", this._online);
    // Whoever made us adds listeners first.
    queueMicrotask(() => this._connect());
  }

  /** Milliseconds of audio given so far. */
  get audioMs() {
    return this._ledger.endMs;
  }

  /** Everything before this has its final. */
  get settledMs() {
    return this._ledger.settledMs;
  }

  /** Seconds of audio that wait for a connection. */
  get unsentSeconds() {
    return this._ledger.unsentSeconds;
  }

  /**
   * Give audio. Never waits; what can't be sent yet is kept.
   * @param {Int16Array} samples mono
   */
  send(samples) {
    if (this.state === "closed" || this._stopping) return;
    this._ledger.append(samples);
    if (this._ledger.full && !this._begun && !this._overflowed) {
      this._overflowed = true;
      this._emit("overflow", null);
    }
    this._pump();
  }

  /** Resolves when a sender that can wait may go on, or when all is over. */
  async room() {
    while (this._crowded && this.state !== "closed") await new Promise((resolve) => this._waiting.push(resolve));
  }

  /** End the open utterance now. */
  finalize() {
    this._ledger.finalize();
    this._pump();
  }

  /** Change options in mid-stream; a value that will not do is answered by an `error` event that is not fatal. */
  configure(changes) {
    Object.assign(this._options, changes);
    if (this._begun) this._say({ type: "configure", ...changes });
  }

  /** No more audio comes. Resolves once everything has its final, or it is over otherwise. */
  stop() {
    if (this.state !== "closed" && !this._stopping) {
      this._stopping = true;
      this._ledger.stop();
      if (this.state === "open") this._become("stopping");
      this._pump();
    }
    return this._ended;
  }

  /** Hang up at once; what has no final yet gets none. */
  close() {
    const socket = this._socket;
    this._over();
    socket?.close(1000);
  }

  _connect() {
    if (this.state === "closed") return;
    clearTimeout(this._timer);
    this._timer = null;
    this._begun = this._opened = false;
    this._fault = null;
    const protocols = this._key ? ["streaming-asr", `key.${this._key}`] : ["streaming-asr"];
    let socket;
    try {
      socket = new WebSocket(this._address(), protocols);
    } catch {
      // A subprotocol can't carry it: it has spaces, or letters that are not ASCII.
      this._refuse({ code: "unauthorized", message: "An API key has no spaces and no special letters." });
      return;
    }
    this._socket = socket;
    this._askedAt = performance.now();
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this._opened = true;
      this._blockedHandshakes = 0;
    };
    socket.onmessage = ({ data }) => socket === this._socket && this._hear(JSON.parse(data));
    socket.onclose = ({ code, reason }) => socket === this._socket && this._broken(code, reason);
  }

  _address() {
    const address = new URL(this._url);
    address.searchParams.set("sample_rate", this.sampleRate);
    for (const [name, value] of Object.entries(this._options)) {
      if (!WORDY.includes(name)) address.searchParams.set(name, value ?? "null");
    }
    return address;
  }

  _hear(event) {
    this._askedAt = null;
    if (event.type === "ready") this._begin(event);
    else if (event.type === "error" && event.fatal) this._fault = event;
    else {
      for (const told of this._ledger.observe(event)) this._emit("event", told);
      if (event.type === "done") this._over();
      else this._pump();
    }
  }

  _begin(ready) {
    const again = this.state === "reconnecting";
    const { resentMs, lost } = this._ledger.beginSession(ready.options);
    this._begun = true;
    this._overflowed = false;
    this._become(this._stopping ? "stopping" : "open");
    this._emit("event", ready);
    if (again) this._emit("reconnected", { resentMs });
    if (lost) this._emit("dropped", lost);
    const wordy = Object.fromEntries(
      WORDY.filter((name) => this._options[name]?.length).map((name) => [name, this._options[name]]),
    );
    if (Object.keys(wordy).length > 0) this._say({ type: "configure", ...wordy });
    this._pump();
  }

  async _broken(code, reason) {
    if (this.state === "closed") return;
    const fault = this._fault;
    const failedHandshake = !this._opened;
    this._socket = null;
    this._begun = false;
    if (fault ? !TRANSIENT_CODES.has(fault.code) : PERMANENT_CLOSES.has(code)) {
      this._refuse(fault ?? { code: "closed", message: `The server closed the connection (${reason || code}).` });
      return;
    }
    this._become("reconnecting");
    const attempt = this._attempts.failed(this.settledMs);
    const delayMs = backoffMs(attempt);
    this._timer = setTimeout(() => this._connect(), delayMs);
    this._emit("retry", { attempt, delayMs, reason: fault?.message ?? "" });
    if (failedHandshake) await this._askWhy();
  }

  /** Pages can't see why a handshake failed; the server may say. */
  async _askWhy() {
    const about = await aboutServer(this._url, this._key);
    if (this.state !== "reconnecting") return;
    this._blockedHandshakes = about?.status === "ready" ? this._blockedHandshakes + 1 : 0;
    if (about === null) return;
    if (about.key === "wanted") {
      const message = this._key ? "The API key is not the right one." : "The server wants an API key.";
      this._refuse({ code: "unauthorized", message });
    } else if (this._blockedHandshakes >= BLOCKED_HANDSHAKES) {
      const message = "The server answers, but no WebSocket gets through. A proxy must pass on Upgrade and Host.";
      this._refuse({ code: "blocked", message });
    }
  }

  _retryNow() {
    if (this.state === "reconnecting" && this._timer !== null) this._connect();
  }

  /** Keep a silent connection alive, and notice a dead one. */
  _check() {
    const now = performance.now();
    if (this._socket && this._askedAt !== null && this._live && now - this._askedAt > SILENT_MS) {
      const socket = this._socket;
      this._broken(1006, "");
      socket.close();
    } else if (this._begun && now - this._spokeAt > KEEP_ALIVE_MS) {
      this._say(this._ledger.ping());
    }
    this._pump();
  }

  get _crowded() {
    return this._ledger.full || this._ledger.unsentSeconds > UNSENT_SECONDS;
  }

  _pump() {
    let message;
    while (this._begun && this._socket.readyState === WebSocket.OPEN) {
      if (this._socket.bufferedAmount > UNSENT_BYTES) {
        this._later ??= setTimeout(() => {
          this._later = null;
          this._pump();
        }, 50);
        break;
      }
      message = this._ledger.nextMessage();
      if (message === null) break;
      if (message.audio) this._put(message.audio);
      else this._say(message);
    }
    const gap = this._ledger.takeGap();
    if (gap) this._emit("dropped", gap);
    if (!this._crowded || this.state === "closed") this._waiting.splice(0).forEach((resolve) => resolve());
  }

  _say(message) {
    if (message.type === "ping") this._askedAt ??= performance.now();
    this._put(JSON.stringify(message));
  }

  _put(data) {
    this._spokeAt = performance.now();
    this._socket.send(data);
  }

  _refuse({ code, message }) {
    this._emit("refused", { code, message });
    this._over();
  }

  _over() {
    if (this.state === "closed") return;
    for (const final of this._ledger.takeProvisional()) this._emit("event", final);
    clearTimeout(this._timer);
    clearTimeout(this._later);
    clearInterval(this._watch);
    globalThis.removeEventListener?.("online", this._online);
    this._begun = false;
    this._become("closed");
    this._socket = null;
    this._waiting.splice(0).forEach((resolve) => resolve());
    this._end();
  }

  _become(state) {
    if (state === this.state) return;
    this.state = state;
    this._emit("state", state);
  }

  _emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
