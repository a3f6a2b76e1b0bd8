/** What a person has chosen, in the page's address: to be shared, and to go back from. */
import { useSearchParams } from "react-router-dom";

import type { JobKey } from "./api";

/**
 * Search parameters as a small store; an empty value is an absent one. What a person chooses is a step of the
 * browser's history, so that Back takes it back; what is typed replaces the step before.
 */
export const useAddress = () => {
  const [params, setParams] = useSearchParams();
  const get = (name: string) => params.get(name) ?? "";
  const changed = (before: URLSearchParams, changes: Record<string, string>) => {
    const after = new URLSearchParams(before);

    for (const [name, value] of Object.entries(changes)) {
      if (value === "") {
        after.delete(name);
      } else {
        after.set(name, value);
      }
    }

    return after;
  };
  const set = (changes: Record<string, string>, options: { replace?: boolean } = {}) =>
    setParams((before) => changed(before, changes), options);
  const href = (changes: Record<string, string>) => `?${changed(params, changes).toString()}`;

  return { get, href, set };
};

export type Address = ReturnType<typeof useAddress>;

/** The key of the job that the address names, if it names one. */
export const keyIn = (text: string): JobKey | undefined => {
  try {
    const [dag_id, run_id, task_id, map_index] = JSON.parse(text) as [unknown, unknown, unknown, unknown];

    return typeof dag_id === "string" && typeof run_id === "string" && typeof task_id === "string" && typeof map_index === "number"
      ? { dag_id, map_index, run_id, task_id }
      : undefined;
  } catch {
    return undefined;
  }
};
