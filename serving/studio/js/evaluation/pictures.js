// Pictures behind the values: a person or a prompt at a time, all rows side by side, the worst first where wanted.

import { get } from "../api.js";
import { button, dialog, field, fill, h, select } from "../dom.js";
import { query, remotePicture } from "../lists.js";
import { written } from "./values.js";

const PEOPLE = 8;

export function drillDown(reports) {
  const rows = reports.flatMap((report) => report.rows.filter((row) => row.key).map((row) => ({ ...row, report: report.name, metrics: report.metrics })));
  const metrics = Object.assign({}, ...reports.map((report) => report.metrics));
  const measured = Object.keys(metrics).filter((name) => rows.some((row) => Object.keys(row.people[name] ?? {}).length));
  const element = h("section", { class: "card", "aria-label": "Pictures" }, h("h2", {}, "Pictures"));
  if (!measured.length) {
    element.append(h("p", { class: "soft" }, "This report has no values of single people."));
    return element;
  }
  const metric = select(measured.map((name) => [name, metrics[name].head ?? name]), measured[0], () => draw());
  const by = select(rows.map((row, i) => [String(i), reports.length > 1 ? `${row.name} (${row.report})` : row.name]), String(Math.max(0, rows.findIndex((row) => row.kind === "row"))), () => draw());
  const order = select([["worst", "Worst first"], ["best", "Best first"], ["name", "By name"]], "worst", () => draw());
  const grid = h("div", { class: "drill" });
  const more = button("Show more people", () => draw(true), { class: "plain" });
  const files = new Map(); // of each row, by person
  let most = PEOPLE;
  element.append(h("div", { class: "row controls" }, field("Ordered by", metric), field("of", by), field("Order", order)), grid, more);

  function people() {
    const chosen = rows[Number(by.value)];
    const values = chosen.people[metric.value] ?? {};
    const names = Object.keys(values);
    if (order.value === "name") return names.sort();
    const up = (order.value === "worst") === (metrics[metric.value].higher_is_better !== false);
    return names.sort((a, b) => (up ? values[a] - values[b] : values[b] - values[a]));
  }

  async function filesOf(row) {
    const name = `${row.report}/${row.key}`;
    if (!files.has(name)) files.set(name, get(`v1/evaluations/pictures?${query({ name: row.report, key: row.key })}`).then((found) => found.people, () => ({})));
    return files.get(name);
  }

  async function draw(further = false) {
    most = further ? most + PEOPLE : PEOPLE;
    const wanted = people();
    const all = await Promise.all(rows.map(filesOf));
    const head = h("tr", {}, h("th", { scope: "col" }, "Person"), rows.map((row) => h("th", { scope: "col" }, row.name)));
    const body = wanted.slice(0, most).map((person) =>
      h("tr", {}, h("th", { scope: "row" }, person), rows.map((row, i) => h("td", {}, cell(row, person, all[i][person] ?? [])))),
    );
    more.hidden = wanted.length <= most;
    fill(grid, h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body))));
  }

  function said(row, person) {
    const value = row.people[metric.value]?.[person];
    const about = metrics[metric.value];
    return value === undefined ? "" : written(value, about);
  }

  function cell(row, person, found) {
    const shown = found.slice(0, 4).map((file, i) =>
      h("button", { type: "button", class: "open small", "aria-label": `Enlarge picture ${i + 1} of ${person}, ${row.name}`, onclick: () => enlarge(row, person, found) }, picture(row, file)),
    );
    return [h("div", { class: "cell-pictures" }, shown.length ? shown : h("span", { class: "soft" }, "–")), h("span", { class: "soft small-text" }, said(row, person))];
  }

  draw();
  return element;
}

function picture(row, file) {
  return remotePicture(`v1/evaluations/picture?${query({ name: row.report, file })}`, "");
}

function enlarge(row, person, files) {
  const values = Object.entries(row.metrics).filter(([name]) => row.people[name]?.[person] !== undefined);
  const facts = values.map(([name, metric]) => h("div", {}, h("dt", {}, metric.head ?? name), h("dd", {}, written(row.people[name][person], metric))));
  dialog(`${person} · ${row.name}`, [h("dl", { class: "figures" }, facts), h("div", { class: "compare" }, files.map((file) => h("figure", {}, picture(row, file))))], { class: "wide" });
}
