// SPDX-License-Identifier: MIT OR Apache-2.0
const svg = [...document.querySelectorAll('figure > svg')].find((one) => getComputedStyle(one).display !== 'none');
const all = (what) => [...svg.querySelectorAll(what)];
const squares = all('rect.fail'), discs = all('circle.ok'), diamonds = all('path.unknown');
out.squares = squares.length; out.discs = discs.length; out.diamonds = diamonds.length;
out.rows = all('line.axis').length;
out.culprit = all('text.culprit').length === 1; out.hides = all('rect.hides').length === 1;
const box = (one) => one.getBoundingClientRect();
const marks = [...squares, ...discs, ...diamonds], texts_in = all('text');
const meet = (a, b) => {
  const [p, q] = [box(a), box(b)];
  // A pixel of a line's height is no overlap.
  return p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3;
};
const say = (one) => one.textContent || `${one.tagName} at ${one.getAttribute('x') || one.getAttribute('cx')}`;
out.overlaps = [];
texts_in.forEach((one, at) => [...texts_in.slice(at + 1), ...marks].forEach((other) => {
  if (meet(one, other)) out.overlaps.push(`${say(one)} and ${say(other)}`);
}));
const frame = box(svg);
out.outside = [...marks, ...texts_in].filter((one) => {
  const at = box(one);
  return at.left < frame.left || at.right > frame.right || at.top < frame.top || at.bottom > frame.bottom;
}).map(say);
const line = svg.querySelector('line.culprit');
out.through = !!line && squares.some((one) => {
  const at = box(one), middle = box(line).left;
  return at.left < middle && middle < at.right;
});
