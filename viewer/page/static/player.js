"use strict";
// Episodes before and after a promotion, played side by side: pictures, Phi over them, and curves with a cursor.
const WIDTH = 720, HIGH = 40, PAD = 6;
const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const short = (value) => String(Number(value.toPrecision(3)));
// The place of the last of the sorted steps that is not after the step.
const latest_of = (steps, step) => {
  let place = steps.length - 1;
  while (steps[place] > step) place -= 1;
  return place;
};

// A field as a picture: the colour of each level, the last level transparent.
function painted(field, place, colours) {
  const canvas = document.createElement("canvas"), levels = field.levels[place];
  canvas.width = field.columns;
  canvas.height = levels.length / field.columns;
  const context = canvas.getContext("2d"), picture = context.createImageData(canvas.width, canvas.height);
  [...levels].forEach((digit, cell) => {
    const colour = colours[parseInt(digit, 16)];
    if (colour) picture.data.set([...colour, 255], 4 * cell);
  });
  context.putImageData(picture, 0, 0);
  return canvas.toDataURL();
}

// A row for each curve: its name and values, and below them the course of both sides.
function chart(pair) {
  const x = (step) => WIDTH * step / Math.max(pair.length, 1);
  return pair.curves.map(([name, ...sides]) => {
    const all = sides.flat(), low = Math.min(...all), span = Math.max(...all) - low;
    const y = (value) => PAD + HIGH * (span ? 1 - (value - low) / span : 0.5);
    const parts = (span ? [low, low + span] : [low]).map((edge) =>
      `<line class="grid" x2="${WIDTH}" y1="${y(edge)}" y2="${y(edge)}"/>`
      + `<text class="edge" x="${WIDTH + 6}" y="${y(edge) + 4}">${short(edge)}</text>`);
    sides.forEach((values, side) => {
      const points = values.map((value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      parts.push(`<polyline class="${side ? "candidate" : "control"}" points="${points}"/>`);
    });
    return `<p>${escaped(name)} <span class="dim value"></span></p>`
      + `<svg class="curve-of" viewBox="-2 0 ${WIDTH + 60} ${HIGH + 2 * PAD}" role="img" aria-label="${escaped(name)}">`
      + `${parts.join("")}<line class="cursor" y2="${HIGH + 2 * PAD}"/></svg>`;
  }).join("");
}

function prepare(root, { colours, pairs }) {
  const find = (name) => root.querySelector("." + name);
  const figures = [...root.querySelectorAll("figure")];
  let pair, step = 0, timer = null;

  function show(wanted) {
    step = Math.min(Math.max(wanted, 0), pair.length);
    pair.sides.forEach((side, place) => {
      const scene = side.scene, ended = step > side.steps ? `, ended at step ${side.steps}` : "";
      const earned = pair.curves[0][1 + place][Math.min(step, side.steps)];
      let said = `sparse return ${short(earned)}${ended}`;
      if (scene) {
        const frame = latest_of(scene.steps, step), svg = figures[place].querySelector("svg");
        svg.querySelector("g").innerHTML = scene.frames[frame].map((each) => scene.shapes[each]).join("")
          + (side.field ? scene.rings[frame] : "");
        said = `${scene.captions[frame]}; ${said}`;
        svg.setAttribute("aria-label", said);
        if (side.field) {
          const field = painted(side.field, latest_of(side.field.steps, step), colours);
          svg.querySelector("image").setAttribute("href", field);
        }
      }
      figures[place].querySelector(".said").textContent = said;
    });
    find("seek").value = step;
    find("now").textContent = `step ${step} of ${pair.length}`;
    for (const cursor of root.querySelectorAll(".cursor")) {
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, WIDTH * step / Math.max(pair.length, 1));
    }
    root.querySelectorAll(".value").forEach((text, row) => {
      const [before, after] = pair.curves[row].slice(1).map((all) => short(all[Math.min(step, all.length - 1)]));
      text.textContent = `${before} before, ${after} after`;
    });
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    find("play").textContent = "play";
  }

  function play() {
    if (timer !== null) return stop();
    if (step >= pair.length) show(0);
    find("play").textContent = "pause";
    timer = setInterval(() => {
      show(step + 1);
      if (step >= pair.length) stop();
    }, 1000 / Number(find("speed").value));
  }

  function by(steps) {
    stop();
    show(step + steps);
  }

  function choose(place) {
    stop();
    pair = pairs[place];
    find("seek").max = pair.length;
    find("chart").innerHTML = chart(pair);
    find("scale-of").innerHTML = pair.legend;
    pair.sides.forEach((side, number) => {
      const svg = figures[number].querySelector("svg");
      svg.toggleAttribute("hidden", !side.scene);
      if (!side.scene) return;
      svg.setAttribute("viewBox", side.scene.box);
      svg.innerHTML = (side.field ? side.field.image : "") + "<g></g>";
      shade();
    });
    show(pair.length);
  }

  function shade() {
    for (const figure of figures) {
      const image = figure.querySelector("image");
      image?.toggleAttribute("hidden", !find("shade").checked);
      figure.querySelector("svg").classList.toggle("on-field", Boolean(image) && find("shade").checked);
    }
  }

  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  find("speed").value = calm ? "2" : pairs[0].length > 100 ? "30" : "8";
  find("shade").closest("label").hidden = !pairs.some((each) => each.sides.some((side) => side.field));
  find("play").addEventListener("click", play);
  find("back").addEventListener("click", () => by(-1));
  find("forward").addEventListener("click", () => by(1));
  find("seek").addEventListener("input", () => by(Number(find("seek").value) - step));
  find("which").addEventListener("change", () => choose(Number(find("which").value)));
  find("speed").addEventListener("change", () => timer !== null && (stop(), play()));
  find("shade").addEventListener("change", shade);
  root.addEventListener("keydown", (event) => {
    if (event.target !== root) return;
    const act = { " ": play, ArrowLeft: () => by(-1), ArrowRight: () => by(1), Home: () => by(-step),
      End: () => by(pair.length) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  choose(0);
  root.classList.add("ready");
}

function players(within) {
  for (const root of within.querySelectorAll(".player:not(.ready)")) {
    gunzip(root.querySelector("script").textContent).then((text) => prepare(root, JSON.parse(text)));
  }
}
players(document);
