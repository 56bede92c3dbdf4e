// Sizes of pictures on the screen. Pure functions.

/** CSS pixels per image pixel from which on an image is shown as squares, which is smooth before. */
export const FAR = 8;

/** Return the CSS pixels per image pixel that fit an image into a box; whole numbers above 1. */
export function fit(width, height, boxWidth, boxHeight) {
  const scale = Math.min(boxWidth / width, boxHeight / height);
  return scale > 1 ? Math.floor(scale) : scale;
}

/** Return the size of an image that grows on its four sides. */
export function grown(image, sides) {
  return { width: image.width + sides.left + sides.right, height: image.height + sides.top + sides.bottom };
}

/** Return the pixels of a side after its border moved by (x, y) CSS pixels. */
export function dragged(side, before, x, y, scale) {
  const outwards = { left: -x, right: x, top: -y, bottom: y }[side];
  return Math.max(0, Math.round(before + outwards / scale));
}

/** Return the pixels of a side after a key, or null if the key means nothing here. */
export function keyed(side, before, key, step, page) {
  const out = { left: "ArrowLeft", right: "ArrowRight", top: "ArrowUp", bottom: "ArrowDown" }[side];
  const back = { left: "ArrowRight", right: "ArrowLeft", top: "ArrowDown", bottom: "ArrowUp" }[side];
  const change = { [out]: step, [back]: -step, PageUp: page, PageDown: -page, Home: -before }[key];
  return change === undefined ? null : Math.max(0, before + change);
}

/** Return where an image that grows lies in a box: scale, and left and top of the whole. */
export function placed(image, sides, boxWidth, boxHeight, share) {
  const whole = grown(image, sides);
  const scale = Math.min((boxWidth * share) / whole.width, (boxHeight * share) / whole.height);
  return { scale, left: (boxWidth - whole.width * scale) / 2, top: (boxHeight - whole.height * scale) / 2 };
}

/** Return a view {scale, left, top} at another scale, in which a point of the box stays where it is. */
export function zoomed(view, scale, x, y) {
  const by = scale / view.scale;
  return { scale, left: x - (x - view.left) * by, top: y - (y - view.top) * by };
}

/** Return a view moved so that the image fills the box, or lies in its middle if it is smaller. */
export function kept(view, image, box) {
  const along = (at, length, room) =>
    Math.round(length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, at)));
  return {
    scale: view.scale,
    left: along(view.left, image.width * view.scale, box.width),
    top: along(view.top, image.height * view.scale, box.height),
  };
}
