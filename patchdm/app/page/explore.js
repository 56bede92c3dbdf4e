// The Explore tab: from one seed's code to another's, and variations of one seed.

import { attempt } from "./dom.js";
import { Results } from "./results.js";
import { numberOf, samplingOf } from "./settings.js";
import { seeds } from "./words.js";

const WAYS = {
  between: {
    go: "Interpolate",
    hint: "The noise stays the same. The code goes from that of the first seed to that of the last.",
    request: (form) => ({
      kind: "interpolate",
      seeds: [numberOf(form, "from"), numberOf(form, "to")],
      count: numberOf(form, "count"),
    }),
  },
  around: {
    go: "Vary",
    hint: "The noise stays the same. Each code moves towards that of another seed: 0 stays, 1 arrives.",
    request: (form) => ({
      kind: "vary",
      seed: numberOf(form, "from"),
      towards: seeds(numberOf(form, "towards"), numberOf(form, "number")),
      strength: numberOf(form, "strength"),
    }),
  },
};

/** Start the tab; return {results}. */
export function startExplore(model, jobs, view) {
  const form = document.getElementById("explore-form");
  const go = document.getElementById("explore-go");
  const hint = document.getElementById("explore-hint");
  const results = new Results(document.getElementById("explore-results"), {
    jobs,
    aspect: () => [model.width, model.height],
    click: view,
  });

  function draw() {
    const way = form.elements.way.value;
    for (const group of form.querySelectorAll("[data-way]")) {
      group.hidden = group.disabled = group.dataset.way !== way;
    }
    go.textContent = WAYS[way].go;
    hint.textContent = model.code ? WAYS[way].hint : "This model has no code, so there is nothing to explore.";
    go.disabled = !model.code;
  }
  form.addEventListener("input", draw);
  draw();

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form.querySelector("[role=alert]"), () =>
      results.ask(() => jobs.submit({ ...WAYS[form.elements.way.value].request(form), ...samplingOf(form) })),
    );
  });
  return { results };
}
