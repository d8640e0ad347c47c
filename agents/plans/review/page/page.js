// The review page: one plan at a time, everything by keyboard, every change undoable and saved.
// Text of tasks, models and people is only ever set as text or as the value of a field.

import { PlanList, ask, byId, element, showAgreement } from "./dialogs.js";
import { Saver } from "./saving.js";
import * as change from "./steps.js";

const BURST = 1000; // milliseconds: typing without a longer pause is undone at once
const NAME = "forethought-reviewer";
const LABELS = { accept: "accepted", reject: "rejected", open: "" };

const opened = new Map(); // reviewer and id -> plan, with its undo history and what is not saved yet
const trail = []; // ids of the plans that were on the screen
let reviewer = "";
let current = null;

const saver = new Saver({
  show(text, kind) {
    byId("saved").textContent = text;
    byId("saved").className = `saved ${kind}`;
  },
  progress: showProgress,
  conflict: askWhichVersion,
  refused(plan, problems) {
    if (plan.decision === "accept") {
      plan.decision = "open";
      if (plan === current) showState(problems);
      return true;
    }
    this.show(`Not saved: ${problems.join(" ")}`, "failed");
    return false;
  },
});
const list = new PlanList(openPlan, () => reviewer);

// ---- plans on the screen

async function openPlan(id, remember = true) {
  const key = `${reviewer}\n${id}`;
  let found;
  try {
    found = await ask("api/plan", { plan: id, reviewer });
  } catch (error) {
    saver.show(`Cannot open the plan: ${error.message}`, "failed");
    return;
  }
  const known = opened.get(key);
  const plan = known && (known.dirty || known.revision === found.revision) ? known : { ...found, id, reviewer, past: [], future: [], typing: null };
  plan.following = found.following;
  plan.previous = found.previous;
  opened.set(key, plan);
  if (current && current !== plan && remember) trail.push(current.id);
  current = plan;
  document.querySelector("main").hidden = document.querySelector(".actions").hidden = false;
  byId("finished").hidden = true;
  showTask(plan, found);
  showSteps(); // on the screen by now: fields are as high as their text
  showProgress(found.progress);
  byId("comment").value = plan.comment;
  scrollTo(0, 0);
  byId("task-title").focus();
}

async function openNext() {
  let found;
  try {
    found = await ask("api/next", current ? { reviewer, after: current.id } : { reviewer });
  } catch (error) {
    saver.show(`No answer from the server (${error.message}): try again`, "failed");
    return;
  }
  showProgress(found.progress);
  if (found.plan !== null) {
    await openPlan(found.plan);
    return;
  }
  if (current) trail.push(current.id);
  current = null;
  document.querySelector("main").hidden = document.querySelector(".actions").hidden = true;
  byId("finished").hidden = false;
  byId("finished").focus();
}

function goBack() {
  const id = trail.pop() ?? current?.previous;
  if (id) openPlan(id, false);
}

function showProgress({ plans, complete, mine, wanted }) {
  byId("bar").max = plans;
  byId("bar").value = mine;
  const number = (n) => n.toLocaleString("en");
  const each = wanted === 1 ? "a reviewer" : `${wanted} reviewers`;
  byId("progress").textContent = `${number(mine)} of ${number(plans)} decided by you, ${number(complete)} have ${each}`;
}

function showTask(plan, found) {
  byId("number").textContent = `${found.number.toLocaleString("en")}`;
  byId("prompt").textContent = plan.prompt;
  byId("answer").textContent = plan.answer;
  byId("answer-line").hidden = !plan.answer;
  byId("facts").replaceChildren(...plan.facts.map((fact) => element("li", fact)));
  byId("facts-box").hidden = !plan.facts.length;
  byId("instructions").textContent = plan.instructions;
  byId("instructions-box").hidden = !plan.instructions;
  const { kind, source, author, made, original, notes } = plan.source;
  const rows = [["Written by", author], ["Kind", kind], ["Source", source], ["Drafted", made], ["Id", plan.id], ...notes.map((note) => ["Note", note])];
  byId("source").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  byId("original").textContent = original;
}

