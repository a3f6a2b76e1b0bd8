/** The page's own API, under Airflow's base path; the session cookie says who asks. */
import { useCallback, useEffect, useState } from "react";

export type JobKey = { dag_id: string; run_id: string; task_id: string; map_index: number };

export type JobState =
  | "submitting" | "paused" | "waiting" | "canceling" | "delivering"
  | "delivered" | "partial" | "failed" | "unattended";

export type Outcome = "succeeded" | "errored" | "expired" | "canceled" | "invalid" | "missing";
export const OUTCOMES: Outcome[] = ["succeeded", "errored", "expired", "canceled", "invalid", "missing"];
export type Counts = Record<Outcome, number> & { total: number };

export type Money = {
  total_usd: number | null;
  standard_usd: number | null;
  saved_usd: number | null;
  unpriced_requests: number;
};

export type Usage = {
  input_tokens: number;
  output_tokens: number;
  cache_creation_input_tokens: number;
  cache_read_input_tokens: number;
};

export type Task = JobKey & { state: string | null; operator: string };

export type Job = JobKey & {
  state: JobState;
  in_flight: boolean;
  model: string | null;
  requests: number | null;
  batches: number;
  batches_ended: number;
  announced_at: string;
  submitted_at: string | null;
  deadline: string | null;
  delivered_at: string | null;
  pause: { reason: string; until: string | null } | null;
  cancellation: { by: string; at: string; batches: number } | null;
  estimate: Money | null;
  tasks: Task[];
  counts?: Counts;
  usage?: Usage;
  cache_hit_rate?: number | null;
  cost?: Money | null;
  main_error?: { type: string; count: number } | null;
};

export type Batch = {
  id: string;
  round: number;
  requests: number | null;
  created_at: string | null;
  ended_at: string | null;
  console_url: string | null;
};

export type JobDetails = Job & {
  job: string | null;
  conn_id: string;
  can_cancel: boolean;
  may_edit: boolean;
  batch_list: Batch[];
  rounds?: number | null;
  errors?: { type: string; count: number; sample: { message: string; request_id: string | null } | null }[];
  stop_reasons?: Record<string, number>;
  paths?: { name: string; path: string; url: string | null }[];
};

export type JobPage = { jobs: Job[]; total: number };

export type Sum = {
  jobs: number;
  requests: number;
  succeeded: number;
  cost_usd: number;
  saved_usd: number;
  unpriced_jobs: number;
};

export type Totals = {
  days: string[];
  by_day: (Sum & { day: string; dag_id: string })[];
  outcomes: Record<Outcome, number>;
  all: Sum;
  last_24_hours: Sum;
  batch_seconds: { batches: number; median: number | null; p95: number | null };
  truncated: boolean;
};

export type CancelResult = { batches: { id: string; status: string | null; error: string | null }[] };

export type Params = Record<string, string | number | null | undefined>;

export const keyOf = (job: JobKey): JobKey => ({
  dag_id: job.dag_id,
  map_index: job.map_index,
  run_id: job.run_id,
  task_id: job.task_id,
});

/** A job's key as one word: in the page's address, and on the button that opens its details. */
export const nameOf = ({ dag_id, map_index, run_id, task_id }: JobKey): string =>
  JSON.stringify([dag_id, run_id, task_id, map_index]);

const address = (path: string, params: Params = {}): string => {
  const url = new URL(`claude-batches/api/${path}`, document.baseURI);

  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") {
      url.searchParams.set(name, String(value));
    }
  }

  return url.href;
};

const answerOf = async <T,>(response: Response): Promise<T> => {
  if (response.ok) {
    return (await response.json()) as T;
  }
  if (response.status === 401) {
    throw new Error("You are no longer logged in. Reload the page to log in again.");
  }
  const body = (await response.json().catch(() => ({}))) as { detail?: unknown };

  throw new Error(
    typeof body.detail === "string" ? body.detail : `The server answered ${response.status}.`,
  );
};

export const cancelJob = async ({ dag_id, ...rest }: JobKey): Promise<CancelResult> =>
  answerOf(
    await fetch(address(`dags/${encodeURIComponent(dag_id)}/cancel`), {
      body: JSON.stringify(rest),
      headers: { "Content-Type": "application/json" },
      method: "POST",
    }),
  );

export type Loaded<T> = { data?: T; error?: string; loading: boolean; reload: () => void };

/** The last answers by address: Airflow's UI mounts a plugin's page anew when its address first changes. */
const answers = new Map<string, unknown>();
const ANSWERS_KEPT = 20;

const keep = (url: string, data: unknown) => {
  answers.delete(url);
  answers.set(url, data);
  for (const oldest of [...answers.keys()].slice(0, -ANSWERS_KEPT)) {
    answers.delete(oldest);
  }
};

/**
 * What the API answers, again every `seconds` while the page is visible (0: only when asked to).
 * The last answer stays while the next one is under way, and while the server cannot be reached.
 */
export const useApi = <T,>(path: string | null, params: Params, seconds = 0): Loaded<T> => {
  const url = path === null ? null : address(path, params);
  const [state, setState] = useState<{ url: string | null; data?: T; error?: string }>(() =>
    url !== null && answers.has(url) ? { data: answers.get(url) as T, url } : { url: null },
  );
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((number) => number + 1), []);

  useEffect(() => {
    if (url === null) {
      return undefined;
    }
    const controller = new AbortController();

    fetch(url, { signal: controller.signal })
      .then((response) => answerOf<T>(response))
      .then((data) => {
        keep(url, data);
        setState({ data, url });
      })
      .catch((error: unknown) => {
        if (!controller.signal.aborted) {
          setState((before) => ({
            ...before,
            error: error instanceof TypeError ? "Airflow cannot be reached." : String((error as Error).message),
            url,
          }));
        }
      });

    return () => controller.abort();
  }, [url, round]);

  useEffect(() => {
    if (url === null) {
      return undefined;
    }
    const again = () => {
      if (document.visibilityState === "visible") {
        reload();
      }
    };
    const timer = seconds > 0 ? setInterval(again, seconds * 1000) : undefined;

    document.addEventListener("visibilitychange", again);

    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", again);
    };
  }, [url, seconds, reload]);

  return { data: state.data, error: state.error, loading: state.url !== url, reload };
};
