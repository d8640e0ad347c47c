// One turn: its sections, calls and observation; log-probabilities on demand.

import { ask, el, longText, number, plural } from "./dom.js";
import { sectionBar } from "./bars.js";

const CLASSES = [[-0.105, "lp0"], [-0.693, "lp1"], [-1.609, "lp2"], [-2.996, "lp3"], [-Infinity, "lp4"]];
export const SCALE = [["lp0", "over 90 %"], ["lp1", "over 50 %"], ["lp2", "over 20 %"], ["lp3", "over 5 %"], ["lp4", "less"]];

function shade(logprob) {
  return CLASSES.find(([least]) => logprob >= least)[1];
}

export function turnId(key, index) {
  return `${key}-turn-${index + 1}`;
}

function callItem(call, plan) {
  const step = plan?.steps.find((s) => s.number === call.step);
  const notes = [];
  if (call.critical) notes.push(el("span", { className: "tag critical" }, "critical path"));
  if (call.repeated) notes.push(el("span", { className: "tag bad" }, "repeated"));
  if (call.error !== null) notes.push(el("span", { className: "tag bad" }, call.error));
  if (call.model !== null) notes.push(el("span", { className: "soft" }, `${call.model}, ${plural(call.tokens, "token")}`));
  return el("li", {},
    el("div", { className: "callhead" },
      el("b", {}, call.name), " ",
      call.step === null ? el("span", { className: "soft" }, "serves no step")
        : el("span", { className: "serves", title: step?.text }, `step ${call.step}${step ? "" : " (not in the plan)"}`),
      ...notes),
    longText(call.arguments, "arguments"),
    call.output === "" ? null : longText(call.output, call.error === null ? "output" : "output bad"));
}

export function turnArticle(key, turn, episode) {
  const plan = turn.plan === null ? undefined : episode.plans[turn.plan];
  const time = turn.sampling_seconds + turn.seconds;
  const facts = [plural(turn.tokens, "token")];
  if (turn.logprob !== null && turn.logprob !== undefined) facts.push(`mean log-probability ${number(turn.logprob, 3)}`);
  if (time >= 0.05) facts.push(`${number(time, 1)} s`);
  const body = el("div", { className: "written" });
  for (const section of turn.sections) {
    body.append(el("section", { className: `sec k-${section.kind}` }, el("h4", {}, section.kind), longText(section.text)));
  }
  const article = el("article", { className: `turn${turn.critical && turn.depth ? " critical" : ""}`, id: turnId(key, turn.index), tabIndex: -1 },
    el("h3", {}, `Turn ${turn.index + 1}`, el("small", {}, facts.join(" · "))),
    sectionBar(turn.parts, Math.max(...episode.turns.map((t) => t.tokens))),
    body);
  if (turn.error !== null) article.append(el("p", { className: "problem" }, `Malformed turn: ${turn.error}`));
  if (turn.calls.length) {
    article.append(el("ol", { className: "calls", "aria-label": "Calls" }, ...turn.calls.map((call) => callItem(call, plan)),
      turn.left_out_calls ? el("li", { className: "soft" }, `and ${plural(turn.left_out_calls, "more call")}`) : null));
  }
  if (turn.observation !== "" && !covers(turn)) {
    article.append(el("section", { className: "sec observation" }, el("h4", {}, "observation"), longText(turn.observation)));
  }
  article.style.setProperty("--depth", Math.min(turn.depth, 6));
  return article;
}

/** Whether the calls show everything that the observation says. */
function covers(turn) {
  return turn.calls.length > 0 && turn.error === null &&
    turn.observation.replace(/<\/?tool_response>/g, "").replace(/\s/g, "") === turn.calls.map((c) => c.output).join("").replace(/\s/g, "");
}

/** Put the tokens of a turn, shaded by log-probability, in the place of its text. */
export async function colourTurn(article, run, line, index) {
  const place = article.querySelector(".written");
  let answer;
  try {
    answer = await ask("tokens", { run, line, turn: index });
  } catch (error) {
    place.after(el("p", { className: "problem" }, error.message));
    return;
  }
  if (answer.tokens !== null) {
    const pre = el("pre", { className: "tokens", dir: "ltr" });
    for (const [piece, logprob] of answer.tokens) {
      const chance = 100 * Math.exp(logprob);
      pre.append(el("span", { className: shade(logprob), title: `${number(logprob, 3)} (${number(chance, 1)} %)` }, piece));
    }
    place.replaceChildren(pre);
    return;
  }
  const rows = answer.sections.map((s) => el("li", { className: s.mean === null ? "" : shade(s.mean) },
    `${s.kind}: ${plural(s.tokens, "token")}, mean log-probability ${s.mean === null ? "unknown" : number(s.mean, 3)}`));
  place.prepend(el("div", { className: "bysection" },
    el("p", { className: "soft" }, `By section, because tokens cannot be shown one by one: ${answer.why}.`), el("ul", {}, ...rows)));
}