// ---- steps

function showSteps() {
  byId("steps").replaceChildren(...current.steps.map(stepLine));
  for (const field of byId("steps").querySelectorAll("textarea")) grow(field);
  showState();
}

function stepLine(step, i) {
  const line = element("li", "", "step");
  const text = element("textarea");
  text.rows = 1;
  text.maxLength = 10000;
  text.value = step.text;
  text.dir = "auto";
  text.setAttribute("aria-label", `Step ${i + 1}`);
  text.addEventListener("input", () => typed(text, i));
  text.addEventListener("paste", (event) => pasted(event, text, i));
  const waits = element("label", "waits for", "waits");
  const after = element("input");
  after.value = step.after.join(", ");
  after.inputMode = "numeric";
  after.placeholder = "nothing";
  after.setAttribute("aria-label", `Step ${i + 1} waits for steps`);
  after.addEventListener("input", () => edit(`after ${i}`, (steps) => { steps[i].after = change.readNumbers(after.value); }));
  after.addEventListener("change", () => { after.value = current.steps[i].after.join(", "); });
  waits.append(after);
  const tools = element("span", "", "tools");
  const last = current.steps.length - 1;
  for (const [label, sign, key, off, act] of [
    ["up", "↑", "Alt+ArrowUp", i === 0, () => moveStep(i, -1)],
    ["down", "↓", "Alt+ArrowDown", i === last, () => moveStep(i, 1)],
    ["split at the cursor", "⎇", "Enter", false, () => splitStep(i, text.selectionStart)],
    ["merge with the next", "⊕", "Alt+M", i === last, () => mergeStep(i)],
    ["delete", "×", "Alt+X", false, () => removeStep(i)],
  ]) {
    const button = element("button", sign);
    button.type = "button";
    button.tabIndex = -1; // every one has a key
    button.disabled = off;
    button.title = `${label} (${key.replace("Arrow", "")})`;
    button.setAttribute("aria-label", `Step ${i + 1}: ${label}`);
    button.setAttribute("aria-keyshortcuts", key);
    button.addEventListener("click", act);
    tools.append(button);
  }
  line.append(element("span", i + 1, "n"), text, tools, waits);
  return line;
}

const BREAK = /\r\n|[\r\n\u2028\u2029]/;

function typed(field, i) {
  if (BREAK.test(field.value)) field.value = field.value.split(BREAK).join(" "); // a step is one line
  edit(`text ${i}`, (steps) => { steps[i].text = field.value; });
  grow(field);
}

// Pasted lines become a step each.
function pasted(event, field, i) {
  const lines = event.clipboardData.getData("text/plain").split(BREAK).filter((line) => line.trim());
  if (lines.length < 2) return;
  event.preventDefault();
  const { selectionStart: start, selectionEnd: end, value } = field;
  const parts = [value.slice(0, start) + lines[0], ...lines.slice(1, -1), lines.at(-1) + value.slice(end)];
  restructure((steps) => {
    let made = steps;
    made[i].text = parts[0].trim();
    parts.slice(1).forEach((part, n) => { made = change.insert(made, i + 1 + n, part.trim()); });
    return made;
  }, i + parts.length - 1, lines.at(-1).trim().length);
}

function grow(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}

function showState(told = []) {
  const { steps, decision, past, future } = current;
  const wrong = change.problems(steps);
  byId("count").textContent = steps.length === 1 ? "1 step" : `${steps.length} steps`;
  byId("decision").textContent = LABELS[decision];
  byId("decision").className = `decision ${decision}`;
  const remarks = change.remarks(steps).map((text) => element("li", text, "remark"));
  byId("problems").replaceChildren(...[...wrong.map(([, text]) => text), ...told].map((text) => element("li", text)), ...remarks);
  [...byId("steps").children].forEach((line, i) => line.classList.toggle("wrong", wrong.some(([at]) => at === i)));
  byId("accept").disabled = wrong.length > 0;
  byId("undo").disabled = !past.length;
  byId("redo").disabled = !future.length;
  byId("back").disabled = !trail.length && !current.previous;
}

