// The options' form, what the browser keeps of it, and the options that are sent to the server.

const STORE = "streaming-asr.options";
const SESSION = ["language", "endpoint_ms", "keywords", "context", "translate_to"];
/** What can be chosen; the server passes any language on to its translator. */
const TRANSLATIONS = (
  "ar bg bn ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nl no pl pt ro ru sk sl sr sv sw ta th " +
  "tr uk ur vi zh-CN zh-TW"
).split(" ");

export class Options extends EventTarget {
  /** @param {HTMLFormElement} form */
  constructor(form) {
    super();
    this._form = form;
    this._translates = false;
    this._load();
    this._show();
    form.addEventListener("input", () => this._show());
    form.addEventListener("change", ({ target }) => {
      this._save();
      this._show();
      if (SESSION.includes(target.name)) this.dispatchEvent(new Event("session"));
    });
  }

  get deviceId() {
    return this._value("device");
  }

  get realTime() {
    return this._value("pace") === "real";
  }

  /** Options of the session, as docs/protocol.md names them. */
  get session() {
    return {
      profile: "captions",
      language: this._value("language") || null,
      ...(this._changed("endpoint_ms") && { endpoint_ms: Number(this._value("endpoint_ms")) }),
      keywords: this._value("keywords").split(",").map((word) => word.trim()).filter(Boolean),
      context: this._value("context"),
      ...(this._translates && { translate_to: this._value("translate_to") || null }),
      ...(this._value("speakers") && { speakers: true, word_times: true }),
    };
  }

  /** Those of them that may change while audio flows. */
  get changeable() {
    const { speakers, ...changeable } = this.session;
    return changeable;
  }

  /** The address of the captions page with these options. */
  get captionsAddress() {
    const query = new URLSearchParams();
    for (const name of SESSION) if (this._changed(name)) query.set(name, this._value(name));
    if (!this._translates) query.delete("translate_to");
    if (this._value("speakers")) query.set("speakers", "true");
    if (this.deviceId) query.set("device", this.deviceId);
    return `captions?${query}`;
  }

  /** @param {string[]} codes ISO 639 codes that the model knows */
  setLanguages(codes) {
    const named = byName(codes);
    const detect = named.length === 1 ? `${named[0][1]} (all this model knows)` : "Detect it";
    this._fill("language", [["", detect], ...(named.length > 1 ? named : [])]);
  }

  /** @param {boolean} translates whether the server does; otherwise it would refuse the option */
  setTranslates(translates) {
    this._translates = translates;
    this._form.elements.translate_to.parentElement.hidden = !translates;
    this._fill("translate_to", [["", "None"], ...byName(TRANSLATIONS)]);
  }

  /** @param {MediaDeviceInfo[]} devices */
  setDevices(devices) {
    const named = devices.filter(({ label, deviceId }) => label && deviceId !== "default");
    this._fill("device", [["", "The browser's choice"], ...named.map(({ deviceId, label }) => [deviceId, label])]);
  }

  _fill(name, choices) {
    const select = this._form.elements[name];
    const chosen = select.value || this._kept?.[name] || "";
    select.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
    select.value = choices.some(([value]) => value === chosen) ? chosen : "";
  }

  /** Whether an option has a value of its own, so that it wins over the profile's. */
  _changed(name) {
    return this._value(name) !== (this._form.elements[name].defaultValue ?? "");
  }

  _value(name) {
    return this._form.elements[name].value;
  }

  _show() {
    this._form.querySelector("output").textContent = `${(Number(this._value("endpoint_ms")) / 1000).toFixed(1)} s`;
    document.documentElement.dataset.theme = this._value("theme");
  }

  _load() {
    try {
      this._kept = JSON.parse(localStorage.getItem(STORE)) ?? {};
    } catch {
      this._kept = {};
    }
    for (const [name, value] of Object.entries(this._kept)) {
      if (this._form.elements[name]) this._form.elements[name].value = value;
    }
  }

  _save() {
    this._kept = Object.fromEntries(new FormData(this._form));
    try {
      localStorage.setItem(STORE, JSON.stringify(this._kept));
    } catch {
      // Private windows may have no storage: the options then last as long as the page.
    }
  }
}

/** Codes with their English names, sorted by these. */
function byName(codes) {
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  return codes.map((code) => [code, names.of(code) ?? code]).sort((a, b) => a[1].localeCompare(b[1]));
}
