// All pictures that this browser has kept.

import { button, confirmed, counted, empty, fill, h, toast } from "../dom.js";
import { onChange, pictures, removePictures } from "../store.js";
import { compare, gridOf, view } from "./viewer.js";

const PAGE = 60;

/** `actions`: what can be done with a picture: { vary, again, change }. */
export function gallery(actions) {
  let all = [];
  let most = PAGE;
  const urls = new Map();
  const chosen = new Set();
  const list = h("ul", { class: "gallery", "aria-label": "Gallery" });
  const count = h("span", { class: "soft small-text" });
  const search = h("input", { type: "search", placeholder: "Search prompts", "aria-label": "Search prompts" });
  const more = button("Show more", () => ((most += PAGE), draw()), { class: "plain" });
  const bar = h("div", { class: "row chosen", hidden: true });
  const nothing = empty("Your portraits will appear here", "They are kept in this browser alone, until you delete them. Nothing stays on the server.");
  const head = h("div", { class: "gallery-head" }, h("h2", {}, "Gallery ", count), search);
  const element = h("section", { class: "kept", "aria-label": "Gallery" }, head, bar, list, nothing, more);

  search.addEventListener("input", () => draw());
  const found = () => {
    const wanted = search.value.trim().toLowerCase();
    return all.filter((picture) => picture.settings.prompt.toLowerCase().includes(wanted) || String(picture.settings.seed) === wanted);
  };

  function url(picture) {
    if (!urls.has(picture.id)) urls.set(picture.id, URL.createObjectURL(picture.blob));
    return urls.get(picture.id);
  }

  async function load() {
    all = await pictures();
    const there = new Set(all.map((picture) => picture.id));
    for (const [id, address] of urls) if (!there.has(id)) (URL.revokeObjectURL(address), urls.delete(id));
    for (const id of chosen) if (!there.has(id)) chosen.delete(id);
    draw();
  }

  function draw() {
    const shown = found();
    count.textContent = all.length ? counted(all.length, "picture") : "";
    search.hidden = all.length < 5;
    nothing.hidden = all.length > 0;
    more.hidden = shown.length <= most;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    fill(list, shown.slice(0, most).map(tile));
    if (focused) list.querySelector(`[data-id="${focused}"]`)?.focus();
    drawBar();
  }

  function tile(picture) {
    const { prompt, seed } = picture.settings;
    const box = h("input", { type: "checkbox", checked: chosen.has(picture.id), "aria-label": `Choose: ${prompt}, seed ${seed}` });
    box.addEventListener("change", () => (box.checked ? chosen.add(picture.id) : chosen.delete(picture.id), drawBar()));
    const image = h("img", { src: url(picture), alt: prompt, loading: "lazy" });
    const opener = h("button", { type: "button", class: "open", dataset: { id: picture.id }, "aria-label": `Open: ${prompt}, seed ${seed}`, onclick: () => open(picture) }, image);
    return h("li", {}, opener, box, picture.grid ? h("span", { class: "tag corner" }, `likeness ${picture.grid.label}`) : null);
  }

  function open(picture) {
    const extra = picture.grid ? { grid: () => gridOf(all.filter((each) => each.grid?.id === picture.grid.id), url, open) } : {};
    view(picture, found, url, { ...actions, ...extra, remove: (ids) => removePictures(ids) });
  }

  function drawBar() {
    bar.hidden = !chosen.size;
    const own = all.filter((picture) => chosen.has(picture.id));
    const beside = button("Compare", () => compare(own, url), { class: "plain", disabled: chosen.size < 2 || chosen.size > 6 });
    const remove = button("Delete", () => drop([...chosen]), { class: "plain" });
    fill(bar, h("strong", {}, `${chosen.size} chosen`), beside, remove, button("Choose none", () => (chosen.clear(), draw()), { class: "link" }));
  }

  async function drop(ids) {
    if (!(await confirmed(`Delete ${counted(ids.length, "picture")}?`, "Delete"))) return;
    await removePictures(ids);
    toast(`${counted(ids.length, "picture")} deleted.`);
  }

  const ended = onChange(load);
  load();
  return {
    element,
    leave() {
      ended();
      urls.forEach((address) => URL.revokeObjectURL(address));
    },
  };
}
