// The Sample tab.

import { attempt } from "./dom.js";
import { Results } from "./results.js";
import { numberOf, samplingOf, showSize } from "./settings.js";
import { seeds } from "./words.js";

/** Start the tab; return {results}. */
export function startSample(model, jobs, view) {
  const form = document.getElementById("sample-form");
  const { columns, rows } = form.elements;
  const results = new Results(document.getElementById("sample-results"), {
    jobs,
    aspect: ({ request }) => [request.width ?? model.width, request.height ?? model.height],
    click: view,
  });

  const pixels = () => ({ width: columns.value * model.patch_size, height: rows.value * model.patch_size });
  const draw = () => showSize(document.getElementById("sample-pixels"), columns, pixels(), model);
  form.addEventListener("input", draw);
  draw();

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form.querySelector("[role=alert]"), () =>
      results.ask(() =>
        jobs.submit({
          kind: "sample",
          seeds: seeds(numberOf(form, "first"), numberOf(form, "number")),
          ...pixels(),
          ...samplingOf(form),
          code_seed: model.code ? numberOf(form, "code_seed") : null,
        }),
      ),
    );
  });
  return { results };
}
