// The page "Portraits": who, what, and the pictures.

import { fill, h, toast } from "../dom.js";
import { photo } from "../store.js";
import { settingsForm } from "./form.js";
import { gallery } from "./gallery.js";
import { workbench } from "./making.js";
import { peopleCards, withTriggers } from "./people.js";
import { startPicture } from "./start.js";

const LAST = "photomaker-settings"; // of this tab

export async function show(place, _, offered) {
  const form = settingsForm(offered, () => photos.look());
  const photos = peopleCards(offered, form.how, say, (word, old) => form.nameOther(word, old));
  const start = startPicture();
  const bench = workbench();
  const go = h("button", { class: "primary large-button" }, "Make portraits");
  const hint = h("p", { class: "soft small-text", id: "go-hint" });
  go.setAttribute("aria-describedby", hint.id);
  const compose = h("form", { class: "compose", novalidate: true, onsubmit: submit }, photos.element, form.elements, start.element, h("div", { class: "go" }, hint, go));
  const kept = gallery({ vary, again, change });

  photos.first.element.addEventListener("sample", (event) => form.setWho(event.detail));

  function say() {
    const count = photos.usable().length;
    hint.textContent = count ? "" : photos.any() ? "None of the photos can be used." : "Without photos it will be nobody in particular.";
    if (photos.looking()) hint.textContent = "";
  }

  function submit(event) {
    event.preventDefault();
    let columns;
    const wrong = [...compose.elements].find((control) => !control.checkValidity());
    if (wrong) {
      wrong.closest("details")?.setAttribute("open", "");
      return wrong.reportValidity();
    }
    const settings = form.read();
    if (!settings.prompt) return (toast("Describe the picture first.", "wrong"), form.prompt.focus());
    if (photos.looking()) return toast("One moment: the photos are still being looked at.");
    if (photos.any() && !photos.usable().length) return toast("None of the photos can be used. Choose others, or remove them.", "wrong");
    if (photos.missing()) return toast(`Person ${photos.missing()} has no photo that can be used.`, "wrong");
    try {
      columns = form.grid.get();
      const people = photos.people();
      if (people) Object.assign(settings, { people, words: photos.words(), prompt: withTriggers(settings.prompt, [form.word(), ...photos.words()]) });
    } catch (error) {
      return toast(error.message, "wrong");
    }
    sessionStorage.setItem(LAST, JSON.stringify(settings));
    make(settings, photos.usable(), start.get(), columns);
    if (matchMedia("(max-width: 899px)").matches) bench.element.scrollIntoView({ behavior: "smooth" });
  }

  function make(settings, people, from, columns) {
    if (!columns) return bench.make(settings, people, from);
    const id = Date.now().toString(36);
    const seed = settings.seed ?? Math.floor(Math.random() * 2 ** 32); // one for all columns
    for (const strength of columns) bench.make({ ...settings, seed, id_strength: strength }, people, from, { id, label: String(strength) });
  }

  /** The photos and settings of a picture back into the form. */
  async function restore(picture, settings) {
    const found = (await Promise.all((picture.photos ?? []).map(photo))).filter(Boolean);
    form.write(settings);
    await photos.replace(found.map(({ blob, name }) => ({ blob, name })), picture.weights, settings.people, settings.words);
  }

  async function vary(picture) {
    start.clear();
    await restore(picture, picture.settings);
    form.count.value = "1";
    form.prompt.focus();
    form.prompt.select();
    toast("The seed and the person are kept. Change the prompt, then make the portrait.");
  }

  async function again(picture) {
    start.clear();
    await restore(picture, { ...picture.settings, seed: null });
    compose.requestSubmit();
  }

  async function change(picture) {
    await restore(picture, { ...picture.settings, seed: null });
    start.set(picture.blob);
    await start.paint();
    start.element.scrollIntoView({ block: "center" });
    form.prompt.focus();
  }

  fill(
    place,
    h("h1", { class: "unseen" }, "Portraits"),
    h("div", { class: "studio" }, compose, h("div", { class: "results" }, bench.element, kept.element)),
  );
  const last = sessionStorage.getItem(LAST);
  if (last) form.write(JSON.parse(last));
  say();
  return {
    leave() {
      photos.leave();
      kept.leave();
    },
  };
}
