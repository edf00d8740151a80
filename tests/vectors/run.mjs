// Runs the browser's modules over cases: reads {modules, ledger, retry, ...} as JSON, writes results.
//
// modules: URL of the folder with the modules. ledger, retry: scripts as in ledger.json and retry.json; each gives what
// each step gives. subtitles: cases with finals, as in subtitles.json; each gives the lines of both formats.
// scripts: cases with a text, as in scripts.json; each gives its pieces and columns. mixing: cases with channels, which
// are mixed in chunks; each gives the mix.

import { readFileSync } from "node:fs";

/** Samples appended at once; messages are longer, and end elsewhere. */
const CHUNK = 60;

const { modules, ...cases } = JSON.parse(readFileSync(0, "utf8"));
const { AudioLedger } = await import(`${modules}/audio-ledger.js`);
const { Mixer } = await import(`${modules}/mixing.js`);
const { backoffMs, Attempts } = await import(`${modules}/retry.js`);
const { render } = await import(`${modules}/subtitles.js`);
const { split, width } = await import(`${modules}/scripts.js`);

function runLedger({ rate, keep_s: keepSeconds, options, steps }) {
  const ledger = new AudioLedger(rate, keepSeconds);
  let appended = 0;
  const actions = {
    audio(count) {
      for (let left = count; left > 0; left -= CHUNK) {
        ledger.append(Int16Array.from({ length: Math.min(left, CHUNK) }, () => ++appended));
      }
    },
    finalize: () => ledger.finalize(),
    stop: () => ledger.stop(),
    begin(changes) {
      const leadIn = changes.lead_in_ms === "all" ? { lead_in_ms: ledger.leadInMs } : {};
      const { resentMs, lost } = ledger.beginSession({ ...options, ...changes, ...leadIn });
      return { resent_ms: resentMs, lost: range(lost) };
    },
    resume([bytes, controls]) {
      return { resent_ms: ledger.resumeSession(bytes, controls).resentMs };
    },
    configure: () => ledger.countControl(),
    send: (count) => send(ledger, count),
    event: (event) => ledger.observe(event),
    gap: () => range(ledger.takeGap()),
    provisional: () => ledger.takeProvisional(),
    state: () => ({
      end_ms: ledger.endMs,
      settled_ms: ledger.settledMs,
      unsent_s: ledger.unsentSeconds,
      full: ledger.full,
    }),
    lead_in: () => ledger.leadInMs,
  };
  return steps.map((step) => {
    const [action] = Object.keys(step);
    return actions[action](step[action]) ?? null;
  });
}

function send(ledger, count) {
  const sent = [];
  const pings = [];
  for (let left = count === "all" ? Infinity : count; left > 0; left--) {
    const message = ledger.nextMessage();
    if (message === null) break;
    if (message.type === "ping") pings.push(message.id);
    else if (message.type) sent.push(message.type);
    else addAudio(sent, message.audio);
  }
  return { sent, pings };
}

function addAudio(sent, samples) {
  for (const sample of samples) {
    const last = sent.at(-1);
    if (Array.isArray(last) && last[1] === sample - 1) last[1] += 1;
    else sent.push([sample - 1, sample]);
  }
}

function range(gap) {
  return gap && [gap.startMs, gap.endMs];
}

function runRetry({ steps }) {
  const attempts = new Attempts();
  return steps.map(({ failed, random }) => {
    const attempt = attempts.failed(failed.progress);
    return { attempt, delay_ms: backoffMs(attempt, random) };
  });
}

function runSubtitles({ finals }) {
  const utterances = finals.map(({ text, start_ms: startMs, time_ms: endMs, words, speaker }) => ({
    stable: text,
    startMs,
    endMs,
    words,
    speaker,
  }));
  const lines = (format) => render(utterances, format).split("\n").slice(0, -1);
  return { srt: lines("srt"), vtt: lines("vtt") };
}

function runScripts({ text }) {
  return { pieces: split(text), columns: width(text) };
}

function runMixing({ rate, channels, chunk }) {
  const mixer = new Mixer(channels.length, rate);
  const mixed = [];
  for (let start = 0; start < channels[0].length; start += chunk) {
    mixed.push(...mixer.mix(channels.map((channel) => Float32Array.from(channel.slice(start, start + chunk)))));
  }
  return mixed;
}

const runners = { ledger: runLedger, retry: runRetry, subtitles: runSubtitles, scripts: runScripts, mixing: runMixing };
const results = Object.entries(cases).map(([name, given]) => [name, given.map(runners[name])]);
process.stdout.write(JSON.stringify(Object.fromEntries(results)));
