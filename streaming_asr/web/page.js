// The microphone page: wires the recorder to what is seen and pressed.

import { FORMATS, Microphone, Transcript, aboutServer } from "../client/streaming-asr.js";
import { askForKey, savedKey } from "./api-key.js";
import { Notices } from "./notices.js";
import { Options } from "./options.js";
import { explained } from "./problems.js";
import { Recorder, STREAM_URL } from "./recorder.js";
import { TranscriptView } from "./transcript-view.js";

const ANNOUNCED = 5;
const REFRESH_MS = 250;

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

const transcript = new Transcript();
const recorder = new Recorder(transcript, Number(query.get("keep_s")) || undefined);
const options = new Options($("options-form"));
const notices = new Notices($("notices"));
const view = new TranscriptView(
  { scroller: $("scroller"), list: $("transcript"), latest: $("latest"), earlier: $("earlier") },
  transcript,
);
/** Whether all that is final has been copied or downloaded. */
let saved = true;
let serverStatus = "ready";

// Starting and stopping.

function start(file) {
  notices.hide("problem", "done", "cleared");
  const settings = { options: options.session, key: savedKey() };
  if (file) return recorder.startFile(file, { ...settings, realTime: options.realTime });
  return recorder.startMicrophone({ ...settings, deviceId: options.deviceId });
}

function problem({ detail }) {
  if (detail.code === "unauthorized") return wantKey(detail.message);
  const { title, text, again } = explained(detail);
  const action = again ? ["Try again", () => start(lastFile)] : undefined;
  notices.show("problem", { kind: "error", title, text: detail.code === "unreadable" ? detail.message : text, action });
}

async function wantKey(why) {
  const file = lastFile;
  if (await askForKey(why)) {
    await learnAboutServer();
    if (recorder.phase === "idle") start(file);
    else recorder.addEventListener("change", () => recorder.phase === "idle" && start(file), { once: true });
  }
}

let lastFile = null;

function takeFile(file) {
  if (!file) return;
  if (recorder.phase !== "idle") {
    notices.show("busy", { text: "Stop first, then drop the file again.", seconds: 5 });
    return;
  }
  lastFile = file;
  start(file);
}

$("record").addEventListener("click", () => {
  if (recorder.phase !== "idle") return recorder.stop();
  lastFile = null;
  return start(null);
});
$("pause").addEventListener("click", () => recorder.pause(!recorder.paused));
$("choose-file").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  takeFile($("file").files[0]);
  $("file").value = "";
});

// What the microphone records.

