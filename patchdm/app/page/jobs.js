// The jobs of the server, as this page knows them.

import { deleteJob, getJobs, jobEvents, postJob } from "./api.js";
import { hasEnded } from "./words.js";

const BUSY = 2000; // milliseconds between two looks at the list while a job waits or runs
const IDLE = 10000;
const LOST = "The server does not know this job any more, probably since it was started again: ask for it again.";

/** Holds all jobs and follows the running one; fires "change" (detail: job), "online", "offline". */
export class Jobs extends EventTarget {
  #jobs = new Map();
  #source = null;
  #followed = null;
  #timer = null;

  /** All jobs, newest first. */
  get list() {
    return [...this.#jobs.values()].sort((a, b) => b.created.localeCompare(a.created));
  }

  /** Return a job by its id. */
  get(id) {
    return this.#jobs.get(id);
  }

  /** Find the jobs of the server and follow them from now on. */
  async start() {
    document.addEventListener("visibilitychange", () => this.#look());
    await this.#look();
  }

  /** Ask for a job; return it. */
  async submit(body) {
    const job = await postJob(body);
    this.#take(job);
    this.#look();
    return job;
  }

  /** Cancel a job. */
  async cancel(id) {
    this.#take(await deleteJob(id));
  }

  #take(job) {
    const before = this.#jobs.get(job.id);
    // A list that was asked for before the job ended can arrive after its last event.
    if (before && hasEnded(before) && !hasEnded(job)) return;
    this.#jobs.set(job.id, job);
    if (JSON.stringify(before) !== JSON.stringify(job)) {
      this.dispatchEvent(new CustomEvent("change", { detail: job }));
    }
  }

  async #look() {
    clearTimeout(this.#timer);
    if (document.hidden) return this.#unfollow();
    try {
      const unfinished = this.list.filter((job) => !hasEnded(job));
      const found = await getJobs();
      const ids = new Set(found.map((job) => job.id));
      for (const job of unfinished.filter(({ id }) => !ids.has(id))) {
        this.#take({ ...job, state: "failed", error: LOST, preview: null });
      }
      for (const job of found) {
        // The stream is ahead of the list.
        if (job.id !== this.#followed || hasEnded(job)) this.#take(job);
      }
      this.dispatchEvent(new Event("online"));
    } catch (error) {
      this.dispatchEvent(new CustomEvent("offline", { detail: error }));
    }
    const active = this.list.filter((job) => !hasEnded(job));
    this.#follow(active.find((job) => job.state === "running"));
    clearTimeout(this.#timer); // Two looks at the same time must not leave two timers.
    this.#timer = setTimeout(() => this.#look(), active.length ? BUSY : IDLE);
  }

  // Only one job has an open stream, and only while the page is visible: browsers allow six
  // connections per host, and a stream keeps its own. The list tells about the other jobs.
  #follow(job) {
    if (job && job.id === this.#followed) return;
    this.#unfollow();
    if (!job || document.hidden) return;
    this.#followed = job.id;
    this.#source = jobEvents(job.id);
    this.#source.onmessage = (event) => {
      const news = JSON.parse(event.data);
      this.#take(news);
      if (hasEnded(news)) {
        this.#unfollow();
        this.#look();
      }
    };
    // The list is asked every two seconds anyway, which is the fallback; it opens a new stream too.
    this.#source.onerror = () => this.#unfollow();
  }

  #unfollow() {
    this.#source?.close();
    this.#source = null;
    this.#followed = null;
  }
}
