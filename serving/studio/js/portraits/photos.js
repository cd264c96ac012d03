// Photos of the person: chosen, dropped, pasted or taken, and at once what the model sees of each.

import { get, Problem } from "../api.js";
import { button, counted, fill, h, icon, iconButton, id, toast } from "../dom.js";
import { hasCamera, takePicture } from "./camera.js";

const TYPES = "image/png,image/jpeg,image/webp,image/heic,image/heif,.heic,.heif";

/** A person's card. `how()`: {model, preprocess, pick}; `onchange` is called when the usable photos change. */
export function photoPicker(offered, how, onchange, title = "Person") {
  let photos = []; // { id, blob, name, url, state: "looking" | "usable" | "refused", crop, person, reason, notes, weight }
  let round = 0; // of looks: answers to an older question are not shown

  const input = h("input", { type: "file", accept: TYPES, multiple: true, class: "unseen", tabindex: "-1", "aria-label": title === "Person" ? "Photos of the person" : `Photos of ${title.toLowerCase()}` });
  input.addEventListener("change", () => (add(input.files), (input.value = "")));
  const zone = h(
    "div",
    { class: "drop" },
    icon("photo"),
    h("p", {}, h("strong", {}, "Drop photos of one person here")),
    h("p", { class: "soft small-text" }, "One is enough; two to four show more of the face."),
    h(
      "div",
      { class: "row" },
      button("Choose photos", () => input.click(), { class: "plain" }),
      hasCamera() ? button("Camera", async () => addTaken(await takePicture()), { class: "plain", icon: "camera" }) : null,
    ),
    input,
  );
  const list = h("ul", { class: "photos", "aria-label": "Photos and what the model sees of them" });
  const weights = h("div", { class: "weights" });
  const status = h("p", { class: "soft small-text", role: "status" });
  const samples = h("div", { class: "samples" });
  const element = h("section", { class: "card person", "aria-label": title }, h("h2", {}, title, status), zone, list, weights, samples);

  for (const name of ["dragenter", "dragover"]) {
    element.addEventListener(name, (event) => (event.preventDefault(), zone.classList.add("over")));
  }
  element.addEventListener("dragleave", (event) => element.contains(event.relatedTarget) || zone.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    add(event.dataTransfer.files);
  });

  function addTaken(blob) {
    if (blob) add([new File([blob], "camera.jpg", { type: blob.type })]);
  }

  function add(files, weight = 1) {
    const { photos: most, photo_bytes: size } = offered.limits;
    for (const file of files) {
      if (photos.length === most) {
        toast(`At most ${most} photos are taken.`, "wrong");
        break;
      }
      if (file.size > size) {
        toast(`${file.name} is larger than ${Math.round(size / 2 ** 20)} MB.`, "wrong");
        continue;
      }
      photos.push({ id: id("photo"), blob: file, name: file.name ?? "photo", url: URL.createObjectURL(file), state: "looking", notes: [], weight });
    }
    draw();
    return look();
  }

  function remove(photo) {
    photos = photos.filter((each) => each !== photo);
    URL.revokeObjectURL(photo.url);
    draw();
    onchange();
  }

  /** Ask the service what the model sees; of all photos when `again`. */
  async function look(again = false) {
    if (again) photos.forEach((photo) => (photo.state = "looking"));
    const asked = photos.filter((photo) => photo.state === "looking");
    if (!asked.length) return draw();
    const mine = again ? (round += 1) : round;
    draw();
    const form = new FormData();
    for (const [name, value] of Object.entries(how())) if (value) form.append(name, value);
    for (const photo of asked) form.append("image[]", photo.blob, "photo");
    try {
      const { data } = await get("v1/images/references", { method: "POST", body: form });
      if (mine !== round) return;
      data.forEach((found, i) => Object.assign(asked[i], seen(found)));
    } catch (error) {
      if (!(error instanceof Problem)) console.error(error);
      for (const photo of asked) Object.assign(photo, { state: "refused", reason: error.message, wayOut: null });
    }
    draw();
    onchange();
  }

  function draw() {
    fill(list, photos.map((photo) => tile(photo, () => remove(photo))));
    list.hidden = !photos.length;
    zone.classList.toggle("compact", photos.length > 0);
    samples.hidden = photos.length > 0 || !samples.childElementCount;
    const usable = photos.filter((photo) => photo.state === "usable");
    const looking = photos.some((photo) => photo.state === "looking");
    status.textContent = looking ? "Looking …" : photos.length ? `${usable.length} of ${counted(photos.length, "photo")} usable` : "";
    drawWeights(usable);
  }

  function drawWeights(usable) {
    const open = weights.querySelector("details")?.open;
    fill(weights);
    if (usable.length < 2) return;
    const rows = usable.map((photo, i) => {
      const shown = h("output", {}, photo.weight.toFixed(1));
      const slider = h("input", { type: "range", min: "0", max: "2", step: "0.1", value: String(photo.weight), "aria-label": `How much photo ${i + 1} counts` });
      slider.addEventListener("input", () => ((photo.weight = Number(slider.value)), (shown.textContent = photo.weight.toFixed(1))));
      return h("li", {}, h("img", { src: photo.crop, alt: "" }), slider, shown);
    });
    const help = h("p", { class: "soft small-text" }, "Photos of several people mix them. 1 is as usual, 0 leaves a photo out.");
    weights.append(h("details", { open }, h("summary", {}, "How much each photo counts"), help, h("ul", {}, rows)));
  }

  async function offerSamples() {
    const found = await get("studio/examples").catch(() => []);
    if (!found.length) return;
    const choices = found.map(({ name, photos: places }) =>
      h(
        "button",
        { type: "button", class: "sample", "aria-label": `Use the sample photos: ${name}`, onclick: () => useSample(name, places) },
        places.map((place) => h("img", { src: `studio/examples/${place}`, alt: "", width: "44", height: "44" })),
        name,
      ),
    );
    fill(samples, h("p", { class: "soft small-text" }, "No photos at hand? Try somebody we made up:"), h("div", { class: "row" }, choices));
    draw();
  }

  async function useSample(name, places) {
    const blobs = await Promise.all(places.map(async (place) => (await fetch(`studio/examples/${place}`)).blob()));
    element.dispatchEvent(new CustomEvent("sample", { detail: name }));
    await add(blobs.map((blob, i) => new File([blob], `${name}_${i + 1}`, { type: blob.type })));
  }

  draw();
  offerSamples();
  return {
    element,
    look: () => look(true),
    usable: () => photos.filter((photo) => photo.state === "usable"),
    looking: () => photos.some((photo) => photo.state === "looking"),
    any: () => photos.length > 0,
    /** Put these photos in place of those there: [{ blob, name }], and how much each counts. */
    async replace(others, weightsOf = []) {
      photos.forEach((photo) => URL.revokeObjectURL(photo.url));
      photos = [];
      for (const [i, each] of others.entries()) {
        photos.push({ id: id("photo"), ...each, url: URL.createObjectURL(each.blob), state: "looking", notes: [], weight: weightsOf?.[i] ?? 1 });
      }
      await look(true);
    },
    add,
  };
}

