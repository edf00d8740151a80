// The channels of one recording or microphone -> one, mixed by their content: as streaming_asr/core/mixing.py, which
// says why. tests/clients/test_vectors.py compares the two.

const BLOCK_S = 0.1;
const SILENT_DB = 30;
const DECAY_DB_PER_S = 3;
const AUDIBLE_POWER = 1e-8;
const INVERTED = -0.5;
const LOUDER = 4;
const MEMORY_S = 0.5;

/** Mixes one stream. However it is split into calls, the mix is the same. */
export class Mixer {
  /**
   * @param {number} channels of the stream, at least 1
   * @param {number} rate of the stream, Hz
   */
  constructor(channels, rate) {
    this.channels = channels;
    this.block = Math.max(1, Math.round(rate * BLOCK_S));
    const seconds = this.block / rate;
    this.decay = 10 ** ((-DECAY_DB_PER_S * seconds) / 10);
    this.forget = Math.exp(-seconds / MEMORY_S);
    this.weights = this.target = new Array(channels).fill(1 / channels);
    this.reference = 0;
    this.peaks = new Array(channels).fill(0);
    this.products = Array.from({ length: channels }, () => new Array(channels).fill(0));
    this.frames = Array.from({ length: channels }, () => new Float32Array(this.block));
    this.filled = 0;
  }

  /**
   * @param {Float32Array[]} channels the next samples of each channel, all of one length
   * @returns {Float32Array} the mix of these samples
   */
  mix(channels) {
    if (this.channels === 1) return channels[0];
    const length = channels[0].length;
    const mixed = new Float32Array(length);
    for (let n = 0; n < length; n++) {
      const along = (this.filled + 1) / this.block;
      for (let c = 0; c < this.channels; c++) {
        const sample = channels[c][n];
        mixed[n] += sample * (this.weights[c] + (this.target[c] - this.weights[c]) * along);
        this.frames[c][this.filled] = sample;
      }
      this.filled += 1;
      if (this.filled === this.block) this.#compare();
    }
    return mixed;
  }

  #compare() {
    const means = this.frames.map((frames) => frames.reduce((sum, sample) => sum + sample, 0) / this.block);
    const product = (a, b) => {
      let sum = 0;
      for (let n = 0; n < this.block; n++) sum += (this.frames[a][n] - means[a]) * (this.frames[b][n] - means[b]);
      return sum / this.block;
    };
    const products = this.products.map((row, a) => row.map((_, b) => product(a, b)));
    this.peaks = this.peaks.map((peak, c) => Math.max(products[c][c], peak * this.decay));
    if (products.some((row, c) => row[c] > AUDIBLE_POWER)) {
      this.products = this.products.map((row, a) =>
        row.map((before, b) => this.forget * before + (1 - this.forget) * products[a][b]),
      );
    }
    this.weights = this.target;
    this.target = this.#mixedWeights();
    this.filled = 0;
  }

  #mixedWeights() {
    const loudest = this.peaks.indexOf(Math.max(...this.peaks));
    if (this.peaks[loudest] <= AUDIBLE_POWER) return new Array(this.channels).fill(1 / this.channels);
    const audible = this.peaks.map((peak) => peak >= this.peaks[loudest] * 10 ** (-SILENT_DB / 10));
    if (this.peaks[loudest] > LOUDER * this.peaks[this.reference]) this.reference = loudest;
    const count = audible.filter(Boolean).length;
    const own = this.products[this.reference][this.reference];
    return audible.map((isAudible, c) => {
      const scale = Math.sqrt(own * this.products[c][c]);
      const sign = this.products[this.reference][c] < INVERTED * scale ? -1 : 1;
      return isAudible ? sign / count : 0;
    });
  }
}
