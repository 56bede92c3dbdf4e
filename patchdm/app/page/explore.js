// The Explore tab: from one seed's code to another's.

import { attempt } from "./dom.js";
import { Results } from "./results.js";
import { numberOf, samplingOf } from "./settings.js";

/** Start the tab; return {results}. */
export function startExplore(model, jobs, view) {
  const form = document.getElementById("explore-form");
  const results = new Results(document.getElementById("explore-results"), {
    jobs,
    aspect: () => [model.width, model.height],
    click: view,
  });
  if (!model.code) {
    document.getElementById("explore-hint").textContent = "This model has no code, so there is nothing to interpolate.";
    document.getElementById("explore-go").disabled = true;
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form.querySelector("[role=alert]"), () =>
      results.ask(() =>
        jobs.submit({
          kind: "interpolate",
          seeds: [numberOf(form, "from"), numberOf(form, "to")],
          count: numberOf(form, "count"),
          ...samplingOf(form),
        }),
      ),
    );
  });
  return { results };
}
