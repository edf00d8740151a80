// Live transcription for a web page. No dependencies, no build step: copy this folder, or import it from the server.
//
//   import { LiveStream, Microphone, Transcript } from "https://HOST/client/streaming-asr.js";
//
//   const transcript = new Transcript();
//   const microphone = await Microphone.open();
//   const stream = new LiveStream({ url: "wss://HOST/v1/stream", sampleRate: microphone.sampleRate });
//   stream.addEventListener("event", ({ detail }) => transcript.apply(detail));
//   microphone.addEventListener("audio", ({ detail }) => stream.send(detail.samples));
//   …
//   await microphone.close();
//   await stream.stop();
//   console.log(transcript.as("srt"));
//
// docs/browser.md describes this module, docs/protocol.md its events.

export { decodeAudioFile, streamFile, UnreadableAudio } from "./audio-file.js";
export { LiveStream, aboutServer } from "./live-stream.js";
export { Microphone, MicrophoneError } from "./microphone.js";
export { clock, FORMATS } from "./subtitles.js";
export { Transcript } from "./transcript.js";
