// The list of episodes: search, filters, order; it follows a run that is still growing.

import { ask, el, number, plural } from "./dom.js";

const FILTERS = {
  failed: "failed", replanned: "re-planned", looped: "looped", truncated: "truncated", fault: "faults",
  summarised: "restarted", sub_calls: "sub-calls", format_error: "malformed", unsound: "unsound", damaged: "damaged",
};
const SPOKEN = { "✓": "right", "✗": "wrong", "!": "fault or damaged" };
const TAIL = 14; // ids of one run often begin alike
const PAGE = 100;
const MOST = 5000; // more is for the search
const field = (id) => document.getElementById(id);

export class EpisodeList {
  constructor(open) {
    this.open = open;
    this.count = PAGE;
    this.shown = "";
    this.lines = [];
    this.selected = null;
    this.turn = 0;
    for (const [name, text] of Object.entries(FILTERS)) {
      const box = el("input", { type: "checkbox", value: name });
      field("flags").append(el("label", {}, box, text));
    }
    for (const id of ["run", "search", "flags", "score", "low", "high", "sort"]) {
      field(id).addEventListener("input", () => {
        this.count = PAGE;
        if (id === "run") this.selected = null;
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.refresh(), id === "search" ? 150 : 0);
      });
    }
    field("more").addEventListener("click", () => {
      this.count += PAGE;
      this.refresh();
    });
  }

  get run() {
    return Number(field("run").value || 0);
  }

  query() {
    const flags = [...field("flags").querySelectorAll("input:checked")].map((box) => box.value).join(",");
    const value = (id) => field(id).value;
    return { run: this.run, search: value("search"), flags, score: value("score"), low: value("low"), high: value("high"), sort: value("sort") };
  }

  /** Ask for the list, and ask again after a while: at once more often while the run is being read. */
  async refresh() {
    const turn = ++this.turn;
    clearTimeout(this.again);
    let wait = 2000;
    try {
      const answer = await ask("episodes", { ...this.query(), count: this.count });
      if (turn !== this.turn) return;
      this.show(answer);
      await this.showRuns();
      if (turn !== this.turn) return;
      if (answer.reading) wait = 400;
    } catch (error) {
      if (turn !== this.turn) return;
      field("problems").replaceChildren(el("li", { className: "problem" }, error.message));
    }
    this.again = setTimeout(() => (document.hidden ? this.later() : this.refresh()), wait);
  }

  later() {
    document.addEventListener("visibilitychange", () => this.refresh(), { once: true });
  }

  show(answer) {
    const read = answer.reading ? `, ${Math.floor((100 * answer.read_bytes) / Math.max(1, answer.file_bytes))} % read` : "";
    const counts = `${number(answer.matches)} of ${plural(answer.lines, "episode")}${read}`;
    if (field("counts").textContent !== counts) field("counts").textContent = counts;
    const shown = [...field("problems").children].map((item) => item.textContent);
    if (shown.join("\n") !== answer.problems.join("\n")) field("problems").replaceChildren(...answer.problems.map((p) => el("li", { className: "problem" }, p)));
    this.showScores(answer.scores);
    field("more").hidden = answer.rows.length >= answer.matches || answer.rows.length >= MOST;
    const now = JSON.stringify([this.run, answer.generation, answer.rows]);
    if (now === this.shown) return;
    this.shown = now;
    this.lines = answer.rows.map((row) => row.line);
    const focused = document.activeElement?.dataset?.line;
    field("rows").replaceChildren(...answer.rows.map((row) => this.row(row)));
    if (focused !== undefined) field("rows").querySelector(`a[data-line="${focused}"]`)?.focus({ preventScroll: true });
  }

  /** The runs to choose from; a running recipe adds to them. */
  async showRuns() {
    const { runs } = await ask("runs");
    const select = field("run");
    for (const name of runs.slice(select.options.length)) {
      select.append(el("option", { value: select.options.length }, name));
    }
    field("run-field").hidden = runs.length < 2;
  }

  showScores(names) {
    const select = field("score");
    if ([...select.options].map((o) => o.value).join() === names.join()) return;
    const value = select.value;
    select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    if (names.includes(value)) select.value = value;
  }

  row(row) {
    const damaged = row.flags.includes("damaged");
    const verdict = damaged ? ["missed", "!"] : row.flags.includes("fault") ? ["missed", "!"]
      : row.flags.includes("failed") ? ["missed", "✗"] : ["met", "✓"];
    const notes = row.flags.filter((flag) => flag !== "failed");
    const link = el("a", { href: `#run=${this.run}&line=${row.line}`, "data-line": row.line, "aria-current": row.line === this.selected ? "true" : null },
      el("span", { className: `mark ${verdict[0]}` }, SPOKEN[verdict[1]] ? el("span", { className: "aloud" }, SPOKEN[verdict[1]]) : null,
        el("span", SPOKEN[verdict[1]] ? { "aria-hidden": "true" } : {}, verdict[1])),
      el("span", { className: "id", title: row.id }, el("span", {}, row.id.slice(0, -TAIL)), el("span", {}, row.id.slice(-TAIL))),
      el("span", { className: "task" }, damaged ? row.stop_reason : row.prompt),
      el("span", { className: "numbers soft" }, damaged ? `line ${row.line + 1}` : `reward ${number(row.reward, 3)} · ${plural(row.turns, "turn")} · ${plural(row.tokens, "token")}`),
      notes.length ? el("span", { className: "tags" }, ...notes.map((flag) => el("span", { className: "tag" }, FILTERS[flag] ?? flag))) : null);
    return el("li", {}, link);
  }

  select(line) {
    this.selected = line;
    for (const link of field("rows").querySelectorAll("a")) {
      if (Number(link.dataset.line) === line) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  /** Open the next or the previous episode of the list. */
  step(by) {
    if (!this.lines.length) return;
    const at = this.lines.indexOf(this.selected);
    const next = at < 0 ? 0 : Math.min(this.lines.length - 1, Math.max(0, at + by));
    this.open(this.run, this.lines[next]);
    field("rows").querySelector(`a[data-line="${this.lines[next]}"]`)?.scrollIntoView({ block: "nearest" });
  }
}
