// One episode: what came of it, the plan beside the turns, the tree of contexts.

import { ask, el, longText, number, plural } from "./dom.js";
import { scoreTable, sectionBar, sectionFigure } from "./bars.js";
import { SCALE, colourTurn, turnArticle, turnId } from "./turn.js";

const BEGINNINGS = {
  root: "begins", sub_call: "a sub-task", after_summary: "begins again after a summary", trimmed: "begins again, its oldest turns dropped",
};

/** Show an episode in `place`; `key` tells two episodes on one page apart. */
export async function showEpisode(place, key, run, line) {
  place.setAttribute("aria-busy", "true");
  let episode;
  try {
    episode = await ask("episode", { run, line });
  } catch (error) {
    place.replaceChildren(el("p", { className: "problem" }, error.message));
    return null;
  } finally {
    place.removeAttribute("aria-busy");
  }
  const raw = el("a", { href: `raw?run=${run}&line=${line}`, download: "episode.jsonl" }, `raw line (${number(episode.bytes)} bytes)`);
  if (episode.damaged) {
    place.replaceChildren(el("h2", {}, `${episode.run}, line ${line + 1}`), el("p", { className: "problem" }, episode.damaged),
      longText(episode.prompt), el("p", {}, raw));
    return null;
  }
  const turns = el("div", { className: "turns" });
  const plans = el("aside", { className: "plans", "aria-label": "Plan" }, ...planSections(key, episode));
  const head = header(episode, raw);
  const colours = el("button", { type: "button", className: "colours", "aria-pressed": "false" }, "Colour by log-probability");
  const scale = el("ul", { className: "scale", hidden: true }, ...SCALE.map(([name, text]) => el("li", {}, el("i", { className: name }), text)));
  place.replaceChildren(head, ...contexts(key, episode), el("div", { className: "bench" }, plans,
    el("div", {}, el("div", { className: "row" }, el("h3", { className: "title" }, plural(episode.turn_count, "turn")), colours, scale), turns)));
  const state = { segment: -1 };
  addTurns(turns, key, episode, state);
  const more = el("button", { type: "button", className: "rest" }, "Show more turns");
  more.hidden = episode.turns.length >= episode.turn_count;
  turns.after(more);
  more.addEventListener("click", async () => {
    const next = await ask("episode", { run, line, start: episode.turns.length });
    const added = { ...next, turns: next.turns };
    episode.turns.push(...next.turns);
    addTurns(turns, key, added, state);
    more.hidden = episode.turns.length >= episode.turn_count;
    if (colours.getAttribute("aria-pressed") === "true") paint();
  });
  async function paint() {
    for (const article of turns.querySelectorAll("article:not(.painted)")) {
      article.classList.add("painted");
      await colourTurn(article, run, line, Number(article.id.split("-turn-")[1]) - 1);
    }
  }
  colours.addEventListener("click", async () => {
    const on = colours.getAttribute("aria-pressed") !== "true";
    colours.setAttribute("aria-pressed", String(on));
    scale.hidden = !on;
    if (on) return paint();
    turns.replaceChildren();
    state.segment = -1;
    addTurns(turns, key, episode, state);
  });
  return episode;
}

function header(episode, raw) {
  const right = episode.correct && episode.status !== "fault";
  const verdict = episode.status === "fault" ? "Fault" : right ? "✓ Right" : "✗ Wrong";
  const facts = el("dl", {});
  const add = (name, value) => value !== null && value !== "" && facts.append(el("dt", {}, name), el("dd", {}, value));
  add("Ended", `${episode.status}${episode.stop_reason ? ` (${episode.stop_reason})` : ""}${episode.retries ? `, after ${plural(episode.retries, "retry").replace("retrys", "retries")}` : ""}`);
  add("Fault", episode.fault);
  add("Answered", episode.answer);
  add("Expected", episode.expected);
  add("Difficulty", episode.difficulty === null ? null : number(episode.difficulty, 3));
  const { tokens, total } = episode.critical;
  add("Sampled", `${plural(episode.sampled, "token")}, ${number(episode.given)} read${total > tokens ? `; critical path ${number(tokens)} of ${number(total)}` : ""}`);
  const more = el("dl", { className: "terms" });
  for (const [name, value] of [["Environment", episode.env], ["Window", episode.window], ["Seed", episode.seed],
    ["Usage", Object.entries(episode.usage).map(([k, v]) => `${k} ${number(v, 2)}`).join(", ")]]) {
    more.append(el("dt", {}, name), el("dd", {}, value));
  }
  return el("header", {},
    el("p", { className: "where soft" }, `${episode.run}, line ${episode.line + 1} · `, raw),
    el("h2", {}, episode.id),
    ...episode.problems.map((problem) => el("p", { className: "problem" }, problem)),
    longText(episode.prompt, "prompt"),
    el("div", { className: "facts" },
      el("div", {}, el("p", { className: `verdict ${right ? "met" : "missed"}` }, verdict), facts),
      scoreTable(episode.scores, episode.weights, episode.reward)),
    sectionFigure(episode.sections, episode.sampled),
    el("details", {}, el("summary", {}, "Environment, window, usage"), more));
}

