// The API key, kept for the tab only.

const STORE = "streaming-asr.key";

export function savedKey() {
  try {
    return sessionStorage.getItem(STORE) ?? "";
  } catch {
    return "";
  }
}

export function saveKey(key) {
  try {
    sessionStorage.setItem(STORE, key);
  } catch {
    // Without storage it is asked for again after a reload.
  }
}

/**
 * Ask for it.
 *
 * @param {string} why what was wrong with the last one; "" if there was none
 * @returns {Promise<string>} "" when the user would rather not
 */
export function askForKey(why = "") {
  const dialog = document.getElementById("key");
  const form = document.getElementById("key-form");
  const input = form.elements.key;
  if (why) document.getElementById("key-message").textContent = `${why} Try another.`;
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    document.getElementById("key-cancel").onclick = () => dialog.close("");
    form.onsubmit = (event) => {
      event.preventDefault();
      saveKey(input.value.trim());
      dialog.close("given");
    };
    dialog.onclose = () => {
      resolve(dialog.returnValue === "given" ? savedKey() : "");
      dialog.returnValue = "";
    };
  });
}