recorder.addEventListener("problem", problem);
recorder.addEventListener("utterance", ({ detail: utterance }) => {
  view.update(utterance);
  if (utterance.translation) {
    announce(utterance.translation.text, utterance.translation.language);
  } else if (utterance.final && utterance.stable.trim()) {
    saved = false;
    announce(utterance.stable, utterance.language);
  }
  showTools();
});
recorder.addEventListener("server", ({ detail: event }) => {
  if (event.type === "ready") options.setLanguages(event.languages);
  if (event.type === "speech_started") setVoice(true);
  if (event.type === "speech_ended") setVoice(false);
  if (event.type === "warning" && event.code.startsWith("recognizer")) {
    const back = event.code === "recognizer_recovered";
    notices.show("recognizer", { kind: back ? "info" : "warning", text: event.message, seconds: back ? 5 : undefined });
  }
  if (event.type === "error") notices.show("option", { kind: "warning", title: "Not changed", text: event.message });
});
recorder.addEventListener("level", ({ detail: level }) => {
  document.body.style.setProperty("--level", level.toFixed(3));
  $("level").setAttribute("aria-valuenow", Math.round(level * 100));
});
recorder.addEventListener("latency", ({ detail }) => {
  const shown = (ms) => `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
  if (detail.first !== undefined) $("latency-first").textContent = shown(detail.first);
  if (detail.final !== undefined) $("latency-final").textContent = shown(detail.final);
});
recorder.addEventListener("change", show);

/** Screen readers get final text and translations only. */
function announce(text, language) {
  const line = document.createElement("p");
  line.textContent = text;
  if (language) line.lang = language;
  $("announcer").append(line);
  while ($("announcer").childElementCount > ANNOUNCED) $("announcer").firstElementChild.remove();
}

// Breaks of the connection.

recorder.addEventListener("retry", ({ detail }) => {
  setVoice(false);
  serverStatus = detail.reason ? "starting" : "ready";
  if (detail.attempt < 2) return;
  const text = recorder.fileName
    ? "The rest of the file is sent once it is back."
    : "Go on speaking: it is kept, and appears once the connection is back.";
  notices.show("lost", { kind: "warning", title: detail.reason || "The connection is lost", text });
});
recorder.addEventListener("overflow", () => {
  const title = "The break is getting long";
  notices.show("overflow", { kind: "warning", title, text: "The oldest of what you said meanwhile can't be kept." });
});
recorder.addEventListener("dropped", ({ detail: { startMs, endMs } }) => {
  const text = `${Math.ceil((endMs - startMs) / 1000)} s of audio could not be kept; what was said then is missing.`;
  notices.show("gap", { kind: "warning", title: "Some words are lost", text });
});

// What is seen of it.

const CONNECTIONS = {
  off: ["off", "Not connected"],
  connecting: ["wait", "Connecting"],
  open: ["on", "Connected"],
  stopping: ["on", "Finishing"],
  reconnecting: ["wait", "Reconnecting"],
};

function show() {
  const { phase, paused, connection } = recorder;
  const busy = phase !== "idle";
  document.body.dataset.phase = phase;
  const [state, text] = CONNECTIONS[connection];
  $("connection").dataset.state = state;
  setText($("connection"), connection === "reconnecting" && serverStatus === "starting" ? "Waiting" : text);
  if (connection === "open" || connection === "off") notices.hide("lost", "overflow");
  const label = { idle: "Start", starting: "Starting", live: "Stop", stopping: "Leave without the last words" }[phase];
  setText($("record").querySelector("span"), label);
  $("record").title = label;
  $("pause").disabled = phase !== "live";
  $("pause").setAttribute("aria-pressed", String(paused));
  setText($("pause").querySelector("span"), paused ? "Resume" : "Pause");
  if (!busy || paused) setVoice(false);
  else showVoice();
  if (!busy && recorder.phase !== shownPhase) listDevices();
  if (phase === "live" && shownPhase !== "live") listDevices();
  shownPhase = phase;
  showTools();
  showElapsed();
}

let shownPhase = "idle";
let speaking = false;

function setVoice(on) {
  speaking = on;
  showVoice();
}

function showVoice() {
  const { phase, paused, fileName, connection } = recorder;
  const voiced = phase === "live" && speaking && !paused;
  $("voice").dataset.voice = voiced ? "on" : "off";
  let text = { idle: "Ready", starting: "Starting …", live: "Listening", stopping: "Finishing …" }[phase];
  if (voiced) text = "Hearing you";
  if (phase === "live" && connection === "reconnecting") text = "Still recording";
  if (paused) text = "Paused";
  if (fileName && phase !== "stopping" && !paused) text = phase === "starting" ? "Opening …" : "Reading the file";
  setText($("voice"), text);
  // Until there are words, their place says the same.
  setText($("empty-title"), phase === "idle" ? "Speak, and read along." : text);
}

function showTools() {
  const finals = transcript.hasFinals;
  $("empty").hidden = !transcript.empty;
  $("clear").disabled = transcript.empty;
  $("copy").disabled = !finals;
  $("download").querySelector("summary").setAttribute("aria-disabled", String(!finals));
  if (!finals) $("download").open = false;
}

function showElapsed() {
  const { audioMs, settledMs } = recorder.progress;
  const text = recorder.fileMs ? `${minutes(settledMs)} / ${minutes(recorder.fileMs)}` : minutes(audioMs);
  setText($("elapsed"), text);
}

function minutes(ms) {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

setInterval(showElapsed, REFRESH_MS);

// What can be done with the text.

$("clear").addEventListener("click", () => {
  const before = transcript.clear();
  view.reset();
  $("announcer").replaceChildren();
  showTools();
  const undo = () => {
    transcript.restore(before);
    view.reset();
    showTools();
  };
  if (before.length > 0) notices.show("cleared", { text: "Cleared.", action: ["Undo", undo], seconds: 10 });
});
$("copy").addEventListener("click", async () => {
  await copyText(transcript.as("txt"));
  saved = true;
  notices.show("done", { text: "Copied.", seconds: 3 });
});
$("download").querySelector("summary").addEventListener("click", (event) => {
  if (event.currentTarget.getAttribute("aria-disabled") === "true") event.preventDefault();
});
for (const button of $("download").querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => {
    download(button.dataset.format);
    $("download").open = false;
    $("download").querySelector("summary").focus();
  });
}
document.addEventListener("click", ({ target }) => {
  if (!$("download").contains(target)) $("download").open = false;
});
$("download").addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  $("download").open = false;
  $("download").querySelector("summary").focus();
});
addEventListener("beforeunload", (event) => {
  if (!saved && transcript.hasFinals) event.preventDefault();
});

function download(format) {
  const now = new Date();
  const local = new Date(now - now.getTimezoneOffset() * 60_000).toISOString();
  const link = document.createElement("a");
  link.download = `transcript-${local.slice(0, 16).replace("T", "-").replace(":", "")}.${format}`;
  link.href = URL.createObjectURL(new Blob([transcript.as(format)], { type: FORMATS[format] }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  saved = true;
}

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Pages that are not secure have only the old way.
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// Files dropped anywhere.

const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!carriesFile(event)) return;
  event.preventDefault();
  $("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) $("drop").hidden = true;
});
addEventListener("drop", (event) => {
  $("drop").hidden = true;
  if (!carriesFile(event)) return;
  event.preventDefault();
  takeFile(event.dataTransfer.files[0]);
});

// Options.

$("open-options").addEventListener("click", () => {
  listDevices();
  $("captions-link").href = options.captionsAddress;
  $("options").showModal();
});
options.addEventListener("session", () => {
  recorder.set(options.changeable);
  $("captions-link").href = options.captionsAddress;
});

async function listDevices() {
  options.setDevices(await Microphone.list());
}

async function learnAboutServer() {
  const about = await aboutServer(STREAM_URL, savedKey());
  if (about?.languages) options.setLanguages(about.languages);
  if (about) options.setTranslates(about.translates === true);
}

navigator.mediaDevices?.addEventListener?.("devicechange", listDevices);
if (!isSecureContext) problem({ detail: { code: "insecure" } });
learnAboutServer();
listDevices();
show();
