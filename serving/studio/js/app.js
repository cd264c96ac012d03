// Which page is shown, the theme and the key.

import { askForKey, get, key } from "./api.js";
import { button, empty, fill, h, toast } from "./dom.js";

const PAGES = {
  portraits: ["Portraits", () => import("./portraits/page.js")],
  data: ["Data", () => import("./data/page.js")],
  training: ["Training", () => import("./training/page.js")],
  evaluation: ["Evaluation", () => import("./evaluation/page.js")],
};
const THEMES = ["auto", "light", "dark"];
const main = document.getElementById("main");
let shown = null; // { name, page }: the page that is there, with its parts
let offered = null; // what the service offers, once it has said so

async function show() {
  const [name, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/");
  const wanted = PAGES[name] ? name : "portraits";
  const [title, load] = PAGES[wanted];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${wanted}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · PhotoMaker Studio`;
  if (shown?.name === wanted) return shown.page.go?.(rest);
  shown?.page.leave?.();
  const own = (shown = { name: wanted, page: {} });
  const place = h("div", { class: `page ${wanted}`, "aria-busy": "true" });
  fill(main, place);
  try {
    offered ??= await get("v1/capabilities");
    const page = await load();
    if (shown !== own) return; // another page was asked for meanwhile
    own.page = (await page.show(place, rest, offered)) ?? {};
  } catch (error) {
    if (shown !== own) return;
    if (!error.status && error.name !== "Problem") console.error(error);
    shown = null;
    fill(place, empty("This page could not be shown", error.message, button("Try again", show, { class: "primary" })));
  } finally {
    place.removeAttribute("aria-busy");
  }
}

function theme(next) {
  const now = next ?? localStorage.getItem("photomaker-theme") ?? "auto";
  localStorage.setItem("photomaker-theme", now);
  document.documentElement.dataset.theme = now;
  const switcher = document.getElementById("theme-button");
  switcher.title = `Theme: ${now}`;
  switcher.setAttribute("aria-label", `Theme: ${now}`);
  return now;
}

theme();
document.getElementById("theme-button").addEventListener("click", () => {
  const now = theme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  toast(now === "auto" ? "Light or dark as the system is." : `Always ${now}.`, "plain", 2.5);
});
const keyButton = document.getElementById("key-button");
keyButton.hidden = key.get() === null;
keyButton.addEventListener("click", () => askForKey("Change or forget the key of this service."));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the page
  main.focus();
});
window.addEventListener("hashchange", show);
show();
