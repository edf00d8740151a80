// A transcript in utterances, and the files it can be saved as.

import { render } from "./subtitles.js";

const KINDS = new Set(["speech_started", "partial", "speaker", "speech_ended", "final", "translation"]);

/**
 * @typedef {object} Utterance
 * @property {number} number from 1, over all streams
 * @property {number} startMs
 * @property {number} endMs
 * @property {string} stable text that is only extended, or the final's
 * @property {string} tentative text that may still change; follows `stable`
 * @property {string | null} language
 * @property {number | null} confidence
 * @property {object[] | null} words as in the protocol, if they were requested
 * @property {number | null} speaker from 0; null where it is not known
 * @property {{text: string, language: string} | null} translation of the final; it comes after that, or never
 * @property {boolean} final
 */

export class Transcript {
  constructor() {
    this._utterances = new Map(); // by number
    this._numberOffset = 0;
    this._msOffset = 0;
    this._latest = 0;
    this._clearedUpTo = 0;
  }

  /** Begin another stream: its numbers and times continue after those of the last one, which was `audioMs` long. */
  beginStream(audioMs = 0) {
    this._numberOffset = this._latest;
    this._msOffset += audioMs;
  }

  /**
   * Apply an event of the server.
   * @returns {Utterance | null} the utterance that changed; one that turned out empty is final and removed
   */
  apply(event) {
    if (!KINDS.has(event.type)) return null;
    const number = event.utterance + this._numberOffset;
    if (event.type === "translation") return this._translated(number, event);
    if (number <= this._clearedUpTo || this._utterances.get(number)?.final) return null;
    this._latest = Math.max(this._latest, number);
    const utterance = this._utterances.get(number) ?? newUtterance(number);
    this._utterances.set(number, utterance);
    if (event.type === "speaker") {
      utterance.speaker = event.speaker;
      return utterance;
    }
    utterance.startMs = this._msOffset + (event.start_ms ?? event.time_ms);
    utterance.endMs = this._msOffset + event.time_ms;
    if (event.type === "partial") {
      utterance.stable = event.stable;
      utterance.tentative = event.tentative;
      utterance.language = event.language;
      utterance.speaker = event.speaker ?? utterance.speaker;
    } else if (event.type === "final") {
      this._finish(utterance, event);
    }
    return utterance;
  }

  _finish(utterance, { text, language, confidence, words, speaker }) {
    const shifted = words?.map((word) => ({
      ...word,
      start_ms: word.start_ms + this._msOffset,
      end_ms: word.end_ms + this._msOffset,
    }));
    const final = { stable: text, tentative: "", language, confidence, words: shifted ?? null, final: true };
    Object.assign(utterance, { ...final, speaker: speaker ?? null });
    if (text.trim() === "") this._utterances.delete(utterance.number);
  }

  _translated(number, { text, language }) {
    const utterance = this._utterances.get(number);
    if (!utterance) return null; // It was cleared or forgotten.
    utterance.translation = { text, language };
    return utterance;
  }

  /**
   * End the open utterances, because the stream is over and they get no final.
   *
   * @param {boolean} keepText whether their text so far becomes final; otherwise they are removed
   * @returns {Utterance[]} those that changed, all of them final
   */
  finishOpen(keepText) {
    const open = this.utterances.filter(({ final }) => !final);
    for (const utterance of open) {
      const text = keepText ? utterance.stable + utterance.tentative : "";
      Object.assign(utterance, { stable: text, tentative: "", final: true });
      if (text.trim() === "") this._utterances.delete(utterance.number);
    }
    return open;
  }

  /** Remove all utterances, the open ones too. Returns what `restore` takes. */
  clear() {
    const finals = this.finals;
    this._utterances.clear();
    this._clearedUpTo = this._latest;
    return finals;
  }

  /** Remove one; for pages that run for days. */
  forget({ number }) {
    this._utterances.delete(number);
  }

  /** Undo `clear`. */
  restore(finals) {
    const later = [...this._utterances];
    this._utterances = new Map([...finals.map((utterance) => [utterance.number, utterance]), ...later]);
  }

  get empty() {
    return this._utterances.size === 0;
  }

  get hasFinals() {
    // If any is final, the first is, so this is quick.
    for (const { final } of this._utterances.values()) if (final) return true;
    return false;
  }

  /** @returns {Utterance[]} in order */
  get utterances() {
    return [...this._utterances.values()];
  }

  get finals() {
    return this.utterances.filter(({ final }) => final);
  }

  /** @param {"txt" | "srt" | "vtt" | "json"} format of the file */
  as(format) {
    return render(this.finals, format);
  }
}

function newUtterance(number) {
  return {
    number,
    startMs: 0,
    endMs: 0,
    stable: "",
    tentative: "",
    language: null,
    confidence: null,
    words: null,
    speaker: null,
    translation: null,
    final: false,
  };
}
