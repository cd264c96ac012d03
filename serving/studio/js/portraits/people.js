// One person, or several with their places in the picture.

import { button, field, fill, h, iconButton, select } from "../dom.js";
import { photoPicker } from "./photos.js";

const PLACES = [["left", "Left"], ["middle", "In the middle"], ["right", "Right"], ["top", "At the top"], ["bottom", "At the bottom"]];
const FIRST = ["left", "right", "middle"];
const MOST = 3;

/** Cards, one for each person. `onname(word, old)`: the prompt should name somebody; `old`: instead of this word. */
export function peopleCards(offered, how, onchange, onname) {
  const cards = []; // { picker, who, place, element }
  const element = h("div", { class: "people-cards" });
  const more = button("Add another person", () => add("person"), { class: "link add-person" });
  const paste = (event) => event.clipboardData?.files.length && cards.at(-1).picker.add(event.clipboardData.files);
  document.addEventListener("paste", paste);

  function card() {
    const first = !cards.length;
    const number = cards.length + 1;
    const who = select(offered.class_words, "person");
    const place = select(PLACES, FIRST[cards.length] ?? "middle");
    const picker = photoPicker(offered, how, onchange, first ? "Person" : `Person ${number}`);
    const own = { picker, who, place, extra: h("div", { class: "pair" }), number };
    const remove = first ? null : iconButton("close", `Remove person ${number}`, () => drop(own), { class: "quiet remove-person" });
    picker.element.append(own.extra);
    if (remove) picker.element.append(remove);
    cards.push(own);
    return own;
  }

  function add(word, tell = true) {
    const own = card();
    own.who.value = own.word = word;
    const rename = () => (onname(own.who.value, own.word), (own.word = own.who.value));
    own.who.addEventListener("change", rename);
    own.picker.element.addEventListener("sample", (event) => {
      if (!offered.class_words.includes(event.detail)) return;
      own.who.value = event.detail;
      rename();
    });
    draw();
    if (tell) onname(word);
    return own;
  }

  function drop(own) {
    own.picker.replace([]);
    cards.splice(cards.indexOf(own), 1);
    draw();
    onchange();
    cards.at(-1).picker.element.querySelector("button").focus();
  }

  function draw() {
    const several = cards.length > 1;
    for (const own of cards) {
      fill(own.extra, several ? [own === cards[0] ? null : field("Who is it?", own.who), field("Place", own.place)] : null);
      own.extra.hidden = !several;
    }
    fill(element, cards.map((own) => own.picker.element), cards.length < MOST ? more : null);
  }

  const first = card();
  draw();
  return {
    element,
    first: first.picker,
    look: () => Promise.all(cards.map((own) => own.picker.look())),
    looking: () => cards.some((own) => own.picker.looking()),
    any: () => cards.some((own) => own.picker.any()),
    usable: () => cards.flatMap((own) => own.picker.usable()),
    /** The others' class words, in order. */
    words: () => cards.slice(1).map((own) => own.who.value),
    /** As the API has it; null: one person. */
    people() {
      if (cards.length < 2) return null;
      return cards.map((own) => ({ photos: own.picker.usable().length, box: own.place.value }));
    },
    /** Somebody of several whose photos are missing, by their number. */
    missing: () => (cards.length < 2 ? undefined : cards.find((own) => !own.picker.usable().length)?.number),
    async replace(photos, weights = [], people = null, words = []) {
      for (const own of cards.slice(1)) drop(own);
      const counts = people?.map((each) => each.photos) ?? [photos.length];
      while (cards.length < counts.length) add(words[cards.length - 1] ?? "person", false);
      let from = 0;
      for (const [i, count] of counts.entries()) {
        if (people?.[i].box) cards[i].place.value = people[i].box;
        await cards[i].picker.replace(photos.slice(from, from + count), weights.slice(from, from + count));
        from += count;
      }
    },
    leave: () => document.removeEventListener("paste", paste),
  };
}

/** The prompt with each person's trigger word after their class word: img, img2, … */
export function withTriggers(prompt, words) {
  let from = 0;
  return words.reduce((text, word, i) => {
    const trigger = i ? `img${i + 1}` : "img";
    if (new RegExp(`\\b${trigger}\\b`).test(text)) return text;
    const found = new RegExp(`\\b${word}\\b`, "i").exec(text.slice(from));
    if (!found) throw new Error(`The prompt does not name each person. Write for example: ${words.map((each) => `a ${each}`).join(" and ")}, …`);
    const end = from + found.index + word.length;
    from = end + trigger.length + 1;
    return `${text.slice(0, end)} ${trigger}${text.slice(end)}`;
  }, prompt);
}
