import { empty, fill } from "../dom.js";

export async function show(place) {
  fill(place, empty("Nothing here yet", "Soon."));
}
