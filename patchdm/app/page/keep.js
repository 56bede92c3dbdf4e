// What a reload finds again: values in this tab of the browser, masks in its database.

const MOST_MASKS = 20;

/** Keep a value in this tab; null forgets it. */
export function remember(key, value) {
  if (value) sessionStorage.setItem(`patchdm-${key}`, JSON.stringify(value));
  else sessionStorage.removeItem(`patchdm-${key}`);
}

/** Return what was kept, or null. */
export const recall = (key) => JSON.parse(sessionStorage.getItem(`patchdm-${key}`) ?? "null");

/** Fill all forms with the values that they had for this model, and keep them from now on. */
export function keepForms(model) {
  const of = `${model.name} ${model.width}x${model.height}`;
  const property = (field) => (field.type === "checkbox" ? "checked" : "value");
  for (const form of document.forms) {
    const named = () => [...form.elements].filter((field) => field.name);
    const kept = recall(form.id);
    if (kept?.of === of) {
      for (const field of named()) {
        const value = kept.values[field.name];
        const offered = field.tagName !== "SELECT" || [...field.options].some((option) => option.value === value);
        if (value !== undefined && offered) field[property(field)] = value;
      }
    }
    form.addEventListener("input", () => {
      remember(form.id, { of, values: Object.fromEntries(named().map((field) => [field.name, field[property(field)]])) });
    });
  }
}

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function masks(mode) {
  const opening = indexedDB.open("patchdm", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("masks").createIndex("at", "at");
  return (await asked(opening)).transaction("masks", mode).objectStore("masks");
}

/** Keep the mask of an image, by its id; those of the oldest images make room. */
export async function keepMask(id, mask) {
  try {
    const store = await masks("readwrite");
    await asked(store.put({ ...mask, at: Date.now() }, id));
    const old = (await asked(store.index("at").getAllKeys())).slice(0, -MOST_MASKS);
    for (const key of old) store.delete(key);
  } catch {
    // Some browsers have no database in private windows: the mask then ends with the page.
  }
}

/** Return the mask of an image, or null. */
export async function recallMask(id) {
  try {
    return (await asked((await masks("readonly")).get(id))) ?? null;
  } catch {
    return null;
  }
}
