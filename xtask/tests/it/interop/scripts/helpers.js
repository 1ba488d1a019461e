// SPDX-License-Identifier: MIT OR Apache-2.0
const rest = () => new Promise((done) => setTimeout(done, 50));
const shown = () => [...document.querySelectorAll(".matrix tbody tr")].filter((row) => row.checkVisibility())
  .map((row) => `${row.closest(".group").querySelector("h3").textContent}: ${row.querySelector("th").textContent}`);
const key = (name) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
const status = () => document.getElementById("filter-count").textContent;
