// The Inpaint tab: a photograph, a mask painted on it, versions of the painted part.

import { download, upload } from "./api.js";
import { startBrush } from "./brush.js";
import { attempt, historyKey, isTyping, showError } from "./dom.js";
import * as history from "./history.js";
import { keepMask, recall, recallMask, remember } from "./keep.js";
import { coverage, drawMask, isPainted, maskFile } from "./mask.js";
import { acceptPhotographs, display, sizeLine, uploaded } from "./photograph.js";
import { Results } from "./results.js";
import { numberOf, restoringOf } from "./settings.js";
import { seeds } from "./words.js";
import { startZoom } from "./zoom.js";

/** Start the tab; return {open(blob), results}. */
export function startInpaint(model, jobs, view) {
  const part = (id) => document.getElementById(id);
  const panel = part("inpaint");
  const form = part("inpaint-form");
  const alert = form.querySelector("[role=alert]");
  const [stage, picture, canvas] = ["stage", "image", "mask"].map((id) => part(`inpaint-${id}`));
  const size = part("brush-size");
  let image = null;
  let erase = false;
  let strokes = history.empty();

  const results = new Results(part("inpaint-results"), {
    jobs,
    aspect({ request }) {
      const { width, height } = image?.id === request.image ? image : model;
      return [width, height];
    },
    click: view,
    actions: [["Use as image", async (job, index) => open(await download(job.results[index].url))]],
  });
  const brush = startBrush(stage, canvas, {
    tool: () => ({ erase, size: Number(size.value) }),
    finished: (stroke) => record(history.push(strokes, stroke), false),
    moved: (at) => zoom.reveal(at),
  });
  const zoom = startZoom(stage.parentElement, stage, {
    pinched() {
      brush.abandon();
      drawMask(brush.context, strokes.done);
    },
    changed() {
      panel.querySelector("[data-size]").textContent = `${sizeLine(image)} at ${Math.round(100 * zoom.scale())} %`;
      brush.place();
    },
  });
  const photographs = acceptPhotographs(panel, model, { use, close: () => use(null) });

  function record(next, again = true) {
    strokes = next;
    if (image) keepMask(image.id, { strokes });
    showError(alert, null);
    draw(again);
  }

  function draw(again) {
    if (again) drawMask(brush.context, strokes.done);
    const share = image ? coverage(canvas) : 0;
    // A small copy does not show the finest strokes on a large photograph.
    const painted = share > 0.001 || (strokes.done.at(-1) && isPainted(canvas));
    part("mask-undo").disabled = !strokes.done.length;
    part("mask-redo").disabled = !strokes.undone.length;
    part("mask-clear").disabled = part("inpaint-go").disabled = !painted;
    const line = painted ? `${share < 0.01 ? "Less than 1" : Math.round(share * 100)} % of the photograph is painted.` : "Paint over what is to be made.";
    part("inpaint-coverage").textContent = image ? line : "";
  }

  function use(next) {
    image = next;
    remember("inpaint", image);
    showError(alert, null);
    strokes = history.empty();
    if (!image) return draw(false);
    photographs.setOpen(true);
    // A photograph of an earlier session can be gone.
    display(picture, image).catch(() => image === next && (photographs.setOpen(false), use(null)));
    canvas.width = image.width;
    canvas.height = image.height;
    const short = Math.min(image.width, image.height);
    size.max = part("brush-pixels").max = Math.max(8, Math.round(short * 0.6));
    size.value = Math.max(4, Math.round(short * 0.14));
    draw(true);
    zoom.show(image);
    brush.centre();
    resized();
  }

  /** Use an image of before a reload, with the mask that it had. */
  async function useAgain(before) {
    use(before);
    const mask = await recallMask(before.id);
    if (mask && image === before && !strokes.done.length) record(mask.strokes);
  }

  function resized() {
    part("brush-pixels").value = size.value;
    brush.place();
  }

  function choose(eraser) {
    erase = eraser;
    part("brush").setAttribute("aria-pressed", String(!eraser));
    part("eraser").setAttribute("aria-pressed", String(eraser));
    brush.place();
  }

  function resizeBy(factor) {
    const by = Math.max(1, Math.round(size.value * Math.abs(factor - 1)));
    size.value = Number(size.value) + (factor > 1 ? by : -by);
    resized();
  }

  const open = async (blob) => use(await uploaded(blob, model));
  const step = (to) => record(history[to](strokes));

  size.addEventListener("input", resized);
  part("brush-pixels").addEventListener("change", (event) => {
    size.value = event.target.value; // which keeps it within its limits
    resized();
  });
  for (const way of ["in", "out", "all"]) part(`zoom-${way}`).onclick = () => zoom.go(way);
  part("brush").onclick = () => choose(false);
  part("eraser").onclick = () => choose(true);
  part("mask-undo").onclick = () => step("undo");
  part("mask-redo").onclick = () => step("redo");
  part("mask-clear").onclick = () => record(history.push(strokes, null));
  panel.addEventListener("shown", zoom.arrange);
  document.addEventListener("keydown", (event) => {
    if (panel.hidden || !image || document.querySelector("dialog[open]")) return;
    const way = historyKey(event);
    const plain = !isTyping(event) && !event.ctrlKey && !event.metaKey && !event.altKey;
    const keys = {
      b: () => choose(false),
      e: () => choose(true),
      "[": () => resizeBy(0.85),
      "]": () => resizeBy(1.15),
      "+": () => zoom.go("in", brush.at()),
      "=": () => zoom.go("in", brush.at()), // the same key without Shift
      "-": () => zoom.go("out", brush.at()),
      0: () => zoom.go("all"),
    };
    const action = way ? () => step(way) : plain && keys[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(alert, () => results.ask(async () => {
      const { blob, white } = await maskFile(canvas);
      if (!white) throw new Error("The mask is empty: paint over what is to be made.");
      const mask = await upload(blob);
      return jobs.submit({
        kind: "inpaint",
        image: image.id,
        mask: mask.id,
        seeds: seeds(numberOf(form, "first"), numberOf(form, "number")),
        ...restoringOf(form),
      });
    }));
  });

  const before = recall("inpaint");
  if (before) useAgain(before);
  return { open, results };
}
