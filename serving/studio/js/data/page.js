// The page "Data": what came in and what stayed, people and their photos, rejects and why.

import { get } from "../api.js";
import { button, counted, empty, fill, h } from "../dom.js";
import { ago, entry, nothing, query, remotePicture, sideBySide } from "../lists.js";
import { editsOf } from "./edits.js";
import { openPerson } from "./person.js";

const PEOPLE = 60;
const REJECTS = 60;

export async function show(place, rest, offered) {
  if (!offered.studio.data) {
    return nothing(place, "No folder of datasets is shown", "Start the service with the folder or bucket that preprocessing writes to.", "photomaker serve studio=local studio.data=data");
  }
  const { list, shown } = sideBySide(place, "Data", "What came in and what stayed: people, photos as a model sees them, and why others were left out.");
  const found = (await get("v1/datasets")).data;
  if (!found.length) {
    return nothing(place, "No dataset yet", "Preprocessing makes one out of folders of photos, one folder for each person.", "photomaker preprocess dataset=folder dataset.root=photos output=data/mine");
  }

  async function go(parts) {
    const name = parts[0] ? parts.join("/") : found[0].name;
    fill(list, found.map((dataset) => entry("data", dataset.name, dataset.name === name, ...facts(dataset))));
    try {
      draw(await get(`v1/datasets/overview?${query({ name })}`));
    } catch (error) {
      fill(shown, empty("This dataset cannot be shown", error.message));
    }
  }

  function draw(dataset) {
    const edits = editsOf(dataset.name, offered);
    edits.load().catch(() => {});
    const people = peopleOf(dataset, edits, offered.class_words);
    const rejects = rejectsOf(dataset, edits);
    const tabs = tabbed([["People", people], [`Left out (${dataset.rejects.reduce((sum, each) => sum + each.count, 0).toLocaleString("en")})`, rejects]]);
    fill(shown, h("div", { class: "thing-head" }, h("h2", {}, dataset.name), figures(dataset)), edits.element, funnel(dataset), tabs);
  }

  await go(rest);
  return { go };
}

function facts(dataset) {
  if (dataset.problem) return [h("span", { class: "tag bad" }, "cannot be read"), h("span", { class: "soft small-text" }, dataset.problem)];
  return [h("span", { class: "soft small-text" }, [counted(dataset.people ?? 0, "person", "people"), counted(dataset.photos ?? 0, "photo"), ago(dataset.changed)].join(" · "))];
}

function figures(dataset) {
  const { counts, about } = dataset;
  const rows = [
    ["People", counts.identities],
    ["Photos", counts.kept],
    ["Found", counts.found],
    ["Kept", counts.found ? `${((100 * counts.kept) / counts.found).toFixed(0)} %` : null],
    ["Pixels", about.resolution],
  ].filter(([, value]) => value !== undefined && value !== null);
  return h("dl", { class: "figures" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, typeof value === "number" ? value.toLocaleString("en") : value))));
}

function funnel(dataset) {
  const rows = dataset.funnel.map((stage) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, stage.stage),
      h("td", { class: "bar-cell" }, h("div", { class: "bar" }, h("div", { class: "bar-in", style: { width: `${stage.in_share}%` } }), h("div", { class: "bar-kept", style: { width: `${stage.kept_share}%` } }))),
      h("td", { class: "number" }, stage.kept.toLocaleString("en")),
      h("td", { class: "soft" }, stage.reasons),
    ),
  );
  const head = h("tr", {}, h("th", { scope: "col" }, "Stage"), h("td", {}), h("th", { scope: "col", class: "number" }, "Kept"), h("th", { scope: "col" }, "Left out"));
  return h("section", { class: "card", "aria-label": "Funnel" }, h("h2", {}, "From photos to dataset"), h("div", { class: "scroll" }, h("table", { class: "funnel" }, h("thead", {}, head), h("tbody", {}, rows))));
}

/** Buttons that show one of several parts; the arrow keys go from one to the next. */
function tabbed(parts) {
  const panel = h("div", { role: "tabpanel", tabindex: "0" });
  const tabs = parts.map(([label], i) => h("button", { type: "button", role: "tab", class: "tab", onclick: () => choose(i) }, label));
  const bar = h("div", { role: "tablist", class: "tabs" }, tabs);
  bar.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = (tabs.indexOf(document.activeElement) + by + tabs.length) % tabs.length;
    choose(next);
    tabs[next].focus();
  });
  function choose(number) {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === number));
      tab.tabIndex = i === number ? 0 : -1;
    });
    panel.setAttribute("aria-label", parts[number][0]);
    fill(panel, parts[number][1]);
  }
  choose(0);
  return h("section", { class: "card" }, bar, panel);
}

