// Runs on the audio thread: mixes channels and posts frames of 16-bit PCM, one message each.

import { Mixer } from "./mixing.js";

const FRAME_MS = 60;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.size = Math.round((sampleRate * FRAME_MS) / 1000);
    this.begin();
  }

  begin() {
    this.frame = new Int16Array(this.size);
    this.filled = 0;
    this.energy = 0;
  }

  process([channels]) {
    if (!channels.length) return true;
    if (this.mixer?.channels !== channels.length) this.mixer = new Mixer(channels.length, sampleRate);
    for (const mixed of this.mixer.mix(channels)) {
      const sample = Math.max(-1, Math.min(1, mixed));
      this.energy += sample * sample;
      this.frame[this.filled++] = Math.round(sample * 32767);
      if (this.filled === this.size) this.post();
    }
    return true;
  }

  post() {
    const message = { samples: this.frame, level: Math.sqrt(this.energy / this.size) };
    this.port.postMessage(message, [this.frame.buffer]);
    this.begin();
  }
}

registerProcessor("capture", Capture);
