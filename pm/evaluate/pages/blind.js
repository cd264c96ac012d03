"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = Object.fromEntries(data.pairs.map(pair => [pair.id, pair]));
const storageKey = `blind-${data.page}`;
const $ = id => document.getElementById(id);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
function shuffled(list) {
  const result = [...list], random = new Uint32Array(result.length);
  crypto.getRandomValues(random);
  for (let i = result.length - 1; i > 0; i--) {
    const j = random[i] % (i + 1);
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}
// Whoever votes has an order of pairs and of sides of their own.
function fresh() {
  const voter = [...crypto.getRandomValues(new Uint8Array(8))].map(byte => byte.toString(16).padStart(2, "0")).join("");
  const order = shuffled(data.pairs).map(pair => ({ pair: pair.id, sides: shuffled(pair.pictures.map(p => p.id)) }));
  return { format: data.format, page: data.page, voter, order, answers: {}, at: 0, unsaved: [] };
}
function usable(found) {
  return found && found.page === data.page && found.format === data.format && typeof found.voter === "string"
    && found.order instanceof Array && found.order.length === data.pairs.length && found.order.every(({ pair, sides }) =>
      byId[pair] && Array.isArray(sides) && byId[pair].pictures.every(p => sides.includes(p.id)));
}
let state = null, kept = true;
try { state = JSON.parse(localStorage.getItem(storageKey)); } catch { kept = false; }
if (!usable(state) || !state.answers || !Array.isArray(state.unsaved)) state = fresh();
state.at = Math.min(Math.max(0, Number.isInteger(state.at) ? state.at : 0), data.pairs.length - 1);

const questionsOf = pair => Object.keys(data.questions).filter(name => name !== "person" || pair.references.length);
const done = pair => questionsOf(pair).every(name => (state.answers[pair.id] || {})[name]);
const unsaved = () => state.unsaved.filter(id => byId[id] && done(byId[id]));
const finished = () => data.pairs.filter(done).length;

function keep() {
  try { localStorage.setItem(storageKey, JSON.stringify(state)); } catch { kept = false; }
  const count = finished(), open = unsaved().length;
  $("count").textContent = `${count} of ${data.pairs.length} pairs answered`;
  $("progress").max = data.pairs.length;
  $("progress").value = count;
  $("state").textContent = (open > 0 ? `${open} answered ${open === 1 ? "pair is" : "pairs are"} not in a file yet.` : count ? "All answers are in the file that you saved." : "No answers yet.")
    + (kept ? "" : " This browser keeps nothing: save before you close the page.");
  $("state").className = open > 0 ? "unsaved" : "";
  $("save").disabled = count === 0;
}

function show(focus) {
  const { pair: id, sides } = state.order[state.at], pair = byId[id];
  const pictures = sides.map(side => pair.pictures.find(p => p.id === side));
  $("heading").textContent = `Pair ${state.at + 1} of ${data.pairs.length}`;
  const parts = [];
  if (pair.references.length) {
    parts.push(make("p", {}, "The person:"), make("div", { class: "references" },
      ...pair.references.map((source, i) => make("img", { src: source, alt: `photo ${i + 1} of the person` }))));
  }
  parts.push(make("p", { class: "prompt" }, pair.prompt));
  parts.push(make("div", { class: "pair" }, ...pictures.map((p, i) =>
    make("figure", {}, make("img", { src: p.source, alt: ["left picture", "right picture"][i] }), make("figcaption", {}, ["left", "right"][i])))));
  for (const name of questionsOf(pair)) {
    const options = [[sides[0], "left"], ["none", "no difference"], [sides[1], "right"]].map(([value, text]) => {
      const input = make("input", { type: "radio", name, value });
      input.checked = (state.answers[id] || {})[name] === value;
      input.addEventListener("change", () => {
        state.answers[id] = { ...state.answers[id], [name]: value };
        if (!state.unsaved.includes(id)) state.unsaved.push(id);
        keep();
        $("next").disabled = !done(pair) || state.at === data.pairs.length - 1;
      });
      return make("label", {}, input, ` ${text}`);
    });
    parts.push(make("fieldset", {}, make("legend", {}, data.questions[name]), make("div", { class: "answers" }, ...options)));
  }
  $("question").replaceChildren(...parts);
  $("back").disabled = state.at === 0;
  $("next").disabled = !done(pair) || state.at === data.pairs.length - 1;
  keep();
  if (focus) { $("heading").focus(); $("heading").scrollIntoView(); }
}
function go(by) {
  state.at = Math.min(data.pairs.length - 1, Math.max(0, state.at + by));
  show(true);
}
$("back").addEventListener("click", () => go(-1));
$("next").addEventListener("click", () => go(1));

// Only finished pairs count. `order` and `at` let the page go on from the file.
$("save").addEventListener("click", () => {
  const votes = state.order.filter(({ pair }) => done(byId[pair])).map(({ pair, sides }) => ({ pair, left: sides[0], right: sides[1], answers: state.answers[pair] }));
  state.unsaved = state.unsaved.filter(id => !done(byId[id]));
  const file = { format: state.format, page: state.page, voter: state.voter, votes, order: state.order, at: state.at };
  const link = make("a", { href: URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)], { type: "application/json" })), download: `votes-${state.voter}.json` });
  document.body.append(link);
  link.click();
  link.remove();
  keep();
});
$("load").addEventListener("change", async event => {
  const [file] = event.target.files;
  event.target.value = "";
  let found = null;
  try { found = JSON.parse(await file.text()); } catch { /* said below */ }
  if (!usable(found) || !Array.isArray(found.votes)) {
    $("state").textContent = `${file.name} has no votes of this page.`;
    return;
  }
  const answers = Object.fromEntries(found.votes.map(vote => [vote.pair, vote.answers]));
  state = { format: found.format, page: found.page, voter: found.voter, order: found.order, answers, at: Number.isInteger(found.at) ? found.at : 0, unsaved: [] };
  go(0);
});
addEventListener("beforeunload", event => { if (!kept && unsaved().length) event.preventDefault(); });
show(false);
