// The public HTTP API. The key, where the service has any, is a header that no other site can send: there is no cookie.

import { button, dialog, field, h } from "./dom.js";

const KEY = "photomaker-key";

/** Something went wrong, in words for people. `code` and `param` are the API's. */
export class Problem extends Error {
  constructor(message, about = {}) {
    super(message);
    Object.assign(this, { status: 0, code: null, param: null, retryAfter: null }, about);
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY),
  set(value, remember) {
    key.forget();
    (remember ? localStorage : sessionStorage).setItem(KEY, value);
  },
  forget() {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  },
};

let asking = null;

/** Ask for the key once, however many requests wait for it; resolves to whether one was given. */
export function askForKey(why) {
  asking ??= new Promise((resolve) => {
    let given = false;
    const input = h("input", { type: "password", autocomplete: "off", required: true, spellcheck: false });
    const remember = h("input", { type: "checkbox", id: "remember-key" });
    const submit = (event) => {
      event.preventDefault();
      key.set(input.value.trim(), remember.checked);
      given = true;
      box.close();
    };
    const form = h(
      "form",
      { onsubmit: submit },
      h("p", {}, why ?? "This service needs a key. Whoever runs it can give you one."),
      field("API key", input, "It stays in this browser and is sent to this service alone."),
      h("label", { class: "check" }, remember, "Remember it on this device"),
      h("div", { class: "actions" }, button("Forget the key", () => (key.forget(), box.close()), { class: "plain" }), h("button", { class: "primary" }, "Use this key")),
    );
    const done = () => {
      asking = null;
      document.getElementById("key-button").hidden = false;
      resolve(given);
    };
    const box = dialog("API key", form, { class: "small", onclose: done });
    input.focus();
  });
  return asking;
}

/** A request; asks for a key where one is needed. Resolves to the answer, whose status is below 400. */
export async function request(path, options = {}) {
  const { json, headers = {}, ...rest } = options;
  for (;;) {
    const secret = key.get();
    const sent = { ...headers, ...(secret ? { Authorization: `Bearer ${secret}` } : {}) };
    if (json !== undefined) {
      rest.method ??= "POST";
      rest.body = JSON.stringify(json);
      sent["Content-Type"] = "application/json";
    }
    let answer;
    try {
      answer = await fetch(path, { ...rest, headers: sent, credentials: "omit", cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The service cannot be reached. Is it still running?");
    }
    if (answer.status !== 401) {
      if (answer.ok) return answer;
      throw await problemOf(answer);
    }
    const problem = await problemOf(answer);
    if (!(await askForKey(secret ? "The service does not know this key." : undefined))) throw problem;
  }
}

export async function get(path, options) {
  return (await request(path, options)).json();
}

/** A picture behind the key, as an address that <img> takes. */
export async function pictureUrl(path, options) {
  return URL.createObjectURL(await (await request(path, options)).blob());
}

/** Server-sent events of an answer, one object each, as they come. */
export async function* events(path, options) {
  const answer = await request(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
        if (!data) continue;
        const event = JSON.parse(data);
        if (event.error) throw readable(event.error, 500);
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    throw new Problem("The connection to the service was lost before the picture was finished.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function problemOf(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    /* a proxy's page */
  }
  return readable(error, answer.status, Number(answer.headers.get("retry-after")) || null);
}

const WORDS = {
  401: "The service needs a key.",
  413: "That is too large for this service.",
  429: "The service is busy.",
  502: "The service cannot be reached behind its proxy.",
  503: "The service is not ready yet. Try again in a moment.",
  504: "It took too long and was given up.",
};

function readable(error, status, retryAfter) {
  const said = error.message ? error.message[0].toUpperCase() + error.message.slice(1) : WORDS[status] ?? `The service answered ${status}.`;
  const message = /[.!?]$/.test(said) ? said : `${said}.`;
  return new Problem(message, { status, code: error.code, param: error.param, retryAfter });
}
