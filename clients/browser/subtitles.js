// Finals -> a transcript file: plain text, JSON, SubRip (srt) or WebVTT (vtt). As clients/cues.py.

import { CLAUSE_ENDS, SENTENCE_ENDS, split, width } from "./scripts.js";

/** Media types by extension. */
export const FORMATS = {
  txt: "text/plain",
  srt: "application/x-subrip",
  vtt: "text/vtt",
  json: "application/json",
};

/** Columns of a cue: two lines of 42, as broadcasters' guidelines have it. */
const MAX_WIDTH = 84;
const MAX_MS = 7000;
/** A gap between words at which a cue may well end. */
const PAUSE_MS = 400;
const SENTENCE_END = new RegExp(`[${SENTENCE_ENDS}]["'”’»)\\]」』）】]*\\s*$`, "u");
const CLAUSE_END = new RegExp(`[${CLAUSE_ENDS}]\\s*$`, "u");

/** @param {Utterance[]} finals @param {keyof FORMATS} format */
export function render(finals, format) {
  if (format === "txt") return finals.map(({ stable, speaker }) => `${named(speaker)}${stable.trim()}\n`).join("");
  if (format === "json") return `${JSON.stringify({ utterances: finals.map(toRecord) }, null, 1)}\n`;
  const cues = finals.flatMap(cuesOf);
  if (format === "srt") {
    const text = (cue) => named(cue.speaker) + cue.text.replaceAll("-->", "→");
    return cues.map((cue, index) => `${index + 1}\n${span(cue, ",")}\n${text(cue)}\n\n`).join("");
  }
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const voice = ({ speaker }) => (speaker == null ? "" : `<v Speaker ${speaker + 1}>`);
  return `WEBVTT\n\n${cues.map((cue) => `${span(cue, ".")}\n${voice(cue)}${escaped(cue.text)}\n\n`).join("")}`;
}

function named(speaker) {
  return speaker == null ? "" : `Speaker ${speaker + 1}: `;
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

function toRecord({ number, startMs, endMs, stable, language, confidence, words, speaker }) {
  return { utterance: number, start_ms: startMs, end_ms: endMs, text: stable, language, confidence, words, speaker };
}

/**
 * The cues of an utterance, none longer than can be read at a glance unless a word alone is, and each of one speaker.
 * Joined they are the text.
 *
 * With word times each cue has the times of its words; without, each word gets a part of the utterance's time in
 * proportion to its width.
 */
function cuesOf({ stable, startMs, endMs, words, speaker }) {
  const spoken = align(stable, startMs, endMs, words ?? []) ?? timePieces(stable, startMs, endMs);
  const cues = [];
  for (let rest = spoken; rest.length > 0; ) {
    const who = rest[0].speaker ?? speaker;
    const change = rest.findIndex((word) => (word.speaker ?? speaker) !== who);
    const count = fitCue(change < 0 ? rest : rest.slice(0, change));
    const cue = { startMs: rest[0].startMs, endMs: rest[count - 1].endMs, text: join(rest.slice(0, count)) };
    cues.push({ ...cue, endMs: Math.max(cue.startMs + 1, cue.endMs), speaker: who });
    rest = rest.slice(count);
  }
  return cues;
}

/**
 * The words of the server, each with the white space and punctuation around it; null if they are not those of
 * the text.
 *
 * Each is within the utterance, begins no earlier than the one before, and ends before the next begins.
 */
function align(text, startMs, endMs, words) {
  const spans = [];
  for (const word of words) {
    const bare = word.text.trim();
    const begin = text.indexOf(bare, spans.at(-1)?.end ?? 0);
    if (bare === "" || begin < 0) return null;
    spans.push({ begin, end: begin + bare.length });
  }
  if (spans.length === 0) return null;
  let place = 0;
  const ends = split(text).map((piece) => (place += piece.length));
  const cuts = spans.slice(1).map(({ begin }, index) => cutBetween(ends, spans[index].end, begin));
  const timed = [];
  let beginMs = startMs;
  for (const [index, word] of words.entries()) {
    beginMs = Math.max(beginMs, Math.min(word.start_ms, endMs));
    const last = timed.at(-1);
    if (last) last.endMs = Math.min(last.endMs, beginMs);
    const piece = text.slice(index === 0 ? 0 : cuts[index - 1], cuts[index]);
    const wordEndMs = Math.max(beginMs, Math.min(word.end_ms, endMs));
    timed.push({ text: piece, startMs: beginMs, endMs: wordEndMs, speaker: word.speaker });
  }
  return timed.flatMap(subdivide);
}

/** The last of the places where a piece of the text ends that is in the range; `high` if there is none. */
function cutBetween(ends, low, high) {
  return ends.findLast((end) => low <= end && end <= high) ?? high;
}

/** The word; its parts where it is too long for a cue and can be cut. */
function subdivide(word) {
  if (width(word.text.trim()) <= MAX_WIDTH) return [word];
  return timePieces(word.text, word.startMs, word.endMs).map((piece) => ({ ...piece, speaker: word.speaker }));
}

/** The pieces of a text, each with a part of the time in proportion to its width. */
function timePieces(text, startMs, endMs) {
  const pieces = split(text);
  const widths = pieces.map((piece) => Math.max(1, width(piece.replaceAll(/\s/gu, ""))));
  const total = widths.reduce((sum, columns) => sum + columns, 0);
  let passed = 0;
  let start = startMs;
  return pieces.map((piece, index) => {
    passed += widths[index];
    const end = startMs + Math.floor(((endMs - startMs) * passed) / total);
    const word = { text: piece, startMs: start, endMs: end };
    start = end;
    return word;
  });
}

/**
 * How many of the words the first cue has: all that fit, or those before the best cut in the later half of them.
 *
 * The best is the end of a sentence, then a pause, then the end of a clause, then white space.
 */
function fitCue(words) {
  let fitting = 1;
  while (fitting < words.length) {
    if (width(join(words.slice(0, fitting + 1))) > MAX_WIDTH) break;
    if (words[fitting].endMs - words[0].startMs > MAX_MS) break;
    fitting += 1;
  }
  if (fitting === words.length) return fitting;
  const rules = [
    (cut) => SENTENCE_END.test(words[cut - 1].text),
    (cut) => words[cut].startMs - words[cut - 1].endMs >= PAUSE_MS,
    (cut) => CLAUSE_END.test(words[cut - 1].text),
    (cut) => /^\s/u.test(words[cut].text),
  ];
  for (const rule of rules) {
    for (let cut = fitting; cut >= Math.max(1, Math.floor(fitting / 2)); cut--) if (rule(cut)) return cut;
  }
  return fitting;
}

function join(words) {
  // An empty line would end the cue.
  return words.map(({ text }) => text).join("").trim().replaceAll(/\s*[\r\n]\s*/gu, "\n");
}
