"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const { metrics, people, prompts, trials, rows } = data;

// An element; names and prompts are text, never markup.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}
const shown = (metric, value) => ((metric.percent ? 100 : 1) * value).toFixed(metric.digits);
const trialsOf = (key, number) => trials.map((_, i) => i).filter(i => trials[i][key] === number);
const trialsOfPerson = people.map((_, p) => trialsOf("person", p));

// "identity 80.0": of one image where a metric has a value of each, else of the prompt's images together.
function valuesOf(row, trial, image) {
  const own = [], shared = [], values = rows[row].values[trial], count = rows[row].pictures[trial].length;
  for (const metric of metrics) {
    const found = values[metric.name];
    if (!found) continue;
    if (found.length === count) own.push([metric.head, shown(metric, found[image])]);
    else shared.push([metric.head, found.map(v => shown(metric, v)).join(", ")]);
  }
  return { own, shared };
}

function picture(row, trial, image) {
  const source = rows[row].pictures[trial][image];
  if (source === null) return make("div", { class: "gone" }, "not made yet");
  const name = `${rows[row].name}: ${people[trials[trial].person].name}, ${trials[trial].text}, image ${image + 1}`;
  const inner = make("img", { src: source, alt: name, loading: "lazy", decoding: "async", width: 124, height: 124 });
  return make("button", { class: "picture", type: "button", onclick: () => enlarge(row, trial, image) }, inner);
}

function references(person) {
  const images = people[person].references.map((source, i) =>
    make("img", { src: source, alt: `reference ${i + 1} of ${people[person].name}`, loading: "lazy" }));
  return make("div", { class: "references" }, ...images);
}

// Paired differences: the chosen row minus every other. Of two rows the page has one difference; the other way round it
// is mirrored.
const reference = document.getElementById("reference"), pairsBody = document.getElementById("pairs-body");
const compared = metrics.filter(metric => data.pairs.some(([, , found]) => metric.name in found));
function difference(metric, values) {
  if (!values) return make("td", {}, "–");
  const [mean, low, high] = values.map(value => shown(metric, value));
  const parts = [`${mean} `, make("small", { class: "interval" }, `[${low}, ${high}]`)];
  const clear = values[1] > 0 || values[2] < 0;
  return make("td", {}, ...(clear ? [make("strong", {}, ...parts)] : parts));
}
function drawPairs() {
  const first = Number(reference.value), turned = ([mean, low, high]) => [-mean, -high, -low];
  const lines = data.pairs.filter(([a, b]) => a === first || b === first).map(([a, b, found]) => {
    const cells = compared.map(metric => difference(metric, found[metric.name] && (a === first ? found[metric.name] : turned(found[metric.name]))));
    return make("tr", {}, make("th", { scope: "row" }, `${rows[first].name} − ${rows[a === first ? b : a].name}`), ...cells);
  });
  pairsBody.replaceChildren(...lines);
}
if (reference) {
  document.getElementById("reference-line").hidden = false;
  reference.addEventListener("change", drawPairs);
}

// The picture grid: people × rows.
const which = document.getElementById("which"), imageChoice = document.getElementById("image");
const most = Math.max(0, ...trialsOfPerson.map(list => list.length));
const images = Math.max(0, ...rows.flatMap(row => row.pictures.map(list => list.length)));
const same = i => new Set(trialsOfPerson.map(list => list[i] === undefined ? -1 : trials[list[i]].prompt)).size === 1;
for (let i = 0; i < most; i++) which.append(make("option", { value: i }, same(i) ? `${i + 1}: ${prompts[trials[trialsOfPerson[0][i]].prompt]}` : `${i + 1}`));
for (let i = 0; i < images; i++) imageChoice.append(make("option", { value: i }, `${i + 1}`));
function drawGrid() {
  const lines = people.map((person, p) => {
    const trial = trialsOfPerson[p][Number(which.value)];
    const head = make("th", { scope: "row" }, make("b", {}, person.name), references(p));
    if (trial === undefined) return make("tr", {}, head);
    head.append(make("span", {}, trials[trial].text));
    const image = Number(imageChoice.value);
    return make("tr", {}, head, ...rows.map((row, r) => make("td", {}, image < row.pictures[trial].length ? picture(r, trial, image) : "")));
  });
  document.getElementById("grid-body").replaceChildren(...lines);
}
which.addEventListener("change", drawGrid);
imageChoice.addEventListener("change", drawGrid);
drawGrid();

