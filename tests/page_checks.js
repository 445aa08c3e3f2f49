// Put into the page by test_page.py: every control, with what must look different once it is moved.
"use strict";
const rendered = (ids) => ids.map((id) => {
  const e = document.getElementById(id);
  return e.tagName === "CANVAS" ? e.toDataURL() : e.innerHTML + e.textContent;
}).join("|");
const changes = [];
function check(name, ids, act) {
  const before = ids.map((id) => rendered([id]));
  act();
  ids.forEach((id, k) => changes.push([name, id, before[k] !== rendered([id])]));
}
const control = (key) => document.querySelector(`[data-key=${key}]`);
function slide(key, value) {
  return () => {
    control(key).value = value;
    control(key).dispatchEvent(new Event("input", { bubbles: true }));
  };
}
function choose(name, value) {
  return () => document.querySelector(`input[name=${name}][value=${value}]`).click();
}
setTimeout(() => {
  check("moment", ["matrix", "tiles", "cell", "ess", "moment-out"], slide("moment", 2));
  check("rows", ["matrix", "tiles-caption", "matrix-caption", "classes"], choose("along", "rows"));
  check("change", ["matrix", "matrix-caption"], choose("what", "change"));
  check("class", ["cell", "matrix", "tiles"], () => document.querySelectorAll("#classes button")[7].click());
  check("image", ["cell", "matrix"], () => document.querySelectorAll("#tiles button")[20].focus());
  check("arrow", ["cell"], () => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true })));
  for (const [key, value] of [["eps", 0.4], ["L", 23], ["m", 0.5], ["T", -0.5], ["seed", 4]])
    check(key, ["plane", "energy", "trace", "leapfrog-numbers", key + "-out"], slide(key, value));
  check("n", ["plane", "n-out", "energy"], slide("n", 40));
  check("energy", ["plane", "trace", "leapfrog-numbers"], slide("energy", "filters"));
  check("unstable", ["verdict"], () => document.querySelectorAll("#examples button")[3].click());
  check("frame", ["image", "score", "node-numbers", "frame-out"], slide("frame", 2));
  check("reference", ["image", "score", "node-numbers"], choose("reference", "white"));
  check("node", ["image", "score", "node-numbers"], slide("node", 12));
  if (document.getElementById("samples")) check("updates", ["updates-out"], slide("updates", 1));
  setTimeout(() => {
    const narrow = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
    const report = { problems, changes, hash: location.hash, narrow, width: document.documentElement.clientWidth };
    const pre = document.createElement("pre");
    pre.id = "report";
    pre.textContent = JSON.stringify(report);
    document.body.append(pre);
  }, 600);
}, 600);
