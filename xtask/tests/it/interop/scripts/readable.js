// SPDX-License-Identifier: MIT OR Apache-2.0
const channel = (value) => {
  const c = value / 255;
  return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
};
const parse = (text) => text.match(/[\d.]+/g).map(Number);
const light = (rgb) => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
const behind = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const rgb = parse(getComputedStyle(at).backgroundColor);
    if (rgb.length === 3 || rgb[3] > 0) return rgb;
  }
  return [255, 255, 255];
};
const contrast = (one) => {
  const a = light(parse(getComputedStyle(one).color)), b = light(behind(one));
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
document.querySelectorAll('details').forEach((one) => { one.open = true; });
out.dark = light(behind(document.body)) < 0.2;
const texts = [...document.querySelectorAll(
  'h1,h2,h3,p,a,td,th,.badge,pre,mark,label,button,summary,code,caption,span.why')];
out.checked = texts.length;
out.faint = texts.filter((one) => one.textContent.trim() && contrast(one) < 4.5)
  .map((one) => `${one.tagName} ${one.className} ${contrast(one).toFixed(2)} ${one.textContent.slice(0, 30)}`);
const label = (one) => (one.labels && one.labels[0] ? one.labels[0].textContent : '');
const named = (one) => (one.getAttribute('aria-label') || one.textContent || label(one)).trim();
out.nameless = [...document.querySelectorAll('a,button,input,[role=region],[role=img]')]
  .filter((one) => !named(one)).length;
const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
out.twice = ids.filter((id, at) => ids.indexOf(id) !== at);
const there = (id) => document.getElementById(id);
out.nowhere = [...document.querySelectorAll('a[href^="#"]')].map((a) => a.getAttribute('href').slice(1))
  .filter((id) => !there(id));
out.labels = [...document.querySelectorAll('[aria-labelledby]')]
  .filter((one) => !there(one.getAttribute('aria-labelledby'))).length;
out.scopes = [...document.querySelectorAll('th')].filter((th) => !th.scope).length;
out.wide = document.documentElement.scrollWidth <= innerWidth;
out.loaded = performance.getEntriesByType('resource').length;
