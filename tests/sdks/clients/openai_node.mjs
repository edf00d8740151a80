// The `openai` package for JavaScript: its connection for Node.js, and the one for browsers, which can set no header.

import { readFileSync } from 'node:fs';
import OpenAI from 'openai';
import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import { WebSocket } from 'ws';

globalThis.WebSocket = WebSocket;
const asked = JSON.parse(process.argv[2]);
const client = new OpenAI({ apiKey: asked.key, baseURL: asked.url, dangerouslyAllowBrowser: true });
const RATE = asked.rate ?? 24000;
const BYTES_PER_MS = RATE / 500;
const CHUNK_MS = asked.chunkMs ?? 100;
const COMPLETED = 'conversation.item.input_audio_transcription.completed';

const report = (scenario, what) => console.log(JSON.stringify({ scenario, ...what }));

function converse(scenario, realtime, { commit }) {
  let words;
  // On a busy machine words come late.
  const shown = new Promise((resolve) => { words = resolve; setTimeout(resolve, 20_000).unref(); });
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${scenario}: nothing came`)), 60_000).unref();
    realtime.on('error', reject);
    realtime.on('event', (event) => {
      report(scenario, event);
      if (event.type.endsWith('.delta')) words();
    });
    realtime.on('session.created', () => {
      const input = { format: { type: 'audio/pcm', rate: RATE }, transcription: { model: 'any', language: 'en' } };
      if (commit) input.turn_detection = null;
      realtime.send({ type: 'session.update', session: { type: 'transcription', audio: { input } } });
      speak(realtime, commit, shown);
    });
    realtime.on(COMPLETED, () => {
      realtime.close();
      resolve();
    });
  });
}

async function speak(realtime, commit, shown) {
  const silence = Buffer.alloc(commit ? 0 : 1000 * BYTES_PER_MS);
  const speech = readFileSync(asked.clip);
  const audio = Buffer.concat([speech, silence]);
  const began = performance.now();
  for (let ms = 0; ms * BYTES_PER_MS < audio.length; ms += CHUNK_MS) {
    const wait = began + ms - performance.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    if ((ms + CHUNK_MS) * BYTES_PER_MS > speech.length) await shown;
    const piece = audio.subarray(ms * BYTES_PER_MS, (ms + CHUNK_MS) * BYTES_PER_MS);
    realtime.send({ type: 'input_audio_buffer.append', audio: piece.toString('base64') });
  }
  await shown;
  if (commit) realtime.send({ type: 'input_audio_buffer.commit' });
}

await Promise.all([
  converse('node', new OpenAIRealtimeWS({ model: 'gpt-4o-transcribe' }, client), { commit: false }),
  converse('browser', new OpenAIRealtimeWebSocket({ model: 'gpt-4o-transcribe' }, client), { commit: true }),
]);
process.exit(0);
