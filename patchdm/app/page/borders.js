// The stage of Outpaint: an image, and a frame whose four borders are dragged outwards.

import { display } from "./photograph.js";
import { dragged, FAR, grown, keyed, placed } from "./geometry.js";

const STEP = 8; // pixels of an arrow key; 1 with Shift
const SHARE = 0.7; // of the stage that is filled at rest, which leaves room to drag

/** Start the stage; `get()` gives {image, sides}, `set(sides)` takes what was dragged. */
export function startBorders(stage, { get, set, page }) {
  const picture = stage.querySelector("img");
  const frame = stage.querySelector(".frame");
  const handles = [...stage.querySelectorAll(".handle")];
  let place = null; // {scale, left, top} of the image itself, kept during a drag
  let drag = null;

  const move = (element, left, top, width, height) =>
    Object.assign(element.style, {
      left: `${left}px`,
      top: `${top}px`,
      width: `${width}px`,
      height: `${height}px`,
    });

  function rest(share) {
    const { image, sides } = get();
    const found = placed(image, sides, stage.clientWidth, stage.clientHeight, share);
    const { scale, left, top } = found;
    return { scale, left: left + sides.left * scale, top: top + sides.top * scale };
  }

  function box() {
    const { image, sides } = get();
    const { width, height } = grown(image, sides);
    const { scale, left, top } = place;
    return {
      left: left - sides.left * scale,
      top: top - sides.top * scale,
      width: width * scale,
      height: height * scale,
    };
  }

  /** Place everything; during a drag the image stays where it is as long as the frame fits. */
  function arrange() {
    const { image, sides } = get();
    if (!image || !stage.clientWidth) return;
    stage.classList.toggle("dragging", drag !== null);
    if (!drag || !place) place = rest(SHARE);
    let whole = box();
    const [right, bottom] = [whole.left + whole.width, whole.top + whole.height];
    const fits = Math.min(whole.left, whole.top) >= 0 && right <= stage.clientWidth && bottom <= stage.clientHeight;
    if (!fits) {
      place = rest(0.96);
      whole = box();
    }
    const { scale, left, top } = place;
    move(frame, whole.left, whole.top, whole.width, whole.height);
    move(picture, left, top, image.width * scale, image.height * scale);
    picture.classList.toggle("enlarged", scale >= FAR);
    const [x, y] = [whole.left + whole.width / 2, whole.top + whole.height / 2];
    const at = {
      left: [whole.left, y],
      right: [whole.left + whole.width, y],
      top: [x, whole.top],
      bottom: [x, whole.top + whole.height],
    };
    for (const handle of handles) {
      const { side } = handle.dataset;
      Object.assign(handle.style, { left: `${at[side][0]}px`, top: `${at[side][1]}px` });
      handle.setAttribute("aria-valuenow", String(sides[side]));
      handle.setAttribute("aria-valuemax", String(Math.max(sides[side], 8 * Math.max(image.width, image.height))));
      handle.setAttribute("aria-valuetext", `${sides[side]} pixels to add`);
    }
  }

  for (const handle of handles) {
    const { side } = handle.dataset;
    handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      handle.focus({ preventScroll: true });
      handle.setPointerCapture(event.pointerId);
      drag = { x: event.clientX, y: event.clientY, before: get().sides[side], scale: place.scale };
    });
    handle.addEventListener("pointermove", (event) => {
      if (!drag) return;
      set({ [side]: dragged(side, drag.before, event.clientX - drag.x, event.clientY - drag.y, drag.scale) });
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      handle.addEventListener(name, () => {
        if (!drag) return;
        drag = null;
        arrange();
      });
    }
    handle.addEventListener("keydown", (event) => {
      const value = keyed(side, get().sides[side], event.key, event.shiftKey ? 1 : STEP, page);
      if (value === null) return;
      event.preventDefault();
      set({ [side]: value });
    });
  }
  addEventListener("resize", arrange);

  return {
    arrange,
    /** Show another image; resolves when it is there. */
    show(image) {
      arrange();
      return display(picture, image);
    },
  };
}
