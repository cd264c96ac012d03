// What is to be drawn: the prompt, and every setting that a request may have.

import { field, fill, h, icon, iconButton, id, select } from "../dom.js";

const ASPECTS = { square: [14, 14], portrait: [12, 16], landscape: [16, 12], tall: [9, 16], wide: [16, 9] };
const PICKS = [["largest", "The largest"], ["left", "The left one"], ["middle", "The middle one"], ["right", "The right one"]];
const PREPARE = [["auto", "As the adapter was trained"], ["photo", "Find the face"], ["drawing", "Cut out the person"], ["none", "Take photos as they are"]];

/** The cards "Prompt", "Picture" and "More". `onlook`: what decides how photos are seen has changed. */
export function settingsForm(offered, onlook) {
  const { defaults, limits, studio } = offered;
  const who = select(offered.class_words, "person", renamed);
  let word = who.value; // the class word that the prompt has
  let style = null;
  const prompt = h("textarea", { rows: "3", maxlength: String(limits.prompt_chars), placeholder: "a person wearing …", spellcheck: false });
  const styles = h("div", { class: "chips", role: "group", "aria-label": "Styles" }, studio.styles.map(chip));
  const surprise = iconButton("dice", "An idea for a prompt", idea);

  const aspects = aspectChoice(offered.aspects);
  const count = select(numbers(limits.images), "2");
  const seed = h("input", { type: "number", min: "0", step: "1", placeholder: "random", inputmode: "numeric" });
  const steps = number(1, limits.steps, 1, defaults.steps);
  const guidance = slider(1, 12, 0.5, defaults.guidance_scale);
  const strength = slider(0, 1.5, 0.05, 1);
  const start = slider(0, 1, 0.05, defaults.merge_fraction ?? 0);
  const end = slider(0, 1, 0.05, 1);
  const negative = h("input", { type: "text", value: defaults.negative_prompt, maxlength: String(limits.prompt_chars) });
  const model = select(offered.models, offered.default_model, onlook);
  const sampler = select([["", "The service's own"], ...offered.samplers], "");
  const prepare = select(PREPARE, defaults.preprocess, onlook);
  const pick = select(PICKS, defaults.pick, onlook);
  const shownAs = select([["", "As in the prompt"], ...offered.class_words], "");
  const loras = loraChoice(offered.loras, limits.loras);
  const grid = gridChoice();

  function renamed() {
    const pattern = new RegExp(`\\b${word}\\b`, "i");
    if (prompt.value.trim()) prompt.value = prompt.value.replace(pattern, who.value);
    word = who.value;
    prompt.placeholder = `${article(word)} wearing …`;
  }

  function filled(text) {
    return text.replaceAll("a {person}", article(word)).replaceAll("{person}", word);
  }

  function chip(each) {
    const wraps = each.prompt.includes("{prompt}");
    const made = h("button", { type: "button", class: "chip", "aria-pressed": wraps ? "false" : null }, each.name);
    made.addEventListener("click", () => {
      if (!wraps) return void (prompt.value = filled(each.prompt));
      const on = style !== each;
      style = on ? each : null;
      for (const other of styles.children) if (other.hasAttribute("aria-pressed")) other.setAttribute("aria-pressed", String(on && other === made));
    });
    return made;
  }

  function idea() {
    const others = studio.prompts.map(filled).filter((text) => text !== prompt.value);
    if (others.length) prompt.value = others[Math.floor(Math.random() * others.length)];
  }

  const promptCard = h(
    "section",
    { class: "card", "aria-label": "Prompt" },
    field("Describe the picture", prompt, "Clothes, a look, the surroundings. The person comes from the photos."),
    h("div", { class: "row" }, h("div", { class: "grow who" }, field("Who is it?", who)), studio.prompts.length ? surprise : null),
    studio.styles.length ? [h("p", { class: "legend" }, "Styles"), styles] : null,
  );
  const pictureCard = h(
    "section",
    { class: "card", "aria-label": "Picture" },
    aspects.element,
    h("div", { class: "pair" }, field("How many", count), field("Seed", seed, "Empty: a new one each time.")),
    field("Likeness", strength, "0: the words alone. 1: as trained. More: stronger."),
    h(
      "details",
      {},
      h("summary", {}, "More settings"),
      h(
        "div",
        { class: "more" },
        h("div", { class: "pair" }, field("Adapter", model), field("Sampler", sampler)),
        h("div", { class: "pair" }, field("Steps", steps), field("Age and gender", shownAs)),
        field("Guidance", guidance, "How closely the words are followed."),
        field("The person joins after", start, "Share of the steps that see the words alone."),
        field("and leaves after", end),
        field("Not in the picture", negative),
        loras.element,
        h("div", { class: "pair" }, field("Photos are", prepare), field("Of several faces", pick)),
      ),
    ),
    grid.element,
  );

  function read() {
    const text = prompt.value.trim();
    return {
      prompt: style ? style.prompt.replaceAll("{prompt}", text) : text,
      model: model.value,
      n: Number(count.value),
      seed: seed.value === "" ? null : Number(seed.value),
      aspect: aspects.get(),
      steps: Number(steps.value),
      guidance_scale: guidance.get(),
      id_strength: strength.get(),
      ...(start.get() === (defaults.merge_fraction ?? 0) ? {} : { id_start: start.get() }),
      ...(end.get() === 1 ? {} : { id_end: end.get() }),
      ...(negative.value.trim() ? { negative_prompt: negative.value.trim() } : {}),
      ...(sampler.value ? { sampler: sampler.value } : {}),
      ...(shownAs.value ? { class_word: shownAs.value } : {}),
      ...(Object.keys(loras.get()).length ? { loras: loras.get() } : {}),
      preprocess: prepare.value,
      pick: pick.value,
    };
  }

  function write(settings) {
    const known = offered.class_words.find((each) => new RegExp(`\\b${each}\\b`, "i").test(settings.prompt));
    if (known) [who.value, word] = [known, known];
    style = null;
    for (const each of styles.children) if (each.hasAttribute("aria-pressed")) each.setAttribute("aria-pressed", "false");
    prompt.value = settings.prompt;
    if (offered.models.includes(settings.model)) model.value = settings.model;
    seed.value = settings.seed ?? "";
    aspects.set(settings.aspect ?? "square");
    steps.value = settings.steps;
    guidance.set(settings.guidance_scale);
    strength.set(settings.id_strength ?? 1);
    start.set(settings.id_start ?? defaults.merge_fraction ?? 0);
    end.set(settings.id_end ?? 1);
    negative.value = settings.negative_prompt ?? "";
    sampler.value = settings.sampler ?? "";
    shownAs.value = settings.class_word ?? "";
    loras.set(settings.loras ?? {});
    prepare.value = settings.preprocess ?? defaults.preprocess;
    pick.value = settings.pick ?? defaults.pick;
  }

  renamed();
  prompt.value = studio.prompts.length ? filled(studio.prompts[0]) : "";
  return {
    elements: [promptCard, pictureCard],
    read,
    write,
    prompt,
    count,
    grid,
    how: () => ({ model: model.value, preprocess: prepare.value, pick: pick.value }),
    word: () => word,
    /** Name another person in the prompt, and make room for them; `old`: they had this word. */
    nameOther(other, old) {
      if (old) return void (prompt.value = prompt.value.replace(new RegExp(`\\band an? ${old}\\b`, "i"), `and ${article(other)}`));
      prompt.value = prompt.value.replace(new RegExp(`\\b(an?) ${word}\\b`, "i"), `$& and ${article(other)}`);
      if (aspects.get() === "square" && offered.aspects.includes("wide")) aspects.set("wide");
    },
    /** Who it is, by a name such as a sample's. */
    setWho(name) {
      if (!offered.class_words.includes(name)) return;
      who.value = name;
      renamed();
    },
  };
}