function seen(found) {
  if (!found.usable) return { state: "refused", reason: found.reason, wayOut: found.way_out };
  const png = (text) => text && `data:image/png;base64,${text}`;
  return { state: "usable", crop: png(found.crop), person: png(found.person), notes: found.notes };
}

function tile(photo, remove) {
  const dropped = iconButton("close", `Remove ${photo.name}`, remove, { class: "quiet remove" });
  if (photo.state === "refused") {
    const reason = photo.reason.replace(/^photo \d+:? (is |: )?/, "");
    return h(
      "li",
      { class: "photo refused" },
      h("img", { src: photo.url, alt: photo.name }),
      h("p", {}, h("strong", {}, "Cannot be used: "), `${reason}.`, photo.wayOut ? h("span", { class: "soft" }, ` ${sentence(photo.wayOut)}`) : null),
      dropped,
    );
  }
  if (photo.state === "looking") {
    return h("li", { class: "photo looking" }, h("img", { src: photo.url, alt: photo.name }), h("span", { class: "unseen" }, "looking"), dropped);
  }
  const alt = photo.person ? "the person, cut out" : "the part of the photo that is used";
  return h(
    "li",
    { class: "photo usable", title: photo.notes.join("\n") },
    h("span", { class: "cut" }, h("img", { class: photo.person ? "behind" : "", src: photo.crop, alt: photo.person ? "" : alt }), photo.person ? h("img", { src: photo.person, alt }) : null),
    photo.notes.length ? h("p", { class: "note" }, photo.notes.map(sentence).join(" ")) : null,
    dropped,
  );
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}