// The lists: what is inside an entry is made when it is opened.
function block(trial, heading) {
  const methods = rows.map((row, r) => {
    const figures = row.pictures[trial].map((_, n) => {
      const lines = valuesOf(r, trial, n).own.map(([head, value]) => make("div", {}, `${head} ${value}`));
      return make("figure", {}, picture(r, trial, n), make("figcaption", {}, ...lines));
    });
    const shared = valuesOf(r, trial, 0).shared.map(([head, value]) => make("div", {}, `together: ${head} ${value}`));
    return make("div", { class: "method" }, make("h4", {}, row.name), make("div", { class: "images" }, ...figures), make("small", {}, ...shared));
  });
  return make("section", {}, make("h3", {}, heading), make("div", { class: "methods" }, ...methods));
}
function means(key, number) {
  const used = metrics.filter(metric => rows.some(row => metric.name in row[key][number]));
  if (!used.length) return "";
  const head = make("tr", {}, make("td", {}), ...used.map(metric => make("th", { scope: "col" }, metric.head)));
  const body = rows.map(row => make("tr", {}, make("th", { scope: "row" }, row.name),
    ...used.map(metric => make("td", {}, metric.name in row[key][number] ? shown(metric, row[key][number][metric.name]) : "–"))));
  return make("div", { class: "wide" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}
function entry(list, name, note, fill) {
  const inside = make("div", { class: "inside" });
  const details = make("details", { "data-name": name.toLowerCase() }, make("summary", {}, make("b", {}, name), ` ${note}`), inside);
  details.addEventListener("toggle", () => {
    if (details.open && !inside.childElementCount) inside.append(...fill());
  });
  document.getElementById(list).append(details);
}
people.forEach((person, p) => entry("person-list", person.name, `${trialsOfPerson[p].length} prompts`, () =>
  [references(p), means("people", p), ...trialsOfPerson[p].map(t => block(t, trials[t].text))]));
prompts.forEach((prompt, i) => {
  const of = trialsOf("prompt", i), category = trials[of[0]].category;
  const note = (of.length === 1 ? people[trials[of[0]].person].name : `${of.length} people`) + (category ? `, ${category}` : "");
  entry("prompt-list", prompt, note, () => [means("prompts", i), ...of.map(t => block(t, people[trials[t].person].name))]);
});
for (const input of document.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const each of document.getElementById(`${input.dataset.filter}-list`).children) each.hidden = !each.dataset.name.includes(wanted);
  });
}

// One picture, large; arrow keys go through the rows and the images of its prompt.
const dialog = document.getElementById("large");
let at = null;
function enlarge(row, trial, image) {
  at = [row, trial, image];
  const { own, shared } = valuesOf(row, trial, image), person = trials[trial].person;
  const list = make("dl", {}, ...[...own, ...shared].flatMap(([head, value]) => [make("dt", {}, head), make("dd", {}, value)]));
  const large = make("img", { class: "large", src: rows[row].pictures[trial][image], alt: `${rows[row].name}, image ${image + 1}` });
  const buttons = [["Previous", () => turn(-1)], ["Next", () => turn(1)], ["Close", () => dialog.close()]]
    .map(([label, act]) => make("button", { type: "button", onclick: act }, label));
  const facts = make("div", { class: "facts" }, make("h2", { id: "large-title" }, rows[row].name),
    make("p", {}, `${people[person].name}: ${trials[trial].text}, image ${image + 1}`), list, references(person),
    make("div", { class: "turn" }, ...buttons));
  dialog.replaceChildren(make("div", { class: "body" }, large, facts));
  if (!dialog.open) dialog.showModal();
}
function turn(by) {
  const places = rows.flatMap((row, r) => row.pictures[at[1]].map((source, n) => source === null ? null : [r, n]).filter(Boolean));
  const here = places.findIndex(([r, n]) => r === at[0] && n === at[2]);
  const [row, image] = places[(here + by + places.length) % places.length];
  enlarge(row, at[1], image);
  dialog.querySelectorAll("button")[by < 0 ? 0 : 1].focus();
}
dialog.addEventListener("keydown", event => {
  if (event.key === "ArrowLeft") turn(-1);
  if (event.key === "ArrowRight") turn(1);
});
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
