// Utterances on the page: each an item whose text changes in place, so that nothing already read moves.

import { clock } from "../client/streaming-asr.js";

/** Items on the page at most; what came before is a click away. */
export const MAX_ITEMS = 300;
const EARLIER_STEP = 200;
/** Pixels from the end that still count as being there. */
const NEAR_END = 48;

export class TranscriptView {
  /**
   * @param {object} parts elements: scroller (scrolls), list, latest (button to the end), earlier (button to the past)
   * @param {Transcript} transcript
   */
  constructor({ scroller, list, latest, earlier }, transcript) {
    this._scroller = scroller;
    this._list = list;
    this._latest = latest;
    this._earlier = earlier;
    this._transcript = transcript;
    this._items = new Map(); // utterance number -> its elements
    this._changed = new Map(); // utterances to repaint
    this._frame = 0;
    this._newest = 0; // number of the latest utterance that has had an item
    this.following = true;
    scroller.addEventListener("scroll", () => this._scrolled(), { passive: true });
    latest.addEventListener("click", () => this.toLatest());
    earlier.addEventListener("click", () => this._showEarlier());
    new ResizeObserver(() => this.following && this._toEnd()).observe(scroller);
  }

  /** An utterance changed; painted with the next frame. */
  update(utterance) {
    this._changed.set(utterance.number, utterance);
    this._frame ||= requestAnimationFrame(() => this._paint());
  }

  /** Those utterances are gone. */
  remove(utterances) {
    for (const { number } of utterances) this._removeItem(number);
  }

  /** Paint everything anew. */
  reset() {
    this._changed.clear();
    this._items.clear();
    const utterances = this._transcript.utterances;
    this._newest = utterances.at(-1)?.number ?? this._newest;
    this._list.replaceChildren(...utterances.slice(-MAX_ITEMS).map((utterance) => this._itemOf(utterance)));
    this._earlier.hidden = utterances.length <= MAX_ITEMS;
    this.toLatest();
  }

  toLatest() {
    this.following = true;
    this._latest.hidden = true;
    this._toEnd();
  }

  _paint() {
    this._frame = 0;
    for (const utterance of this._changed.values()) {
      if (utterance.final && utterance.stable.trim() === "") this._removeItem(utterance.number);
      else if (this._items.has(utterance.number)) fill(this._items.get(utterance.number), utterance);
      else this._append(utterance);
    }
    this._changed.clear();
    if (!this.following) return;
    this._prune();
    this._toEnd();
  }

  /** A translation may come when the item of its utterance is no longer on the page. */
  _append(utterance) {
    if (utterance.number <= this._newest) return;
    this._newest = utterance.number;
    this._list.append(this._itemOf(utterance));
  }

  _itemOf(utterance) {
    const parts = {
      item: element("li"),
      when: element("div", "when"),
      time: element("time"),
      speaker: element("span", "speaker"),
      language: element("span", "language"),
      text: element("p"),
      stable: element("span", "stable"),
      tentative: element("span", "tentative"),
    };
    parts.when.append(parts.time, parts.speaker, parts.language);
    parts.text.append(parts.stable, parts.tentative);
    parts.item.append(parts.when, parts.text);
    this._items.set(utterance.number, parts);
    fill(parts, utterance);
    return parts.item;
  }

  _removeItem(number) {
    this._changed.delete(number);
    this._items.get(number)?.item.remove();
    this._items.delete(number);
  }

  _prune() {
    if (this._items.size <= MAX_ITEMS) return;
    for (const number of [...this._items.keys()].slice(0, this._items.size - MAX_ITEMS)) this._removeItem(number);
    this._earlier.hidden = false;
  }

  /** Add older items above, without moving what is on the screen. */
  _showEarlier() {
    const first = Math.min(...this._items.keys());
    const before = this._transcript.utterances.filter(({ number }) => number < first);
    const fromEnd = this._scroller.scrollHeight - this._scroller.scrollTop;
    this._list.prepend(...before.slice(-EARLIER_STEP).map((utterance) => this._itemOf(utterance)));
    this._earlier.hidden = before.length <= EARLIER_STEP;
    this._leave();
    this._scroller.scrollTop = this._scroller.scrollHeight - fromEnd;
  }

  _scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this._scroller;
    if (scrollHeight - scrollTop - clientHeight > NEAR_END) this._leave();
    else if (!this.following) this.toLatest();
  }

  _leave() {
    this.following = false;
    this._latest.hidden = false;
  }

  _toEnd() {
    this._scroller.scrollTop = this._scroller.scrollHeight;
  }
}

function fill({ item, time, speaker, language, text, stable, tentative }, utterance) {
  setText(time, shortClock(utterance.startMs));
  setText(speaker, utterance.speaker === null ? "" : `Speaker ${utterance.speaker + 1}`);
  setText(language, utterance.final ? (utterance.language ?? "") : "");
  // The space between them is not underlined.
  const tail = utterance.tentative.trimStart();
  const space = utterance.tentative.slice(0, utterance.tentative.length - tail.length);
  setText(stable, utterance.stable + space);
  setText(tentative, tail);
  if (utterance.language && text.lang !== utterance.language) text.lang = utterance.language;
  if (utterance.translation) translate(item, utterance.translation);
  item.classList.toggle("final", utterance.final);
  item.classList.toggle("listening", utterance.stable + utterance.tentative === "");
}

/** Show the translation below the text. */
function translate(item, { text, language }) {
  const line = item.querySelector(".translation") ?? item.appendChild(element("div", "translation"));
  line.lang = language;
  setText(line, text);
}

/** As 0:04, 12:04 or 1:12:04. */
function shortClock(ms) {
  return clock(ms).slice(0, 8).replace(/^(00:)?0?/, "");
}

/** Text nodes that stay as they are are left alone. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function element(name, className = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}
