// One picture large, several side by side, or a grid of seeds and strengths.

import { button, confirmed, dialog, fill, h, icon, iconButton } from "../dom.js";
import { photo } from "../store.js";

const NAMES = {
  prompt: "Prompt", seed: "Seed", model: "Adapter", steps: "Steps", guidance_scale: "Guidance", id_strength: "Likeness",
  id_start: "Person joins after", id_end: "Person leaves after", negative_prompt: "Not in the picture", sampler: "Sampler",
  class_word: "Age and gender", loras: "Style LoRAs", aspect: "Shape", preprocess: "Photos are", pick: "Of several faces",
};

const USUAL = { preprocess: "auto", pick: "largest" };

/** What was asked for, as [name, text] of all that says something. */
export function facts(picture) {
  const { settings } = picture;
  const told = Object.entries(NAMES).filter(([key]) => ![undefined, null, "", USUAL[key]].includes(settings[key]));
  const said = told.map(([key, name]) => [name, text(settings[key])]);
  if (settings.people) said.push(["People", settings.people.map((each) => each.box).join(", ")]);
  if (picture.changed) said.push(["Drawn anew", picture.changed.masked ? "the painted part" : `${Math.round(100 * (picture.changed.strength ?? 0.8))} %`]);
  said.push(["Pixels", picture.size.replace("x", " × ")], ["Made", new Date(picture.created).toLocaleString()]);
  return said;
}

function text(value) {
  return typeof value === "object" ? Object.entries(value).map(([name, strength]) => `${name} ${strength}`).join(", ") : String(value);
}

function download(picture, url) {
  const kind = picture.blob.type.split("/")[1] ?? "png";
  return h("a", { class: "plain", href: url(picture), download: `portrait-${picture.settings.seed}.${kind}` }, icon("download"), "Download");
}

/** `all()`: the pictures as they are shown now, to go through with the arrow keys. */
export function view(first, all, url, actions) {
  let picture = first;
  const place = h("div", { class: "viewer" });
  const box = dialog("Portrait", place, { class: "wide" });

  function step(by) {
    const found = all();
    const next = found[found.findIndex((each) => each.id === picture.id) + by];
    if (next) ((picture = next), draw());
  }

  async function remove() {
    if (!(await confirmed("Delete this picture?", "Delete"))) return;
    const found = all();
    const at = found.findIndex((each) => each.id === picture.id);
    await actions.remove([picture.id]);
    const next = found[at + 1] ?? found[at - 1];
    if (next) ((picture = next), draw());
    else box.close();
  }

  function left(action) {
    return () => (box.close(), action(picture));
  }

  function draw() {
    const image = h("img", { src: url(picture), alt: picture.settings.prompt });
    const rows = facts(picture).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)));
    const references = h("div", { class: "references" });
    showReferences(references, picture.photos ?? []);
    fill(
      place,
      h("div", { class: "stage" }, iconButton("back", "Previous picture", () => step(-1)), h("div", { class: "large" }, image), iconButton("next", "Next picture", () => step(1))),
      h(
        "div",
        { class: "about" },
        h("div", { class: "row" }, download(picture, url), button("Again like this", left(actions.again), { class: "plain" }), button("Same seed, other prompt", left(actions.vary), { class: "plain" })),
        h("div", { class: "row" }, button("Change a part", left(actions.change), { class: "plain", icon: "brush" }), actions.grid ? button("Show its grid", () => (box.close(), actions.grid()), { class: "plain" }) : null, button("Delete", remove, { class: "plain" })),
        references,
        h("table", { class: "facts" }, h("tbody", {}, rows)),
        picture.read ? h("p", { class: "soft small-text" }, `The prompt was read as: ${picture.read}`) : null,
        picture.notes.filter((note) => !note.includes("trigger word")).map((note) => h("p", { class: "soft small-text" }, note)),
        h("p", { class: "soft small-text" }, "The file says of itself that it was generated, and how."),
      ),
    );
  }

  box.element.addEventListener("keydown", (event) => {
    if (event.target.closest("input, textarea")) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  draw();
}

async function showReferences(place, ids) {
  const found = (await Promise.all(ids.map(photo))).filter(Boolean);
  fill(
    place,
    found.map((each) => {
      const address = URL.createObjectURL(each.blob);
      return h("img", { src: address, alt: `photo of the person: ${each.name}`, onload: () => URL.revokeObjectURL(address) });
    }),
  );
}

/** Side by side, with what differs between them. */
export function compare(pictures, url) {
  const said = pictures.map((picture) => new Map(facts(picture)));
  const names = [...new Set(said.flatMap((each) => [...each.keys()]))];
  const differing = names.filter((name) => name !== "Made" && new Set(said.map((each) => each.get(name))).size > 1);
  const columns = pictures.map((picture, i) =>
    h(
      "figure",
      {},
      h("img", { src: url(picture), alt: picture.settings.prompt }),
      h("figcaption", {}, h("dl", {}, differing.map((name) => [h("dt", {}, name), h("dd", {}, said[i].get(name) ?? "–")])), download(picture, url)),
    ),
  );
  const same = differing.length ? null : h("p", { class: "soft" }, "Their settings are the same.");
  dialog("Side by side", [same, h("div", { class: "compare" }, columns)], { class: "wide" });
}

/** Rows are seeds, columns are strengths of the likeness. */
export function gridOf(pictures, url, open) {
  const seeds = [...new Set(pictures.map((each) => each.settings.seed))].sort((a, b) => a - b);
  const columns = [...new Set(pictures.map((each) => each.grid.label))].sort((a, b) => Number(a) - Number(b));
  const cell = (seed, label) => pictures.find((each) => each.settings.seed === seed && each.grid.label === label);
  const shown = (picture) =>
    picture
      ? h("button", { type: "button", class: "open", "aria-label": `Open: seed ${picture.settings.seed}, likeness ${picture.grid.label}`, onclick: () => (box.close(), open(picture)) }, h("img", { src: url(picture), alt: "" }))
      : "–";
  const table = h(
    "table",
    { class: "grid" },
    h("thead", {}, h("tr", {}, h("td", {}), columns.map((label) => h("th", { scope: "col" }, `likeness ${label}`)))),
    h("tbody", {}, seeds.map((seed) => h("tr", {}, h("th", { scope: "row" }, `seed ${seed}`), columns.map((label) => h("td", {}, shown(cell(seed, label))))))),
  );
  const box = dialog("Seeds × likeness", [h("p", { class: "soft" }, pictures[0].settings.prompt), h("div", { class: "scroll" }, table)], { class: "wide" });
}
