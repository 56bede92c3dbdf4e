// The strip of all jobs: where each is, and a way back to its images.

import { signed } from "./api.js";
import { attempt, element, setSource } from "./dom.js";
import { fraction, hasEnded, kindName, stateLine } from "./words.js";

const SHOWN = 40; // older ones stay on the server

/** Keep the strip up to date; `open(job)` shows a job in its tab. */
export function startQueue(jobs, { open, notice }) {
  const strip = document.getElementById("queue");
  const list = strip.querySelector("ol");
  const items = new Map();
  const mark = () => list.classList.toggle("more", list.scrollLeft + list.clientWidth < list.scrollWidth - 1);
  list.addEventListener("scroll", mark);
  addEventListener("resize", mark);

  function add(job) {
    const image = element("img", { alt: "", hidden: true });
    const title = element("strong", { text: kindName(job.kind) });
    const line = element("span", { class: "soft" });
    const bar = element("progress", { max: 1 });
    bar.setAttribute("aria-label", `Progress of ${kindName(job.kind)}`);
    const text = element("span", { class: "text" }, title, line, bar);
    const shown = element("button", { type: "button", class: "job" }, image, text);
    const stop = element("button", { type: "button", class: "cancel", text: "Cancel" });
    stop.setAttribute("aria-label", `Cancel ${kindName(job.kind)}`);
    image.onerror = () => (image.hidden = true);
    image.onload = () => (image.hidden = false);
    shown.onclick = () => open(jobs.get(job.id));
    stop.onclick = () => attempt(notice, () => jobs.cancel(job.id));
    const item = { root: element("li", {}, shown, stop), image, line, bar, stop };
    item.root.dataset.job = job.id;
    items.set(job.id, item);
    return item;
  }

  function draw(job) {
    const item = items.get(job.id) ?? add(job);
    item.root.dataset.state = job.state;
    item.line.textContent = stateLine(job);
    item.bar.value = fraction(job);
    item.bar.hidden = job.state !== "running";
    item.stop.hidden = hasEnded(job);
    const first = job.results[0]?.url ?? (hasEnded(job) ? null : job.preview);
    if (first) setSource(item.image, signed(first));
  }

  jobs.addEventListener("change", (event) => {
    draw(event.detail);
    const wanted = jobs.list.slice(0, SHOWN).map((job) => items.get(job.id)?.root).filter(Boolean);
    const present = [...list.children];
    // Moving an element takes the focus from it, so the list changes only if its order does.
    if (wanted.length !== present.length || wanted.some((root, index) => root !== present[index])) {
      list.replaceChildren(...wanted);
    }
    strip.hidden = false;
    mark();
  });
}
