/** Which jobs the lists hold. */
import { Button, HStack, Input } from "@chakra-ui/react";
import { useEffect, useRef, useState } from "react";

import type { Address } from "./address";
import { Choice, translated } from "./choice";
import { longDay } from "./format";
import { t } from "./text";

export const RESULTS: Record<string, string> = {
  "": "Any result",
  delivered: "Delivered, all succeeded",
  failed: "Failed",
  partial: "Delivered in part",
};
export const PERIODS: Record<string, string> = {
  "": "Any time",
  "1": "Last 24 hours",
  "7": "Last 7 days",
  "30": "Last 30 days",
};

type FiltersProps = {
  readonly address: Address;
  readonly dagIds: string[];
  readonly day: string;
  readonly days: string;
  readonly filtered: boolean;
  readonly result: string;
};

export const Filters = ({ address, dagIds, day, days, filtered, result }: FiltersProps) => {
  const first = { a: "", b: "" };

  return (
    <HStack flexWrap="wrap" gap={2} role="search">
      <Search onSearch={(q) => address.set({ ...first, q }, { replace: true })} value={address.get("q")} />
      <Choice
        label={t("DAG")}
        onChange={(dag) => address.set({ ...first, dag })}
        options={{ "": t("All DAGs"), ...Object.fromEntries(dagIds.map((dagId) => [dagId, dagId])) }}
        value={address.get("dag")}
      />
      <Choice label={t("Result of recent jobs")} onChange={(chosen) => address.set({ ...first, result: chosen })} options={translated(RESULTS)} value={result} />
      <Choice label={t("Time of recent jobs")} onChange={(chosen) => address.set({ ...first, day: "", days: chosen })} options={translated(PERIODS)} value={days} />
      {day === "" ? undefined : (
        <Button
          aria-label={t("Jobs of {day}; show those of all days", { day: longDay(day) })}
          onClick={() => address.set({ ...first, day: "" })}
          size="sm"
          variant="outline"
        >
          {longDay(day)} ×
        </Button>
      )}
      {filtered ? (
        <Button onClick={() => address.set({ ...first, dag: "", day: "", days: "", q: "", result: "" })} size="sm" variant="ghost">
          {t("Clear filters")}
        </Button>
      ) : undefined}
    </HStack>
  );
};

const Search = ({ onSearch, value }: { readonly onSearch: (q: string) => void; readonly value: string }) => {
  const [text, setText] = useState(value);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);

  const sent = useRef(value);

  useEffect(() => {
    // What comes back from the address must not undo letters that were typed meanwhile.
    if (value !== sent.current) {
      sent.current = value;
      setText(value);
    }
  }, [value]);

  return (
    <Input
      aria-label={t("Search by batch id, run id or task id")}
      onChange={(event) => {
        const { value: typed } = event.target;

        setText(typed);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => {
          sent.current = typed.trim();
          onSearch(sent.current);
        }, 300);
      }}
      maxLength={250}
      placeholder={t("Batch id, run id or task id")}
      size="sm"
      type="search"
      value={text}
      w={{ base: "100%", md: "260px" }}
    />
  );
};
