// Events and keys. Keys of one letter work on samples and page buttons only, so that they are in nobody's way.

function items() {
  return Array.from(list.children);
}

// One sample at a time is in the tab order: the one that had the focus last.
function focusSample(place) {
  const all = items();
  const target = all[Math.min(Math.max(place, 0), all.length - 1)];
  if (!target) {
    return;
  }
  for (const item of all) {
    item.tabIndex = item === target ? 0 : -1;
  }
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: "nearest" });
}

function focusedPlace() {
  return items().findIndex((item) => item.contains(document.activeElement));
}

const KEYS = {
  j: () => focusSample(focusedPlace() + 1),
  k: () => focusSample(focusedPlace() - 1),
  Home: () => focusSample(0),
  End: () => focusSample(items().length - 1),
  n: () => turn(1),
  p: () => turn(-1),
  "/": () => controls.text.focus(),
};
KEYS.ArrowDown = KEYS.j;
KEYS.ArrowUp = KEYS.k;
KEYS.ArrowRight = KEYS.n;
KEYS.ArrowLeft = KEYS.p;

function onKey(event) {
  const action = KEYS[event.key];
  if (action && !event.ctrlKey && !event.metaKey && !event.altKey && Object.hasOwn(KEYS, event.key)) {
    event.preventDefault();
    action();
  }
}

function start() {
  fill(controls.set, sets.map((set, place) => [String(place), `${set.title}, by ${set.metric}`]));
  controls.set.parentElement.hidden = sets.length === 1;
  controls.set.addEventListener("change", chooseSet);
  for (const name of ["run", "state", "base", "group", "sort"]) {
    controls[name].addEventListener("change", refresh);
  }
  let waiting = 0;
  controls.text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 150);
  });
  controls.text.addEventListener("keydown", (event) => {
    if (event.key === "Escape" || event.key === "Enter") {
      event.preventDefault();
      clearTimeout(waiting);
      refresh();
      focusSample(0);
    }
  });
  const form = byId("controls");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(chooseSet));
  for (const suffix of ["", "-below"]) {
    byId(`previous${suffix}`).addEventListener("click", () => turn(-1));
    byId(`next${suffix}`).addEventListener("click", () => turn(1));
    byId(`pager${suffix}`).addEventListener("keydown", onKey);
    byId(`pager${suffix}`).hidden = false;
  }
  list.addEventListener("keydown", onKey);
  form.hidden = byId("keys").hidden = false;
  fillControls();
  refresh();
}

start();
