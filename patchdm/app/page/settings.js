// Forms: the fields that several tabs share, and reading them.

import { size } from "./words.js";

const number = (text) => (text === "" ? null : Number(text));

/** Put the shared fields into each form, with the model's defaults; hide what it does not have. */
export function fillForms(model) {
  for (const name of ["opener", "settings", "restoring"]) {
    for (const slot of document.querySelectorAll(`[data-${name}]`)) {
      slot.replaceWith(document.getElementById(name).content.cloneNode(true));
    }
  }
  for (const file of document.querySelectorAll("[type=file]")) file.id = `${file.closest("section").id}-file`;
  for (const field of document.querySelectorAll("[data-needs]")) field.hidden = !model[field.dataset.needs];
  for (const [name, choices] of [["solver", model.solvers], ["tiling", model.tilings]]) {
    for (const select of document.querySelectorAll(`select[name=${name}]`)) {
      for (const choice of choices) select.add(new Option(choice, choice));
      select.value = model.defaults[name];
    }
  }
  for (const id of ["sample-form", "panorama-form", "explore-form"]) {
    const { steps, guidance } = document.getElementById(id).elements;
    steps.value = model.defaults.steps;
    guidance.value = model.defaults.guidance ?? "";
    guidance.required = model.guidance; // A hidden field that is required and empty blocks its form.
  }
  const { width, height } = document.getElementById("panorama-form").elements;
  width.value = 4 * model.width;
  height.value = model.height;
  const outpaint = document.getElementById("outpaint-form").elements;
  outpaint.right.value = model.patch_size;
  if (model.field) outpaint.code.value = "field"; // One can go on and on.
  const { columns, rows } = document.getElementById("sample-form").elements;
  columns.value = Math.max(1, Math.round(model.width / model.patch_size));
  rows.value = Math.max(1, Math.round(model.height / model.patch_size));
}

/** Return the number of a field, or null if it is empty. */
export const numberOf = (form, name) => number(form.elements[name].value);

/** Return solver, steps, guidance and tiling of a form. */
export function samplingOf(form) {
  return {
    solver: form.elements.solver.value,
    steps: numberOf(form, "steps"),
    guidance: numberOf(form, "guidance"),
    tiling: form.elements.tiling.value,
  };
}

/** Return steps, guidance, code and native of a form: null is the model's default. */
export function restoringOf(form) {
  return {
    steps: numberOf(form, "steps"),
    guidance: numberOf(form, "guidance"),
    code: form.elements.code.value || null,
    native: form.elements.native.checked,
  };
}

/** Show a size; mark it and the field as wrong if the server does not make so many pixels. Return whether it does. */
export function showSize(output, field, { width, height }, model) {
  const fits = width * height <= model.limit_pixels;
  const most = fits ? "" : `, more than the ${model.limit_pixels.toLocaleString("en")} that this server makes`;
  const line = width && height ? `${size(width, height)} pixels${most}` : "";
  output.textContent = line;
  output.classList.toggle("wrong", !fits);
  field.setCustomValidity(fits ? "" : `${line}.`);
  return fits;
}
