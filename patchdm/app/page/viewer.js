// One image, large, and what can be done with it.

import { download, getNearest, signed } from "./api.js";
import { attempt, element, showError } from "./dom.js";
import { FAR } from "./geometry.js";
import { count, fileName, imageName, kindName, size } from "./words.js";

const WITHOUT =
  "The model came without its photographs. Start `patchdm app --photographs FOLDER` with the folder or archive of them.";

/** Start the dialog; return a function that opens it on an image of a job. */
export function startViewer({ model, send }) {
  const dialog = document.getElementById("viewer");
  const part = (id) => document.getElementById(id);
  const image = dialog.querySelector(".show img");
  const alert = dialog.querySelector("[role=alert]");
  const said = part("viewer-said");
  let job = null;
  let index = 0;

  const result = () => job.results[index];

  function arrange() {
    if (!dialog.open) return;
    const box = dialog.querySelector(".show");
    const scale = Math.min(box.clientWidth / result().width, box.clientHeight / result().height);
    image.style.width = `${result().width * scale}px`;
    image.style.height = `${result().height * scale}px`;
    image.classList.toggle("enlarged", scale >= FAR);
  }

  function draw() {
    const { width, height, seed, command, url } = result();
    const name = imageName(job, index);
    image.src = signed(url);
    image.alt = `${kindName(job.kind)}, ${name}`;
    part("viewer-title").textContent = name;
    part("viewer-size").textContent = `${size(width, height)} pixels`;
    part("viewer-command").textContent = command ?? "";
    part("copy-command").hidden = !command;
    part("copy-seed").hidden = seed === null || seed === undefined || job.kind === "panorama"; // of many
    part("viewer-download").href = signed(url);
    part("viewer-download").download = fileName(job, index);
    part("viewer-previous").disabled = index === 0;
    part("viewer-next").disabled = index === job.results.length - 1;
    said.textContent = "";
    part("viewer-nearest").hidden = true;
    showError(alert, null);
    arrange();
  }

  function move(by) {
    const to = index + by;
    if (to < 0 || to >= job.results.length) return;
    index = to;
    draw();
  }

  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = `${what} copied.`;
    } catch {
      // Browsers forbid it on pages that are neither local nor https.
      said.textContent = `The browser does not allow copying here: ${text}`;
    }
  }

  const level = (distance) => distance.toFixed(1);

  async function showNearest() {
    if (!model.photographs) {
      said.textContent = WITHOUT;
      return;
    }
    const { id, url } = result();
    said.textContent = "Comparing with the photographs; the first time takes a while ...";
    const found = await getNearest(url).catch((error) => {
      said.textContent = "";
      throw error;
    });
    if (!dialog.open || result().id !== id) return;
    const usual =
      found.usual === null ? "" : ` A photograph differs from the nearest other one by ${level(found.usual)} (median).`;
    const outOf = found.compared < found.total ? ` out of ${found.total}` : "";
    const all = found.given
      ? `the given photographs (${found.compared}${outOf})`
      : `${count(found.compared, "photograph")}${outOf}`;
    said.textContent = `Nearest of ${all}, by thumbnails; differences in levels of 0 to 255.${usual}`;
    part("viewer-nearest").replaceChildren(
      ...found.photographs.map(({ name, distance, picture }) =>
        element(
          "li",
          {},
          element("img", { src: picture, alt: `Photograph ${name}` }),
          element("div", { class: "name" }, element("span", { text: name }), level(distance)),
        ),
      ),
    );
    part("viewer-nearest").hidden = false;
    arrange();
  }

  const sendTo = (target) =>
    attempt(alert, async () => {
      const from = job; // which the arrow keys may change meanwhile
      await send(target, await download(result().url), from);
      dialog.close();
    });

  part("viewer-previous").onclick = () => move(-1);
  part("viewer-next").onclick = () => move(1);
  part("viewer-close").onclick = () => dialog.close();
  part("copy-seed").onclick = () => copy(String(result().seed), "Seed");
  part("copy-command").onclick = () => copy(result().command, "Command");
  part("to-nearest").onclick = () => attempt(alert, showNearest);
  part("to-inpaint").onclick = () => sendTo("inpaint");
  part("to-outpaint").onclick = () => sendTo("outpaint");
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  addEventListener("resize", arrange);

  return (shown, at) => {
    job = shown;
    index = at;
    if (!dialog.open) dialog.showModal();
    draw();
  };
}
