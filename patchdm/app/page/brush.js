// Painting on a stage: mouse, pen, touch and keyboard become strokes.

import { drawStroke } from "./mask.js";

/**
 * Let a stage paint; `tool()` gives {erase, size}, `finished(stroke)` gets each stroke, `moved(at)`
 * where keys moved the brush.
 */
export function startBrush(stage, canvas, { tool, finished, moved }) {
  const ring = stage.querySelector(".ring");
  const context = canvas.getContext("2d");
  let stroke = null;
  let pointer = null;
  let at = { x: 0, y: 0 }; // the brush, in pixels of the image

  const scale = () => canvas.getBoundingClientRect().width / canvas.width || 1;

  function place() {
    const { size, erase } = tool();
    const across = size * scale();
    ring.classList.toggle("erase", erase);
    ring.style.width = ring.style.height = `${across}px`;
    ring.style.transform = `translate(${at.x * scale() - across / 2}px, ${at.y * scale() - across / 2}px)`;
  }

  function toImage(event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * canvas.width,
      y: ((event.clientY - box.top) / box.height) * canvas.height,
    };
  }

  function begin(point) {
    stroke = { ...tool(), points: [point] };
    drawStroke(context, stroke);
  }

  function extend(points) {
    const from = stroke.points.length;
    stroke.points.push(...points);
    drawStroke(context, stroke, from);
  }

  function end() {
    if (!stroke) return;
    const whole = stroke;
    stroke = pointer = null;
    finished(whole);
  }

  stage.addEventListener("pointerdown", (event) => {
    // A second finger or another button does not start a second stroke.
    if (stroke || event.button !== 0) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    pointer = event.pointerId;
    at = toImage(event);
    ring.hidden = false;
    place();
    begin(at);
  });
  stage.addEventListener("pointermove", (event) => {
    if (pointer !== null && event.pointerId !== pointer) return;
    at = toImage(event);
    ring.hidden = false;
    place();
    if (pointer === null) return;
    const all = event.getCoalescedEvents?.() ?? [];
    extend((all.length ? all : [event]).map(toImage));
  });
  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, (event) => event.pointerId === pointer && end());
  }
  stage.addEventListener("pointerleave", () => pointer === null && (ring.hidden = true));

  stage.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === " " || event.key === "Enter") {
      if (!stroke) begin(at);
    } else if (move && !event.ctrlKey && !event.metaKey) {
      const by = Math.max(1, Math.round(tool().size / 3));
      at = {
        x: Math.min(canvas.width, Math.max(0, at.x + move[0] * by)),
        y: Math.min(canvas.height, Math.max(0, at.y + move[1] * by)),
      };
      if (stroke && pointer === null) extend([at]);
    } else return;
    event.preventDefault();
    ring.hidden = false;
    moved(at);
    place();
  });
  // Space held while the arrows move paints a line.
  stage.addEventListener("keyup", (event) => (event.key === " " || event.key === "Enter") && pointer === null && end());
  stage.addEventListener("blur", () => {
    if (pointer === null) end();
    ring.hidden = true;
  });

  return {
    context,
    place,
    /** Where the brush is, in pixels of the image. */
    at: () => at,
    /** Forget the stroke that is being painted. */
    abandon() {
      stroke = pointer = null;
      ring.hidden = true;
    },
    /** Put the brush in the middle, for the keyboard. */
    centre() {
      at = { x: canvas.width / 2, y: canvas.height / 2 };
      place();
    },
  };
}
