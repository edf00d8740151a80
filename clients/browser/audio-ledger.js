// Keeps the audio that has no final yet, so that a new session can continue where the last one broke.
//
// No socket, no clock: audio and the server's events go in; messages to send and events in stream terms come out.
//
// Audio is settled when a new session does not need it: the server has processed it, and every word in it has its
// final. Pings show how far the server has processed the audio, because it answers them in order with the audio.
//
// A new session is sent the last seconds of settled audio before the rest, as its lead-in: the server's voice detector
// follows the level of voice and noise, and without them would cut what follows otherwise.
//
// Positions are samples of the stream, and stream times are milliseconds of it, however many sessions it takes. Each
// session counts both from the position at which it begins.
//
// clients/ledger.py does the same, and for several channels.

const PIECE_MS = 100;
const PING_EVERY_MS = 1000;
/**
 * Of the server's voice detection. A session that begins between two frames of the one before would cut the same speech
 * a little otherwise, and now and then recognize another word.
 */
const FRAME_MS = 32;
/** Settled audio that is kept for the next session's lead-in. */
const LEAD_IN_MS = 640 * FRAME_MS;
/** Added to how far the session's options let an utterance reach back: frames, resampling, rounding. */
const SLACK_MS = 500;
/** Silence that ends an utterance if `endpoint_ms` is null. */
const NO_ENDPOINT_MS = 60_000;
/** How far an utterance may reach back before its detection, where the options do not say. */
const LOOK_BACK_MS = 2000;
const MAX_ANCHORS = 1000;
const SAMPLE_BYTES = 2;

export class AudioLedger {
  /**
   * @param {number} sampleRate Hz of the audio: mono, 16 bit.
   * @param {number} keepSeconds most audio to keep; beyond it the oldest is discarded.
   */
  constructor(sampleRate, keepSeconds) {
    this._rate = sampleRate;
    this._keep = Math.round(keepSeconds * sampleRate);
    this._chunks = []; // {start, samples}, in order and without gaps
    this._start = 0; // position of the first sample kept
    this._end = 0;
    this._next = 0; // position of the next sample to send
    this._settled = 0;
    this._leadIn = new Int16Array(0); // what this session is sent before the audio from its position on
    this._anchors = [[0, 0]]; // [sample of the session, position] from which both count on together, oldest first
    this._sent = 0; // samples, in this session
    this._pinged = 0; // samples sent in this session before its last ping
    this._options = {};
    this._lookBack = this._samples(LOOK_BACK_MS);
    this._gapStart = null;
    this._finalsBefore = 0; // number of the last final of earlier sessions; this session's numbers follow it
    this._lastFinal = 0;
    this._open = new Map(); // utterances without a final: the session's number -> position of their start
    this._cut = new Set(); // utterances that ended because the session did, perhaps within a word
    this._provisional = new Map(); // finals of those: correct if the stream is done, else a new session replaces them
    this._finalizes = []; // positions of finalizes without an answer
    this._requested = 0; // how many of them were sent in this session
    this._controls = 0; // text messages sent in this session
    this._requestNumbers = []; // of the finalizes that were sent: each one's number among the text messages
    this._stopNumber = 0;
    this._stopped = false;
    this._stopSent = false;
  }

  get endMs() {
    return this._ms(this._end);
  }

  /** Everything before this is settled. */
  get settledMs() {
    return this._ms(this._settled);
  }

  get unsentSeconds() {
    return (this._end - this._next) / this._rate;
  }

  /** Whether appending more audio would discard some. */
  get full() {
    return this._end - this._unsettledStart >= this._keep;
  }

  /** What `lead_in_ms` a session that begins now is to be given; 0 if the server does not know the option. */
  get leadInMs() {
    if (this._options.lead_in_ms === undefined) return 0;
    const availableMs = Math.floor(((this._unsettledStart - this._start) * 1000) / this._rate);
    return availableMs - (availableMs % FRAME_MS);
  }

  /** Position of the first sample kept that is not settled. */
  get _unsettledStart() {
    return Math.max(this._start, this._settled);
  }

  /** @param {Int16Array} samples the next audio; kept, not copied. */
  append(samples) {
    if (samples.length === 0) return;
    this._chunks.push({ start: this._end, samples });
    this._end += samples.length;
    if (this._end - this._unsettledStart > this._keep) this._forget(this._end - this._keep);
  }

  /** Request the finals of everything appended so far. */
  finalize() {
    if (!this._finalizes.includes(this._end)) this._finalizes.push(this._end);
  }

  /** No more audio comes. */
  stop() {
    this._stopped = true;
  }

