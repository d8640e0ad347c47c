// Steps as plain data: [{text, after: [1, 2]}]. Every function returns new steps and leaves the old ones alone, and keeps
// what steps say of each other ("after", and #2 in a text) true when their numbers change.

const REFERENCE = /#(\d+)/g;
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/u;

// The steps with other numbers: `numbers[old]` is the new one, 0 for a step that is gone.
function renumbered(steps, numbers) {
  const known = (n) => n >= 1 && n < numbers.length;
  return steps.map(({ text, after }) => ({
    text: text.replace(REFERENCE, (all, n) => (known(Number(n)) ? `#${numbers[n] || "?"}` : all)),
    after: tidy(after.map((n) => (known(n) ? numbers[n] : n)).filter((n) => n !== 0)),
  }));
}

function tidy(numbers) {
  return [...new Set(numbers)].sort((a, b) => a - b);
}

function upTo(count, place) {
  return Array.from({ length: count + 1 }, (_, n) => place(n));
}

export function copy(steps) {
  return steps.map(({ text, after }) => ({ text, after: [...after] }));
}

export function same(a, b) {
  const plain = (steps) => JSON.stringify(steps.map(({ text, after }) => [text, after]));
  return plain(a) === plain(b);
}

// A new step at index `at`.
export function insert(steps, at, text = "") {
  const moved = renumbered(steps, upTo(steps.length, (n) => (n > at ? n + 1 : n)));
  moved.splice(at, 0, { text, after: [] });
  return moved;
}

// Step `at` becomes two: the second waits for the first, and whoever waited for the step waits for the second.
export function split(steps, at, position) {
  const { text, after } = steps[at];
  const moved = renumbered(steps, upTo(steps.length, (n) => (n > at ? n + 1 : n)));
  const self = moved[at];
  const cut = renumbered([{ text: text.slice(0, position), after }, { text: text.slice(position), after: [] }],
    upTo(steps.length, (n) => (n > at ? n + 1 : n)));
  moved.splice(at, 1, { text: cut[0].text.trim(), after: self.after }, { text: cut[1].text.trim(), after: [at + 1] });
  return moved;
}

// Step `at` and the one behind it become one.
export function merge(steps, at) {
  const [a, b] = [steps[at], steps[at + 1]];
  const one = { text: `${a.text.trim()} ${b.text.trim()}`.trim(), after: [...a.after, ...b.after].filter((n) => n !== at + 1) };
  const joined = [...steps.slice(0, at), one, ...steps.slice(at + 2)];
  return renumbered(joined, upTo(steps.length, (n) => (n > at + 1 ? n - 1 : n)));
}

export function remove(steps, at) {
  const left = [...steps.slice(0, at), ...steps.slice(at + 1)];
  return renumbered(left, upTo(steps.length, (n) => (n === at + 1 ? 0 : n > at + 1 ? n - 1 : n)));
}

// Step `from` moves to index `to`.
export function move(steps, from, to) {
  const order = steps.map((_, i) => i);
  order.splice(to, 0, ...order.splice(from, 1));
  const numbers = [0];
  order.forEach((old, i) => { numbers[old + 1] = i + 1; });
  return renumbered(order.map((old) => steps[old]), numbers);
}

// "1, 2" as numbers.
export function readNumbers(text) {
  return tidy((text.match(/\d{1,3}/g) || []).map(Number));
}

// What keeps the steps from being a plan, as [index of the step, sentence].
export function problems(steps) {
  if (!steps.length) return [[-1, "A plan has at least one step."]];
  const found = [];
  steps.forEach(({ text, after }, i) => {
    if (!text.trim()) found.push([i, `Step ${i + 1} is empty.`]);
    for (const n of after) {
      if (n < 1 || n > i) found.push([i, `Step ${i + 1} cannot wait for step ${n}: it can only wait for steps before it.`]);
    }
  });
  return found;
}

// What a reviewer should know of, though it may be right.
export function remarks(steps) {
  const found = [];
  steps.forEach(({ text, after }, i) => {
    const unseen = text.match(UNSEEN);
    if (unseen) {
      const code = unseen[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      found.push(`Step ${i + 1} holds a character that cannot be seen (U+${code}).`);
    }
    for (const [, n] of text.matchAll(/#(\d+|\?)/g)) {
      if (n === "?" || Number(n) > i || Number(n) < 1) found.push(`Step ${i + 1} refers to #${n}, which is no earlier step.`);
      else if (!after.includes(Number(n))) found.push(`Step ${i + 1} refers to #${n} and does not wait for it.`);
    }
  });
  return found;
}