function article(word) {
  return `${/^[aeiou]/i.test(word) ? "an" : "a"} ${word}`;
}

function numbers(most) {
  return [1, 2, 3, 4, 6, 8, 10].filter((each) => each <= most).map((each) => [String(each), String(each)]);
}

function number(min, max, step, value) {
  return h("input", { type: "number", min: String(min), max: String(max), step: String(step), value: String(value), required: true });
}

function slider(min, max, step, value) {
  const input = h("input", { type: "range", min: String(min), max: String(max), step: String(step), id: id("field") });
  const shown = h("output", { for: input.id });
  const digits = step < 0.1 ? 2 : 1;
  const say = () => (shown.textContent = Number(input.value).toFixed(digits));
  input.addEventListener("input", say);
  const set = (next) => ((input.value = String(next)), say());
  set(value);
  return { element: h("div", { class: "slider" }, input, shown), input, get: () => Number(input.value), set };
}

function aspectChoice(names) {
  const group = id("aspect");
  const radios = names.map((name, i) => h("input", { type: "radio", name: group, value: name, checked: i === 0 }));
  const labels = names.map((name, i) => {
    const [width, height] = ASPECTS[name] ?? [14, 14];
    return h("label", { class: "aspect" }, radios[i], h("span", { class: "shape", style: { width: `${width}px`, height: `${height}px` } }), name);
  });
  return {
    element: h("fieldset", {}, h("legend", { class: "legend" }, "Shape"), h("div", { class: "aspects" }, labels)),
    get: () => radios.find((radio) => radio.checked).value,
    set: (name) => radios.forEach((radio) => (radio.checked = radio.value === name)),
  };
}

