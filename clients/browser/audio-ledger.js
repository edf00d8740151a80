// Keeps the audio that has no final yet, so that a new session can go on where the old one broke.
//
// No socket, no clock: audio and the server's events go in, messages to send and events in stream terms come out.
//
// Audio is settled when a new session need not hear it: it was heard, and every word in it has its final. How far the
// server has heard is learnt from pings, which it answers in turn with the audio.
//
// Positions are samples of the stream, however many sessions it takes; each session counts from where it goes on.

const PIECE_MS = 100;
const PING_EVERY_MS = 1000;
/** Beyond what the session's options say that an utterance may reach back: frames, resampling, rounding. */
const SLACK_MS = 500;
const LOOK_BACK_MS = 2000;
const MAX_ANCHORS = 1000;

export class AudioLedger {
  /**
   * @param {number} sampleRate Hz of the audio: mono, 16 bit.
   * @param {number} keepSeconds of audio kept at most; beyond it the oldest is given up.
   */
  constructor(sampleRate, keepSeconds) {
    this._rate = sampleRate;
    this._keep = keepSeconds * sampleRate;
    this._chunks = []; // {start, samples}, one after the other
    this._start = 0; // of what is kept
    this._end = 0;
    this._next = 0; // to send
    this._settled = 0;
    this._anchors = [[0, 0]]; // [sample of the session, position]: where audio goes on, oldest first
    this._sent = 0; // in this session
    this._pinged = 0;
    this._lookBack = this._samples(LOOK_BACK_MS);
    this._gapStart = null;
    this._finalsBefore = 0; // number of the last final of the sessions before
    this._lastFinal = 0;
    this._open = new Map(); // utterances without a final: the session's number -> position of their start
    this._cut = new Set(); // those that ended because the session does, perhaps within a word
    this._heldBack = []; // finals of those: good once all is done, but a new session makes better ones
    this._finalizes = []; // positions of finalizes without an answer
    this._asked = 0; // how many of them this session was asked
    this._stopped = false;
    this._stopSent = false;
  }

  get endMs() {
    return this._ms(this._end);
  }

  get settledMs() {
    return this._ms(this._settled);
  }

  get unsentSeconds() {
    return (this._end - this._next) / this._rate;
  }

  /** Whether more audio would have some given up. */
  get full() {
    return this._end - this._start >= this._keep;
  }

  /** @param {Int16Array} samples the next audio; kept, not copied. */
  append(samples) {
    if (samples.length === 0) return;
    this._chunks.push({ start: this._end, samples });
    this._end += samples.length;
    if (this._end - this._start > this._keep) this._forget(this._end - this._keep);
  }

  /** Ask for the finals of everything appended so far. */
  finalize() {
    if (!this._finalizes.includes(this._end)) this._finalizes.push(this._end);
  }

  /** No more audio comes. */
  stop() {
    this._stopped = true;
  }

  /**
   * Go on in a new session, with the options it has, from the first audio that is not settled.
   * @returns {{resentMs: number, lost: {startMs, endMs} | null}} lost: audio without a final that was given up
   */
  beginSession(options) {
    this._configured(options);
    const start = Math.max(this._settled, this._start);
    const told = {
      resentMs: this._ms(Math.max(0, this._next - start)),
      lost: start > this._settled ? { startMs: this._ms(this._settled), endMs: this._ms(start) } : null,
    };
    this._settled = this._next = start;
    this._anchors = [[0, start]];
    this._sent = this._pinged = this._asked = 0;
    this._finalsBefore = this._lastFinal;
    this._gapStart = null;
    this._open.clear();
    this._cut.clear();
    this._heldBack = [];
    this._stopSent = false;
    return told;
  }

  /** What to send now: {audio: Int16Array}, {type: "ping" | "finalize" | "stop", …}, or null until there is more. */
  nextMessage() {
    if (this._sent - this._pinged >= this._samples(PING_EVERY_MS)) return this.ping();
    const asking = this._asked < this._finalizes.length;
    const limit = asking ? Math.min(this._end, this._finalizes[this._asked]) : this._end;
    if (this._next < limit) return { audio: this._piece(limit) };
    if (asking) {
      this._asked += 1;
      return { type: "finalize" };
    }
    if (this._stopped && !this._stopSent) {
      this._stopSent = true;
      return { type: "stop" };
    }
    return null;
  }

  ping() {
    this._pinged = this._sent;
    return { type: "ping", id: this._sent };
  }

