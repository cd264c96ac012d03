// Elements, dialogs and messages; text is always set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("button", { class: "primary", onclick: go }, "Go"). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !["list", "form", "width", "height"].includes(name) && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  fill(element, ...children);
  return element;
}

/** Put children in place of what an element has. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** An SVG element, for drawings. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function button(label, onclick, props = {}) {
  return h("button", { type: "button", onclick, ...props }, props.icon ? icon(props.icon) : null, label);
}

export function iconButton(name, label, onclick, props = {}) {
  return h("button", { type: "button", "aria-label": label, title: label, onclick, ...props, class: `icon ${props.class ?? "quiet"}` }, icon(name));
}

let named = 0;
export function id(prefix) {
  named += 1;
  return `${prefix}-${named}`;
}

/** A control with its label above, and a line of help below. `control`: an element, or { element, input } around one. */
export function field(label, control, help) {
  const input = control.input ?? control;
  input.id ||= id("field");
  const note = help ? h("p", { class: "help", id: id("help") }, help) : null;
  if (note) input.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), control.element ?? control, note);
}

export function select(options, value, onchange) {
  const choices = options.map((each) => (Array.isArray(each) ? each : [each, each]));
  return h("select", { onchange }, choices.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
}

/** A modal dialog; `close()` removes it and the focus returns to where it was. Escape closes it. */
export function dialog(title, content, props = {}) {
  const heading = h("h2", { id: id("dialog") }, title);
  const before = document.activeElement;
  const close = () => element.close();
  const element = h(
    "dialog",
    { class: `dialog ${props.class ?? ""}`, "aria-labelledby": heading.id },
    h("header", {}, heading, iconButton("close", "Close", close)),
    h("div", { class: "body" }, content),
  );
  element.addEventListener("close", () => {
    element.remove();
    props.onclose?.();
    if (before?.isConnected) before.focus();
  });
  element.addEventListener("click", (event) => event.target === element && close());
  document.body.append(element);
  element.showModal();
  return { element, close, body: element.querySelector(".body"), heading };
}

/** A sentence at the foot of the page, read out by screen readers. `kind`: "plain" or "wrong". */
export function toast(text, kind = "plain", seconds = 6) {
  const note = h("div", { class: `toast ${kind}` }, text);
  note.append(iconButton("close", "Dismiss", () => note.remove()));
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 1000 * seconds);
}

/** Ask before something that cannot be undone. */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    let answer = false;
    const box = dialog(question, [], { class: "small", onclose: () => resolve(answer) });
    box.body.append(
      h(
        "div",
        { class: "actions" },
        button("Cancel", box.close, { class: "plain" }),
        button(action, () => ((answer = true), box.close()), { class: "danger" }),
      ),
    );
  });
}

export function counted(number, singular, plural = `${singular}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? singular : plural}`;
}

/** What a page shows where there is nothing yet. */
export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text), ...more);
}