  /**
   * Continue in a new session, from the first audio that is not settled, and its lead-in.
   * @param {object} options in force, as in `ready`; `lead_in_ms` at most as `leadInMs` was
   * @returns {{resentMs: number, lost: {startMs, endMs} | null}} lost: discarded audio without a final
   */
  beginSession(options) {
    this._options = { ...options };
    this._applyOptions();
    const start = Math.max(this._settled, this._start);
    const resentMs = this._ms(Math.max(0, this._next - start));
    const lost = start > this._settled ? { startMs: this._ms(this._settled), endMs: this._ms(start) } : null;
    this._leadIn = this._before(start, this._samples(options.lead_in_ms ?? 0));
    this._settled = this._next = start;
    this._anchors = [[this._leadIn.length, start]];
    this._sent = this._pinged = this._requested = this._controls = 0;
    this._requestNumbers = [];
    this._finalsBefore = this._lastFinal;
    this._gapStart = null;
    this._open.clear();
    this._cut.clear();
    this._provisional.clear();
    this._stopSent = false;
    return { resentMs, lost };
  }

  /**
   * Continue in the same session on another connection, from what the server has not received.
   * @param {number} audioBytes of this session, that the server has received
   * @param {number} controls text messages of this session, that the server has received
   * @returns {{resentMs: number}}
   */
  resumeSession(audioBytes, controls) {
    const before = this._next;
    const received = Math.min(Math.floor(audioBytes / SAMPLE_BYTES), this._sent);
    const goingOn = Math.max(received, this._leadIn.length);
    while (this._anchors.length > 1 && this._anchors.at(-1)[0] > goingOn) this._anchors.pop();
    this._next = this._positionOfSample(goingOn);
    this._sent = received;
    this._pinged = Math.min(this._pinged, received);
    this._controls = controls;
    while (this._requestNumbers.at(-1) > controls) {
      this._requestNumbers.pop();
      this._requested -= 1;
    }
    this._stopSent &&= this._stopNumber <= controls;
    const resent = Math.max(0, before - Math.max(this._next, this._start));
    if (this._next < this._start) {
      this._gapStart = null;
      this._skipTo(this._start);
    }
    return { resentMs: this._ms(resent) };
  }

  /** A text message that is not the ledger's is sent now; returns its number in this session, from 1. */
  countControl() {
    this._controls += 1;
    return this._controls;
  }

  /** The next message, {audio: Int16Array} or {type: "ping" | "finalize" | "stop", …}; null if there is none yet. */
  nextMessage() {
    if (this._sent - this._pinged >= this._samples(PING_EVERY_MS)) return this.ping();
    if (this._sent < this._leadIn.length) return { audio: this._pieceOfLeadIn() };
    const requesting = this._requested < this._finalizes.length;
    const limit = requesting ? Math.min(this._end, this._finalizes[this._requested]) : this._end;
    if (this._next < limit) return { audio: this._piece(limit) };
    if (requesting) {
      this._requested += 1;
      this._requestNumbers.push(this.countControl());
      return { type: "finalize" };
    }
    if (this._stopped && !this._stopSent) {
      this._stopSent = true;
      this._stopNumber = this.countControl();
      return { type: "stop" };
    }
    return null;
  }

  ping() {
    this._pinged = this._sent;
    this.countControl();
    return { type: "ping", id: this._sent };
  }

  /** Audio discarded before it was sent, as {startMs, endMs}; returned once, after audio behind it was sent. */
  takeGap() {
    const [, resumed] = this._anchors.at(-1);
    if (this._gapStart === null || this._next === resumed) return null;
    const gap = { startMs: this._ms(this._gapStart), endMs: this._ms(resumed) };
    this._gapStart = null;
    return gap;
  }

  /** Take the server's next event; returns the events for the user, with the stream's times and numbers. */
  observe(event) {
    switch (event.type) {
      case "pong":
        this._observePong(event.id);
        return [];
      case "done":
        this._settled = this._end;
        return [...this.takeProvisional(), { ...event, audio_ms: this.endMs }];
      case "final":
        return this._observeFinal(event);
      case "finalized":
        this._observeFinalized(this._position(event.time_ms));
        break;
      case "speech_started":
        this._open.set(event.utterance, this._position(event.time_ms));
        break;
      case "speech_ended":
        if (event.reason === "stop") this._cut.add(event.utterance);
        break;
      case "configured":
        Object.assign(this._options, event.options);
        this._applyOptions();
    }
    return [this._inStreamTerms(event)];
  }

  /** Finals that were kept back in case a new session replaces them; for when none follows. */
  takeProvisional() {
    const finals = [...this._provisional.values()];
    this._provisional.clear();
    return finals;
  }

