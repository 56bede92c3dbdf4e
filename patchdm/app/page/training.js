// The Training tab: how far the trainings of a run are, asked again and again while it is seen.

import { getTrainings, signed } from "./api.js";
import { element, setSource, showError } from "./dom.js";

const EVERY = 15000; // milliseconds between two looks
const NO_RUN =
  "There is no run to follow. Start `patchdm app` in the folder of a run, where its params.yaml is, or with the model of one.";
const NONE = "No training has begun yet. It appears here once it has drawn the first points of its curves.";
const STATES = { running: "Running", stopped: "Not running", done: "Done" };

/** Start the tab, which stays hidden where curves cannot be drawn. */
export function startTraining(model) {
  const tab = document.getElementById("tab-training");
  const panel = document.getElementById("training");
  const said = document.getElementById("training-said");
  const alert = panel.querySelector("[role=alert]");
  const name = document.getElementById("training-run");
  const list = document.getElementById("training-list");
  const shown = new Map();
  let timer = null;
  let asking = false;
  tab.hidden = !model.training;
  if (tab.hidden) return;

  const seen = () => !panel.hidden && !document.hidden;

  function draw({ run, error, trainings }) {
    showError(alert, error);
    said.hidden = error !== null || trainings.length > 0;
    said.textContent = run === null ? NO_RUN : NONE;
    name.hidden = run === null;
    name.textContent = `Run ${run}, as it was at ${new Date().toLocaleTimeString()}; looked at every ${EVERY / 1000} seconds.`;
    for (const training of trainings) {
      if (!shown.has(training.stage)) shown.set(training.stage, new Shown(training));
      shown.get(training.stage).draw(training);
    }
    arrange(list, trainings.map(({ stage }) => shown.get(stage).root));
  }

  async function look() {
    clearTimeout(timer);
    if (asking || !seen()) return;
    asking = true;
    try {
      draw(await getTrainings());
    } catch (error) {
      showError(alert, error); // what was drawn stays
    }
    asking = false;
    if (seen()) timer = setTimeout(look, EVERY);
  }

  panel.addEventListener("shown", look);
  document.addEventListener("visibilitychange", look);
}

const grouped = (number) => number.toLocaleString("en");

/** One training: words, progress, pictures. */
class Shown {
  #pictures = new Map();

  constructor({ stage, title }) {
    this.state = element("span", { class: "state" });
    this.pace = element("p", { class: "line soft" });
    this.bar = element("progress", { "aria-label": `Progress of the training: ${title}` });
    this.grid = element("div", { class: "plots" });
    const heading = element("h2", {}, `${title} `, this.state);
    this.root = element("section", { class: "training" }, heading, this.pace, this.bar, this.grid);
    this.root.dataset.stage = stage;
  }

  draw({ state, pace, seen, total, unit, pictures }) {
    this.root.dataset.state = state;
    this.state.textContent = STATES[state];
    // In any other state the badge says the rest.
    this.pace.textContent = state === "running" ? pace : `${grouped(seen)} of ${grouped(total)} ${unit}`;
    this.bar.max = total;
    this.bar.value = Math.min(seen, total);
    for (const picture of pictures) {
      if (!this.#pictures.has(picture.name)) this.#pictures.set(picture.name, figure(picture));
      const { image, title, caption } = this.#pictures.get(picture.name);
      Object.assign(image, { width: picture.width, height: picture.height, alt: picture.title });
      setSource(image, signed(picture.url));
      title.textContent = picture.title;
      caption.textContent = picture.caption;
    }
    arrange(this.grid, pictures.map(({ name }) => this.#pictures.get(name).root));
  }
}

/** Let an element have these children; nothing moves if it has them already. */
function arrange(parent, wanted) {
  const present = [...parent.children];
  if (wanted.length !== present.length || wanted.some((child, at) => child !== present[at])) {
    parent.replaceChildren(...wanted);
  }
}

function figure({ name }) {
  const image = element("img");
  const title = element("strong");
  const caption = element("span");
  const root = element("figure", {}, image, element("figcaption", {}, title, " ", caption));
  root.dataset.picture = name;
  return { root, image, title, caption };
}
