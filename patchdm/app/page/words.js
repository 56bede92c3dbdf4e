// Numbers and jobs as text. Pure functions.

const KINDS = {
  sample: "Sample",
  inpaint: "Inpaint",
  outpaint: "Outpaint",
  panorama: "Panorama",
  interpolate: "Interpolate",
  vary: "Vary",
};
const ENDED = ["done", "failed", "cancelled"];

/** The name of a kind of job. */
export const kindName = (kind) => KINDS[kind] ?? kind;

/** Whether a job will not change any more. */
export const hasEnded = (job) => ENDED.includes(job.state);

/** The job, of a list with the newest first, that a new page shows: at work, else with images, else any. */
export const likeliest = (jobs) =>
  jobs.find(({ state }) => state === "running") ??
  jobs.find(({ results }) => results.length) ??
  jobs.find(({ state }) => state !== "cancelled");

/** A size such as "128 × 64". */
export const size = (width, height) => `${width} × ${height}`;

/** A count with its noun: "1 image", "4 images". */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** A number of bytes such as "25 MB". */
export const megabytes = (bytes) => `${Math.max(1, Math.round(bytes / 1e6))} MB`;

/** The time left, such as "about 40 s left"; empty if it is not known. */
export function timeLeft(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `about ${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${Math.round(seconds / 3600)} h left`;
}

/** The part of a job that is done, from 0 to 1. */
export function fraction(job) {
  if (job.state === "done") return 1;
  const begun = job.steps && !job.phase ? Math.min(1, (job.step ?? 0) / job.steps) : 0;
  return job.total ? Math.min(1, (job.done + begun) / job.total) : 0;
}

/** Where a job is, in a few words. */
export function stateLine(job) {
  const made = `${job.done} of ${job.total}`;
  if (job.state === "queued") return job.place ? `Waiting, ${count(job.place, "job")} before it` : "Waiting";
  if (job.state === "done") return count(job.results.length, "image");
  if (job.state === "cancelled") return job.done ? `Cancelled, ${made} made` : "Cancelled";
  if (job.state === "failed") return job.done ? `Failed, ${made} made` : "Failed";
  const parts = [`Image ${Math.min(job.done + 1, job.total)} of ${job.total}`];
  const what = job.phase === "fit" ? "fit of its code, step" : "step";
  if (job.steps) parts.push(`${what} ${job.step ?? 0} of ${job.steps}`);
  parts.push(timeLeft(job.seconds_left));
  return parts.filter(Boolean).join(", ");
}

const lastSeed = ({ request }) => request.first + request.codes - 1;

/** The name of an image among those of its job. */
export function imageName(job, index) {
  if (job.kind === "vary") return `Towards ${job.request.towards[index]}`;
  if (job.kind === "panorama") return `Seeds ${job.request.first} to ${lastSeed(job)}`;
  const seed = job.results[index]?.seed ?? job.request?.seeds?.[index];
  if (job.kind === "interpolate" || seed === undefined || seed === null) return `${index + 1} of ${job.total}`;
  return `Seed ${seed}`;
}

/** The file name of a downloaded image. */
export function fileName(job, index) {
  const result = job.results[index];
  const { seeds: ends, towards, strength } = job.request;
  let which = result.seed;
  if (job.kind === "interpolate") which = `${ends.join("-")}-${index + 1}`;
  if (job.kind === "panorama") which = `${result.seed}-${lastSeed(job)}`;
  if (job.kind === "vary") which = `${result.seed}-${towards[index]}-${strength}`;
  return `${job.kind}-${which}-${result.width}x${result.height}.png`;
}

/** Seeds that follow each other. */
export const seeds = (first, number) => Array.from({ length: number }, (_, index) => first + index);
