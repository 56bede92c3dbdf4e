// Opening a photograph: a button, drag and drop, the clipboard.

import { signed, upload } from "./api.js";
import { attempt } from "./dom.js";
import { megabytes, size } from "./words.js";

/** Upload a picture; return {id, width, height, url}. */
export async function uploaded(blob, model) {
  // Told here, since a server that refuses a large body can only cut the connection.
  if (blob.size > model.upload_bytes) {
    throw new Error(`The file has ${megabytes(blob.size)}; the server reads at most ${megabytes(model.upload_bytes)}.`);
  }
  return upload(blob);
}

/** Let a panel accept photographs; `use(image)` gets each that the server has read. */
export function acceptPhotographs(panel, model, { use, close }) {
  const opener = panel.querySelector(".opener");
  const work = panel.querySelector(".work");
  const alert = opener.querySelector("[role=alert]");
  const file = opener.querySelector("input[type=file]");

  const take = (blob) =>
    attempt(alert, async () => {
      panel.setAttribute("aria-busy", "true");
      try {
        use(await uploaded(blob, model));
      } finally {
        panel.removeAttribute("aria-busy");
        file.value = ""; // So that the same file can be opened again.
      }
    }).then((worked) => !worked && setOpen(false));

  function setOpen(open) {
    opener.hidden = open;
    work.hidden = !open;
  }

  file.onchange = () => file.files[0] && take(file.files[0]);
  work.querySelector("[data-close]").onclick = () => {
    setOpen(false);
    close();
    file.focus();
  };
  panel.addEventListener("dragover", () => opener.classList.add("over"));
  panel.addEventListener("dragleave", (event) => {
    if (!panel.contains(event.relatedTarget)) opener.classList.remove("over");
  });
  panel.addEventListener("drop", (event) => {
    opener.classList.remove("over");
    const dropped = event.dataTransfer.files[0];
    if (dropped) take(dropped);
  });
  document.addEventListener("paste", (event) => {
    const pasted = event.clipboardData?.files[0];
    if (pasted && !panel.hidden && !document.querySelector("dialog[open]")) take(pasted);
  });
  return { setOpen };
}

/** Show a photograph of the server in an <img>; resolves when it is there. */
export function display(image, { url, width, height }) {
  image.width = width;
  image.height = height;
  image.src = signed(url);
  return image.decode();
}

/** The caption below a photograph. */
export const sizeLine = ({ width, height }) => `${size(width, height)} pixels`;
