// Captions for a projector or OBS: the last lines, large. Everything is set by the address.

import { Transcript } from "../client/streaming-asr.js";
import { savedKey, saveKey } from "./api-key.js";
import { explained } from "./problems.js";
import { Recorder } from "./recorder.js";

const KEPT = 6;
const RETRY_S = 10;
const COLOUR = /^(#?[0-9a-f]{3,8}|[a-z]+)$/i;

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
// Behind the # it never reaches a server, nor its log.
const givenKey = new URLSearchParams(location.hash.slice(1)).get("key");
if (givenKey) saveKey(givenKey);

const transcript = new Transcript();
const recorder = new Recorder(transcript);
const shown = new Map(); // utterance number -> its elements
const clearAfter = number("clear_s", 8, 0, 3600);
const tentativeToo = query.get("tentative") !== "false";
let clearing = 0;

look();
recorder.addEventListener("utterance", ({ detail }) => paint(detail));
recorder.addEventListener("problem", ({ detail }) => {
  const { title, text } = explained(detail);
  if (detail.code === "unauthorized") showMessage("The server requires its API key: add #key=KEY to the address.");
  else showMessage(`${title}. ${text}`);
  if (["unreachable", "missing", "busy", "idle", "internal", "closed"].includes(detail.code)) {
    setTimeout(start, RETRY_S * 1000);
  }
});
recorder.addEventListener("change", () => {
  document.body.dataset.connection = recorder.connection;
  if (recorder.phase === "live" && recorder.microphone && !recorder.microphone.running) {
    // The browser wants a click before a page may listen.
    setTimeout(() => recorder.microphone?.running === false && showMessage("Click to start."), 1000);
  }
});
recorder.addEventListener("server", hush);
$("message").querySelector("button").addEventListener("click", start);
start();

function start() {
  hush();
  recorder.microphone?.resume();
  recorder.startMicrophone({ key: savedKey(), deviceId: query.get("device") ?? "", options: sessionOptions() });
}

function sessionOptions() {
  return {
    profile: query.get("profile") || "captions",
    language: query.get("language") || null,
    ...(query.has("endpoint_ms") && { endpoint_ms: number("endpoint_ms", 1200, 100, 10_000) }),
    keywords: (query.get("keywords") ?? "").split(",").map((word) => word.trim()).filter(Boolean),
    context: (query.get("context") ?? "").slice(0, 4000),
    ...(query.get("speakers") === "true" && { speakers: true }),
    ...(query.get("translate_to") && { translate_to: query.get("translate_to") }),
  };
}

function look() {
  const style = document.documentElement.style;
  style.setProperty("--lines", number("lines", 2, 1, 12));
  style.setProperty("--size", `${number("size", 8, 1, 50)}vh`);
  for (const [name, property] of [["color", "--text"], ["background", "--ground"]]) {
    const given = query.get(name) ?? "";
    if (!COLOUR.test(given)) continue;
    // A # in an address would begin the fragment, so it may be left out.
    const bare = /^[0-9a-f]{3,8}$/i.test(given) && !CSS.supports("color", given);
    style.setProperty(property, bare ? `#${given}` : given);
  }
  document.body.dataset.align = query.get("align") ?? "left";
  document.body.dataset.place = query.get("place") ?? "bottom";
  if (query.get("outline") === "true") document.body.dataset.outline = "";
}

function paint(utterance) {
  const text = utterance.stable + (tentativeToo ? utterance.tentative : "");
  if (text.trim() === "") {
    if (utterance.final) drop(utterance.number);
    return;
  }
  const parts = shown.get(utterance.number) ?? append(utterance.number);
  const { line, speaker, stable, tentative, translation } = parts;
  if (utterance.language) line.lang = utterance.language;
  speaker.textContent = named(utterance);
  if (stable.textContent !== utterance.stable) stable.textContent = utterance.stable;
  tentative.textContent = tentativeToo ? utterance.tentative : "";
  if (utterance.final && !parts.final) announce(named(utterance) + utterance.stable, utterance.language);
  parts.final = utterance.final;
  if (utterance.translation && translation.textContent === "") {
    const { text, language } = utterance.translation;
    translation.textContent = text;
    translation.lang = language;
    announce(text, language, true);
  }
  clearTimeout(clearing);
  if (clearAfter > 0) clearing = setTimeout(() => [...shown.keys()].forEach(drop), clearAfter * 1000);
}

/** Who speaks, where that is known. */
function named({ speaker }) {
  return speaker === null ? "" : `Speaker ${speaker + 1}: `;
}

/** A paragraph each, so that a line that is left above never has its words set anew. */
function append(key) {
  const line = document.createElement("p");
  const parts = { line, final: false };
  for (const name of ["speaker", "stable", "tentative", "translation"]) {
    parts[name] = document.createElement("span");
    parts[name].className = name;
    line.append(parts[name]);
  }
  $("roll").append(line);
  shown.set(key, parts);
  for (const old of [...shown.keys()].slice(0, -KEPT)) drop(old);
  return shown.get(key);
}

function drop(key) {
  shown.get(key)?.line.remove();
  shown.delete(key);
  transcript.forget({ number: key });
}

/** @param {boolean} [also] whether it is read beside the last one, rather than in its place */
function announce(text, language, also = false) {
  const line = document.createElement("p");
  line.textContent = text;
  if (language) line.lang = language;
  if (also) $("announcer").append(line);
  else $("announcer").replaceChildren(line);
}

function showMessage(text) {
  $("message").hidden = false;
  $("message").querySelector("p").textContent = text;
}

function hush() {
  $("message").hidden = true;
}

function number(name, usual, low, high) {
  const given = Number.parseFloat(query.get(name) ?? "");
  return Number.isFinite(given) ? Math.min(high, Math.max(low, given)) : usual;
}
