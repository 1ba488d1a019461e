// SPDX-License-Identifier: MIT OR Apache-2.0
// Search, keys, copying, and details beside the matrix. Everything is in the page without this.
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const text = document.getElementById("filter-text");
  const only = document.getElementById("filter-bad");
  const groups = [...document.querySelectorAll(".group")].map((group) => ({ group,
    loud: group.classList.contains("loud"),
    rows: [...group.querySelectorAll("tbody tr")].map((row) => ({ row, quiet: row.classList.contains("quiet"), said: [row.textContent,
      group.querySelector("h3").textContent, ...[...group.querySelectorAll("thead th")].map((th) => th.title),
      ...[...row.querySelectorAll("a, [title]")].map((one) => one.dataset.why || one.title)].join("\n").toLowerCase() })) }));
  // What the details were opened from, and where the page was: both are restored.
  let opener = null, place = 0;

  function apply() {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    document.documentElement.classList.toggle("searching", words.length > 0);
    const few = only && only.checked && !words.length;
    let found = 0, all = 0;
    groups.forEach(({ group, loud, rows }) => {
      let some = 0;
      rows.forEach(({ row, quiet, said }) => {
        row.hidden = !words.every((word) => said.includes(word));
        if (!row.hidden && !(few && quiet)) some += 1;
      });
      all += rows.length; found += some;
      group.hidden = some === 0;
      group.open = words.length ? some > 0 : loud || Boolean(only && !only.checked);
    });
    document.getElementById("filter-count").textContent = found < all ? `${found} of ${all} tests` : `${all} tests`;
  }

  // The nearest link of the matrix in the direction of the key.
  function move(from, key) {
    const at = from.getBoundingClientRect();
    const [x, y] = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[key];
    const far = (a) => {
      const to = a.getBoundingClientRect();
      const dx = to.left + to.width / 2 - at.left - at.width / 2, dy = to.top - at.top;
      const along = dx * x + dy * y;
      return along > 4 ? along + 4 * Math.abs(dx * y + dy * x) : Infinity;
    };
    const links = [...document.querySelectorAll(".matrix td a")].filter((a) => a.offsetParent);
    const best = links.map((a) => [far(a), a]).sort((a, b) => a[0] - b[0])[0];
    if (best && best[0] < Infinity) best[1].focus();
  }

  function opened() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.matches(".guest")) target.querySelector("details").open = true;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    if (target.matches(".detail")) {
      target.setAttribute("role", "dialog");
      target.scrollTop = 0;
    } else if (target.matches(".guest")) target.scrollIntoView();
    target.querySelectorAll("pre").forEach((pre) => {
      const mark = pre.querySelector("mark");
      if (mark) pre.scrollTop = Math.max(0, mark.offsetTop - 40);
    });
    if (target.tabIndex === -1) target.focus({ preventScroll: true });
  }

  function close() {
    if (!document.querySelector(".detail:target")) return;
    const back = opener;
    location.hash = "#";
    setTimeout(() => { scrollTo(0, place); if (back) back.focus({ preventScroll: true }); }, 0);
  }

  // Without the permission to copy, the text is selected.
  function copy(button) {
    getSelection().selectAllChildren(button.parentElement.querySelector("code"));
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=search]");
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
    const link = event.target.closest('a[href^="#"]');
    const open = document.querySelector(".detail:target");
    if (event.target.closest(".copy")) copy(event.target.closest(".copy"));
    else if (event.target.closest(".close a")) { event.preventDefault(); close(); }
    else if (link && !open) { opener = link; place = scrollY; }
    // Beside the details is outside of them.
    else if (open && !event.target.closest(".detail, a, form")) close();
  });
  if (text) {
    text.addEventListener("input", apply);
    text.form.addEventListener("submit", (event) => event.preventDefault());
    if (only) only.addEventListener("change", apply);
    apply();
  }
  window.addEventListener("hashchange", opened);
  opened();
})();
