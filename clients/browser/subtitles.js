// Finals -> a transcript file: plain text, JSON, SubRip (srt) or WebVTT (vtt).

/** Media types by extension. */
export const FORMATS = {
  txt: "text/plain",
  srt: "application/x-subrip",
  vtt: "text/vtt",
  json: "application/json",
};

/** Longest cue: two lines of 42 characters, as broadcasters' guidelines have it. */
const CUE_CHARS = 84;
const CUE_MS = 7000;
/** Scripts written without spaces: a cue may end behind any character. */
const PIECES = /\s*(?:[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]\p{P}*|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)/gu;
const SENTENCE_END = /[.?!。？！…]["'”’)]?$/u;

/** @param {Utterance[]} finals @param {keyof FORMATS} format */
export function written(finals, format) {
  if (format === "txt") return finals.map(({ stable }) => `${stable.trim()}\n`).join("");
  if (format === "json") return `${JSON.stringify({ utterances: finals.map(plain) }, null, 1)}\n`;
  const cues = finals.flatMap(cuesOf);
  if (format === "srt") {
    return cues.map((cue, index) => `${index + 1}\n${span(cue, ",")}\n${cue.text.replaceAll("-->", "→")}\n\n`).join("");
  }
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return `WEBVTT\n\n${cues.map((cue) => `${span(cue, ".")}\n${escaped(cue.text)}\n\n`).join("")}`;
}

/** Milliseconds as 00:01:02.345, with the given decimal point. */
export function clock(ms, point = ".") {
  const whole = Math.max(0, Math.round(ms));
  const pad = (number, digits = 2) => String(number).padStart(digits, "0");
  const seconds = Math.floor(whole / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return `${parts.map((part) => pad(part)).join(":")}${point}${pad(whole % 1000, 3)}`;
}

function span({ startMs, endMs }, point) {
  return `${clock(startMs, point)} --> ${clock(endMs, point)}`;
}

function plain({ number, startMs, endMs, stable, language, confidence, words }) {
  return { utterance: number, start_ms: startMs, end_ms: endMs, text: stable, language, confidence, words };
}

/** An utterance's cues, none longer than can be read at a glance. */
function cuesOf(utterance) {
  const words = timed(utterance);
  const cues = [];
  let first = 0;
  while (first < words.length) {
    const last = lastOfCue(words, first);
    const text = words.slice(first, last + 1).map((word) => word.text).join("").trim();
    cues.push({ startMs: words[first].startMs, endMs: words[last].endMs, text });
    first = last + 1;
  }
  return cues;
}

/** Index of the word that ends the cue: all that fits, or up to the end of a sentence in its later half. */
function lastOfCue(words, first) {
  let last = first;
  let length = words[first].text.length;
  while (last + 1 < words.length) {
    const next = words[last + 1];
    length += next.text.length;
    if (length > CUE_CHARS || next.endMs - words[first].startMs > CUE_MS) break;
    last += 1;
  }
  if (last === words.length - 1) return last;
  for (let at = last; at > (first + last) / 2; at--) {
    if (SENTENCE_END.test(words[at].text)) return at;
  }
  return last;
}

/** The words with their times, so that joined they are the text. */
function timed(utterance) {
  return withOwnTimes(utterance) ?? withGuessedTimes(utterance);
}

/** Null where the words are unknown, or not those of the text. */
function withOwnTimes({ stable, words }) {
  if (!words?.length) return null;
  const found = [];
  let end = 0;
  for (const { text, start_ms: startMs, end_ms: endMs } of words) {
    const at = stable.indexOf(text.trim(), end);
    if (at < 0) return null;
    const next = at + text.trim().length;
    found.push({ text: stable.slice(end, next), startMs, endMs });
    end = next;
  }
  found.at(-1).text += stable.slice(end);
  return found;
}

/** As if all letters took equally long. */
function withGuessedTimes({ stable, startMs, endMs }) {
  const pieces = stable.match(PIECES) ?? [];
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const at = (chars) => startMs + ((endMs - startMs) * chars) / total;
  let said = 0;
  return pieces.map((text) => {
    const from = at(said);
    said += text.length;
    return { text, startMs: from, endMs: at(said) };
  });
}
