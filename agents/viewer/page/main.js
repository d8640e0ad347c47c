// The page: what is open stands in the address, keys go with the mouse.

import { ask, el, number } from "./dom.js";
import { EpisodeList } from "./list.js";
import { showEpisode } from "./episode.js";

const field = (id) => document.getElementById(id);
const list = new EpisodeList((run, line) => { location.hash = `run=${run}&line=${line}`; });
let opened = "";

function address() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

async function show() {
  const { run, line, beside, with: other } = address();
  document.body.classList.toggle("reading", line !== undefined);
  if (line === undefined) {
    opened = "";
    list.select(null);
    return;
  }
  const now = [run, line, beside, other].join();
  if (now === opened) return;
  opened = now;
  if (field("run").value !== run) {
    field("run").value = run;
    list.refresh();
  }
  list.select(Number(line));
  const place = field("episode");
  const back = el("p", { className: "back" }, el("a", { href: "#" }, "← All episodes"));
  const first = el("div", { className: "one" });
  const pair = el("div", { className: beside === undefined ? "" : "pair" }, first);
  const tools = el("div", { className: "row compare" }, compareField(run, line, beside));
  place.replaceChildren(back, tools, pair);
  place.scrollTop = 0;
  window.scrollTo(0, 0);
  const episode = await showEpisode(first, "a", run, Number(line));
  document.title = episode ? episode.id : "Episodes";
  if (beside === undefined || !episode) return;
  const second = el("div", { className: "one" });
  pair.append(second);
  await showOther(second, tools, episode);
}

/** The episodes of another run on the same task; the one that is asked for, or the first. */
async function showOther(place, tools, episode) {
  const { run, line, beside, with: other } = address();
  let found;
  try {
    found = await ask("episodes", { run: beside, task_id: episode.task_id, count: 200 });
  } catch (error) {
    place.replaceChildren(el("p", { className: "problem" }, error.message));
    return;
  }
  const same = found.rows.filter((row) => !(beside === run && row.line === Number(line)));
  if (!same.length) {
    place.replaceChildren(el("p", { className: "empty" }, `No other episode of this task in ${found.name}${found.reading ? ", as far as it is read" : ""}.`));
    return;
  }
  const select = el("select", {}, ...same.map((row) => el("option", { value: row.line }, `${row.id} (reward ${number(row.reward, 3)})`)));
  const chosen = same.find((row) => row.line === Number(other)) ?? same[0];
  select.value = chosen.line;
  select.addEventListener("change", () => { location.hash = `run=${run}&line=${line}&beside=${beside}&with=${select.value}`; });
  if (same.length > 1) tools.append(el("label", { className: "field" }, "Its episode ", select));
  await showEpisode(place, "b", beside, chosen.line);
}

function compareField(run, line, beside) {
  const select = el("select", {}, el("option", { value: "" }, "nothing"),
    ...[...field("run").options].map(({ value, text }) => el("option", { value }, value === run ? `${text} (this run)` : text)));
  select.value = beside ?? "";
  select.addEventListener("change", () => {
    location.hash = `run=${run}&line=${line}${select.value === "" ? "" : `&beside=${select.value}`}`;
  });
  return el("label", { className: "field" }, "Beside it ", select);
}

function stepTurn(by) {
  const turns = [...document.querySelectorAll("article.turn")];
  if (!turns.length) return;
  const at = turns.indexOf(document.activeElement?.closest("article.turn"));
  const next = turns[Math.min(turns.length - 1, Math.max(0, at + by))];
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "start" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "") && document.activeElement.type !== "checkbox";
  if (event.key === "Escape") {
    if (typing) document.activeElement.blur();
    else location.hash = "";
    return;
  }
  if (typing) return;
  const keys = {
    j: () => list.step(1), k: () => list.step(-1), n: () => stepTurn(1), p: () => stepTurn(-1),
    "/": () => field("search").focus(), c: () => document.querySelectorAll(".colours").forEach((button) => button.click()),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

window.addEventListener("hashchange", show);
field("skip").addEventListener("click", (event) => {
  event.preventDefault();
  field("episode").focus();
});
await list.showRuns();
if (address().run !== undefined) field("run").value = address().run;
list.refresh();
show();
