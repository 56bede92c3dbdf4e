// Undo and redo: two lists, the last item of `done` is the present. Pure functions.

/** Return a history in which nothing was done. */
export const empty = () => ({ done: [], undone: [] });

/** Return the history after a new item. */
export const push = (history, item) => ({ done: [...history.done, item], undone: [] });

/** Return the history with another last item. */
export const replaceLast = (history, item) => ({ ...history, done: [...history.done.slice(0, -1), item] });

/** Return the history without its last item, which can be redone. */
export function undo({ done, undone }) {
  if (!done.length) return { done, undone };
  return { done: done.slice(0, -1), undone: [...undone, done.at(-1)] };
}

/** Return the history with the item that was undone last. */
export function redo({ done, undone }) {
  if (!undone.length) return { done, undone };
  return { done: [...done, undone.at(-1)], undone: undone.slice(0, -1) };
}
