/** The page's own API, under Airflow's base path; the session cookie says who asks. */
import { useCallback, useEffect, useRef, useState } from "react";

import { t } from "./text";

export type JobKey = { dag_id: string; run_id: string; task_id: string; map_index: number };

export type JobState =
  | "submitting" | "paused" | "waiting" | "canceling" | "delivering"
  | "delivered" | "partial" | "failed" | "unattended" | "unreadable";

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

export type Task = JobKey & {
  state: string | null;
  operator: string;
  try_number: number;
  started_at: string | null;
  ended_at: string | null;
};

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
  /** When its author wants the results. */
  due: string | null;
  late: boolean;
  /** What late batches leave open is asked by single calls; `requests` is null until they have ended. */
  going_direct: { answered: number; requests: number | null } | null;
  tags: Record<string, string>;
  delivered_at: string | null;
  pause: { reason: string; until: string | null } | null;
  paid_before: { jobs: number; usd: number; estimated_usd: number } | null;
  unreadable: string[];
  cancellation: { by: string; at: string; batches: number } | null;
  estimate: Money | null;
  tasks: Task[];
  counts?: Counts;
  usage?: Usage;
  cache_hit_rate?: number | null;
  cost?: Money | null;
  warnings?: number;
  main_error?: { type: string; count: number } | null;
  direct?: number | null;
  direct_extra_usd?: number | null;
  reused?: number | null;
  saved_by_reuse_usd?: number | null;
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
  empty?: number;
  warning_texts?: string[];
  paths?: { name: string; path: string; url: string | null }[];
};

export type JobPage = { jobs: Job[]; total: number };

export type BatchPage = { batches: Batch[]; total: number; all: number; ended: number };

type Value = { seconds: number } | { count: number } | { text: string };

export type Reason = { kind: string; says: string; text: string; advice: string; values: Record<string, Value> };

export type Failure = {
  custom_id: string;
  outcome: string;
  type: string;
  message: string | null;
  request_id: string | null;
  retryable: boolean | null;
  columns: Record<string, string | null>;
};

export type Failures = { records: Failure[]; columns: string[]; cut: boolean; path: string };

export type Schedule = {
  rows: { dag_id: string; at: string; runs: number; usd: number | null }[];
  usd: number;
  runs: number;
  unknown: number;
  hours: number;
};

export type Attention = {
  jobs: (Job & { reason: Reason })[];
  total: number;
  looked_at_all: boolean;
  as_of: string;
};

export type Sum = {
  jobs: number;
  delivered: number;
  failed: number;
  late: number;
  unreadable: number;
  estimated_usd: number;
  requests: number;
  requests_over: number;
  succeeded: number;
  cost_usd: number;
  saved_usd: number;
  unpriced_jobs: number;
  reused: number;
  saved_by_reuse_usd: number;
};

export type Totals = {
  days: string[];
  by_day: (Sum & { day: string; dag_id: string })[];
  outcomes: Record<Outcome, number>;
  all: Sum;
  last_24_hours: Sum;
  in_flight: Sum;
  by_model: (Sum & { name: string })[];
  by_connection: (Sum & { name: string })[];
  usual_seconds: Record<string, number>;
  errors: { type: string; dag_id: string; model: string; requests: number; jobs: number }[];
  batch_seconds: { batches: number; median: number | null; p95: number | null };
  truncated: boolean;
  /** Whether newer sums are being made: they took long, so these are the last ones. */
  renewing: boolean;
};

export type CostRow = {
  name: string;
  requests: number;
  batch_usd: number;
  direct_usd: number;
  total_usd: number;
  saved_by_batch_usd: number;
  saved_by_cache_usd: number;
  saved_by_reuse_usd: number;
  reserved_usd: number;
  unpriced_requests: number;
};

export type BudgetUse = {
  scope: string;
  per: string;
  window: string;
  max_usd?: number;
  settled_usd?: number;
  reserved_usd?: number;
  warn_at?: number;
};

export type Spending =
  | { unavailable: string }
  | {
      zone: string;
      first: string;
      last: string;
      total: Omit<CostRow, "name">;
      by_dag: CostRow[];
      by_model: CostRow[];
      by_day: CostRow[];
      by_tag: Record<string, CostRow[]>;
      projected_month_usd: number;
      budgets: BudgetUse[];
    };

export type CancelResult = {
  batches: { id: string; status: string | null; error: string | null }[];
  warning: string | null;
};

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
    throw new Error(t("You are no longer logged in. Reload the page to log in again."));
  }
  const body = (await response.json().catch(() => ({}))) as { detail?: unknown };

  throw new Error(
    typeof body.detail === "string" ? body.detail : t("The server answered {status}.", { status: response.status }),
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

export type Loaded<T> = {
  /** When the data was answered. */
  at?: number;
  data?: T;
  error?: string;
  loading: boolean;
  reload: () => void;
};

/**
 * What the API answers, again `seconds` after each answer while the page is visible (0: only when asked to).
 *
 * The last answer stays while the next one is under way, and while the server cannot be reached. No question is
 * asked while the same one is open: a slow database is not asked again and again.
 */
export const useApi = <T,>(path: string | null, params: Params, seconds = 0): Loaded<T> => {
  const url = path === null ? null : address(path, params);
  const [state, setState] = useState<{ url: string | null; at?: number; data?: T; error?: string }>({ url: null });
  const ask = useRef<() => void>(() => undefined);
  const again = useRef<() => void>(() => undefined);
  const pause = useRef(seconds);

  pause.current = seconds;
  useEffect(() => {
    if (url === null) {
      return undefined;
    }
    const controller = new AbortController();
    let open = false;
    let stale = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const later = () => {
      clearTimeout(timer);
      if (pause.current > 0 && !controller.signal.aborted) {
        timer = setTimeout(now, pause.current * 1000);
      }
    };
    const now = () => {
      if (document.visibilityState !== "visible") {
        stale = true;

        return;
      }
      if (open) {
        return;
      }
      clearTimeout(timer);
      open = true;
      stale = false;
      fetch(url, { signal: controller.signal })
        .then((response) => answerOf<T>(response))
        .then((data) => setState({ at: Date.now(), data, url }))
        .catch((error: unknown) => {
          if (!controller.signal.aborted) {
            const text = error instanceof TypeError ? t("Airflow cannot be reached.") : String((error as Error).message);

            setState((before) => ({ ...before, error: text, url }));
          }
        })
        .finally(() => {
          open = false;
          later();
        });
    };
    const seen = () => {
      if (stale && document.visibilityState === "visible") {
        now();
      }
    };

    ask.current = now;
    again.current = () => {
      if (!open) {
        later();
      }
    };
    now();
    document.addEventListener("visibilitychange", seen);

    return () => {
      controller.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [url]);

  useEffect(() => again.current(), [seconds]);

  const reload = useCallback(() => ask.current(), []);

  return { at: state.at, data: state.data, error: state.error, loading: state.url !== url, reload };
};
