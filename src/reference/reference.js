// Makes /openapi.json readable.

import { element, inline, prose } from "./prose.js";
import { Schemas } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const content = document.getElementById("content");
const index = document.getElementById("index");

async function start() {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  const api = await response.json();
  const schemas = new Schemas(api);
  const groups = grouped(api);
  document.getElementById("version").textContent = api.info.version;
  content.replaceChildren(
    intro(api),
    ...groups.flatMap(([tag, operations]) => [
      element("h2", { className: "tag-head", id: slug(tag) }, tag),
      about(api, tag),
      ...operations.map((operation) => section(operation, schemas)),
    ]),
  );
  index.replaceChildren(...groups.flatMap(([tag, operations]) => [element("h2", {}, tag), listed(operations)]));
  follow();
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

const slug = (text) => text.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "");

/** Operations by their first tag, in the order of the document's tags. */
function grouped(api) {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      const operation = item[method];
      if (!operation) continue;
      const tag = capital(operation.tags?.[0] ?? "other");
      const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])];
      const security = operation.security ?? api.security ?? [];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push({ ...operation, path, method, parameters, security, id: `${method}-${slug(path)}` });
    }
  }
  const order = (api.tags ?? []).map(({ name }) => capital(name));
  const place = (tag) => (order.includes(tag) ? order.indexOf(tag) : order.length);
  return [...groups].sort(([a], [b]) => place(a) - place(b));
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);

function intro({ info }) {
  return element(
    "section",
    { className: "intro", id: "top" },
    element("h1", {}, `${info.title} API`),
    prose(info.description),
    element("div", { className: "prose" }, element("p", {}, "For programs: ", element("a", { href: "/openapi.json" }, "/openapi.json"), ".")),
  );
}

function about({ tags = [] }, tag) {
  const described = tags.find(({ name }) => capital(name) === tag);
  return described?.description ? prose(described.description) : "";
}

const method = (name) => element("span", { className: "method", data: { method: name } }, name.toUpperCase());

function listed(operations) {
  return element(
    "ul",
    {},
    operations.map(({ id, path, method: name, summary, description }) =>
      element(
        "li",
        { data: { search: `${name} ${path} ${summary ?? ""} ${description ?? ""}`.toLowerCase() } },
        element("a", { href: `#${id}`, title: path }, method(name), element("span", { className: "path" }, path.replace(/^\/v1/, ""))),
      ),
    ),
  );
}

function section(operation, schemas) {
  const { id, path, summary, description } = operation;
  return element(
    "article",
    { className: "operation", id },
    element(
      "header",
      {},
      element("h3", {}, method(operation.method), element("a", { href: `#${id}` }, path)),
      element("p", { className: "sentence" }, inline(summary ?? "")),
      description && description !== summary ? prose(description) : undefined,
    ),
    element("div", {}, parameters(operation, schemas), body(operation, schemas), answers(operation, schemas)),
    samples(operation, schemas),
  );
}

function parameters({ parameters: all }, schemas) {
  if (all.length === 0) return undefined;
  const places = { path: "in the path", query: "in the query", header: "header", cookie: "cookie" };
  return [
    element("h4", {}, "Parameters"),
    element(
      "ul",
      { className: "fields" },
      all.map(({ name, in: place, required, description, schema }) =>
        element(
          "li",
          {},
          element(
            "div",
            { className: "field-name" },
            element("code", {}, name),
            element("span", { className: "field-type" }, `${schemas.type(schema)}, ${places[place] ?? place}`),
            required ? element("span", { className: "field-required" }, "required") : undefined,
            element("span", { className: "field-limits" }, schemas.limits(schema)),
          ),
          element("div", { className: "field-about sentence" }, inline(description ?? schemas.resolve(schema).schema.description)),
        ),
      ),
    ),
  ];
}

const json = (part) => part?.content?.["application/json"]?.schema;

function body({ requestBody }, schemas) {
  const fields = json(requestBody) && schemas.fields(json(requestBody));
  return fields ? [element("h4", {}, requestBody.required === false ? "Body, if any" : "Body"), fields] : undefined;
}

function answers({ responses }, schemas) {
  const all = Object.entries(responses ?? {});
  return [
    element("h4", {}, "Answers"),
    element(
      "ul",
      { className: "answers" },
      all.map(([status, answer]) => {
        const fields = json(answer) && schemas.fields(json(answer));
        return element(
          "li",
          {},
          element("span", { className: "status", data: { class: status[0] } }, status),
          element(
            "div",
            { className: "sentence" },
            inline(answer.description),
            fields ? element("div", { className: "fields" }, element("details", {}, element("summary", {}, "Fields"), fields)) : undefined,
          ),
        );
      }),
    ),
  ];
}

function samples(operation, schemas) {
  const [status, answer] = Object.entries(operation.responses ?? {}).find(([code]) => code.startsWith("2")) ?? [];
  const example = json(answer) && schemas.example(json(answer));
  return element(
    "div",
    { className: "samples" },
    sample("curl", curl(operation, schemas)),
    example === undefined ? undefined : sample(status, JSON.stringify(example, null, 2)),
  );
}

function curl({ method: name, path, parameters: all, requestBody, security }, schemas) {
  const needed = all.filter(({ in: place, required }) => place === "query" && required);
  const query = needed.map(({ name: key, schema }) => `${key}=${schemas.example(schema)}`).join("&");
  const implied = name === "get" || (name === "post" && json(requestBody));
  const lines = [`curl${implied ? "" : ` -X ${name.toUpperCase()}`} '${location.origin}${path}${query ? `?${query}` : ""}'`];
  const isOpen = security.length === 0 || security.every((choice) => Object.keys(choice).length === 0);
  if (!isOpen) lines.push('  -H "Authorization: Bearer $CARILLON_KEY"');
  const schema = json(requestBody);
  if (schema) {
    lines.push("  -H 'Content-Type: application/json'");
    // Only what is required: the sample is what one would type first.
    const value = JSON.stringify(schemas.example(schema, { least: true }), null, 2);
    lines.push(`  -d '${value.replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n");
}

function sample(title, text) {
  const copy = element("button", { type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text).catch(() => {});
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  return element(
    "div",
    { className: "sample" },
    element("div", { className: "sample-head" }, title, copy),
    element("pre", { tabIndex: 0 }, text),
  );
}

/** Marks in the index what is being read. */
function follow() {
  const links = new Map([...index.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver(
    (items) => {
      for (const { target, isIntersecting } of items) links.get(target.id)?.setAttribute("aria-current", String(isIntersecting));
      const first = [...links.values()].find((link) => link.getAttribute("aria-current") === "true");
      for (const link of links.values()) if (link !== first) link.setAttribute("aria-current", "false");
      first?.scrollIntoView({ block: "nearest" });
    },
    { rootMargin: "-10% 0px -75% 0px" },
  );
  for (const article of document.querySelectorAll("article")) watch.observe(article);
}

const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const item of index.querySelectorAll("li")) {
    item.hidden = !words.every((word) => item.dataset.search.includes(word));
  }
  for (const head of index.querySelectorAll("h2")) {
    head.hidden = ![...head.nextElementSibling.children].some((item) => !item.hidden);
  }
});
filter.addEventListener("keydown", ({ key }) => {
  if (key === "Enter") index.querySelector("li:not([hidden]) a")?.click();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input")) return;
  event.preventDefault();
  filter.focus();
});

start().catch((error) => {
  document.getElementById("loading").textContent = `The description could not be read: ${error.message}`;
});
