// Curves of a run, and of another beside it.

import { get } from "../api.js";
import { chart } from "../chart.js";
import { fill, h } from "../dom.js";
import { query } from "../lists.js";

const FIRST = ["loss", "grad_norm", "samples_per_s", "memory_gib", "checkpoint_loss", "ema_drift"];
const NAMES = {
  loss: "Loss", grad_norm: "Gradient norm", samples_per_s: "Samples a second", memory_gib: "Memory (GiB)",
  checkpoint_loss: "Loss between checkpoints", ema_drift: "Drift of the average", data: "Seconds waiting for data",
  forward: "Seconds forward", backward: "Seconds backward", optimizer: "Seconds in the optimizer",
};

export function curvesOf(name) {
  const own = { name, columns: { step: [] } };
  let other = null;
  const smooth = h("input", { type: "range", min: "0", max: "0.95", step: "0.05", value: "0", "aria-label": "Smoothing" });
  const log = h("input", { type: "checkbox" });
  const all = h("input", { type: "checkbox" });
  const charts = h("div", { class: "charts" });
  const tools = h("div", { class: "row chart-tools" }, h("label", { class: "check" }, "Smooth", smooth), h("label", { class: "check" }, log, "Logarithmic"), h("label", { class: "check" }, all, "Everything measured"));
  const element = h("section", { class: "card", "aria-label": "Curves" }, h("h2", {}, "Curves"), tools, charts);
  for (const control of [smooth, log, all]) control.addEventListener("input", draw);

  function draw() {
    const runs = [own, other].filter(Boolean);
    const measured = new Set(runs.flatMap((run) => Object.keys(run.columns)));
    measured.delete("step");
    const wanted = all.checked ? [...measured] : FIRST.filter((key) => measured.has(key)).slice(0, 4);
    const options = { log: log.checked, smooth: Number(smooth.value) };
    const drawn = wanted.map((key) => chart(NAMES[key] ?? key, runs.map((run) => ({ name: run.name, x: run.columns.step, y: run.columns[key] ?? [] })), options));
    const legend = other ? h("p", { class: "legend-row" }, runs.map((run, i) => h("span", { class: `key c${i}` }, run.name))) : null;
    fill(charts, legend, drawn.length ? drawn : h("p", { class: "soft" }, "Nothing is measured yet."));
  }

  async function load(run) {
    const after = run.columns.step.at(-1) ?? -1;
    const found = await get(`v1/runs/curves?${query({ name: run.name, after })}`);
    const added = found.step?.length ?? 0;
    const before = run.columns.step.length;
    for (const key of new Set([...Object.keys(run.columns), ...Object.keys(found)])) {
      run.columns[key] = [...(run.columns[key] ?? Array(before).fill(null)), ...(found[key] ?? Array(added).fill(null))];
    }
    return added > 0;
  }

  return {
    element,
    async update() {
      const more = await load(own);
      if (more || !charts.childElementCount) draw();
    },
    async compare(second) {
      other = second ? { name: second, columns: { step: [] } } : null;
      if (other) await load(other);
      draw();
    },
  };
}
