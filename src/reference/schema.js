// JSON schemas (OpenAPI 3.1) as lists of fields, and as examples.

import { element, inline } from "./prose.js";

const DEEPEST = 6;

export class Schemas {
  #components;

  constructor(document) {
    this.#components = document.components?.schemas ?? {};
  }

  /** Follows references, and takes the one real choice out of `oneOf: [null, X]`. */
  resolve(schema) {
    let current = schema ?? {};
    let name;
    for (let steps = 0; steps < 20; steps++) {
      const choices = (current.oneOf ?? current.anyOf)?.filter((choice) => choice.type !== "null");
      if (current.$ref) {
        name = current.$ref.split("/").pop();
        current = { ...this.#components[name], ...(current.description && { description: current.description }) };
      } else if (choices?.length === 1) {
        current = { ...choices[0], ...(current.description && { description: current.description }) };
      } else if (current.allOf) {
        current = this.#merge(current);
      } else {
        break;
      }
    }
    return { schema: current, name };
  }

  #merge({ allOf, ...rest }) {
    const merged = { type: "object", properties: {}, required: [], ...rest };
    for (const part of allOf) {
      const { schema } = this.resolve(part);
      Object.assign(merged.properties, schema.properties);
      merged.required = [...merged.required, ...(schema.required ?? [])];
      merged.description ??= schema.description;
    }
    return merged;
  }

  /** What a schema is, in a few words. */
  type(raw) {
    const { schema } = this.resolve(raw);
    const nullable = [schema.type].flat().includes("null") || raw?.oneOf?.some((choice) => choice.type === "null");
    const types = [schema.type].flat().filter((type) => type && type !== "null");
    const one = () => {
      if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
      if (types[0] === "array") return `list of ${this.type(schema.items)}`;
      if (schema.oneOf) return `one of ${schema.oneOf.length}`;
      if (types[0] === "string" && schema.format === "date-time") return "time";
      return types.join(" or ") || "any JSON";
    };
    return nullable ? `${one()} or null` : one();
  }

  limits(raw) {
    const { schema } = this.resolve(raw);
    const range = (low, high, unit) => {
      if (low !== undefined && high !== undefined) return `${number(low)} to ${number(high)}${unit}`;
      if (high !== undefined) return `at most ${number(high)}${unit}`;
      return low === undefined || low === 0 ? undefined : `at least ${number(low)}${unit}`;
    };
    return [
      range(schema.minLength, schema.maxLength, " characters"),
      range(schema.minItems, schema.maxItems, " items"),
      range(schema.minimum, schema.maximum, ""),
      schema.default === undefined ? undefined : `default ${JSON.stringify(schema.default)}`,
    ]
      .filter(Boolean)
      .join(", ");
  }

  /** A list of an object's fields, deeper ones folded. `undefined` when there is none. */
  fields(raw, depth = 0, seen = []) {
    const { schema, name } = this.resolve(raw);
    if (depth > DEEPEST || (name && seen.includes(name))) return undefined;
    const known = name ? [...seen, name] : seen;
    const below = schema.type === "array" || [schema.type].flat().includes("array") ? schema.items : undefined;
    if (below) return this.fields(below, depth, known);
    if (schema.oneOf) return this.#choices(schema.oneOf, depth, known);
    const properties = Object.entries(schema.properties ?? {});
    if (properties.length === 0) return undefined;
    return element(
      "ul",
      { className: "fields" },
      properties.map(([key, field]) => this.#field(key, field, schema.required?.includes(key), depth, known)),
    );
  }

  #field(key, field, required, depth, seen) {
    const about = field.description ?? this.resolve(field).schema.description;
    const inner = this.fields(field, depth + 1, seen);
    return element(
      "li",
      {},
      element(
        "div",
        { className: "field-name" },
        element("code", {}, key),
        element("span", { className: "field-type" }, this.type(field)),
        required ? element("span", { className: "field-required" }, "required") : undefined,
        element("span", { className: "field-limits" }, this.limits(field)),
      ),
      about ? element("div", { className: "field-about sentence" }, inline(about)) : undefined,
      inner ? element("details", { open: depth === 0 && required === true }, element("summary", {}, "Fields"), inner) : undefined,
    );
  }

  #choices(choices, depth, seen) {
    return element(
      "ul",
      { className: "fields" },
      choices.map((choice) => {
        const { schema } = this.resolve(choice);
        return element(
          "li",
          {},
          element("div", { className: "field-about sentence" }, inline(schema.description ?? this.type(choice))),
          this.fields(choice, depth + 1, seen),
        );
      }),
    );
  }

  /** A value that fits; `least` leaves out what may be left out. `key` is the field that it is for. */
  example(raw, { least = false, key = "" } = {}, depth = 0, seen = []) {
    const { schema, name } = this.resolve(raw);
    const below = (inner, field = key) => this.example(inner, { least, key: field }, depth + 1, known);
    if (schema.example !== undefined) return schema.example;
    if (schema.examples?.length) return schema.examples[0];
    if (schema.default !== undefined && schema.default !== null) return schema.default;
    if (schema.const !== undefined) return schema.const;
    if (schema.enum) return schema.enum[0];
    if (depth > DEEPEST || (name && seen.includes(name))) return {};
    const known = name ? [...seen, name] : seen;
    if (schema.oneOf) return below(schema.oneOf[0]);
    const [type] = [schema.type].flat().filter((kind) => kind !== "null");
    if (type === "array") return [below(schema.items)];
    if (type === "integer" || type === "number") return schema.minimum ?? 1;
    if (type === "boolean") return true;
    if (type === "string") return text(schema, key);
    const fields = Object.entries(schema.properties ?? {});
    // Where nothing is required, all of it says more than nothing.
    const wanted = least && schema.required?.length ? fields.filter(([field]) => schema.required.includes(field)) : fields;
    return Object.fromEntries(wanted.map(([field, inner]) => [field, below(inner, field)]));
  }
}

/** What such a field may say. */
const WORDS = {
  title: "Build failed",
  body: "main is red",
  user: "ada",
  device: "laptop",
  topic: "room.1",
  name: "backend",
  category: "deploys",
  collapse_key: "build-main",
  url: "https://ci.example/1",
  icon: "https://ci.example/icon.png",
  action: "retry",
  channel: "in_app",
  address: "inbox",
  key: "crk_...",
  token: "eyJ...",
  ticket: "tkt...",
  subscribe: "room.*",
  publish: "room.*",
};

function text({ format, pattern = "" }, key) {
  if (format === "date-time") return "2026-11-21T10:00:00Z";
  const id = /^\^([a-z]{3})_/.exec(pattern);
  if (id) return `${id[1]}_01a1fd95bdf817bac88b2558a9aa7e95`;
  if (pattern.includes("-[0-9]")) return "k3v9x2ab-12";
  return WORDS[key] ?? "text";
}

const number = (value) => value.toLocaleString("en");
