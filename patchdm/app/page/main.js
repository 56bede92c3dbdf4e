// The page: fetches the model, starts the tabs and the queue, finds the jobs of before.

import { getModel } from "./api.js";
import { attempt, hideOldErrors, showError } from "./dom.js";
import { startExplore } from "./explore.js";
import { startInpaint } from "./inpaint.js";
import { Jobs } from "./jobs.js";
import { keepForms } from "./keep.js";
import { startOutpaint } from "./outpaint.js";
import { startPanorama } from "./panorama.js";
import { startQueue } from "./queue.js";
import { startSample } from "./sample.js";
import { fillForms } from "./settings.js";
import { startTabs } from "./tabs.js";
import { startTraining } from "./training.js";
import { startViewer } from "./viewer.js";
import { size } from "./words.js";

const TAB_OF = { sample: "sample", inpaint: "inpaint", outpaint: "outpaint", panorama: "panorama", interpolate: "explore", vary: "explore" };

async function start(notice) {
  const model = await getModel();
  fillForms(model);
  keepForms(model);
  for (const form of document.forms) hideOldErrors(form);
  document.getElementById("model").textContent =
    `${model.name}, made for ${size(model.width, model.height)} pixels, on ${model.device}`;

  const jobs = new Jobs();
  const panels = {};
  let go = () => {};
  const send = async (target, blob, job) => {
    await panels[target].open(blob, job);
    go(target);
  };
  const view = startViewer({ model, send });
  panels.sample = startSample(model, jobs, view);
  panels.inpaint = startInpaint(model, jobs, view);
  panels.outpaint = startOutpaint(model, jobs, view);
  panels.panorama = startPanorama(model, jobs, view);
  panels.explore = startExplore(model, jobs, view);
  startTraining(model);
  go = startTabs(document.getElementById("tabs"));

  startQueue(jobs, {
    notice,
    open(job) {
      const tab = TAB_OF[job.kind];
      go(tab);
      panels[tab].results.begin(job);
    },
  });
  let offline = false; // Other errors stay until the next action.
  jobs.addEventListener("offline", (event) => {
    offline = true;
    showError(notice, event.detail);
  });
  jobs.addEventListener("online", () => {
    if (offline) showError(notice, null);
    offline = false;
  });
  // With the first list: a page that is opened in the background asks for it only when it is seen.
  const restore = () => {
    for (const [tab, { results }] of Object.entries(panels)) {
      results.restore(jobs.list.filter(({ kind }) => TAB_OF[kind] === tab));
    }
  };
  jobs.addEventListener("online", restore, { once: true });
  await jobs.start();
  document.documentElement.dataset.ready = "true";
}

// A photograph that is dropped next to its place must not replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());

const notice = document.getElementById("notice");
attempt(notice, () => start(notice));
