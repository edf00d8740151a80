// One live transcription, over as many connections as it takes.

import { AudioLedger } from "./audio-ledger.js";
import { Attempts, backoffMs } from "./retry.js";

const WATCH_EVERY_MS = 1000;
const KEEP_ALIVE_MS = 15_000;
/** A live connection without an answer for this long is dead, even if the browser has not noticed. */
const SILENT_MS = 10_000;
/** If this many handshakes in a row fail while the server itself is ready, something between blocks them. */
const BLOCKED_HANDSHAKES = 4;
const UNSENT_SECONDS = 2;
const UNSENT_BYTES = 256 * 1024;
/** Options that may be too long for a URL; they are sent in a message. */
const LONG_OPTIONS = ["keywords", "context", "replace"];

/** Errors of the server after which a new connection can continue; docs/protocol.md has the reasons. */
const TRANSIENT_CODES = new Set([
  "busy",
  "not_ready",
  "restarting",
  "session_too_long",
  "idle",
  "slow_reader",
  "recognizer_failed",
  "internal",
  "too_many_guesses",
]);
/** Close code for a connection that does not answer: unlike a plain close, it leaves the session open. */
const GIVEN_UP = 4000;
/** Close codes for a mistake of the client, which a new connection would repeat. */
const PERMANENT_CLOSES = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

/**
 * The server's description of itself: {status, version, key, model, languages, …}; null if it can't be reached.
 *
 * @param {string | URL} url of the stream
 * @param {string} key API key; `key` of the description is "unneeded", "fits" or "wanted".
 */
