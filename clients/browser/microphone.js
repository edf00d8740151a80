// The microphone, at the device's rate.

/** Hz; most that the server accepts. The browser resamples a faster device. */
const MAX_RATE = 48_000;

const REASONS = {
  NotAllowedError: ["denied", "The microphone was not allowed."],
  SecurityError: ["denied", "The microphone was not allowed."],
  NotFoundError: ["missing", "There is no microphone."],
  OverconstrainedError: ["missing", "That microphone is no longer connected."],
  NotReadableError: ["busy", "The microphone can't be opened; another program may be using it."],
  AbortError: ["busy", "The microphone can't be opened; another program may be using it."],
};

/** The microphone can't be used. `code`: insecure, unsupported, denied, missing or busy. */
export class MicrophoneError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * An open microphone. DOM events: `audio` (detail: {samples: Int16Array, level: 0..1, its RMS}), about every 60 ms;
 * `ended` (it was unplugged, or its permission was withdrawn).
 */
export class Microphone extends EventTarget {
  /**
   * @param {object} [settings]
   * @param {string} [settings.deviceId] of `list()`; "" is the browser's default
   * @param {string | URL} [settings.worklet] address of capture-worklet.js
   * @throws {MicrophoneError}
   */
  static async open({ deviceId = "", worklet = new URL("capture-worklet.js", import.meta.url) } = {}) {
    if (!globalThis.isSecureContext) {
      throw new MicrophoneError("insecure", "Browsers give the microphone only to https pages and to localhost.");
    }
    if (!navigator.mediaDevices?.getUserMedia || !globalThis.AudioWorkletNode) {
      throw new MicrophoneError("unsupported", "This browser can't record.");
    }
    const media = await openMedia(deviceId);
    try {
      const context = contextFor(media);
      await context.audioWorklet.addModule(worklet);
      return new Microphone(media, context);
    } catch (error) {
      for (const track of media.getTracks()) track.stop();
      throw new MicrophoneError("unsupported", `This browser can't record (${error.message}).`);
    }
  }

  /** The microphones, as MediaDeviceInfo; they have names once the user has allowed one. */
  static async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    return devices.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId);
  }

  constructor(media, context) {
    super();
    /** Hz of the audio. */
    this.sampleRate = context.sampleRate;
    [this._track] = media.getAudioTracks();
    this._context = context;
    this._source = context.createMediaStreamSource(media);
    this._capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    this._capture.port.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent("audio", { detail: data }));
    this._source.connect(this._capture);
    this._track.onended = () => this.dispatchEvent(new Event("ended"));
    this.resume();
  }

  get deviceId() {
    return this._track.getSettings().deviceId ?? "";
  }

  get running() {
    return this._context.state === "running";
  }

  /** While true, the microphone is muted and sends no `audio`. */
  set paused(paused) {
    this._track.enabled = !paused;
    if (paused) this._source.disconnect();
    else this._source.connect(this._capture);
  }

  /** Start capturing: browsers start audio only after a click on some pages, and phones interrupt it for calls. */
  resume() {
    if (this._context.state !== "closed") this._context.resume().catch(() => {});
  }

  async close() {
    this._capture.port.onmessage = null;
    this._track.onended = null;
    this._source.disconnect();
    this._track.stop();
    if (this._context.state !== "closed") await this._context.close();
  }
}

async function openMedia(deviceId) {
  // Noise suppression and echo cancellation make calls pleasant and remove what a recognizer needs.
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: true };
  if (deviceId) audio.deviceId = { exact: deviceId };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    if (deviceId && ["OverconstrainedError", "NotFoundError"].includes(error.name)) return openMedia("");
    const [code, message] = REASONS[error.name] ?? ["busy", `The microphone can't be opened (${error.message}).`];
    throw new MicrophoneError(code, message);
  }
}

function contextFor(media) {
  const own = media.getAudioTracks()[0].getSettings().sampleRate;
  const context = own ? new AudioContext({ sampleRate: Math.min(own, MAX_RATE) }) : new AudioContext();
  return context.sampleRate <= MAX_RATE ? context : new AudioContext({ sampleRate: MAX_RATE });
}
