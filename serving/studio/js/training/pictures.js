// Validation pictures over the steps, with a slider.

import { pictureUrl } from "../api.js";
import { fill, h } from "../dom.js";
import { query } from "../lists.js";

export function picturesOf(name, pictures) {
  const element = h("section", { class: "card validation", "aria-label": "Validation pictures" });
  const cache = new Map(); // file → address, of this run and the other
  const columns = [{ name, pictures }];
  const slider = h("input", { type: "range", min: "0", step: "1", "aria-label": "Step of the validation pictures" });
  const label = h("output");
  const frames = h("div", { class: "frames" });
  slider.addEventListener("input", show);

  function address(file) {
    if (!cache.has(file)) cache.set(file, pictureUrl(`v1/runs/picture?${query({ file })}`));
    return cache.get(file);
  }

  async function show() {
    const own = columns[0].pictures[Number(slider.value)];
    if (!own) return;
    label.textContent = `step ${own.step.toLocaleString("en")}`;
    slider.setAttribute("aria-valuetext", label.textContent);
    const wanted = columns.map((column) => ({ name: column.name, picture: nearest(column.pictures, own.step) }));
    const images = await Promise.all(wanted.map(async (each) => (each.picture ? { ...each, url: await address(each.picture.file).catch(() => null) } : each)));
    if (columns[0].pictures[Number(slider.value)] !== own) return; // moved on meanwhile
    fill(
      frames,
      images.map((each) =>
        h("figure", {}, columns.length > 1 ? h("figcaption", {}, `${each.name}${each.picture ? `, step ${each.picture.step}` : ""}`) : null, each.url ? h("img", { src: each.url, alt: `validation pictures of ${each.name} at step ${each.picture.step}` }) : h("p", { class: "soft" }, "no pictures")),
      ),
    );
    for (const near of [-1, 1]) {
      const next = columns[0].pictures[Number(slider.value) + near];
      if (next) address(next.file).catch(() => {});
    }
  }

  function draw(last = true) {
    const count = columns[0].pictures.length;
    element.hidden = !count;
    if (!count) return;
    const atEnd = last || Number(slider.value) === Number(slider.max);
    slider.max = String(count - 1);
    if (atEnd) slider.value = slider.max;
    fill(element, h("h2", {}, "Validation pictures", label), count > 1 ? slider : null, frames);
    show();
  }

  draw();
  return {
    element,
    update(next) {
      if (next.length === columns[0].pictures.length) return;
      columns[0].pictures = next;
      draw(false);
    },
    compare(second, others) {
      columns.splice(1);
      if (second) columns.push({ name: second, pictures: others });
      draw(false);
    },
  };
}

function nearest(pictures, step) {
  return pictures.reduce((best, each) => (best === null || Math.abs(each.step - step) < Math.abs(best.step - step) ? each : best), null);
}
