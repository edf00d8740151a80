// The delay of words that the reader notices: from the sound to the screen.

export class LatencyMeter {
  constructor() {
    this._offset = null; // wall clock of the stream's time 0
    this._began = new Map(); // utterances without a partial -> ms of the stream at which they began
  }

  /** Audio up to `endMs` of the stream has just been captured. Times in ms, `now` of the wall clock. */
  captured(endMs, now) {
    this._offset = now - endMs;
  }

  /** @returns {{first?: number, final?: number}} latencies in ms that follow from this event of the server */
  observe(event, now) {
    if (this._offset === null) return {};
    if (event.type === "speech_started") this._began.set(event.utterance, event.time_ms);
    const text = event.type === "partial" ? event.stable + event.tentative : event.text;
    if (event.type === "partial" && text && this._began.has(event.utterance)) {
      const began = this._began.get(event.utterance);
      this._began.delete(event.utterance);
      return { first: now - this._offset - began };
    }
    if (event.type === "final") {
      this._began.delete(event.utterance);
      if (text) return { final: now - this._offset - event.time_ms };
    }
    return {};
  }
}
