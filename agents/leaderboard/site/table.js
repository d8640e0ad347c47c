"use strict";
// Sorting and filtering of the tables that are there already; without it they are sorted by accuracy.
for (const section of document.querySelectorAll("section[data-board]")) {
  const table = section.querySelector("table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const keys = rows.map((row) => Array.from(row.cells, (cell) => {
    const value = cell.dataset.v;
    if (value === undefined) return cell.textContent.toLowerCase();
    return value === "" ? null : Number(value);
  }));
  const names = rows.map((row) => row.cells[1].textContent.toLowerCase());
  const shown = section.querySelector("output");

  function sort(column, descending) {
    const order = rows.map((_, i) => i);
    order.sort((a, b) => {
      const x = keys[a][column], y = keys[b][column];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      const less = x < y ? -1 : x > y ? 1 : 0;
      return (descending ? -less : less) || a - b;
    });
    const sorted = document.createDocumentFragment();
    for (const i of order) sorted.append(rows[i]);
    body.append(sorted);
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      sort(column, before === null ? head.dataset.first === "down" : before === "ascending");
    });
  });

  const search = section.querySelector("input[type=search]");
  const least = section.querySelector("input[type=number]");
  const verified = section.querySelector("input[type=checkbox]");
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const bound = least.value === "" ? -Infinity : Number(least.value) / 100;
    let count = 0;
    rows.forEach((row, i) => {
      const visible = words.every((word) => names[i].includes(word))
        && keys[i][2] >= bound && (!verified.checked || row.dataset.verified === "1");
      row.hidden = !visible;
      count += visible;
    });
    shown.value = `${count} of ${rows.length} runs`;
  }
  for (const input of [search, least, verified]) input.addEventListener("input", filter);
  section.querySelector(".controls").hidden = false;
  filter();
}
