// What opens over the page: the list of plans, and the agreement of reviewers. Text is only ever set as text.

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export const byId = (id) => document.getElementById(id);

export async function ask(path, fields = {}) {
  const response = await fetch(`${path}?${new URLSearchParams(fields)}`);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body;
}

const DECISIONS = { accept: "accepted", reject: "rejected", open: "begun" };

export class PlanList {
  // `open(id)` shows a plan; `reviewer()` is whose decisions are listed.
  constructor(open, reviewer) {
    Object.assign(this, { open, reviewer, start: 0, asked: 0 });
    byId("words").addEventListener("input", () => this.load(0));
    byId("state").addEventListener("change", () => this.load(0));
    byId("earlier").addEventListener("click", () => this.load(this.start - 50));
    byId("later").addEventListener("click", () => this.load(this.start + 50));
  }

  show() {
    byId("plans-dialog").showModal();
    byId("words").focus();
    this.load(this.start);
  }

  async load(start) {
    const asked = ++this.asked;
    const fields = { reviewer: this.reviewer(), words: byId("words").value, state: byId("state").value, start: Math.max(0, start) };
    const { total, plans } = await ask("api/plans", fields);
    if (asked !== this.asked) return; // a newer question was asked meanwhile
    this.start = fields.start;
    byId("found").textContent = total === 1 ? "1 plan" : `${total.toLocaleString("en")} plans`;
    byId("earlier").disabled = this.start === 0;
    byId("later").disabled = this.start + plans.length >= total;
    byId("found-plans").replaceChildren(...plans.map((plan) => this.line(plan)));
  }

  line({ plan, number, prompt, steps, reviewers, decision }) {
    const button = element("button");
    button.type = "button";
    const state = `${decision ? `${DECISIONS[decision]}, ` : ""}${steps} steps, ${reviewers} decided`;
    const text = element("span", prompt, "text");
    text.dir = "auto";
    button.append(element("span", number, "n"), text, element("span", state, "soft"));
    button.addEventListener("click", () => {
      byId("plans-dialog").close();
      this.open(plan);
    });
    const item = element("li");
    item.append(button);
    return item;
  }
}

export async function showAgreement() {
  const found = await ask("api/agreement");
  const kappa = (value) => (value === null ? "not defined" : value.toFixed(2));
  const share = (value) => (value === null ? "–" : `${(100 * value).toFixed(0)} %`);
  const number = (value) => value.toLocaleString("en");
  const parts = [element("p", `Plans with a decision: ${number(found.decided)}; with two or more: ${number(found.shared)}.`)];
  if (found.shared) {
    parts.push(element("p", `Fleiss’ kappa over plans with two or more: ${kappa(found.fleiss)}. Two accepted versions of a plan differ in ${share(found.apart)} of their steps.`));
  }
  if (found.pairs.length) {
    const rows = found.pairs.map((p) => [`${p.first} and ${p.second}`, p.plans, share(p.observed), kappa(p.kappa)]);
    parts.push(table("Accept or reject, pair by pair", ["Reviewers", "Plans", "Same decision", "Cohen’s kappa"], rows));
  }
  if (found.sources.length) {
    const rows = found.sources.map((s) => [s.kind, s.decisions, share(s.accepted), share(s.changed)]);
    parts.push(table("Plans by where they come from", ["Source", "Decisions", "Accepted", "Steps changed"], rows));
  }
  parts.push(element("p", "Kappa is 1 where reviewers always agree and 0 where they agree as often as by chance.", "soft"));
  for (const problem of found.problems) parts.push(element("p", `Left out: ${problem}`, "problems"));
  byId("agreement-body").replaceChildren(...parts);
  byId("agreement-dialog").showModal();
}

function table(title, names, rows) {
  const made = element("table");
  const head = element("tr");
  names.forEach((name, i) => {
    const cell = element("th", name, i ? "num" : "");
    cell.scope = "col";
    head.append(cell);
  });
  const body = rows.map((row) => {
    const line = element("tr");
    row.forEach((value, i) => {
      const cell = element(i ? "td" : "th", value, i ? "num" : "");
      if (!i) cell.scope = "row";
      line.append(cell);
    });
    return line;
  });
  const [top, rest] = [element("thead"), element("tbody")];
  top.append(head);
  rest.append(...body);
  made.append(top, rest);
  const box = element("div");
  box.append(element("h3", title), made);
  return box;
}
