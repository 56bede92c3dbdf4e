// Everything that the page asks the server.

const KEY = "patchdm-token";
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem(KEY, given);
  // Out of the address bar, so that a copied address or a screenshot does not give it away.
  history.replaceState(null, "", location.pathname + location.search);
}
const token = sessionStorage.getItem(KEY);

/** An error whose message is shown as it is; `status` is 0 if the server did not answer. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Return a URL that an img, a link or an EventSource can use: these send no header. */
export function signed(url) {
  if (!token) return url;
  return `${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;
}

async function answer(method, url, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const bytes = body instanceof Blob;
  if (body) headers["Content-Type"] = bytes ? "application/octet-stream" : "application/json";
  let response;
  try {
    response = await fetch(url, { method, headers, body: bytes ? body : body && JSON.stringify(body) });
  } catch {
    throw new ApiError("The server does not answer. Start `patchdm app` again; this page then continues.", 0);
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new ApiError(said.error || `The server answered with status ${response.status}.`, response.status);
}

const json = async (...request) => (await answer(...request)).json();

/** Return what the server says about its model. */
export const getModel = () => json("GET", "/api/model");

/** Return the photographs of the training that an image of a job is nearest to. */
export const getNearest = (url) => json("GET", url.replace(/\.png$/, "/nearest"));

/** Return how far the trainings of the studio's run are: {run, error, trainings}. */
export const getTrainings = () => json("GET", "/api/training");

/** Return the description of this API. */
export const getDescription = () => json("GET", "/api/openapi.json");

/** Upload the bytes of a picture; return {id, width, height, url}. */
export const upload = (blob) => json("POST", "/api/images", blob);

/** Return the bytes of a picture of the server. */
export const download = async (url) => (await answer("GET", url)).blob();

/** Ask for a job; return it. */
export const postJob = (body) => json("POST", "/api/jobs", body);

/** Return all jobs, newest first. */
export const getJobs = async () => (await json("GET", "/api/jobs")).jobs;

/** Cancel a job; return it. */
export const deleteJob = (id) => json("DELETE", `/api/jobs/${encodeURIComponent(id)}`);

/** Return an EventSource of a job. */
export const jobEvents = (id) => new EventSource(signed(`/api/jobs/${encodeURIComponent(id)}/events`));