function planSections(key, episode) {
  if (!episode.plans.length) return [el("p", { className: "soft" }, "No plan.")];
  const versions = new Map();
  episode.plans.forEach((plan) => versions.set(plan.task, (versions.get(plan.task) ?? 0) + 1));
  const seen = new Map();
  const sections = episode.plans.map((plan) => {
    const version = (seen.get(plan.task) ?? 0) + 1;
    seen.set(plan.task, version);
    const old = version < versions.get(plan.task);
    const steps = plan.steps.map((step) => el("li", { value: step.number }, step.text,
      step.after.length ? el("small", {}, ` after ${step.after.join(", ")}`) : null,
      el("span", { className: "served" }, ...served(key, episode, step))));
    const name = plan.depth ? `Plan of the sub-task in context ${plan.task + 1}` : "Plan";
    return el("section", { className: old ? "plan old" : "plan" },
      el("h3", {}, versions.get(plan.task) > 1 ? `${name}, version ${version} of ${versions.get(plan.task)}` : name,
        el("small", {}, " from ", jump(key, plan.turn), old ? " replaced" : "")),
      el("ol", {}, ...steps));
  });
  if (episode.left_out_plans) sections.push(el("p", { className: "soft" }, `and ${plural(episode.left_out_plans, "more plan")}`));
  return sections;
}

function served(key, episode, step) {
  if (!step.served_by.length) return [el("small", { className: "soft" }, "no call says that it serves this")];
  const turns = [...new Set(step.served_by.map(([turn]) => turn))];
  return turns.slice(0, 20).map((turn) => jump(key, turn));
}

function jump(key, turn) {
  const link = el("button", { type: "button", className: "jump" }, `turn ${turn + 1}`);
  link.addEventListener("click", () => {
    const article = document.getElementById(turnId(key, turn));
    if (!article) return;
    article.scrollIntoView({ block: "start" });
    article.focus({ preventScroll: true });
  });
  return link;
}

function contexts(key, episode) {
  if (episode.segments.length < 2) return [];
  const widest = Math.max(...episode.segments.map((s) => s.sampled));
  const items = episode.segments.map((segment, index) => {
    const item = el("li", { className: segment.critical ? "critical" : "" },
      el("span", { className: "name" }, `Context ${index + 1}: ${BEGINNINGS[segment.kind]} `,
        segment.first_turn === null ? null : jump(key, segment.first_turn)),
      el("span", { className: "soft" }, `${number(segment.sampled)} sampled, ${number(segment.given)} read`),
      sectionBar(segment.parts, widest),
      el("span", { className: segment.critical ? "tag critical" : "soft" }, segment.critical ? "critical path" : "beside it"));
    item.style.setProperty("--depth", Math.min(segment.depth, 6));
    return item;
  });
  if (episode.left_out_segments) items.push(el("li", { className: "soft" }, `and ${number(episode.left_out_segments)} more contexts`));
  const box = el("details", { className: "contexts" }, el("summary", {}, `${number(episode.segments.length + episode.left_out_segments)} contexts; the critical path samples ${number(episode.critical.tokens)} of ${plural(episode.critical.total, "token")}`), el("ol", {}, ...items));
  box.open = episode.segments.length <= 12;
  return [box];
}

function addTurns(place, key, episode, state) {
  for (const turn of episode.turns) {
    if (turn.segment !== state.segment) {
      const segment = episode.segments[turn.segment];
      const again = segment && segment.first_turn !== turn.index;
      const what = again || !segment ? `back in context ${turn.segment + 1}` : `Context ${turn.segment + 1}: ${BEGINNINGS[segment.kind]}, ${plural(segment.given, "token")} read`;
      if (state.segment >= 0 || turn.segment > 0) {
        const divider = el("div", { className: `divider${segment?.critical ? " critical" : ""}` }, el("p", {}, what));
        if (!again && segment?.carried) divider.append(el("p", { className: "soft" }, "Carried over, with task and plan:"), longText(segment.carried, "carried"));
        divider.style.setProperty("--depth", Math.min(turn.depth, 6));
        place.append(divider);
      }
      state.segment = turn.segment;
    }
    place.append(turnArticle(key, turn, episode));
  }
}