function searchBox(label, onsearch) {
  let waiting = null;
  const box = h("input", { type: "search", placeholder: label, "aria-label": label });
  box.addEventListener("input", () => (clearTimeout(waiting), (waiting = setTimeout(() => onsearch(box.value), 250))));
  return box;
}

function peopleOf(dataset, edits, words) {
  const grid = h("ul", { class: "people", "aria-label": "People" });
  const count = h("p", { class: "soft small-text", role: "status" });
  const more = button("Show more", () => load(false), { class: "plain" });
  const search = searchBox("Search people and captions", () => load(true));
  let offset = 0;

  async function load(again) {
    if (again) offset = 0;
    const wanted = search.value;
    const found = await get(`v1/datasets/people?${query({ name: dataset.name, search: wanted, offset, limit: PEOPLE })}`);
    if (wanted !== search.value) return;
    if (again) fill(grid);
    grid.append(...found.people.map(tile));
    offset += found.people.length;
    count.textContent = wanted ? `${counted(found.total, "person", "people")} found` : "";
    more.hidden = offset >= found.total;
  }

  function tile(person) {
    const image = remotePicture(`v1/datasets/picture?${query({ name: dataset.name, number: person.cover, side: 160 })}`, "");
    return h("li", {}, h("button", { type: "button", class: "person-tile", onclick: () => openPerson(dataset.name, person.identity, edits, words) }, image, h("span", {}, person.identity), h("span", { class: "soft small-text" }, counted(person.photos, "photo"))));
  }

  load(true);
  return h("div", { class: "inside" }, h("div", { class: "row" }, h("div", { class: "grow" }, search)), count, grid, more);
}

function rejectsOf(dataset, edits) {
  const rows = h("tbody");
  const more = button("Show more", () => load(false), { class: "plain" });
  const search = searchBox("Search people and photos", () => load(true));
  let reason = "";
  let offset = 0;
  const reasons = [...dataset.rejects.reduce((sums, each) => sums.set(each.reason, (sums.get(each.reason) ?? 0) + each.count), new Map())];
  const chips = [["", null], ...reasons].map(([each, number]) =>
    h("button", { type: "button", class: "chip", "aria-pressed": String(each === ""), onclick: (event) => choose(each, event.currentTarget) }, each === "" ? "All" : `${each.replaceAll("_", " ")} ${number.toLocaleString("en")}`),
  );

  function choose(next, chip) {
    reason = next;
    chips.forEach((each) => each.setAttribute("aria-pressed", String(each === chip)));
    load(true);
  }

  async function load(again) {
    if (again) offset = 0;
    const found = await get(`v1/datasets/rejects?${query({ name: dataset.name, reason, search: search.value, offset, limit: REJECTS })}`);
    if (again) fill(rows);
    rows.append(...found.photos.map(row));
    offset += found.photos.length;
    more.hidden = offset >= found.total;
  }

  function row(photo) {
    const image = remotePicture(`v1/datasets/picture?${query({ name: dataset.name, number: photo.number, kind: "reject", side: 96 })}`, "");
    const measured = photo.value === null ? "" : `${Number(photo.value.toPrecision(3))}${photo.threshold === null ? "" : `, asked for ${Number(photo.threshold.toPrecision(3))}`}`;
    return h("tr", {}, h("td", { class: "reject-picture" }, image), h("td", {}, photo.identity, h("br"), h("span", { class: "soft small-text mono" }, photo.photo)), h("td", {}, photo.stage), h("td", {}, photo.reason.replaceAll("_", " "), h("br"), h("span", { class: "soft small-text" }, [measured, photo.detail].filter(Boolean).join("; "))), edits.allowed ? h("td", {}, button("Keep", () => edits.propose({ edit: "keep", photo: photo.photo }), { class: "link", "aria-label": `Keep ${photo.photo}` })) : null);
  }

  if (!dataset.rejects.length) return h("p", { class: "inside soft" }, "Every photo that was found is in the dataset.");
  load(true);
  const head = h("tr", {}, h("td", {}), ["Person and photo", "Stage", "Reason"].map((name) => h("th", { scope: "col" }, name)), edits.allowed ? h("td", {}) : null);
  return h("div", { class: "inside" }, h("div", { class: "chips" }, chips), search, h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), rows)), more);
}
