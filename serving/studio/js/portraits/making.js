// Pictures on their way: the place in the queue, live previews, cancel; finished ones go into the gallery.

import { events, Problem } from "../api.js";
import { button, fill, h } from "../dom.js";
import { addPhoto, addPicture } from "../store.js";

const TRIES = 30; // of a service that says it is busy

/** The place where pictures appear while they are made. */
export function workbench() {
  const element = h("section", { class: "making", "aria-label": "Being made", hidden: true });
  const say = h("p", { class: "unseen", role: "status" });
  const shown = () => (element.hidden = !element.querySelector(".job"));

  /**
   * One request, `settings.n` pictures of it.
   * @param {object} settings of the form
   * @param {{ blob: Blob, name: string, weight: number }[]} photos of the person; none: the base alone
   * @param {{ blob: Blob, mask: Blob | null, strength: number | null } | null} start picture to change
   * @param {object} grid { id, label } where it is a cell of a grid
   */
  async function make(settings, photos, start, grid = null) {
    const stop = new AbortController();
    const cards = Array.from({ length: settings.n }, () => card(settings.aspect));
    const cancel = button("Cancel", () => stop.abort(), { class: "plain" });
    const head = h("div", { class: "job-head" }, h("p", { class: "job-prompt" }, settings.prompt), cancel);
    const job = h("div", { class: "job" }, head, h("div", { class: "job-cards" }, cards.map((each) => each.element)));
    element.prepend(job);
    shown();
    let made = 0;
    try {
      const kept = await Promise.all(photos.map((photo) => addPhoto(photo.blob, photo.name)));
      for await (const event of stream(settings, photos, start, stop.signal, cards)) {
        const own = cards[event.image_index];
        if (event.type.endsWith(".queued")) own.queued(event.position);
        else if (event.type.endsWith(".progress")) own.step(event.step, event.steps);
        else if (event.type.endsWith(".partial_image")) own.preview(event);
        else if (event.type.endsWith(".completed")) {
          await addPicture(finished(event, settings, photos, kept, start, grid));
          own.done(event);
          made += 1;
        }
      }
      if (made < settings.n) throw new Problem("The service ended before all pictures were finished.");
      say.textContent = made === 1 ? "A picture is finished." : `${made} pictures are finished.`;
    } catch (error) {
      if (error.name === "AbortError") say.textContent = "Cancelled.";
      else {
        if (!(error instanceof Problem)) console.error(error);
        return failed(job, error, () => (job.remove(), make(settings, photos, start, grid)));
      }
    }
    job.remove();
    shown();
  }

  function failed(job, error, again) {
    const dismiss = () => (job.remove(), shown());
    const actions = h("div", { class: "row" }, button("Try again", again, { class: "plain" }), button("Dismiss", dismiss, { class: "plain" }));
    fill(job, h("div", { class: "notice bad", role: "alert" }, h("p", {}, error.message)), actions);
  }

  return { element: h("div", {}, element, say), make };
}

/** The request's events; a busy service is asked again after the time it says. */
async function* stream(settings, photos, start, signal, cards) {
  for (let tries = 0; ; tries += 1) {
    try {
      return yield* events(...asked(settings, photos, start, signal));
    } catch (error) {
      if (error.status !== 429 || !error.retryAfter || tries === TRIES) throw error;
      cards.forEach((each) => each.say(`Busy; trying again in ${error.retryAfter} s`));
      await pause(1000 * error.retryAfter, signal);
    }
  }
}

function asked(settings, photos, start, signal) {
  const fields = { ...settings, stream: true, partial_images: 3, progress: true, response_format: "b64_json" };
  if (fields.seed === null) delete fields.seed;
  if (start) delete fields.aspect;
  if (!photos.length) delete fields.model;
  if (!photos.length && !start) {
    delete fields.preprocess;
    delete fields.pick;
    return ["v1/images/generations", { json: fields, signal }];
  }
  const form = new FormData();
  if (!photos.length) fields.model = "base";
  else fields.trigger = "auto";
  delete fields.words; // the form's own
  if (fields.people) fields.people = JSON.stringify(fields.people);
  if (fields.loras) fields.loras = Object.entries(fields.loras).map(([name, strength]) => `${name}:${strength}`).join(",");
  if (start?.strength != null) fields.strength = start.strength;
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  for (const photo of photos) form.append("image[]", photo.blob, "photo");
  if (photos.some((photo) => photo.weight !== 1)) form.append("id_weights", photos.map((photo) => photo.weight).join(","));
  if (start) form.append("init_image", start.blob, "picture");
  if (start?.mask) form.append("mask", start.mask, "mask.png");
  return ["v1/images/edits", { method: "POST", body: form, signal }];
}

function finished(event, settings, photos, kept, start, grid) {
  const { n, ...own } = settings;
  return {
    id: `${Date.now().toString(36)}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`,
    created: Date.now(),
    blob: pictureOf(event),
    size: event.size,
    settings: { ...own, seed: event.seed },
    photos: kept,
    weights: photos.map((photo) => photo.weight),
    changed: start ? { masked: Boolean(start.mask), strength: start.strength } : null,
    notes: event.notes ?? [],
    read: event.revised_prompt ?? null,
    grid,
  };
}

function pictureOf(event) {
  const bytes = Uint8Array.from(atob(event.b64_json), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: `image/${event.output_format}` });
}

function card(aspect) {
  const image = h("img", { alt: "preview", hidden: true });
  const bar = h("progress", { max: "1", "aria-label": "Progress" });
  const text = h("p", { class: "soft small-text" }, "Sending …");
  const element = h("div", { class: `making-card shape-${aspect}` }, h("div", { class: "frame" }, image), bar, text);
  let url = null;
  const show = (event) => {
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(pictureOf(event));
    Object.assign(image, { src: url, hidden: false });
  };
  return {
    element,
    say: (words) => (text.textContent = words),
    queued(place) {
      text.textContent = place === 1 ? "Next in the queue" : `Place ${place} in the queue`;
    },
    step(step, steps) {
      Object.assign(bar, { max: steps, value: step });
      text.textContent = `Step ${step} of ${steps}`;
    },
    preview: show,
    done(event) {
      show(event);
      image.alt = "finished picture";
      Object.assign(bar, { max: 1, value: 1 });
      text.textContent = "Finished";
    },
  };
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(new DOMException("cancelled", "AbortError"))));
  });
}

