// A picture to start from, and the part of it that is drawn anew, painted by hand.

import { button, dialog, field, fill, h, icon, id, toast } from "../dom.js";

const SIDE = 1024; // most pixels of a mask's side

/** The card "Start from a picture". */
export function startPicture() {
  let start = null; // { blob, url, mask, maskUrl, strength }
  const input = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp", class: "unseen", tabindex: "-1", "aria-label": "Picture to start from" });
  input.addEventListener("change", () => (input.files[0] && set(input.files[0]), (input.value = "")));
  const element = h("section", { class: "card start", "aria-label": "Start from a picture" });

  function set(blob, mask = null, strength = null) {
    clear();
    start = { blob, url: URL.createObjectURL(blob), mask, strength };
    draw();
  }

  function clear() {
    if (start) URL.revokeObjectURL(start.url);
    start = null;
    draw();
  }

  async function paint() {
    const own = start;
    const mask = await paintMask(own.url);
    if (mask && start === own) ((start.mask = mask), (start.strength = null), draw());
  }

  function draw() {
    if (!start) {
      return fill(element, h("details", {}, h("summary", {}, "Start from a picture"), h("p", { class: "soft small-text" }, "Draw over a picture, or change a part of it."), button("Choose a picture", () => input.click(), { class: "plain" }), input));
    }
    const name = id("strength");
    const slider = h("input", { type: "range", min: "0.1", max: "1", step: "0.05", value: String(start.strength ?? 0.6), id: name });
    slider.addEventListener("input", () => (start.strength = Number(slider.value)));
    if (!start.mask) start.strength ??= 0.6;
    fill(
      element,
      h("h2", {}, "Start from a picture"),
      h("div", { class: "row top-row" }, h("img", { src: start.url, alt: "the picture to start from" }), h("div", { class: "grow" }, h("p", {}, start.mask ? "The painted part is drawn anew." : "All of it is drawn over."), h("div", { class: "row" }, button(start.mask ? "Paint again" : "Paint a part", paint, { class: "plain", icon: "brush" }), button("Remove", clear, { class: "plain" })))),
      start.mask ? null : field("How much is drawn anew", slider, "A little keeps the picture, 1 keeps nothing."),
    );
  }

  draw();
  return { element, get: () => start, set, clear, paint };
}

/** Paint over a picture; resolves to a PNG that is white where it was painted, or null. */
function paintMask(url) {
  return new Promise((resolve) => {
    let result = null;
    let painted = false;
    const image = h("img", { src: url, alt: "" });
    const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Paint with the pointer; or move with the arrow keys and paint with the space bar" });
    const size = h("input", { type: "range", min: "3", max: "40", value: "14" });
    const eraser = h("input", { type: "checkbox" });
    const done = button("Use this part", finish, { class: "primary", disabled: true });
    const content = h(
      "div",
      {},
      h("p", { class: "soft" }, "Paint over what is to be drawn anew. The prompt says what comes there."),
      h("div", { class: "paint" }, image, canvas),
      h("div", { class: "row tools-row" }, h("div", { class: "grow" }, field("Brush", size)), h("label", { class: "check" }, eraser, "Erase"), button("Clear", clear, { class: "plain" })),
      h("div", { class: "actions" }, done),
    );
    const box = dialog("Change a part", content, { onclose: () => resolve(result) });
    const context = canvas.getContext("2d");
    let last = null;
    let cursor = null;

    image.addEventListener("load", () => {
      const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
      // A small picture is painted on a finer grid than its own.
      const finer = Math.max(1, Math.ceil(384 / Math.max(image.naturalWidth, image.naturalHeight)));
      canvas.width = Math.round(image.naturalWidth * scale * finer);
      canvas.height = Math.round(image.naturalHeight * scale * finer);
    });
    image.addEventListener("error", () => (toast("This picture cannot be shown.", "wrong"), box.close()));

    function dot(from, to) {
      context.globalCompositeOperation = eraser.checked ? "destination-out" : "source-over";
      context.strokeStyle = "#e5484d";
      context.lineCap = "round";
      context.lineWidth = (Number(size.value) / 100) * Math.max(canvas.width, canvas.height);
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.lineTo(to.x + 0.01, to.y);
      context.stroke();
      painted ||= !eraser.checked;
      done.disabled = !painted;
    }

    function at(event) {
      const frame = canvas.getBoundingClientRect();
      return { x: ((event.clientX - frame.left) / frame.width) * canvas.width, y: ((event.clientY - frame.top) / frame.height) * canvas.height };
    }

    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = at(event);
      dot(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const next = at(event);
      dot(last, next);
      last = next;
    });
    canvas.addEventListener("pointerup", () => (last = null));
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      cursor ??= { x: canvas.width / 2, y: canvas.height / 2 };
      const by = canvas.width / 24;
      const move = moves[event.key];
      if (move) cursor = { x: Math.min(Math.max(cursor.x + by * move[0], 0), canvas.width), y: Math.min(Math.max(cursor.y + by * move[1], 0), canvas.height) };
      else if (event.key !== " ") return;
      event.preventDefault();
      if (event.key === " " || event.shiftKey) dot(cursor, cursor);
    });

    function clear() {
      context.clearRect(0, 0, canvas.width, canvas.height);
      painted = false;
      done.disabled = true;
    }

    function finish() {
      const mask = h("canvas");
      [mask.width, mask.height] = [image.naturalWidth, image.naturalHeight];
      const drawing = mask.getContext("2d");
      drawing.drawImage(canvas, 0, 0, mask.width, mask.height);
      drawing.globalCompositeOperation = "source-in";
      drawing.fillStyle = "#fff";
      drawing.fillRect(0, 0, mask.width, mask.height);
      drawing.globalCompositeOperation = "destination-over";
      drawing.fillStyle = "#000";
      drawing.fillRect(0, 0, mask.width, mask.height);
      mask.toBlob((blob) => ((result = blob), box.close()), "image/png");
    }
  });
}
