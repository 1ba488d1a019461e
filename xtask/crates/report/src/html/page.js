// SPDX-License-Identifier: MIT OR Apache-2.0
// Filters, keys, and details beside the matrix. Everything is in the page without this.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const rows = [...document.querySelectorAll(".matrix tbody tr")];
  const text = document.getElementById("filter-text");
  const boxes = [...document.querySelectorAll("input[name=outcome]")];
  const count = document.getElementById("filter-count");
  const heads = rows.map((row) => [...row.closest("table").querySelectorAll("thead th")].map((th) => th.textContent));
  const said = rows.map((row, at) => [row.textContent, ...heads[at],
    ...[...row.querySelectorAll("a")].map((a) => a.dataset.why)].join("\n").toLowerCase());
  // The cell that details were opened from: focus goes back there.
  let opener = null;

  function apply() {
    if (!text) return;
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, at) => {
      const outcome = row.dataset.outcomes.split(" ").some((one) => wanted.has(one));
      row.hidden = !(outcome && words.every((word) => said[at].includes(word)));
      if (!row.hidden) shown += 1;
    });
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
    rove(null);
  }

  const cells = () => rows.filter((row) => !row.hidden).map((row) =>
    [...row.querySelectorAll("td")].map((td) => td.querySelector("a")));

  // One of all cells is a stop of the Tab key; arrows lead to the others.
  function rove(to) {
    const all = document.querySelectorAll(".matrix td a");
    const stop = to || [...all].find((a) => !a.closest("tr").hidden);
    all.forEach((a) => { a.tabIndex = a === stop ? 0 : -1; });
    if (to) to.focus();
  }

  function move(from, key) {
    const grid = cells();
    const y = grid.findIndex((row) => row.includes(from));
    if (y < 0) return;
    const x = grid[y].indexOf(from);
    const [dy, dx] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    for (let j = y + dy, i = x + dx; j >= 0 && j < grid.length && i >= 0 && i < grid[j].length; j += dy, i += dx) {
      if (grid[j][i]) { rove(grid[j][i]); return; }
    }
    // No cell straight ahead: the nearest of the next row that has one.
    for (let j = y + dy; dy && j >= 0 && j < grid.length; j += dy) {
      const near = grid[j].filter(Boolean);
      if (near.length) { rove(near[0]); return; }
    }
  }

  function opened() {
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place) return;
    const fold = place.querySelector("details");
    if (place.classList.contains("guest") && fold) fold.open = true;
    if (place.classList.contains("detail")) {
      place.setAttribute("role", "dialog");
      opener = document.querySelector(`.matrix a[href="#${place.id}"]`) || document.activeElement;
    }
    if (place.tabIndex === -1) place.focus({ preventScroll: place.classList.contains("detail") });
  }

  function close() {
    if (!document.querySelector(".detail:target")) return;
    const back = opener;
    location.hash = "#matrix";
    if (back) setTimeout(() => { rove(back.closest(".matrix") ? back : null); back.focus(); }, 0);
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input");
    if (event.key === "Escape") {
      if (typing && text.value) { text.value = ""; apply(); } else close();
    } else if (event.key === "/" && !typing && text) {
      event.preventDefault();
      text.focus();
    } else if (event.key.startsWith("Arrow") && event.target.matches(".matrix td a")) {
      event.preventDefault();
      move(event.target, event.key);
    }
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest(".close a")) { event.preventDefault(); close(); }
    // Beside the details is outside of them.
    else if (document.querySelector(".detail:target") && !event.target.closest(".detail, a, form")) close();
  });
  if (text) {
    text.addEventListener("input", apply);
    text.form.addEventListener("submit", (event) => event.preventDefault());
    boxes.forEach((box) => box.addEventListener("change", apply));
    const choose = (wanted) => { boxes.forEach((box) => { box.checked = wanted(box.value); }); apply(); };
    document.getElementById("filter-bad").addEventListener("click", () => choose((name) => name !== "pass"));
    document.getElementById("filter-all").addEventListener("click", () => { text.value = ""; choose(() => true); });
    apply();
  }
  window.addEventListener("hashchange", opened);
  opened();
})();
