// The Panorama tab: one wide image of many codes, to look around in.

import { signed } from "./api.js";
import { attempt } from "./dom.js";
import { Results } from "./results.js";
import { numberOf, samplingOf, showSize } from "./settings.js";

/** Start the tab; return {results}. */
export function startPanorama(model, jobs, view) {
  const form = document.getElementById("panorama-form");
  const place = document.getElementById("panorama-view");
  const results = new Results(document.getElementById("panorama-results"), {
    jobs,
    aspect: ({ request }) => [request.width, request.height],
    click: view,
  });
  let shown = null;
  let deep = null;

  // Only a panel that is shown has a size, which the view asks for when it opens.
  function look() {
    const job = jobs.get(results.root.dataset.job);
    const result = job?.results[0];
    if (result && result.id === shown) return;
    deep?.destroy();
    deep = shown = null;
    place.hidden = true;
    delete place.dataset.open;
    if (!result || place.closest("[hidden]:not(#panorama-view)")) return;
    shown = result.id;
    place.hidden = false;
    place.style.aspectRatio = `${result.width} / ${result.height}`; // within limits of the style
    deep = globalThis.OpenSeadragon({
      element: place,
      drawer: "canvas",
      showNavigationControl: false,
      maxZoomPixelRatio: 4,
      wrapHorizontal: job.request.wrap.includes("x"),
      wrapVertical: job.request.wrap.includes("y"),
      tileSources: { type: "image", url: signed(result.url) },
    });
    deep.addHandler("open", () => (place.dataset.open = result.id));
  }
  jobs.addEventListener("change", look);
  for (const element of [document.getElementById("panorama"), results.root]) element.addEventListener("shown", look);

  const size = () => ({ width: numberOf(form, "width"), height: numberOf(form, "height") });
  const hint = document.getElementById("panorama-pixels");
  const draw = () => {
    const fits = showSize(hint, form.elements.width, size(), model);
    if (fits && size().width && size().height >= 2 * model.height) hint.textContent += ": landscapes will lie above each other";
  };
  form.addEventListener("input", draw);
  draw();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form.querySelector("[role=alert]"), () =>
      results.ask(() =>
        jobs.submit({
          kind: "panorama",
          first: numberOf(form, "first"),
          codes: numberOf(form, "codes"),
          ...size(),
          wrap: form.elements.wrap.value,
          ...samplingOf(form),
        }),
      ),
    );
  });
  return { results };
}
