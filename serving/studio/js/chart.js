// Line charts as SVG: several runs in one, values under the pointer, readable without seeing it.

import { h, s } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [560, 230, 52, 12, 10, 26];

/**
 * @param {string} title
 * @param {{ name: string, x: number[], y: (number | null)[] }[]} lines
 * @param {{ log?: boolean, smooth?: number }} options `smooth`: 0 to 0.99, of an exponential average
 */
export function chart(title, lines, { log = false, smooth = 0 } = {}) {
  const shown = lines.map((line) => ({ ...line, points: pointsOf(line, log, smooth) })).filter((line) => line.points.length);
  if (!shown.length) return null;
  const xs = shown.flatMap((line) => line.points.map(([x]) => x));
  const ys = shown.flatMap((line) => line.points.map(([, y]) => y));
  const x = scale(Math.min(...xs), Math.max(...xs), LEFT, WIDTH - RIGHT);
  const y = scale(Math.min(...ys), Math.max(...ys), HEIGHT - BOTTOM, TOP);
  const drawing = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": said(title, shown) });
  for (const tick of ticks(y.min, y.max, 4)) {
    const label = log ? 10 ** tick : tick;
    drawing.append(s("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y.at(tick), y2: y.at(tick), class: "rule" }), text(LEFT - 7, y.at(tick) + 4, short(label), "end"));
  }
  for (const tick of ticks(x.min, x.max, 6)) drawing.append(text(x.at(tick), HEIGHT - 8, short(tick), "middle"));
  shown.forEach((line, i) => {
    const path = line.points.map(([a, b], at) => `${at ? "L" : "M"}${x.at(a).toFixed(1)} ${y.at(b).toFixed(1)}`).join("");
    drawing.append(s("path", { d: path, class: `line c${i}` }));
    if (line.points.length === 1) drawing.append(s("circle", { cx: x.at(line.points[0][0]), cy: y.at(line.points[0][1]), r: 3, class: `dot c${i}` }));
  });
  const read = h("p", { class: "read soft" }, latest(shown, log));
  follow(drawing, shown, x, y, log, read);
  return h("figure", { class: "chart-card" }, h("figcaption", {}, h("h3", {}, title), read), drawing);
}

function pointsOf(line, log, smooth) {
  let average = null;
  const points = [];
  line.x.forEach((x, i) => {
    const value = line.y[i];
    if (value === null || value === undefined || (log && value <= 0)) return;
    const y = log ? Math.log10(value) : value;
    average = average === null ? y : smooth * average + (1 - smooth) * y;
    points.push([x, average]);
  });
  return points;
}

function scale(min, max, from, to) {
  if (min === max) [min, max] = [min - Math.abs(min || 1) * 0.05, max + Math.abs(max || 1) * 0.05];
  const at = (value) => from + ((value - min) / (max - min)) * (to - from);
  return { min, max, at, back: (place) => min + ((place - from) / (to - from)) * (max - min) };
}

function ticks(min, max, count) {
  const rough = (max - min) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let tick = Math.ceil(min / step) * step; tick <= max + step * 1e-9; tick += step) found.push(tick);
  return found;
}

function text(x, y, label, anchor) {
  return s("text", { x, y, "text-anchor": anchor }, label);
}

/** A number as people write it. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e4) return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
  if (size !== 0 && size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
}

function latest(lines, log) {
  return lines.map((line) => `${lines.length > 1 ? `${line.name}: ` : ""}${short(plain(line.points.at(-1)[1], log))}`).join(" · ");
}

function plain(value, log) {
  return log ? 10 ** value : value;
}

function said(title, lines) {
  return `${title}: ${lines.map((line) => `${line.name} from ${short(line.points[0][1])} to ${short(line.points.at(-1)[1])} in ${line.points.length} points`).join("; ")}`;
}

function follow(drawing, lines, x, y, log, read) {
  const rule = s("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor", visibility: "hidden" });
  drawing.append(rule);
  drawing.addEventListener("pointermove", (event) => {
    const frame = drawing.getBoundingClientRect();
    const wanted = x.back(((event.clientX - frame.left) / frame.width) * WIDTH);
    const near = lines.map((line) => line.points.reduce((best, point) => (Math.abs(point[0] - wanted) < Math.abs(best[0] - wanted) ? point : best)));
    rule.setAttribute("x1", x.at(near[0][0]));
    rule.setAttribute("x2", x.at(near[0][0]));
    rule.setAttribute("visibility", "visible");
    read.textContent = `step ${near[0][0].toLocaleString("en")}: ${near.map((point, i) => `${lines.length > 1 ? `${lines[i].name} ` : ""}${short(plain(point[1], log))}`).join(" · ")}`;
  });
  drawing.addEventListener("pointerleave", () => {
    rule.setAttribute("visibility", "hidden");
    read.textContent = latest(lines, log);
  });
}
