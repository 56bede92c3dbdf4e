// The page of the HTTP API: /api/openapi.json, readable.

import { getDescription, signed } from "./api.js";
import { attempt, element } from "./dom.js";

const nameOf = (reference) => reference.split("/").at(-1);
const text = (words) => (words ?? "").replaceAll(/\s+/g, " ");

/** Return the type of a schema as nodes: its name, a link if it has one of its own. */
function type(schema) {
  if (!schema) return ["anything"];
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return [element("a", { text: name, href: `#schema-${name}` })];
  }
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.flatMap((each, index) => (index ? [" or ", ...type(each)] : type(each)));
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((each) => JSON.stringify(each)).join(" or ")];
  if (schema.type === "array") return ["list of ", ...type(schema.items)];
  return [schema.format === "binary" ? "bytes" : (schema.type ?? "anything")];
}

/** Return the limits and the default of a schema as words. */
function limits(schema) {
  const names = {
    minimum: "at least",
    maximum: "at most",
    exclusiveMaximum: "below",
    minItems: "items: at least",
    maxItems: "items: at most",
  };
  // A value that may be null has its limits on one of its types.
  const parts = [schema, ...(schema.anyOf ?? [])].flatMap((each) =>
    Object.entries(names)
      .filter(([key]) => each[key] !== undefined)
      .map(([key, words]) => `${words} ${each[key]}`),
  );
  if (schema.default !== undefined && schema.default !== null) parts.push(`default ${JSON.stringify(schema.default)}`);
  return parts.join(", ");
}

function table(caption, head, rows) {
  const cells = (row, tag) => row.map((cell) => element(tag, tag === "th" ? { scope: "col" } : {}, ...[cell].flat()));
  const body = rows.map((row) => element("tr", {}, ...cells(row, "td")));
  return element(
    "div",
    { class: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", { text: caption }),
      element("thead", {}, element("tr", {}, ...cells(head, "th"))),
      element("tbody", {}, ...body),
    ),
  );
}

function answers(name, responses) {
  const rows = responses.map(([status, { description: why, content = {} }]) => [
    status,
    Object.entries(content).flatMap(([kind, found]) => [`${kind}: `, ...type(found.schema)]),
    text(why),
  ]);
  return table(`Answers ${name}`, ["Status", "Content", "Meaning"], rows);
}

function operation(path, method, { summary, description, parameters = [], requestBody, responses }, shared) {
  const parts = [
    element("h2", {}, element("code", { text: `${method.toUpperCase()} ${path}` })),
    element("p", { text: text(description ?? summary) }),
  ];
  if (parameters.length) {
    const rows = parameters.map(({ name, in: place, schema }) => [element("code", { text: name }), place, type(schema)]);
    parts.push(table(`Parameters of ${method.toUpperCase()} ${path}`, ["Name", "In", "Type"], rows));
  }
  for (const [kind, { schema }] of Object.entries(requestBody?.content ?? {})) {
    parts.push(element("p", {}, `Body, ${kind}: `, ...type(schema)));
  }
  const own = Object.entries(responses).filter(([status]) => !shared.includes(status));
  parts.push(answers(`of ${method.toUpperCase()} ${path}`, own));
  return element("section", {}, ...parts);
}

function schema(name, found) {
  const required = new Set(found.required);
  const rows = Object.entries(found.properties ?? {}).map(([field, value]) => [
    element("code", { text: field }),
    [...type(value), required.has(field) ? "" : " (optional)"],
    [limits(value), text(value.description)].filter(Boolean).join("; "),
  ]);
  return element(
    "section",
    { id: `schema-${name}` },
    element("h3", { text: name }),
    element("p", { text: text(found.description) }),
    table(`Fields of ${name}`, ["Field", "Type", "Meaning"], rows),
  );
}

attempt(document.querySelector("[role=alert]"), async () => {
  const { paths, components } = await getDescription();
  document.getElementById("openapi").href = signed("/api/openapi.json");
  const all = Object.values(paths).flatMap((ways) => Object.values(ways).map(({ responses }) => responses));
  const shared = Object.keys(all[0]).filter((status) => status >= 400 && all.every((each) => status in each));
  document.getElementById("problems").append(answers("of all", shared.map((status) => [status, all[0][status]])));
  document.getElementById("operations").append(
    ...Object.entries(paths).flatMap(([path, ways]) =>
      Object.entries(ways).map(([method, found]) => operation(path, method, found, shared)),
    ),
  );
  document.getElementById("schemas").append(
    ...Object.entries(components.schemas).map(([name, found]) => schema(name, found)),
  );
  document.documentElement.dataset.ready = "true";
});