  /** Audio given up before it was sent, as {startMs, endMs}; told once, when sending has gone on behind it. */
  takeGap() {
    const [, resumed] = this._anchors.at(-1);
    if (this._gapStart === null || this._next === resumed) return null;
    const gap = { startMs: this._ms(this._gapStart), endMs: this._ms(resumed) };
    this._gapStart = null;
    return gap;
  }

  /** What the server's event means in the stream: often just that event, with the stream's times and numbers. */
  observe(event) {
    if (event.type === "pong") {
      this._heard(event.id);
      return [];
    }
    if (event.type === "done") {
      this._settled = this._end;
      return [...this.giveUp(), { ...event, audio_ms: this.endMs }];
    }
    const told = this._translated(event);
    if (event.type === "speech_started") this._open.set(event.utterance, this._position(event.time_ms));
    if (event.type === "speech_ended" && event.reason === "stop") this._cut.add(event.utterance);
    if (event.type === "finalized") this._observeFinalized(this._position(event.time_ms));
    if (event.type === "final") {
      if (this._cut.has(event.utterance)) {
        this._heldBack.push(told);
        return [];
      }
      this._open.delete(event.utterance);
      this._lastFinal = Math.max(this._lastFinal, told.utterance);
      this._settle(this._position(event.time_ms));
    }
    return [told];
  }

  /** No session follows: finals that were held back for the case that one does. */
  giveUp() {
    const heldBack = this._heldBack;
    this._heldBack = [];
    return heldBack;
  }

  _observeFinalized(position) {
    this._settle(position);
    while (this._asked > 0 && this._finalizes[0] <= position + this._samples(SLACK_MS)) {
      this._finalizes.shift();
      this._asked -= 1;
    }
  }

  _heard(sent) {
    if (typeof sent !== "number") return;
    const heard = this._position((sent * 1000) / this._rate);
    this._settle(Math.min(heard, ...this._open.values()) - this._lookBack);
  }

  _settle(position) {
    this._settled = Math.max(this._settled, Math.min(position, this._next));
    this._forget(this._settled);
  }

  _configured({ pre_roll_ms: preRoll, onset_ms: onset, max_utterance_s: longest }) {
    if (preRoll != null && onset != null) this._lookBack = this._samples(preRoll + 2 * onset + SLACK_MS);
    // Less than the longest utterance could never be settled, and whoever waits for that would wait for ever.
    if (longest != null) this._keep = Math.max(this._keep, 2 * longest * this._rate);
  }

  _piece(limit) {
    const chunk = this._chunks.findLast(({ start }) => start <= this._next);
    const from = this._next - chunk.start;
    const size = Math.min(limit - this._next, this._samples(PIECE_MS));
    const piece = chunk.samples.subarray(from, from + size);
    this._next += piece.length;
    this._sent += piece.length;
    return piece;
  }

  /** Let go of the audio before a position. */
  _forget(position) {
    if (position <= this._start) return;
    this._start = position;
    const gone = this._chunks.findIndex(({ start, samples }) => start + samples.length > position);
    this._chunks.splice(0, gone < 0 ? this._chunks.length : gone);
    if (this._next >= position) return;
    this._gapStart ??= this._next;
    if (this._anchors.at(-1)[0] === this._sent) this._anchors.pop();
    this._anchors.push([this._sent, position]);
    if (this._anchors.length > MAX_ANCHORS) this._anchors.shift();
    this._next = position;
  }

  _position(sessionMs) {
    const sample = Math.round((sessionMs * this._rate) / 1000);
    const [at, position] = this._anchors.findLast(([start]) => start <= sample) ?? this._anchors[0];
    return position + sample - at;
  }

  _translated(event) {
    const told = { ...event };
    const streamMs = (ms) => this._ms(this._position(ms));
    for (const name of ["start_ms", "time_ms"]) {
      if (typeof told[name] === "number") told[name] = streamMs(told[name]);
    }
    if (told.words) {
      told.words = told.words.map((word) => ({
        ...word,
        start_ms: streamMs(word.start_ms),
        end_ms: streamMs(word.end_ms),
      }));
    }
    if (typeof told.utterance === "number") told.utterance += this._finalsBefore;
    return told;
  }

  _samples(ms) {
    return Math.round((ms * this._rate) / 1000);
  }

  _ms(samples) {
    return Math.round((samples * 1000) / this._rate);
  }
}
