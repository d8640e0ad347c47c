// Saves plans: each only once at a time, the newest state always, again and again until the server has it on its disk.

const QUIET = 500; // milliseconds without a key before what was typed is saved
const AGAIN = 1500; // milliseconds before another attempt

export class Saver {
  // `show(text, kind)` tells the reviewer; `conflict(plan, current)` resolves to the revision to build on, or null.
  constructor({ show, conflict, refused, progress }) {
    Object.assign(this, { show, conflict, refused, progress });
    this.tab = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.waiting = new Map(); // plan -> timer
    this.running = new Map(); // plan -> promise
    this.failed = new Set(); // plans that the server will not take as they are
    addEventListener("beforeunload", (event) => {
      if (!this.idle) event.preventDefault();
    });
    addEventListener("pagehide", () => this.flush(true));
  }

  get idle() {
    return this.waiting.size + this.running.size + this.failed.size === 0;
  }

  // The plan changed: save it soon, or now.
  touch(plan, now = false) {
    plan.dirty = (plan.dirty || 0) + 1;
    this.failed.delete(plan);
    clearTimeout(this.waiting.get(plan));
    this.waiting.set(plan, setTimeout(() => this.start(plan), now ? 0 : QUIET));
    this.show("Saving …", "waiting");
  }

  flush(leaving = false) {
    for (const [plan, timer] of this.waiting) {
      clearTimeout(timer);
      this.start(plan, leaving);
    }
  }

  start(plan, leaving = false) {
    if (this.running.has(plan)) {
      // What is on its way is older: begin again when it has arrived.
      this.running.get(plan).then(() => this.waiting.has(plan) && this.start(plan));
      return;
    }
    this.waiting.delete(plan);
    if (!plan.dirty) {
      this.settle();
      return;
    }
    this.running.set(plan, this.run(plan, leaving).finally(() => this.running.delete(plan)).then(() => this.settle()));
  }

  async run(plan, leaving) {
    for (;;) {
      const state = plan.dirty;
      const answer = await this.send(plan, leaving);
      if (answer.status === 200) {
        plan.revision = answer.body.revision;
        this.progress(answer.body.progress);
        if (plan.dirty === state) {
          plan.dirty = 0;
          return;
        }
      } else if (answer.status === 409) {
        const current = answer.body.current;
        const mine = await this.conflict(plan, current);
        plan.revision = current.revision;
        if (!mine) {
          plan.dirty = 0;
          return;
        }
      } else if (answer.status === 422) {
        if (!this.refused(plan, answer.body.problems)) {
          this.failed.add(plan);
          return;
        }
      } else {
        this.show(`Not saved: ${answer.body.error}. Trying again …`, "failed");
        await new Promise((resolve) => { setTimeout(resolve, AGAIN); });
      }
    }
  }

  async send(plan, leaving) {
    const { id, reviewer, revision, decision, comment } = plan;
    const steps = plan.steps.map(({ text, after }, i) => ({ number: i + 1, text, after }));
    try {
      const response = await fetch("api/save", {
        method: "POST",
        keepalive: leaving,
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ plan: id, reviewer, revision, decision, steps, comment, tab: this.tab }),
      });
      return { status: response.status, body: await response.json() };
    } catch {
      return { status: 0, body: { error: "no answer from the server" } };
    }
  }

  settle() {
    if (this.idle) this.show("Saved", "");
  }
}