export async function aboutServer(url, key = "") {
  const address = new URL("about", url);
  address.protocol = address.protocol.replace("ws", "http");
  address.search = "";
  try {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const response = await fetch(address, { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/**
 * Sends audio, dispatches events, and continues in a new connection when one breaks: in the same session, or in a new
 * one if the server was restarted. Audio without a final is kept (within a bound), and what the session lacks is sent
 * again, so that no words are lost and none come twice; times and utterance numbers continue.
 *
 * DOM events, with their `detail`:
 * - `state`: "connecting", "open", "reconnecting", "stopping" or "closed"
 * - `event`: an event of the server, as in docs/protocol.md
 * - `retry`: {attempt, delayMs, reason}; the connection failed or broke, and is tried again
 * - `reconnected`: {resentMs, resumed}; if the session is a new one, the text of utterances without a final follows
 *   again, with the same numbers
 * - `overflow`: an outage is longer than the audio that is kept; from now on the oldest is discarded
 * - `dropped`: {startMs, endMs}; audio discarded in such an outage, or because the server takes it too slowly
 * - `refused`: {code, message}; the stream is over, and trying again can't help
 */
export class LiveStream extends EventTarget {
  /**
   * @param {object} settings
   * @param {string | URL} settings.url ws:// or wss://
   * @param {number} settings.sampleRate Hz of the audio, 8000 to 48000
   * @param {object} [settings.options] of the session, as named in docs/protocol.md
   * @param {string} [settings.key] API key
   * @param {boolean} [settings.live] whether audio comes at the pace of speech; otherwise await `room()` before `send`
   * @param {number} [settings.keepSeconds] most audio without a final to keep
   */
  constructor({ url, sampleRate, options = {}, key = "", live = true, keepSeconds = 120 }) {
    super();
    this.sampleRate = sampleRate;
    this.state = "connecting";
    this._url = url;
    this._options = { ...options }; // those of the next connection
    this._changes = {}; // to send when the next session opens, merged: an outage may be long
    this._inFlight = []; // `configure` messages of this session without an answer: {number, changes, initial}
    this._token = null; // with which the session can be resumed
    this._seq = 0; // of the last message received in it
    this._key = key;
    this._live = live;
    this._ledger = new AudioLedger(sampleRate, keepSeconds);
    this._attempts = new Attempts();
    this._blockedHandshakes = 0;
    this._begun = false;
    this._stopping = false;
    this._waitingForRoom = []; // resolves of the promises of `room()`
    this._ended = new Promise((resolve) => (this._end = resolve));
    this._checkTimer = setInterval(() => this._check(), WATCH_EVERY_MS);
    this._onOnline = () => this._retryNow();
    globalThis.addEventListener?.("online", this._onOnline);
    // The caller adds listeners first.
    queueMicrotask(() => this._connect());
  }

  /** Milliseconds of audio passed to `send`. */
  get audioMs() {
    return this._ledger.endMs;
  }

  /** Everything before this was processed and has its finals. */
  get settledMs() {
    return this._ledger.settledMs;
  }

  /** Seconds of audio not sent yet. */
  get unsentSeconds() {
    return this._ledger.unsentSeconds;
  }

  /**
   * Send audio, or keep it until it can be sent. Never waits.
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

  /** Resolves when there is room for more audio, or when the stream is over. */
  async room() {
    while (this._isFull && this.state !== "closed") await new Promise((resolve) => this._waitingForRoom.push(resolve));
  }

  /** End the open utterance now. */
  finalize() {
    this._ledger.finalize();
    this._pump();
  }

  /**
   * Change options in mid-stream. An invalid value causes an `error` event that is not fatal. Changes made without a
   * connection are sent as one once there is one, so the server accepts or rejects them together.
   */
  configure(changes) {
    if (this._begun) this._sendChanges(changes);
    else Object.assign(this._changes, changes);
  }

  /** End the audio. Resolves once everything has its final, or the stream is over otherwise. */
  stop() {
    if (this.state !== "closed" && !this._stopping) {
      this._stopping = true;
      this._ledger.stop();
      if (this.state === "open") this._setState("stopping");
      this._pump();
    }
    return this._ended;
  }

  /** Close the connection at once; what has no final yet gets none. */
  close() {
    const socket = this._socket;
    this._finish();
    socket?.close(1000);
  }

  _connect() {
    if (this.state === "closed") return;
    clearTimeout(this._retryTimer);
    this._retryTimer = null;
    this._begun = this._opened = false;
    this._error = null;
    const protocols = this._key ? ["streaming-asr", `key.${this._key}`] : ["streaming-asr"];
    let socket;
    try {
      socket = new WebSocket(this._address(), protocols);
    } catch {
      // The key has spaces or characters outside ASCII, which a subprotocol can't have.
      this._refuse({ code: "unauthorized", message: "An API key can't have spaces or characters outside ASCII." });
      return;
    }
    this._socket = socket;
    this._waitingSince = performance.now();
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this._opened = true;
      this._blockedHandshakes = 0;
      if (this._token) socket.send(JSON.stringify({ type: "resume", token: this._token, seq: this._seq }));
    };
    socket.onmessage = ({ data }) => socket === this._socket && this._receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => socket === this._socket && this._broken(code, reason);
  }

  _address() {
    const address = new URL(this._url);
    address.searchParams.set("sample_rate", this.sampleRate);
    address.searchParams.set("resume", this._token ? "claim" : "offer");
    if (this._ledger.leadInMs > 0) address.searchParams.set("lead_in_ms", this._ledger.leadInMs);
    for (const [name, value] of Object.entries(this._options)) {
      if (!LONG_OPTIONS.includes(name)) address.searchParams.set(name, value ?? "null");
    }
    return address;
  }

  _receive(event) {
    this._waitingSince = null;
    if (event.seq > this._seq) this._seq = event.seq;
    if (event.type === "ready") this._begin(event);
    else if (event.type === "error" && event.fatal) this._error = event;
    else {
      if (event.type === "configured") this._observeAnswer(true);
      if (event.type === "error" && event.code === "bad_option") this._observeAnswer(false);
      for (const streamEvent of this._ledger.observe(event)) this._emit("event", streamEvent);
      if (event.type === "done") this._finish();
      else this._pump();
    }
  }

  _begin(ready) {
    const reconnected = this.state === "reconnecting";
    const resumed = ready.resume?.resumed ?? false;
    const received = resumed ? ready.resume.controls : 0;
    const { resentMs, lost } = resumed
      ? this._ledger.resumeSession(ready.resume.audio_bytes, received)
      : this._ledger.beginSession(ready.options);
    if (!resumed) this._seq = 0;
    this._token = ready.resume?.token ?? null;
    this._takeBackChanges(received, resumed);
    this._begun = true;
    this._overflowed = false;
    this._setState(this._stopping ? "stopping" : "open");
    this._emit("event", ready);
    if (reconnected) this._emit("reconnected", { resentMs, resumed });
    if (lost) this._emit("dropped", lost);
    const longOptions = Object.fromEntries(
      LONG_OPTIONS.filter((name) => this._options[name]?.length).map((name) => [name, this._options[name]]),
    );
    if (!resumed && Object.keys(longOptions).length > 0) this._sendChanges(longOptions, true);
    if (Object.keys(this._changes).length > 0) {
      this._sendChanges(this._changes);
      this._changes = {};
    }
    this._pump();
  }

  /** @param {boolean} [initial] whether every new session is sent them anyway */
  _sendChanges(changes, initial = false) {
    this._inFlight.push({ number: this._ledger.countControl(), changes, initial });
    this._sendMessage({ type: "configure", ...changes });
  }

  /**
   * Send again the changes of which the server has not received the message.
   * @param {number} received text messages of the session
   */
  _takeBackChanges(received, resumed) {
    const lost = this._inFlight.filter(({ number, initial }) => number > received && (resumed || !initial));
    this._inFlight = this._inFlight.filter(({ number }) => number <= received);
    this._changes = Object.assign({}, ...lost.map(({ changes }) => changes), this._changes);
  }

  /** The server accepted or rejected the oldest `configure` message. */
  _observeAnswer(accepted) {
    const answered = this._inFlight.shift();
    if (answered && accepted) Object.assign(this._options, answered.changes);
  }

  async _broken(code, reason) {
    if (this.state === "closed") return;
    const error = this._error;
    const failedHandshake = !this._opened;
    this._socket = null;
    this._begun = false;
    if (error) this._token = null; // The session is over.
    if (error ? !TRANSIENT_CODES.has(error.code) : PERMANENT_CLOSES.has(code)) {
      this._refuse(error ?? { code: "closed", message: `The server closed the connection (${reason || code}).` });
      return;
    }
    this._setState("reconnecting");
    const attempt = this._attempts.failed(this.settledMs);
    const delayMs = backoffMs(attempt);
    this._retryTimer = setTimeout(() => this._connect(), delayMs);
    this._emit("retry", { attempt, delayMs, reason: error?.message ?? "" });
    if (failedHandshake) await this._explainFailure();
  }

  /** Ask the server why a handshake failed, which browsers hide from pages. */
  async _explainFailure() {
    const about = await aboutServer(this._url, this._key);
    if (this.state !== "reconnecting") return;
    this._blockedHandshakes = about?.status === "ready" ? this._blockedHandshakes + 1 : 0;
    if (about === null) return;
    if (about.key === "wanted") {
      const message = this._key ? "The API key is not the right one." : "The server wants an API key.";
      this._refuse({ code: "unauthorized", message });
    } else if (this._blockedHandshakes >= BLOCKED_HANDSHAKES) {
      const message = "The server can be reached, but not by WebSocket. A proxy must pass on Upgrade and Host.";
      this._refuse({ code: "blocked", message });
    }
  }

  _retryNow() {
    if (this.state === "reconnecting" && this._retryTimer !== null) this._connect();
  }

  /** Keep a quiet connection alive, and detect a dead one. */
  _check() {
    const now = performance.now();
    if (this._socket && this._waitingSince !== null && this._live && now - this._waitingSince > SILENT_MS) {
      const socket = this._socket;
      this._broken(1006, "");
      socket.close(GIVEN_UP);
    } else if (this._begun && now - this._sentAt > KEEP_ALIVE_MS) {
      this._sendMessage(this._ledger.ping());
    }
    this._pump();
  }

  get _isFull() {
    return this._ledger.full || this._ledger.unsentSeconds > UNSENT_SECONDS;
  }

  _pump() {
    let message;
    while (this._begun && this._socket.readyState === WebSocket.OPEN) {
      if (this._socket.bufferedAmount > UNSENT_BYTES) {
        this._pumpTimer ??= setTimeout(() => {
          this._pumpTimer = null;
          this._pump();
        }, 50);
        break;
      }
      message = this._ledger.nextMessage();
      if (message === null) break;
      if (message.audio) this._sendData(message.audio);
      else this._sendMessage(message);
    }
    const gap = this._ledger.takeGap();
    if (gap) this._emit("dropped", gap);
    if (!this._isFull || this.state === "closed") this._waitingForRoom.splice(0).forEach((resolve) => resolve());
  }

  _sendMessage(message) {
    if (message.type === "ping") this._waitingSince ??= performance.now();
    this._sendData(JSON.stringify(message));
  }

  _sendData(data) {
    this._sentAt = performance.now();
    this._socket.send(data);
  }

  _refuse({ code, message }) {
    this._emit("refused", { code, message });
    this._finish();
  }

  _finish() {
    if (this.state === "closed") return;
    for (const final of this._ledger.takeProvisional()) this._emit("event", final);
    clearTimeout(this._retryTimer);
    clearTimeout(this._pumpTimer);
    clearInterval(this._checkTimer);
    globalThis.removeEventListener?.("online", this._onOnline);
    this._begun = false;
    this._setState("closed");
    this._socket = null;
    this._waitingForRoom.splice(0).forEach((resolve) => resolve());
    this._end();
  }

  _setState(state) {
    if (state === this.state) return;
    this.state = state;
    this._emit("state", state);
  }

  _emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