// ---- changes, each of which can be undone

const snapshot = ({ steps, comment, decision }) => ({ steps: change.copy(steps), comment, decision });

// Changes the steps: `act` changes the copy that it is given or returns another one. Changes of one `kind` that follow
// each other without a pause are undone together.
function edit(kind, act) {
  update(kind, (plan) => {
    const steps = change.copy(plan.steps);
    plan.steps = act(steps) ?? steps;
    if (plan.decision === "accept" && change.problems(plan.steps).length) plan.decision = "open";
  });
}

function update(kind, act) {
  const plan = current;
  const before = snapshot(plan);
  act(plan);
  const burst = kind !== null && plan.typing?.kind === kind && performance.now() - plan.typing.at < BURST;
  if (!burst) plan.past.push(before);
  plan.future = [];
  plan.typing = kind === null ? null : { kind, at: performance.now() };
  showState();
  saver.touch(plan, kind === null);
}

function travel(from, to) {
  const plan = current;
  if (!plan || !plan[from].length) return;
  plan[to].push(snapshot(plan));
  Object.assign(plan, plan[from].pop(), { typing: null });
  const at = stepIndex();
  byId("comment").value = plan.comment;
  showSteps();
  if (at >= 0) focusStep(Math.min(at, plan.steps.length - 1));
  saver.touch(plan, true);
}

function restructure(act, focus, position) {
  edit(null, act);
  showSteps();
  focusStep(focus, position);
}

const moveStep = (i, by) => {
  if (current.steps[i + by]) restructure((steps) => change.move(steps, i, i + by), i + by, "keep");
};
const splitStep = (i, position) => {
  const { text } = current.steps[i];
  if (!text.slice(position).trim()) restructure((steps) => change.insert(steps, i + 1), i + 1);
  else if (!text.slice(0, position).trim()) restructure((steps) => change.insert(steps, i), i);
  else restructure((steps) => change.split(steps, i, position), i + 1, 0);
};
const removeStep = (i) => restructure((steps) => change.remove(steps, i), Math.max(0, Math.min(i, current.steps.length - 2)));
const mergeStep = (i) => {
  if (current.steps[i + 1]) restructure((steps) => change.merge(steps, i), i, current.steps[i].text.trim().length);
};

function decide(decision) {
  if (!current || (decision === "accept" && change.problems(current.steps).length)) return;
  update(null, (plan) => { plan.decision = decision; });
  openNext();
}

function askWhichVersion(plan, other) {
  const lines = (steps) => steps.map(({ text, after }) => element("li", after.length ? `${text} (after ${after.join(", ")})` : text));
  byId("other-steps").replaceChildren(...lines(other.steps));
  byId("own-steps").replaceChildren(...lines(plan.steps));
  const dialog = byId("conflict-dialog");
  return new Promise((resolve) => {
    const choose = (mine) => {
      dialog.close();
      if (!mine) {
        plan.past.push(snapshot(plan));
        plan.future = [];
        Object.assign(plan, { steps: change.copy(other.steps), comment: other.comment, decision: other.decision });
        if (plan === current) {
          byId("comment").value = plan.comment;
          showSteps();
        }
      }
      resolve(mine);
    };
    byId("take-other").onclick = () => choose(false);
    byId("keep-own").onclick = () => choose(true);
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
  });
}

// ---- keys

const fields = () => [...byId("steps").querySelectorAll("textarea")];
const lineOf = (target) => (target instanceof Element ? target.closest(".step") : null);
const stepIndex = (target = document.activeElement) => [...byId("steps").children].indexOf(lineOf(target));

function focusStep(i, position) {
  const field = fields()[i];
  if (!field) return;
  field.focus();
  if (position !== "keep") field.setSelectionRange(position ?? field.value.length, position ?? field.value.length);
}

