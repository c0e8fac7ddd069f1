/** What is asked for: as the body of a request, as a curl command and as Python. */

/** @typedef {import("./api.js").Model} Model @typedef {import("./state.js").State} State */

/**
 * The body of POST /v1/images for a picture; what the model does not take is left out.
 * @param {Model} model @param {State} state @param {Record<string, any>} [more]
 */
export function makeBody(model, state, more = {}) {
  const body = { model: model.name, format: "png" };
  if (model.seeded) Object.assign(body, { seed: state.seed, index: state.index });
  if (chosenClass(model, state) !== null) body.label = state.label;
  if (model.truncation && state.truncation !== null) body.truncation = state.truncation;
  const inputs = Object.fromEntries(model.scalars.filter((s) => s.name in state.inputs).map((s) => [s.name, state.inputs[s.name]]));
  if (Object.keys(inputs).length) body.inputs = inputs;
  return { ...body, ...more };
}

/** The body of the picture that the present view shows. @param {Model} model @param {State} state */
function makeViewBody(model, state) {
  return makeBody(model, state, state.view === "interpolate" && model.interpolates ? { to_seed: state.to, amount: state.amount } : {});
}

/** @param {Model} model @param {State} state @returns {number|null} */
export const chosenClass = (model, state) => (model.classes && state.label !== null && state.label < model.classes ? state.label : null);

/** @param {Model} model @param {State} state @param {boolean} token whether the server wants one */
export function writeCurl(model, state, token) {
  const body = makeViewBody(model, state);
  const url = new URL("v1/images", document.baseURI).href;
  const lines = [token && `-H "Authorization: Bearer $GANRT_TOKEN"`];
  let address = url;
  if (model.pictures.length === 1) {
    const { inputs = {}, ...rest } = body;
    address = `${url}?${new URLSearchParams({ ...rest, ...inputs })}`;
    lines.push("-H 'Content-Type: image/jpeg'", "--data-binary @photo.jpg");
  } else {
    const pictures = model.pictures.map(({ name }) => `"${name}": "'$(base64 -w0 ${name}.jpg)'"`).join(", ");
    const json = JSON.stringify(body);
    lines.push("-H 'Content-Type: application/json'", `-d '${pictures ? `${json.slice(0, -1)}, "pictures": {${pictures}}}` : json}'`);
  }
  lines.push(`-o ${model.bundle}.png`);
  return [`curl -sS --fail-with-body '${address}'`, ...lines.filter(Boolean)].join(" \\\n  ") + "\n";
}

/** @param {Model} model @param {State} state @param {boolean} token whether the server wants one */
export function writePython(model, state, token) {
  const load = `g = ganrt.load("${model.bundle}.ganrt", backend="${model.backend}", variant="${model.variant}")`;
  const body = makeViewBody(model, state);
  const inputs = Object.entries(body.inputs ?? {}).map(([name, value]) => `${name}=${value}`);
  if (model.kind === "transform") {
    const seed = model.seeded ? [`seed=${body.seed}`] : [];
    const photos = model.pictures.length === 1 ? ['"photo.jpg"'] : model.pictures.map(({ name }) => `${name}="${name}.jpg"`);
    return `import ganrt\n\n${load}\npicture = g.transform(${[...photos, ...inputs, ...seed].join(", ")})  # uint8 (H, W, C)\n`;
  }
  if (inputs.length || body.to_seed) return writeUrllib(body, token);
  const rest = [["labels", body.label], ["truncation", body.truncation]].filter(([, value]) => value !== undefined);
  const given = [`seed=${body.seed}`, `start=${body.index}`, ...rest.map(([name, value]) => `${name}=${value}`)];
  return `import ganrt\n\n${load}\npicture = g.sample(${given.join(", ")})[0]  # uint8 (H, W, C)\n`;
}

/** For what `sample` has no argument for. */
function writeUrllib(body, token) {
  const url = new URL("v1/images", document.baseURI).href;
  const secret = token ? `, "Authorization": "Bearer " + os.environ["GANRT_TOKEN"]` : "";
  return `import json${token ? "\nimport os" : ""}\nimport urllib.request

body = json.loads('${JSON.stringify(body)}')
headers = {"Content-Type": "application/json"${secret}}
request = urllib.request.Request("${url}", json.dumps(body).encode(), headers)
with urllib.request.urlopen(request) as answer, open("${body.model}.png", "wb") as file:
    file.write(answer.read())\n`;
}
