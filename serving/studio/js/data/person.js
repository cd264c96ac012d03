// All photos of a person in a dataset.

import { get } from "../api.js";
import { dialog, fill, h } from "../dom.js";
import { query, remotePicture } from "../lists.js";
import { personTools, photoTools } from "./edits.js";

/** `edits`: of the dataset; `words`: class words to choose from. */
export async function openPerson(name, identity, edits, words) {
  const grid = h("ul", { class: "person-photos" });
  const whole = h("input", { type: "checkbox" });
  const chosen = new Set();
  const tools = edits.allowed ? personTools(identity, edits, () => [...chosen], () => box.close()) : null;
  const box = dialog(identity, [tools, h("label", { class: "check" }, whole, "Show the background"), grid], { class: "wide" });
  whole.addEventListener("change", draw);
  let photos = [];

  function draw() {
    fill(grid, photos.map(card));
  }

  function card(photo) {
    const picture = remotePicture(`v1/datasets/picture?${query({ name, number: photo.number, kind: whole.checked ? "crop" : "person", side: 320 })}`, photo.caption ?? "");
    return h(
      "li",
      {},
      picture,
      edits.allowed ? h("label", { class: "check" }, choice(photo), "Choose") : null,
      h("p", {}, marked(photo.caption ?? "", photo.class_word ?? "")),
      h("p", { class: "soft small-text mono" }, photo.photo),
      h("p", { class: "soft small-text" }, [photo.source && photo.source !== photo.photo ? photo.source : null, photo.licence].filter(Boolean).join(" · ")),
      edits.allowed ? photoTools(photo, edits, words) : null,
    );
  }

  function choice(photo) {
    const box = h("input", { type: "checkbox", checked: chosen.has(photo.photo), "aria-label": `Choose ${photo.photo}` });
    box.addEventListener("change", () => (box.checked ? chosen.add(photo.photo) : chosen.delete(photo.photo)));
    return box;
  }

  try {
    photos = (await get(`v1/datasets/person?${query({ name, identity })}`)).photos;
    draw();
  } catch (error) {
    fill(box.body, h("p", { class: "notice bad" }, error.message));
  }
}

/** A caption with its class word, which the identity replaces, marked. */
function marked(caption, word) {
  const at = word ? caption.toLowerCase().search(new RegExp(`\\b${word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").toLowerCase()}\\b`)) : -1;
  if (at < 0) return caption;
  return [caption.slice(0, at), h("mark", {}, caption.slice(at, at + word.length)), caption.slice(at + word.length)];
}
