// A WebSocket without a server, in the page: takes all that is sent, and delivers the events of a test.

class FakeWebSocket {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 3;
  /** Those made so far. */
  static made = [];
  /** "ready": it opens and a session begins; "silent": it never opens. */
  static manner = "ready";
  /** What `ready` has as `resume`. */
  static resume = undefined;

  constructor(url) {
    this.url = String(url);
    this.readyState = FakeWebSocket.CONNECTING;
    this.bufferedAmount = 0;
    this.sent = [];
    this.bytes = 0;
    FakeWebSocket.made.push(this);
    if (FakeWebSocket.manner === "ready") setTimeout(() => this.open());
  }

  open() {
    this.readyState = FakeWebSocket.OPEN;
    this.onopen?.();
    const options = { pre_roll_ms: 300, onset_ms: 96, max_utterance_s: 5 };
    this.deliver({ type: "ready", session: "f1", recognizer: "fake", model: "script", languages: ["de", "en"], options, resume: FakeWebSocket.resume });
  }

  deliver(event) {
    this.onmessage?.({ data: JSON.stringify(event) });
  }

  send(data) {
    if (typeof data !== "string") {
      this.bytes += data.byteLength;
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "ping") this.deliver({ type: "pong", id: message.id });
    else this.sent.push(message);
    if (message.type === "stop") this.deliver({ type: "done", audio_ms: 0 });
  }

  close(code = 1005) {
    if (this.readyState === FakeWebSocket.CLOSED) return;
    this.readyState = FakeWebSocket.CLOSED;
    setTimeout(() => this.onclose?.({ code, reason: "" }));
  }

  /** The events of an utterance: its start, `partials` partials, its end and its final. */
  *utterance(number, startMs, partials = 8) {
    const sentence = `Sentence ${number} goes on for a while and says nothing that anybody would have to remember.`;
    const words = sentence.split(" ");
    const common = { utterance: number, channel: 0, language: "en" };
    yield { type: "speech_started", utterance: number, channel: 0, time_ms: startMs };
    for (let n = 1; n <= partials; n++) {
      const said = Math.ceil((words.length * n) / partials);
      const stable = words.slice(0, Math.max(0, said - 3)).join(" ");
      const tentative = sentence.slice(stable.length, words.slice(0, said).join(" ").length);
      const time = startMs + n * 400;
      yield { ...common, type: "partial", revision: n, stable, tentative, start_ms: startMs, time_ms: time, speculative: false };
    }
    const end = { utterance: number, channel: 0, start_ms: startMs, time_ms: startMs + 3500 };
    yield { ...end, type: "speech_ended", reason: "endpoint" };
    yield { ...common, ...end, type: "final", text: sentence, confidence: 0.9, words: null };
  }
}

window.WebSocket = FakeWebSocket;
