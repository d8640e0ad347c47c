// Bars: tokens by section, scores.

import { el, number } from "./dom.js";

const ORDER = ["plan", "think", "call", "summary", "answer", "other"];

/** A stacked bar of sampled tokens; `whole` is what its full width stands for. */
export function sectionBar(parts, whole) {
  const bar = el("span", { className: "bar", "aria-hidden": "true" });
  for (const kind of ORDER) {
    if (!parts[kind]) continue;
    const piece = el("i", { className: `k-${kind}`, title: `${kind}: ${number(parts[kind])} tokens` });
    piece.style.width = `${(100 * parts[kind]) / Math.max(1, whole)}%`;
    bar.append(piece);
  }
  return bar;
}

/** The same with a legend that has the numbers. */
export function sectionFigure(parts, sampled) {
  const legend = el("ul", { className: "legend" });
  for (const kind of ORDER) {
    if (!parts[kind]) continue;
    const share = Math.round((100 * parts[kind]) / Math.max(1, sampled));
    legend.append(el("li", {}, el("i", { className: `key k-${kind}` }), `${kind} `, el("b", {}, number(parts[kind])), ` ${share} %`));
  }
  return el("div", { className: "sections" }, sectionBar(parts, sampled), legend);
}

/** Scores by name, as bars between 0 and 1 where they are; the weight where it is known. */
export function scoreTable(scores, weights, reward) {
  const body = el("tbody");
  for (const [name, value] of [...Object.entries(scores), ["reward", reward]]) {
    const bar = el("span", { className: "score", "aria-hidden": "true" }, el("i"));
    bar.firstChild.style.width = `${100 * Math.min(1, Math.max(0, value))}%`;
    const total = name === "reward" && !(name in scores);
    const weight = weights[name] === undefined ? "" : `× ${number(weights[name], 4)}`;
    body.append(
      el("tr", { className: total ? "total" : "" },
        el("th", { scope: "row" }, name),
        el("td", {}, number(value, 4)),
        el("td", {}, value >= 0 && value <= 1 ? bar : ""),
        el("td", { className: "soft" }, weight)),
    );
  }
  return el("table", { className: "scores" }, el("caption", { className: "aloud" }, "Reward by part"), body);
}