const ALT = {
  KeyA: () => decide("accept"),
  KeyR: () => decide("reject"),
  KeyN: openNext,
  KeyP: goBack,
  KeyC: () => byId("comment").focus(),
  KeyL: () => list.show(),
  KeyG: showAgreement,
  KeyK: () => byId("keys-dialog").showModal(),
};
const ALT_IN_STEP = {
  KeyX: removeStep,
  KeyM: mergeStep,
  KeyW: (i, target) => lineOf(target).querySelector(target.tagName === "TEXTAREA" ? "input" : "textarea").focus(),
  ArrowUp: (i) => moveStep(i, -1),
  ArrowDown: (i) => moveStep(i, 1),
};

function pressed(event) {
  if (document.querySelector("dialog[open]") || event.isComposing) return;
  const { code, target } = event;
  const command = (event.ctrlKey || event.metaKey) && !event.altKey;
  const at = stepIndex(target);
  let act = null;
  if (event.altKey && !event.ctrlKey && !event.metaKey) {
    if (at >= 0 && ALT_IN_STEP[code]) act = () => ALT_IN_STEP[code](at, target);
    else if (current || code === "KeyL" || code === "KeyG" || code === "KeyK" || code === "KeyP") act = ALT[code];
  } else if (command && current && (code === "KeyZ" || code === "KeyY")) {
    act = code === "KeyY" || event.shiftKey ? () => travel("future", "past") : () => travel("past", "future");
  } else if (command && code === "Enter") {
    act = () => decide("accept");
  } else if (!command && !event.shiftKey && target.tagName === "TEXTAREA" && at >= 0) {
    act = inStep(event.key, target, at);
  }
  if (act) {
    event.preventDefault();
    act();
  }
}

function inStep(key, field, at) {
  const { selectionStart: start, selectionEnd: end, value } = field;
  if (key === "Enter") return () => splitStep(at, start);
  if (start !== end) return null;
  if (key === "Backspace" && start === 0 && at > 0) return () => mergeStep(at - 1);
  if (key === "Delete" && start === value.length && at + 1 < current.steps.length) return () => mergeStep(at);
  if (key === "ArrowUp" && start === 0 && at > 0) return () => focusStep(at - 1);
  if (key === "ArrowDown" && start === value.length && at + 1 < current.steps.length) return () => focusStep(at + 1);
  return null;
}

// ---- beginning

async function begin(name) {
  if (current && name !== reviewer) trail.length = 0;
  reviewer = name;
  localStorage.setItem(NAME, name);
  byId("who").textContent = name;
  current = null;
  await openNext();
}

function askName() {
  byId("name").value = reviewer;
  byId("name-dialog").showModal();
  byId("name").select();
}

byId("name-dialog").addEventListener("cancel", (event) => reviewer || event.preventDefault());
byId("name-dialog").querySelector("form").addEventListener("submit", () => {
  const name = byId("name").value.split(/\s+/).filter(Boolean).join(" ");
  if (name !== reviewer) begin(name);
});
byId("comment").addEventListener("input", () => update("comment", (plan) => { plan.comment = byId("comment").value; }));
const CLICKS = {
  accept: () => decide("accept"), reject: () => decide("reject"), next: openNext, back: goBack, who: askName,
  undo: () => travel("past", "future"), redo: () => travel("future", "past"),
  add: () => restructure((steps) => change.insert(steps, steps.length), current.steps.length),
  plans: () => list.show(), "finished-plans": () => list.show(), agreement: showAgreement, "finished-agreement": showAgreement,
  keys: () => byId("keys-dialog").showModal(),
};
for (const [id, act] of Object.entries(CLICKS)) byId(id).addEventListener("click", () => act());
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
addEventListener("keydown", pressed);
addEventListener("resize", () => fields().forEach(grow));

const known = localStorage.getItem(NAME);
if (known) begin(known);
else askName();
