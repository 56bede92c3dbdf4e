// The images of one job: those made, the one at work, those to come; and how far it is.

import { signed } from "./api.js";
import { announce, attempt, element, setSource, showError } from "./dom.js";
import { recall, remember } from "./keep.js";
import { fileName, fraction, hasEnded, imageName, kindName, likeliest, size, stateLine } from "./words.js";

/** Shows a job in an element, and what becomes of it. */
export class Results {
  #id = null;
  #tiles = [];
  #state = null;
  #previewed = [null, 0]; // URL and index of the last preview

  /**
   * root: where; jobs: a Jobs; aspect(job): [width, height] of images not there yet;
   * click(job, index): an image was clicked; actions: [[label, (job, index) => ...], ...];
   * chosen(result): whether an image is the one in use, if that means something here.
   */
  constructor(root, { jobs, aspect, click, actions = [], chosen = null }) {
    Object.assign(this, { root, jobs, aspect, click, actions, chosen });
    this.line = element("p", { class: "line" });
    this.bar = element("progress", { max: 1, "aria-label": "Progress" });
    this.stop = element("button", { type: "button", text: "Cancel", class: "cancel" });
    this.alert = element("p", { class: "error", role: "alert", hidden: true });
    this.grid = element("ol", { class: root.dataset.layout === "row" ? "images row" : "images" });
    if (root.dataset.layout === "row") this.grid.setAttribute("aria-label", "Images, in order");
    this.status = element("div", { class: "progress" }, this.line, this.bar, this.stop);
    this.stop.onclick = () => attempt(this.alert, () => jobs.cancel(this.#id));
    root.append(this.status, this.alert, this.grid);
    root.hidden = true;
    jobs.addEventListener("change", (event) => event.detail.id === this.#id && this.#draw(event.detail));
  }

  /** Show a job instead of the present one. */
  show(job) {
    this.root.hidden = false;
    if (job.id !== this.#id) {
      this.#id = job.id;
      remember(this.root.id, job.id);
      this.#state = null;
      this.root.dataset.job = job.id;
      this.#tiles = [];
      this.grid.replaceChildren();
    }
    this.#draw(job);
    this.root.dispatchEvent(new Event("shown"));
  }

  /** Show one of the jobs of this place, newest first: that of before a reload, or else the likeliest. */
  restore(list) {
    if (this.#id !== null) return; // begun meanwhile
    const job = list.find(({ id }) => id === recall(this.root.id)) ?? likeliest(list);
    if (job) this.show(job);
  }

  /** Ask for a job by an async function, and show it; a second click meanwhile asks for nothing. */
  async ask(post) {
    const before = this.root.dataset.state ?? "";
    if (before === "asked") return;
    this.root.dataset.state = "asked";
    try {
      this.begin(await post());
    } catch (error) {
      this.root.dataset.state = before;
      throw error;
    }
  }

  /** Show a job and scroll to it. */
  begin(job) {
    this.show(job);
    this.root.scrollIntoView({ block: "nearest" });
  }

  /** Draw again, since what is chosen changed. */
  refresh() {
    const job = this.jobs.get(this.#id);
    if (job) this.#draw(job);
  }

  #draw(job) {
    const ended = hasEnded(job);
    this.root.dataset.state = job.state;
    this.line.textContent = stateLine(job);
    this.bar.value = fraction(job);
    this.bar.hidden = this.stop.hidden = ended;
    if (job.state === "failed") showError(this.alert, job.error || "The job failed.");
    else if (this.#state !== job.state) showError(this.alert, null);
    if (this.#state && this.#state !== job.state && ended) announce(`${kindName(job.kind)}: ${stateLine(job)}`);
    this.#state = job.state;
    const total = ended ? job.results.length : job.total;
    while (this.#tiles.length > total) this.#tiles.pop().remove();
    while (this.#tiles.length < total) {
      const tile = element("li");
      this.#tiles.push(tile);
      this.grid.append(tile);
    }
    this.#tiles.forEach((tile, index) => this.#drawTile(tile, job, index));
  }

  #drawTile(tile, job, index) {
    const result = job.results[index];
    if (result) {
      if (tile.dataset.state !== "ready") this.#fill(tile, job, index);
      const button = tile.querySelector(".open");
      if (this.chosen) button.setAttribute("aria-pressed", String(this.chosen(result)));
      return;
    }
    const working = job.state === "running" && index === job.done;
    if (!tile.firstChild) {
      const [width, height] = this.aspect(job);
      const place = element("div", { class: "place" });
      place.style.aspectRatio = `${width} / ${height}`;
      tile.append(place, element("p", { class: "name", text: imageName(job, index) }));
    }
    tile.dataset.state = working ? "working" : "waiting";
    // An image begins while the preview of the one before is still named.
    const [url, owner] = this.#previewed;
    if (!working || !job.preview || (job.preview === url && owner !== index)) return;
    this.#previewed = [job.preview, index];
    this.#preview(tile.firstChild, job);
  }

  #preview(place, job) {
    let image = place.querySelector("img");
    if (!image) {
      image = element("img", { alt: "Preview of the image at work" });
      // The preview of a step can be gone when it is asked for; the next one comes soon.
      image.onerror = () => (image.hidden = true);
      image.onload = () => {
        image.hidden = false;
        place.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
      };
      place.append(image);
    }
    setSource(image, signed(job.preview));
  }

  #fill(tile, job, index) {
    const result = job.results[index];
    const name = imageName(job, index);
    const image = element("img", { alt: "", width: result.width, height: result.height });
    image.src = signed(result.url);
    const button = element("button", { type: "button", class: "open" }, image);
    button.setAttribute("aria-label", `${name}, ${size(result.width, result.height)} pixels`);
    button.onclick = () => this.click(this.jobs.get(job.id), index);
    const caption = element("div", { class: "name" }, element("span", { text: name }));
    for (const [label, action] of this.actions) {
      const extra = element("button", { type: "button", class: "plain", text: label });
      extra.setAttribute("aria-label", `${label}: ${name}`);
      extra.onclick = () => attempt(this.alert, async () => action(this.jobs.get(job.id), index));
      caption.append(extra);
    }
    const link = element("a", { class: "plain", text: "Download", href: signed(result.url) });
    link.download = fileName(job, index);
    link.setAttribute("aria-label", `Download: ${name}`);
    caption.append(link);
    tile.dataset.state = "ready";
    tile.dataset.result = result.id;
    tile.replaceChildren(button, caption);
  }
}
