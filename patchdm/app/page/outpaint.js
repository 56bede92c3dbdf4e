// The Outpaint tab: an image that grows, again and again.

import { download, signed } from "./api.js";
import { startBorders } from "./borders.js";
import { attempt, historyKey, showError } from "./dom.js";
import { grown } from "./geometry.js";
import * as history from "./history.js";
import { recall, remember } from "./keep.js";
import { acceptPhotographs, sizeLine, uploaded } from "./photograph.js";
import { Results } from "./results.js";
import { numberOf, restoringOf, showSize } from "./settings.js";
import { hasEnded, seeds } from "./words.js";

const SIDES = ["left", "top", "right", "bottom"];

/** Start the tab; return {open(blob, job), results}. */
export function startOutpaint(model, jobs, view) {
  const part = (id) => document.getElementById(id);
  const panel = part("outpaint");
  const form = part("outpaint-form");
  const alert = form.querySelector("[role=alert]");
  let images = history.empty(); // each {id, width, height, url}; a made one also has `from`, its result

  const image = () => images.done.at(-1) ?? null;
  const sides = () => Object.fromEntries(SIDES.map((side) => [side, numberOf(form, side) ?? 0]));

  const results = new Results(part("outpaint-results"), {
    jobs,
    aspect: ({ request }) => {
      const base = image()?.id === request.image ? image() : model;
      const size = grown(base, request);
      return [size.width, size.height];
    },
    click: (job, index) => attempt(alert, () => adopt(job, index)),
    actions: [["Enlarge", view]],
    chosen: (result) => image()?.from === result.id,
  });
  const borders = startBorders(part("outpaint-stage"), {
    get: () => ({ image: image(), sides: sides() }),
    set: setSides,
    page: model.patch_size,
  });
  const photographs = acceptPhotographs(panel, model, {
    use(next) {
      setNative(false);
      record(history.push(history.empty(), next));
    },
    close: () => record(history.empty()),
  });

  function draw() {
    const now = image();
    part("outpaint-undo").disabled = images.done.length < 2;
    part("outpaint-redo").disabled = !images.undone.length;
    const added = SIDES.some((side) => sides()[side] > 0);
    part("outpaint-go").disabled = !now || !added;
    if (now) showSize(part("outpaint-pixels"), form.elements.left, grown(now, sides()), model);
    else part("outpaint-pixels").textContent = "";
    borders.arrange();
  }

  function record(next) {
    images = next;
    remember("outpaint", images);
    showError(alert, null);
    const now = image();
    photographs.setOpen(now !== null);
    if (now) {
      // An image of an earlier session can be gone.
      borders.show(now).catch(() => image() === now && record(history.empty()));
      panel.querySelector("[data-size]").textContent = sizeLine(now);
      part("outpaint-download").href = signed(now.url);
      part("outpaint-download").download = `outpaint-${now.width}x${now.height}.png`;
    }
    draw();
    results.refresh();
  }

  function setSides(changed) {
    for (const [side, pixels] of Object.entries(changed)) form.elements[side].value = pixels;
    form.dispatchEvent(new Event("input")); // as if it were typed: drawn, and kept for a reload
  }

  // Another version of the same job takes the place of the one before: undo goes back to the image
  // that both began with.
  async function adopt(job, index) {
    const result = job.results[index];
    if (image()?.from === result.id) return;
    const next = { ...(await uploaded(await download(result.url), model)), from: result.id };
    const versions = job.results.map((version) => version.id);
    record(versions.includes(image()?.from) ? history.replaceLast(images, next) : history.push(images, next));
  }

  jobs.addEventListener("change", ({ detail: job }) => {
    if (job.id !== recall("outpaint-job") || !hasEnded(job)) return;
    remember("outpaint-job", null); // Once only: a reload after an undo must not redo it.
    if (job.state === "done" && job.request.image === image()?.id) attempt(alert, () => adopt(job, 0));
  });

  // What the model made goes on at its own size, a photograph at the training's.
  function setNative(native) {
    form.elements.native.checked = native;
    form.dispatchEvent(new Event("input"));
  }

  async function open(blob, job) {
    setNative(job.request.native ?? true);
    record(history.push(history.empty(), await uploaded(blob, model)));
  }
  const step = (to) => record(history[to](images));

  form.addEventListener("input", draw);
  part("outpaint-undo").onclick = () => step("undo");
  part("outpaint-redo").onclick = () => step("redo");
  panel.addEventListener("shown", draw);
  document.addEventListener("keydown", (event) => {
    const way = historyKey(event);
    if (panel.hidden || !way || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    if (way === "redo" || images.done.length > 1) step(way);
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(alert, () => results.ask(async () => {
      const job = await jobs.submit({
        kind: "outpaint",
        image: image().id,
        ...sides(),
        seeds: seeds(numberOf(form, "first"), numberOf(form, "number")),
        ...restoringOf(form),
      });
      remember("outpaint-job", job.id);
      return job;
    }));
  });

  const before = recall("outpaint");
  if (before?.done.length) record(before);
  return { open, results };
}
