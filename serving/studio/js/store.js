// Pictures and photos in this browser (IndexedDB): the gallery survives a reload, and nothing of it is on the server.

const NAME = "photomaker-studio";
const channel = new BroadcastChannel(NAME);
const listeners = new Set();
channel.onmessage = () => listeners.forEach((each) => each());

let opening = null;
const memory = { pictures: new Map(), photos: new Map() }; // where the browser keeps nothing, e.g. in private windows

function open() {
  opening ??= new Promise((resolve) => {
    let asked;
    try {
      asked = indexedDB.open(NAME, 1);
    } catch {
      return resolve(null);
    }
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore("pictures", { keyPath: "id" });
      asked.result.createObjectStore("photos", { keyPath: "id" });
    };
    asked.onsuccess = () => {
      asked.result.onversionchange = () => asked.result.close();
      resolve(asked.result);
    };
    asked.onerror = asked.onblocked = () => resolve(null);
  });
  return opening;
}

async function run(store, mode, work, fallback) {
  const base = await open();
  if (!base) return fallback(memory[store]);
  return new Promise((resolve, reject) => {
    const transaction = base.transaction(store, mode);
    const asked = work(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(asked?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error ?? new Error("not stored"));
  });
}

function changed() {
  channel.postMessage("changed");
  listeners.forEach((each) => each());
}

/** Call `listener` when the gallery changes, here or in another tab. Returns what ends that. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Newest first. */
export async function pictures() {
  const found = await run("pictures", "readonly", (store) => store.getAll(), (map) => [...map.values()]);
  return found.sort((a, b) => b.created - a.created || b.id.localeCompare(a.id));
}

export async function addPicture(picture) {
  await run("pictures", "readwrite", (store) => store.put(picture), (map) => map.set(picture.id, picture));
  changed();
}

export async function removePictures(ids) {
  await run("pictures", "readwrite", (store) => void ids.forEach((id) => store.delete(id)), (map) => ids.forEach((id) => map.delete(id)));
  await dropUnusedPhotos();
  changed();
}

/** Keep a reference photo beside the pictures made of it; the same photo is kept once. Returns its id. */
export async function addPhoto(blob, name) {
  const id = await digest(blob);
  const photo = { id, blob, name };
  await run("photos", "readwrite", (store) => store.put(photo), (map) => map.set(id, photo));
  return id;
}

export async function photo(id) {
  return run("photos", "readonly", (store) => store.get(id), (map) => map.get(id));
}

async function dropUnusedPhotos() {
  const used = new Set((await pictures()).flatMap((picture) => picture.photos ?? []));
  const all = await run("photos", "readonly", (store) => store.getAllKeys(), (map) => [...map.keys()]);
  const unused = all.filter((id) => !used.has(id));
  await run("photos", "readwrite", (store) => void unused.forEach((id) => store.delete(id)), (map) => unused.forEach((id) => map.delete(id)));
}

async function digest(blob) {
  const bytes = await blob.arrayBuffer();
  if (crypto.subtle) {
    const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return [...found].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  // Beyond https and localhost there is no crypto.subtle: two lanes of FNV-1a, and the size.
  let [a, b] = [0x811c9dc5, 0x01000193];
  for (const byte of new Uint8Array(bytes)) [a, b] = [Math.imul(a ^ byte, 0x01000193), Math.imul(b ^ byte, 0x85ebca6b)];
  return `${(a >>> 0).toString(16)}${(b >>> 0).toString(16)}-${blob.size}`;
}
