// What goes wrong, and what the user can do about it.

/** @returns {{title: string, text: string, again?: boolean}} again: whether to offer another try */
export function explained({ code, message }) {
  return EXPLAINED[code] ?? { title: "It stopped", text: message || "The server's log says more.", again: true };
}

const port = location.port ? `:${location.port}` : "";

const EXPLAINED = {
  insecure: {
    title: "The microphone needs a secure page",
    text:
      `Browsers give it only to https pages and to localhost. On the server's own computer open http://localhost${port}; ` +
      "elsewhere, serve it by https (start the server with --certificate). Audio files work here, too.",
  },
  denied: {
    title: "The microphone was not allowed",
    text: "Allow it for this page, by the icon beside the address, and start again.",
    again: true,
  },
  missing: {
    title: "No microphone was found",
    text: "Connect one and start again, or choose an audio file.",
    again: true,
  },
  busy: {
    title: "The microphone can't be opened",
    text: "Another program may have it. Close that, or choose another microphone in the options.",
    again: true,
  },
  unsupported: {
    title: "This browser can't record",
    text: "A current Chrome, Edge, Firefox or Safari can. Audio files may work here.",
  },
  unplugged: { title: "The microphone is gone", text: "What it recorded is being finished. Connect it and start again." },
  unreachable: {
    title: "The server does not answer",
    text: "Check that it runs, and your network.",
    again: true,
  },
  idle: { title: "The server ended the silent session", text: "What was said is kept. Start again to go on.", again: true },
  internal: { title: "Something failed", text: "The server's log, or the browser's console, says more.", again: true },
};
