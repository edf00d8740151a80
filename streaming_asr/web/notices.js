// What the user should know, one box each, over the end of the transcript.

export class Notices {
  /** @param {HTMLElement} place a live region */
  constructor(place) {
    this._place = place;
    this._shown = new Map();
  }

  /**
   * Show a notice; it replaces the one of the same name.
   *
   * @param {string} name
   * @param {object} notice
   * @param {"info" | "warning" | "error"} [notice.kind]
   * @param {string} [notice.title] what happened
   * @param {string} notice.text what to do
   * @param {[string, () => void]} [notice.action] a button, and what it does
   * @param {number} [notice.seconds] after which it goes by itself
   */
  show(name, { kind = "info", title = "", text, action, seconds }) {
    const box = document.createElement("div");
    box.className = "notice";
    box.dataset.kind = kind;
    box.dataset.name = name;
    const paragraph = document.createElement("p");
    if (title) {
      const strong = document.createElement("strong");
      strong.textContent = title;
      paragraph.append(strong);
    }
    paragraph.append(text);
    box.append(paragraph);
    if (action) {
      const [label, act] = action;
      box.append(button(label, "link", () => {
        this.hide(name);
        act();
      }));
    }
    if (!seconds) box.append(button("Dismiss", "quiet", () => this.hide(name)));
    this.hide(name);
    this._place.append(box);
    this._shown.set(name, { box, timer: seconds ? setTimeout(() => this.hide(name), seconds * 1000) : 0 });
  }

  hide(...names) {
    for (const name of names) {
      const shown = this._shown.get(name);
      this._shown.delete(name);
      clearTimeout(shown?.timer);
      shown?.box.remove();
    }
  }
}

function button(label, className, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = label;
  made.addEventListener("click", act);
  return made;
}
