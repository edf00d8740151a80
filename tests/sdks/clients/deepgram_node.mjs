// The `@deepgram/sdk` package for JavaScript: live transcription.

import { readFileSync } from 'node:fs';
import { DeepgramClient } from '@deepgram/sdk';

const asked = JSON.parse(process.argv[2]);
const socket = asked.url.replace('http', 'ws');
const environment = { base: asked.url, production: socket, agent: socket, agentRest: asked.url };
const client = new DeepgramClient({ apiKey: asked.key, environment });
const RATE = asked.rate ?? 16000;
const BYTES_PER_MS = RATE / 500;
const CHUNK_MS = asked.chunkMs ?? 100;

const report = (scenario, what) => console.log(JSON.stringify({ scenario, ...what }));
const raw = { encoding: 'linear16', sample_rate: RATE };

async function converse(scenario, connection) {
  let words;
  // On a busy machine words come late.
  const shown = new Promise((resolve) => { words = resolve; setTimeout(resolve, 20_000).unref(); });
  const closed = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${scenario}: it was not closed`)), 60_000).unref();
    connection.on('message', (message) => {
      report(scenario, message);
      if ((message.type === 'Results' && !message.is_final) || message.event === 'Update') words();
    });
    connection.on('error', reject);
    connection.on('close', (event) => resolve(event.code));
  });
  connection.connect();
  await connection.waitForOpen();
  const speech = readFileSync(asked.clip);
  const audio = Buffer.concat([speech, Buffer.alloc(1000 * BYTES_PER_MS)]);
  const began = performance.now();
  for (let ms = 0; ms * BYTES_PER_MS < audio.length; ms += CHUNK_MS) {
    const wait = began + ms - performance.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    if ((ms + CHUNK_MS) * BYTES_PER_MS > speech.length) await shown;
    connection.sendMedia(audio.subarray(ms * BYTES_PER_MS, (ms + CHUNK_MS) * BYTES_PER_MS));
  }
  report(scenario, { type: 'spoken' });
  connection.sendCloseStream({ type: 'CloseStream' });
  report(scenario, { type: 'closed', code: await closed });
}

const keyterm = ['Dashwood', 'Norland'];
const wanted = { model: 'nova-3', language: 'en', interim_results: 'true', keyterm, reconnectAttempts: 0, ...raw };
await Promise.all([
  converse('live', await client.listen.v1.connect(wanted)),
  converse('flux', await client.listen.v2.connect({ model: 'flux-general-en', reconnectAttempts: 0, ...raw })),
]);
process.exit(0);
