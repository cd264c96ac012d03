// The page "Training": runs as their folders tell, also of a run on a cluster while it is running.

import { get, request } from "../api.js";
import { button, empty, fill, h, select, toast } from "../dom.js";
import { ago, command, entry, nothing, query, sideBySide } from "../lists.js";
import { curvesOf } from "./curves.js";
import { picturesOf } from "./pictures.js";

const EVERY_MS = 3000;
const STATUS = { finished: "good", running: "live", stopping: "live", stopped: "warn", interrupted: "bad" };

export async function show(place, rest, offered) {
  if (!offered.studio.runs) {
    return nothing(place, "No folder of runs is shown", "Start the service with the folder or bucket that training writes to.", "photomaker serve studio=local studio.runs=runs");
  }
  const { list, shown } = sideBySide(place, "Training", "Runs as their folders tell: live curves, settings, validation pictures.");
  let runs = [];
  let open = null; // { name, other, curves, pictures, ... }
  let timer = null;
  let left = false;

  async function refresh() {
    runs = (await get("v1/runs")).data;
    if (left) return;
    if (!runs.length) return nothing(place, "No run yet", "A training writes its curves and pictures into a folder, and appears here while it runs.", "photomaker train experiment=smoke data=data/mine");
    const wanted = open?.name ?? runs[0].name;
    fill(list, runs.map((run) => entry("training", run.name, run.name === wanted, ...facts(run))));
    if (!open) await go([runs[0].name]);
  }

  async function go(parts) {
    const name = parts[0] ? parts.join("/") : runs[0]?.name;
    if (!name) return;
    if (open?.name !== name) open = null;
    for (const link of list.querySelectorAll("a")) {
      if (decodeURIComponent(link.hash) === `#training/${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    try {
      const run = await get(`v1/runs/details?${query({ name })}`);
      if (left) return;
      open = draw(run);
      await open.curves.update();
    } catch (error) {
      fill(shown, empty("This run cannot be shown", error.message));
    }
  }

  function draw(run) {
    const others = [["", "Compare with …"], ...runs.map((each) => each.name).filter((each) => each !== run.name)];
    const other = select(others, "", () => compare());
    other.setAttribute("aria-label", "Compare with another run");
    const head = h("div", { class: "thing-head" });
    const curves = curvesOf(run.name);
    const pictures = picturesOf(run.name, run.pictures);
    const settings = h("div", {});
    const state = { name: run.name, curves, pictures, head };
    drawHead(run, head);
    drawSettings(settings, run.settings);

    async function compare() {
      const name = other.value;
      curves.compare(name || null);
      if (!name) return (drawSettings(settings, run.settings), pictures.compare(null, []));
      const [found, details] = await Promise.all([
        get(`v1/runs/differences?${query({ first: run.name, second: name })}`),
        get(`v1/runs/details?${query({ name })}`),
      ]);
      drawDifferences(settings, run.name, name, found.data);
      pictures.compare(name, details.pictures);
    }

    fill(
      shown,
      head,
      runs.length > 1 ? h("div", { class: "row compare-row" }, other) : null,
      curves.element,
      pictures.element,
      h("section", { class: "card", "aria-label": "Settings" }, settings),
    );
    return state;
  }

  async function tick() {
    try {
      await refresh();
      const run = runs.find((each) => each.name === open?.name);
      if (run && ["running", "stopping"].includes(run.status)) {
        const details = await get(`v1/runs/details?${query({ name: run.name })}`);
        if (left || open?.name !== run.name) return;
        drawHead(details, open.head);
        open.pictures.update(details.pictures);
        await open.curves.update();
      }
    } catch {
      /* the next look tries again */
    } finally {
      if (!left) timer = setTimeout(tick, EVERY_MS);
    }
  }

  if (rest[0]) {
    runs = (await get("v1/runs")).data;
    await go(rest);
  }
  await refresh();
  timer = setTimeout(tick, EVERY_MS);
  return {
    go,
    leave() {
      left = true;
      clearTimeout(timer);
    },
  };
}

function facts(run) {
  const bar = run.steps && run.status !== "finished" ? h("progress", { max: String(run.steps), value: String(run.step), "aria-label": "steps" }) : null;
  const said = [`step ${run.step.toLocaleString("en")}${run.steps > run.step ? ` of ${run.steps.toLocaleString("en")}` : ""}`, run.loss == null ? null : `loss ${run.loss.toFixed(4)}`, ago(run.changed)];
  return [h("span", { class: `tag ${STATUS[run.status] ?? ""}` }, run.status), h("span", { class: "soft small-text" }, said.filter(Boolean).join(" · ")), bar];
}

function drawHead(run, head) {
  const rows = [
    ["Steps", `${run.step.toLocaleString("en")} of ${run.steps.toLocaleString("en")}`],
    ["Loss", run.loss?.toFixed(4)],
    ["Samples a second", run.samples_per_s?.toFixed(1)],
    ["Time", run.seconds ? duration(run.seconds) : null],
    ["Phase", run.status === "running" ? run.phase : null],
    ["Checkpoints", run.checkpoints.length ? String(run.checkpoints.length) : null],
  ].filter(([, value]) => value);
  fill(
    head,
    h("div", { class: "row" }, h("h2", { class: "grow" }, run.name), h("span", { class: `tag ${STATUS[run.status] ?? ""}` }, run.status), run.adapter ? button("Download the adapter", () => download(run), { class: "plain", icon: "download" }) : null),
    h("dl", { class: "figures" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    run.resume ? [h("p", { class: "soft" }, "It goes on from its last checkpoint with the command that began it:"), command(run.resume)] : null,
    run.status === "running" ? h("p", { class: "soft small-text" }, `To stop it after the current step: touch the file .stop in its folder (${run.name}/.stop).`) : null,
  );
}

async function download(run) {
  try {
    const answer = await request(`v1/runs/adapter?${query({ name: run.name })}`);
    const address = URL.createObjectURL(await answer.blob());
    h("a", { href: address, download: `${run.name.split("/").at(-1)}.safetensors` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  } catch (error) {
    toast(error.message, "wrong");
  }
}

function drawSettings(place, settings) {
  const search = h("input", { type: "search", placeholder: "Find a setting", "aria-label": "Find a setting" });
  const body = h("tbody");
  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    const rows = Object.entries(settings).filter(([name, value]) => `${name} ${value}`.toLowerCase().includes(wanted));
    fill(body, rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row", class: "mono" }, name), h("td", { class: "mono" }, written(value)))));
  };
  search.addEventListener("input", draw);
  draw();
  const table = h("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Settings" }, h("table", {}, body));
  fill(place, h("details", {}, h("summary", {}, "Settings"), h("div", { class: "inside" }, search, table)));
}

function drawDifferences(place, first, second, rows) {
  const head = h("tr", {}, ["Setting", first, second].map((name) => h("th", { scope: "col" }, name)));
  const body = rows.map((row) => h("tr", {}, h("th", { scope: "row", class: "mono" }, row.setting), h("td", { class: "mono" }, written(row.first)), h("td", { class: "mono" }, written(row.second))));
  const table = h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body)));
  fill(place, h("h2", {}, "What differs"), rows.length ? table : h("p", { class: "soft" }, "Their settings are the same."));
}

function written(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function duration(seconds) {
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

