// What the pages Data, Training and Evaluation share: a list of things beside one that is open.

import { pictureUrl } from "./api.js";
import { button, empty, fill, h, toast } from "./dom.js";

/** Where a page's things are chosen on the left and shown on the right. */
export function sideBySide(place, title, about) {
  const list = h("ul", { class: "things", "aria-label": title });
  const shown = h("div", { class: "thing" });
  fill(place, h("header", { class: "page-head" }, h("div", {}, h("h1", {}, title), h("p", {}, about))), h("div", { class: "beside" }, list, shown));
  return { list, shown };
}

/** An entry of the list. `name` is a path below the folder: `page/name` becomes the address. */
export function entry(page, name, open, ...content) {
  const parts = name.split("/");
  const label = h("span", { class: "thing-name" }, parts.length > 1 ? h("span", { class: "soft" }, `${parts.slice(0, -1).join("/")}/`) : null, parts.at(-1));
  return h("li", {}, h("a", { href: `#${page}/${encodeURIComponent(name)}`, "aria-current": open ? "page" : null }, label, ...content));
}

/** What a page says where its folder is not configured or empty. */
export function nothing(place, title, text, command) {
  fill(place, empty(title, text, command ? h("pre", {}, h("code", {}, command)) : null));
}

/** A command to copy. */
export function command(text) {
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    toast("Copied.", "plain", 2);
  };
  return h("div", { class: "command" }, h("pre", { tabindex: "0" }, h("code", {}, text)), navigator.clipboard ? button("Copy", copy, { class: "plain" }) : null);
}

/** A picture of the service that may need a key. It is fetched when it comes into view. */
export function remotePicture(path, alt, props = {}) {
  const image = h("img", { alt, ...props });
  const load = async () => {
    try {
      image.src = await pictureUrl(path);
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    } catch {
      image.replaceWith(h("span", { class: "gone" }, "not there"));
    }
  };
  if (props.loading === "eager") load();
  else watching.observe(Object.assign(image, { appear: load }));
  return image;
}

const watching = new IntersectionObserver(
  (seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      watching.unobserve(target);
      target.appear();
    }
  },
  { rootMargin: "300px" },
);

export function ago(seconds) {
  if (!seconds) return "";
  const past = Math.max(0, Date.now() / 1000 - seconds);
  const [unit, size] = [["day", 86400], ["hour", 3600], ["minute", 60]].find(([, each]) => past >= each) ?? [];
  if (!unit) return "just now";
  return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-Math.floor(past / size), unit);
}

export function query(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined)).toString();
}
