// Small helpers for elements.

/** Return a new element; `text` and `class` are shorthands, names with a dash are attributes. */
export function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Show an error, or hide the paragraph if there is none. */
export function showError(paragraph, error) {
  const message = error ? error.message || String(error) : "";
  paragraph.hidden = !message;
  if (paragraph.textContent !== message) paragraph.textContent = message;
}

/** Run an async function; its error appears in the paragraph. Return whether it succeeded. */
export async function attempt(paragraph, action) {
  showError(paragraph, null);
  try {
    await action();
    return true;
  } catch (error) {
    showError(paragraph, error);
    return false;
  }
}

/** Hide the error of a form when something in it changes: the form it was about is gone. */
export function hideOldErrors(form) {
  form.addEventListener("input", () => showError(form.querySelector("[role=alert]"), null));
}

/** Set an image's URL only if it changes: setting it again loads it again. */
export function setSource(image, url) {
  if (image.getAttribute("src") !== url) image.src = url;
}

/** Say something to screen readers. */
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

/** Whether a key press belongs to a field that is typed in, or to an open dialog. */
export function isTyping(event) {
  const typed = "input:not([type=range]):not([type=checkbox]), textarea, select, dialog";
  return event.target instanceof Element && event.target.closest(typed) !== null;
}

/** Return the way in history that a key press asks for: "undo", "redo" or null. */
export function historyKey(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || isTyping(event)) return null;
  const key = event.key.toLowerCase();
  if (key === "z") return event.shiftKey ? "redo" : "undo";
  return key === "y" ? "redo" : null;
}
