// Audio files, decoded by the browser.

import { Mixer } from "./mixing.js";

/** Hz to which files are resampled: the rate of the recognizers. */
const RATE = 16_000;
const PIECE_MS = 100;
const MAX_BYTES = 1024 ** 3;

/** The browser can't read the file as audio. The message is for the user. */
export class UnreadableAudio extends Error {}

/**
 * @param {File | Blob} file of any format that the browser plays
 * @returns {Promise<{samples: Int16Array, sampleRate: number, durationMs: number}>} mixed to one channel
 * @throws {UnreadableAudio}
 */
export async function decodeAudioFile(file) {
  const name = file.name ?? "The file";
  if (file.size > MAX_BYTES) throw new UnreadableAudio(`${name} is larger than 1 GiB; use the command line instead.`);
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new UnreadableAudio(`${name} is not audio that this browser can read.`);
  }
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, index) => decoded.getChannelData(index));
  const mixed = new Mixer(channels.length, RATE).mix(channels);
  const samples = Int16Array.from(mixed, (sample) => Math.round(Math.max(-1, Math.min(1, sample)) * 32767));
  return { samples, sampleRate: RATE, durationMs: Math.round(decoded.duration * 1000) };
}

/**
 * Send decoded audio.
 *
 * @param {LiveStream} stream
 * @param {object} settings
 * @param {boolean} settings.realTime at the pace of speech; otherwise as fast as the server takes it
 * @param {() => Promise<void>} [settings.gate] awaited before each piece, so that it can be paused
 * @param {AbortSignal} [settings.signal]
 * @param {(piece: Int16Array) => void} [settings.sending] called with each piece
 */
export async function streamFile(stream, { samples, sampleRate }, { realTime, gate, signal, sending }) {
  const size = (sampleRate * PIECE_MS) / 1000;
  let due = performance.now();
  for (let start = 0; start < samples.length; start += size) {
    const before = performance.now();
    await gate?.();
    await stream.room();
    if (signal?.aborted) return;
    if (realTime) {
      // Audio is not sent faster after a pause to catch up with it.
      if (performance.now() - before > 5 * PIECE_MS) due = performance.now();
      due += PIECE_MS;
      await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    }
    const piece = samples.subarray(start, start + size);
    sending?.(piece);
    stream.send(piece);
  }
}
