// Which part of an image an easel shows: wheel, two fingers, the middle button, keys.

import { fit, kept, zoomed } from "./geometry.js";

const LARGEST = 32; // CSS pixels per pixel of the image
const STEP = 1.5;

/** Start zooming; `pinched()` is called when a second finger ends a stroke, `changed()` after each change. */
export function startZoom(easel, stage, { pinched, changed }) {
  let image = null;
  let view = { scale: 1, left: 0, top: 0 };
  let whole = true; // all of the image is shown, also after the window changes
  const fingers = new Map();
  let gesture = false; // from the second finger until the last one leaves
  let hand = null; // where the middle button drags

  const box = () => ({ width: easel.clientWidth, height: Math.max(240, innerHeight * 0.56) });
  const smallest = () => fit(image.width, image.height, box().width, box().height);

  function arrange() {
    if (!image || !easel.clientWidth) return;
    if (whole) view = { scale: smallest(), left: 0, top: 0 };
    const room = { ...box() };
    if (whole) room.height = image.height * view.scale;
    view = kept(view, image, room);
    easel.style.height = `${room.height}px`;
    stage.style.width = `${image.width * view.scale}px`;
    stage.style.height = `${image.height * view.scale}px`;
    stage.style.transform = `translate(${view.left}px, ${view.top}px)`;
    stage.classList.toggle("enlarged", view.scale > 1);
    changed();
  }

  /** Zoom by a factor about a point of the easel; the middle if there is none. */
  function zoomBy(factor, at = { x: easel.clientWidth / 2, y: easel.clientHeight / 2 }) {
    if (!image) return;
    const scale = Math.min(Math.max(LARGEST, smallest()), view.scale * factor);
    whole = scale <= smallest();
    if (!whole) view = zoomed(view, scale, at.x, at.y);
    arrange();
  }

  function panBy(x, y) {
    view = { ...view, left: view.left + x, top: view.top + y };
    arrange();
  }

  function point(event) {
    const area = easel.getBoundingClientRect();
    return { x: event.clientX - area.left, y: event.clientY - area.top };
  }

  easel.addEventListener(
    "wheel",
    (event) => {
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      const turned = Math.max(-30, Math.min(30, event.deltaY * lines));
      // Browsers report two fingers on a touchpad as a wheel with Ctrl.
      if (event.ctrlKey || event.metaKey) zoomBy(Math.exp(-turned / 80), point(event));
      else if (!whole) panBy(-event.deltaX * lines, -event.deltaY * lines);
      else return; // the page scrolls
      event.preventDefault();
    },
    { passive: false },
  );

  /** Return the middle of the fingers and how far they are apart. */
  function spread() {
    const [a, b] = [...fingers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
  }

  // In the capturing phase, so that a gesture never reaches the brush.
  function listen(names, action) {
    for (const name of names) {
      easel.addEventListener(name, (event) => action(event) && event.stopPropagation(), { capture: true });
    }
  }
  listen(["pointerdown"], (event) => {
    if (event.button === 1) {
      event.preventDefault();
      easel.setPointerCapture(event.pointerId);
      hand = point(event);
      return true;
    }
    if (event.pointerType !== "touch") return false;
    fingers.set(event.pointerId, point(event));
    if (fingers.size === 2) {
      gesture = true;
      pinched();
    }
    return gesture;
  });
  listen(["pointermove"], (event) => {
    if (hand) {
      const at = point(event);
      panBy(at.x - hand.x, at.y - hand.y);
      hand = at;
      return true;
    }
    if (!gesture || !fingers.has(event.pointerId)) return gesture;
    const before = fingers.size > 1 ? spread() : null;
    fingers.set(event.pointerId, point(event));
    if (before) {
      const now = spread();
      if (!whole) panBy(now.x - before.x, now.y - before.y);
      zoomBy(now.apart / before.apart, now);
    }
    return true;
  });
  listen(["pointerup", "pointercancel"], (event) => {
    if (hand) {
      hand = null;
      return true;
    }
    fingers.delete(event.pointerId);
    const taken = gesture;
    if (!fingers.size) gesture = false;
    return taken;
  });
  addEventListener("resize", arrange);

  return {
    arrange,
    /** Show another image, all of it. */
    show(next) {
      image = next;
      whole = true;
      arrange();
    },
    /** CSS pixels per pixel of the image. */
    scale: () => view.scale,
    /** Zoom in, out or to all of the image: "in", "out", "all"; about a point {x, y} of the image. */
    go(way, at) {
      const there = at && { x: at.x * view.scale + view.left, y: at.y * view.scale + view.top };
      if (way === "all") zoomBy(0);
      else zoomBy(way === "in" ? STEP : 1 / STEP, there);
    },
    /** Move the view until a point of the image lies well inside. */
    reveal({ x, y }) {
      if (whole) return;
      const short = (at, room) => Math.max(0, 40 - at) - Math.max(0, at - (room - 40));
      const { width, height } = box();
      panBy(short(x * view.scale + view.left, width), short(y * view.scale + view.top, height));
    },
  };
}
