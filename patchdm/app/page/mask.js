// The mask: strokes on a canvas of the photograph's size.

const ENOUGH = 64; // of 255: how much of a pixel a stroke must cover; what looks tinted is made

/** Draw a stroke {erase, size, points} from point number `from` on. */
export function drawStroke(context, { erase, size, points }, from = 0) {
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = "#e5322d";
  context.lineWidth = size;
  context.lineCap = context.lineJoin = "round";
  const start = points[Math.max(0, from - 1)];
  context.beginPath();
  context.moveTo(start.x, start.y);
  for (const point of points.slice(from)) context.lineTo(point.x, point.y);
  // A line without length draws nothing in some browsers.
  if (points.length === 1) context.arc(start.x, start.y, size / 2, 0, 2 * Math.PI);
  if (points.length === 1) context.fill();
  else context.stroke();
}

/** Draw all strokes anew; a stroke of null clears the mask. */
export function drawMask(context, strokes) {
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  for (const stroke of strokes.slice(strokes.lastIndexOf(null) + 1)) drawStroke(context, stroke);
}

/** Set pixels to white where enough is covered, to black elsewhere; return how many are white. */
export function toMask(pixels) {
  let white = 0;
  for (let at = 0; at < pixels.length; at += 4) {
    const make = pixels[at + 3] >= ENOUGH;
    pixels[at] = pixels[at + 1] = pixels[at + 2] = make ? 255 : 0;
    pixels[at + 3] = 255;
    white += make;
  }
  return white;
}

/** Return the mask as a PNG and the number of its white pixels. */
export async function maskFile(canvas) {
  const { width, height } = canvas;
  // A copy: browsers move a canvas that is read often to slow memory.
  const plain = new OffscreenCanvas(width, height);
  const context = plain.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const data = context.getImageData(0, 0, width, height);
  const white = toMask(data.data);
  context.putImageData(data, 0, 0);
  return { white, blob: await plain.convertToBlob({ type: "image/png" }) };
}

/** Return whether any pixel is painted: exact, in strips of bounded memory. */
export function isPainted(canvas) {
  const { width, height } = canvas;
  const rows = 256;
  const strip = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < height; top += rows) {
    strip.clearRect(0, 0, width, rows);
    strip.drawImage(canvas, 0, -top);
    const { data } = strip.getImageData(0, 0, width, rows);
    for (let at = 3; at < data.length; at += 4) if (data[at] >= ENOUGH) return true;
  }
  return false;
}

/** Return about which share of the canvas is covered, from 0 to 1: fast, on a small copy. */
export function coverage(canvas) {
  const side = 256;
  const small = new OffscreenCanvas(Math.min(side, canvas.width), Math.min(side, canvas.height));
  const context = small.getContext("2d");
  context.drawImage(canvas, 0, 0, small.width, small.height);
  const { data } = context.getImageData(0, 0, small.width, small.height);
  let sum = 0;
  for (let at = 3; at < data.length; at += 4) sum += data[at];
  return sum / 255 / (data.length / 4);
}
