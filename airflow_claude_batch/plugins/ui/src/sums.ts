/** Sums of jobs, added up further, and what is usual. */
import type { Sum, Totals } from "./api";
import { count } from "./format";
import { plural } from "./text";

export const NUMBERS = [
  "cost_usd", "delivered", "estimated_usd", "failed", "jobs", "late", "requests", "requests_over", "reused", "saved_by_reuse_usd", "saved_usd",
  "succeeded", "unpriced_jobs", "unreadable",
] as const;

export const NONE = Object.fromEntries(NUMBERS.map((name) => [name, 0])) as Sum;
export const add = (one: Sum, other: Sum): Sum =>
  Object.fromEntries(NUMBERS.map((name) => [name, one[name] + other[name]])) as Sum;

export const sumsByDag = (totals: Totals): Map<string, Sum> => {
  const sums = new Map<string, Sum>();

  for (const row of totals.by_day) {
    sums.set(row.dag_id, add(sums.get(row.dag_id) ?? NONE, row));
  }

  return sums;
};

export type Group = { color: string; dagIds: Set<string>; name: string };

const COLORS = ["blue", "teal", "purple", "orange", "pink", "cyan"].map((hue) => `var(--chakra-colors-${hue}-500)`);
const OTHERS = "var(--chakra-colors-yellow-600)";

/** The DAGs that cost most have a color each; the rest share one. */
export const groupsOf = (totals: Totals): Group[] => {
  const sorted = [...sumsByDag(totals)].sort(
    ([, one], [, other]) => other.cost_usd - one.cost_usd || other.jobs - one.jobs,
  );
  const own = sorted.slice(0, sorted.length > COLORS.length ? COLORS.length - 1 : COLORS.length);
  const rest = sorted.slice(own.length).map(([name]) => name);
  const groups = own.map(([name], index) => ({ color: COLORS[index] ?? OTHERS, dagIds: new Set([name]), name }));

  return rest.length === 0
    ? groups
    : [...groups, { color: OTHERS, dagIds: new Set(rest), name: plural(rest.length, "{n} other DAG", "{n} other DAGs", { n: count(rest.length) }) }];
};

/** The middle one of these numbers; undefined where they are too few to say anything. */
export const usual = (values: number[], least = 5): number | undefined =>
  values.length < least ? undefined : [...values].sort((one, other) => one - other)[Math.floor((values.length - 1) / 2)];
