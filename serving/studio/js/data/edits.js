// Corrections by hand: they wait beside the dataset, can be taken back, and are put into force by a command.

import { get } from "../api.js";
import { button, counted, dialog, field, fill, h, select, toast } from "../dom.js";
import { command, query } from "../lists.js";

/** Corrections of a dataset; `element` shows those that wait. `offered.studio.edit`: whether any can be made here. */
export function editsOf(dataset, offered) {
  const element = h("section", { class: "card waiting", "aria-label": "Corrections that wait", hidden: true });
  const allowed = offered.studio.edit;

  async function load() {
    if (!allowed) return;
    draw(await get(`v1/datasets/edits?${query({ name: dataset })}`));
  }

  async function send(path, values) {
    try {
      draw(await get(`v1/datasets/${path}`, { json: { name: dataset, ...values } }));
      return true;
    } catch (error) {
      toast(error.message, "wrong", 10);
      return false;
    }
  }

  async function propose(edit) {
    const done = await send("edits", { edit });
    if (done) toast("It waits with the others until it is applied.");
    return done;
  }

  function draw({ pending, folder }) {
    element.hidden = !pending.length;
    fill(
      element,
      h("h2", {}, `${counted(pending.length, "correction")} ${pending.length === 1 ? "waits" : "wait"}`, button("Take the last one back", () => send("edits/undo", { number: 1 }), { class: "plain" })),
      h("ol", {}, pending.map((edit) => h("li", {}, inWords(edit)))),
      h("p", { class: "soft" }, "This puts them into force; only the people concerned are done again:"),
      command(`photomaker edit ${folder} apply`),
    );
  }

  return { element, allowed, load, propose };
}

function inWords(edit) {
  const why = edit.why ? ` (${edit.why})` : "";
  const said = {
    keep: () => `keep ${edit.photo}`,
    reject: () => `leave out ${edit.photo}`,
    caption: () => `${edit.photo}: ${[edit.caption ? `“${edit.caption}”` : null, edit.class_word ? `class word ${edit.class_word}` : null].filter(Boolean).join(", ")}`,
    merge: () => `${edit.person} is ${edit.into}`,
    split: () => `${edit.photos.join(", ")} ${edit.photos.length === 1 ? "is" : "are"} ${edit.into}`,
    reset: () => `nothing by hand for ${edit.photo} any more`,
    forget: () => `forget ${edit.who}`,
  }[edit.edit];
  return said ? said() + why : edit.edit;
}

/** What can be corrected of one photo. */
export function photoTools(photo, edits, words) {
  const caption = async () => {
    const text = h("textarea", { rows: "3" });
    text.value = photo.caption ?? "";
    const word = select(words.includes(photo.class_word) ? words : [photo.class_word, ...words], photo.class_word);
    const save = async (event) => {
      event.preventDefault();
      const changed = { ...(text.value.trim() !== photo.caption ? { caption: text.value.trim() } : {}), ...(word.value !== photo.class_word ? { class_word: word.value } : {}) };
      if (!Object.keys(changed).length) return box.close();
      if (await edits.propose({ edit: "caption", photo: photo.photo, ...changed })) box.close();
    };
    const form = h("form", { onsubmit: save }, field("Caption", text, "It names the person by the class word."), field("Class word", word), h("div", { class: "actions" }, h("button", { class: "primary" }, "Correct")));
    const box = dialog("Correct the caption", form, { class: "small" });
  };
  return h(
    "div",
    { class: "row photo-tools" },
    button("Correct", caption, { class: "link" }),
    button("Leave out", () => edits.propose({ edit: "reject", photo: photo.photo }), { class: "link" }),
  );
}

/** What can be corrected of a person: merged into another, photos split off, forgotten. `chosen()`: names of photos. */
export function personTools(identity, edits, chosen, close) {
  const other = h("input", { type: "text", "aria-label": "Name of the other person", placeholder: "name of the other person" });
  const done = async (edit) => {
    if (await edits.propose(edit)) close();
  };
  const merge = () => (other.value.trim() ? done({ edit: "merge", person: identity, into: other.value.trim() }) : other.focus());
  const split = () => {
    if (!chosen().length) return toast("Choose the photos of the other person first.");
    return other.value.trim() ? done({ edit: "split", photos: chosen(), into: other.value.trim() }) : other.focus();
  };
  return h(
    "div",
    { class: "row person-tools" },
    h("div", { class: "grow" }, other),
    button("Merge into them", merge, { class: "plain" }),
    button("Chosen photos are theirs", split, { class: "plain" }),
    button("Forget this person", () => done({ edit: "forget", who: identity }), { class: "plain" }),
  );
}
