// The page "Evaluation": tables of reports, several side by side, and the pictures behind each value.

import { get, key } from "../api.js";
import { counted, empty, fill, h } from "../dom.js";
import { ago, entry, nothing, query, sideBySide } from "../lists.js";
import { drillDown } from "./pictures.js";
import { written } from "./values.js";

export async function show(place, rest, offered) {
  if (!offered.studio.runs) {
    return nothing(place, "No folder of evaluations is shown", "Start the service with the folder or bucket that evaluations write to.", "photomaker serve studio=local studio.runs=runs");
  }
  const { list, shown } = sideBySide(place, "Evaluation", "Identity, prompt and diversity, measured; with every picture behind a value.");
  const found = (await get("v1/evaluations")).data;
  if (!found.length) return nothing(place, "No evaluation yet", "An evaluation makes portraits of people that training has not seen, and measures them.", "photomaker evaluate adapters=[runs/smoke/adapter.safetensors]");
  const beside = new Set(); // names of reports that are shown with the open one

  async function go(parts) {
    const name = parts[0] ? parts.join("/") : found[0].name;
    beside.delete(name);
    fill(list, found.map((each) => entry("evaluation", each.name, each.name === name, ...facts(each))));
    try {
      const names = [name, ...beside];
      draw(await Promise.all(names.map((each) => get(`v1/evaluations/details?${query({ name: each })}`))));
    } catch (error) {
      fill(shown, empty("This evaluation cannot be shown", error.message));
    }
  }

  function draw(reports) {
    const about = found.find((each) => each.name === reports[0].name);
    const others = found.filter((each) => each.name !== reports[0].name);
    const chips = others.map((each) =>
      h("button", { type: "button", class: "chip", "aria-pressed": String(beside.has(each.name)), onclick: () => (beside.has(each.name) ? beside.delete(each.name) : beside.add(each.name), go([reports[0].name])) }, each.name),
    );
    const pages = [about?.page ? opener(about.name, false, "Open the full report") : null, about?.blind ? opener(about.name, true, "Blind comparison") : null];
    const protocol = Object.entries(reports[0].protocol).map(([name, value]) => `${name} ${value}`).join(" · ");
    fill(
      shown,
      h("div", { class: "thing-head" }, h("div", { class: "row" }, h("h2", { class: "grow" }, reports[0].name), pages), h("p", { class: "soft small-text" }, protocol), reports[0].partial ? h("p", { class: "notice" }, "It is not finished: some pictures are missing.") : null),
      chips.length ? h("div", {}, h("p", { class: "legend" }, "Side by side with"), h("div", { class: "chips" }, chips)) : null,
      tableOf(reports),
      drillDown(reports),
    );
  }

  await go(rest);
  return { go };
}

function facts(report) {
  return [report.partial ? h("span", { class: "tag warn" }, "partial") : null, h("span", { class: "soft small-text" }, [counted(report.rows.length, "row"), ago(report.changed)].filter(Boolean).join(" · "))];
}

/** The page that `evaluate` wrote opens by a form, which can carry the key; an address could not. */
function opener(name, blind, label) {
  const form = h("form", { method: "post", target: "_blank", action: `v1/evaluations/page?${query({ name, blind })}` }, h("button", { class: "plain" }, label));
  form.addEventListener("submit", () => {
    form.querySelector("input")?.remove();
    if (key.get()) form.append(h("input", { type: "hidden", name: "key", value: key.get() }));
  });
  return form;
}

function tableOf(reports) {
  const metrics = Object.assign({}, ...reports.map((report) => report.metrics));
  const names = Object.keys(metrics);
  const rows = reports.flatMap((report) => report.rows.map((row) => ({ ...row, report: report.name })));
  const best = Object.fromEntries(names.map((name) => [name, bestOf(rows, name, metrics[name])]));
  const head = h("tr", {}, h("th", { scope: "col" }, "Row"), names.map((name) => h("th", { scope: "col", class: "number" }, metrics[name].head ?? name)), h("th", { scope: "col", class: "number" }, "s / picture"));
  const body = rows.map((row) =>
    h(
      "tr",
      { class: row.kind },
      h("th", { scope: "row" }, row.name, reports.length > 1 ? h("span", { class: "soft small-text" }, ` ${row.report}`) : null, row.kind === "row" ? null : h("span", { class: "tag" }, row.kind)),
      names.map((name) => h("td", { class: "number" }, valueOf(row.values[name], metrics[name], row.kind === "row" && best[name] !== null && row.values[name]?.mean === best[name]))),
      h("td", { class: "number" }, row.seconds_per_image ? row.seconds_per_image.toFixed(2) : "–"),
    ),
  );
  return h("section", { class: "card", "aria-label": "Results" }, h("h2", {}, "Results"), h("div", { class: "scroll" }, h("table", { class: "results-table" }, h("thead", {}, head), h("tbody", {}, body))), h("p", { class: "soft small-text" }, "Intervals: 95 %, over people."));
}

function bestOf(rows, name, metric) {
  const means = rows.filter((row) => row.kind === "row" && row.values[name]).map((row) => row.values[name].mean);
  if (means.length < 2) return null;
  return metric.higher_is_better === false ? Math.min(...means) : Math.max(...means);
}

/** A mean with its interval. */
function valueOf(value, metric, best = false) {
  if (!value) return "–";
  const say = (number) => written(number, metric);
  const interval = value.low == null ? null : h("span", { class: "soft small-text interval" }, ` ${say(value.low)}–${say(value.high)}`);
  return [h(best ? "strong" : "span", {}, say(value.mean)), interval];
}

