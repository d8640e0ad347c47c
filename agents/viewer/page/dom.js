// Elements and requests. Text only ever becomes a text node: nothing that a model wrote is parsed as HTML.

/** An element: properties by name, `data-` and `aria-` ones as attributes, children as nodes or text. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const COLLAPSED = 4000;

/** Text as it is; a long one is cut, with a button that shows the rest. */
export function longText(text, className) {
  const pre = el("pre", { className, dir: "ltr" }, text.slice(0, COLLAPSED));
  if (text.length <= COLLAPSED) return pre;
  const button = el("button", { type: "button", className: "rest" }, `Show ${number(text.length - COLLAPSED)} more characters`);
  button.addEventListener("click", () => {
    pre.textContent = text;
    button.remove();
  });
  return el("div", {}, pre, button);
}

export function number(value, digits = 0) {
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export function plural(count, what) {
  return `${number(count)} ${what}${count === 1 ? "" : "s"}`;
}

/** What the server answers; throws an error whose message is a sentence for people. */
export async function ask(route, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, value);
  }
  let answer;
  try {
    answer = await fetch(`api/${route}?${query}`);
  } catch {
    throw new Error("The viewer has stopped: start it again where you started it.");
  }
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error);
  return data;
}
