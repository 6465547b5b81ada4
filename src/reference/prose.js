// Text and elements. Descriptions are the doc comments of the handlers: paragraphs and `code`, nothing more.

export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (key === "data") Object.assign(node.dataset, value);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return node;
}

/** One line with `code` in it. */
export function inline(text = "") {
  return text.split(/`([^`]+)`/).map((part, at) => (at % 2 ? element("code", {}, part) : part));
}

/** Paragraphs, as a block. */
export function prose(text = "") {
  const paragraphs = text.split(/\n\s*\n/).filter((paragraph) => paragraph.trim());
  return element("div", { className: "prose" }, paragraphs.map((paragraph) => element("p", {}, inline(paragraph))));
}