function loraChoice(names, most) {
  const chosen = new Map();
  const list = h("ul", { class: "loras" });
  const add = select([["", "Add a style LoRA …"], ...names], "", () => {
    if (add.value && chosen.size < most) chosen.set(add.value, 0.8);
    add.value = "";
    draw();
  });
  function draw() {
    fill(
      list,
      [...chosen].map(([name, strength]) => {
        const control = slider(0, 1.5, 0.05, strength);
        control.input.setAttribute("aria-label", `Strength of ${name}`);
        control.input.addEventListener("input", () => chosen.set(name, control.get()));
        return h("li", {}, h("span", {}, name), control.element, iconButton("close", `Remove ${name}`, () => (chosen.delete(name), draw())));
      }),
    );
    add.disabled = chosen.size >= most;
  }
  return {
    element: names.length ? h("div", {}, field("Style LoRAs", add), list) : null,
    get: () => Object.fromEntries(chosen),
    set(next) {
      chosen.clear();
      for (const [name, strength] of Object.entries(next)) if (names.includes(name)) chosen.set(name, strength);
      draw();
    },
  };
}

function gridChoice() {
  const on = h("input", { type: "checkbox" });
  const strengths = h("input", { type: "text", value: "0.6, 0.8, 1.0, 1.2", inputmode: "decimal" });
  const inside = h("div", { hidden: true }, field("Likeness of each column", strengths, "One row for each of the seeds above."));
  on.addEventListener("change", () => (inside.hidden = !on.checked));
  return {
    element: h("div", {}, h("label", { class: "check" }, on, icon("photo"), "A grid: seeds × likeness"), inside),
    on,
    /** Numbers between 0 and 1.5, or null where that is not what is written. */
    get() {
      if (!on.checked) return null;
      const found = strengths.value.split(/[\s,;]+/).filter(Boolean).map(Number);
      if (!found.length || found.length > 8 || found.some((each) => !(each >= 0 && each <= 1.5))) {
        strengths.focus();
        throw new Error("Write up to eight numbers from 0 to 1.5 for the grid's columns, such as 0.6, 0.8, 1.0.");
      }
      return found;
    },
  };
}