  _observeFinal(sessionFinal) {
    const number = sessionFinal.utterance;
    const final = this._inStreamTerms(sessionFinal);
    if (this._cut.has(number)) {
      this._provisional.set(number, final);
      return [];
    }
    if (!this._open.has(number) && final.utterance <= this._lastFinal) return []; // A repetition.
    this._open.delete(number);
    this._lastFinal = Math.max(this._lastFinal, final.utterance);
    this._settle(this._position(sessionFinal.time_ms));
    return [final];
  }

  _observeFinalized(position) {
    this._settle(position);
    if (this._requested === 0 || this._finalizes[0] > position + this._samples(SLACK_MS)) return;
    this._finalizes.shift();
    this._requestNumbers.shift();
    this._requested -= 1;
  }

  _observePong(sent) {
    if (typeof sent !== "number") return;
    const position = Math.min(this._positionOfSample(sent), ...this._open.values()) - this._lookBack;
    this._settle(position - (position % Math.max(1, this._samples(FRAME_MS))));
  }

  _settle(position) {
    this._settled = Math.max(this._settled, Math.min(position, this._next));
    this._forget(this._settled - this._samples(LEAD_IN_MS));
  }

  _applyOptions() {
    const { pre_roll_ms: preRoll, onset_ms: onset, max_utterance_s: longest } = this._options;
    const { endpoint_ms: usualSilence = 0, endpoint_max_ms: longestSilence = 0 } = this._options;
    if (preRoll != null && onset != null) this._lookBack = this._samples(preRoll + 2 * onset + SLACK_MS);
    if (longest == null) return;
    // An utterance longer than what is kept could never be settled; a sender that waits for room would wait forever.
    // Silence behind it comes on top.
    const silenceMs = Math.max(usualSilence ?? NO_ENDPOINT_MS, longestSilence);
    this._keep = Math.max(this._keep, Math.round((2 * longest + silenceMs / 1000) * this._rate));
  }

  _piece(limit) {
    const piece = new Int16Array(Math.min(limit - this._next, this._samples(PIECE_MS)));
    this._copy(this._next, piece);
    this._next += piece.length;
    this._sent += piece.length;
    return piece;
  }

  /** The audio before a position; silence for what is not kept. */
  _before(position, count) {
    const before = new Int16Array(count);
    const first = Math.max(this._start, position - count);
    this._copy(first, before.subarray(count - (position - first)));
    return before;
  }

  _pieceOfLeadIn() {
    const piece = this._leadIn.slice(this._sent, this._sent + this._samples(PIECE_MS));
    this._sent += piece.length;
    return piece;
  }

  /** Fill an array with the audio from a position on. */
  _copy(position, target) {
    let index = this._chunks.findLastIndex(({ start }) => start <= position);
    for (let filled = 0; filled < target.length; index++) {
      const { start, samples } = this._chunks[index];
      const from = position + filled - start;
      const part = samples.subarray(from, from + target.length - filled);
      target.set(part, filled);
      filled += part.length;
    }
  }

  /** Discard the audio before a position. */
  _forget(position) {
    if (position <= this._start) return;
    this._start = position;
    const kept = this._chunks.findIndex(({ start, samples }) => start + samples.length > position);
    this._chunks.splice(0, kept < 0 ? this._chunks.length : kept);
    if (this._next < position) this._skipTo(position);
  }

  /** Send on from a position, because the audio before it was discarded. */
  _skipTo(position) {
    this._gapStart ??= this._next;
    const sample = Math.max(this._sent, this._leadIn.length);
    if (this._anchors.at(-1)[0] === sample) this._anchors.pop();
    this._anchors.push([sample, position]);
    if (this._anchors.length > MAX_ANCHORS) this._anchors.shift();
    this._next = position;
    // Finalizes with only discarded audio between them request the same.
    while (this._finalizes[this._requested + 1] <= position) this._finalizes.splice(this._requested, 1);
  }

  _position(sessionMs) {
    return this._positionOfSample(this._samples(sessionMs));
  }

  /** The position of a sample of the session. */
  _positionOfSample(sample) {
    const [at, position] = this._anchors.findLast(([start]) => start <= sample) ?? this._anchors[0];
    return position + sample - at;
  }

  /** The event with the stream's times and numbers. */
  _inStreamTerms(event) {
    const changed = { ...event };
    const streamMs = (ms) => this._ms(this._position(ms));
    for (const name of ["start_ms", "time_ms"]) {
      if (typeof changed[name] === "number") changed[name] = streamMs(changed[name]);
    }
    if (changed.words) {
      changed.words = changed.words.map((word) => ({
        ...word,
        start_ms: streamMs(word.start_ms),
        end_ms: streamMs(word.end_ms),
      }));
    }
    if (typeof changed.utterance === "number") changed.utterance += this._finalsBefore;
    return changed;
  }

  _samples(ms) {
    return Math.round((ms * this._rate) / 1000);
  }

  _ms(samples) {
    return Math.round((samples * 1000) / this._rate);
  }
}
