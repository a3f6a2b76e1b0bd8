/** The page: what is in flight, what is over, what it costs. Filters live in the address, to be shared. */
import {
  Box,
  Button,
  Code,
  CloseButton,
  Drawer,
  HStack,
  Heading,
  Input,
  Link,
  NativeSelect,
  Portal,
  Skeleton,
  Stack,
  Text,
} from "@chakra-ui/react";
import { useEffect, useMemo, useRef, useState } from "react";
import { useSearchParams } from "react-router-dom";

import { nameOf, useApi, type JobDetails, type JobKey, type JobPage, type Totals } from "./api";
import { Details } from "./details";
import { count, useTimezone } from "./format";
import { InFlightList, RecentList } from "./lists";
import { ErrorNote, Paging, Section } from "./parts";
import { Tiles, Trends } from "./trends";

const LIMIT = 15;
const REFRESH_SECONDS = 10;

const RESULTS = { "": "Any result", delivered: "Delivered, all succeeded", failed: "Failed", partial: "Delivered in part" };
const PERIODS = { "": "Any time", "1": "Last 24 hours", "7": "Last 7 days", "30": "Last 30 days" };

/** Search parameters as a small store; an empty value is an absent one. */
const useAddress = () => {
  const [params, setParams] = useSearchParams();
  const get = (name: string) => params.get(name) ?? "";
  const set = (changes: Record<string, string>) =>
    setParams(
      (before) => {
        for (const [name, value] of Object.entries(changes)) {
          if (value === "") {
            before.delete(name);
          } else {
            before.set(name, value);
          }
        }

        return before;
      },
      { replace: true },
    );

  return { get, set };
};

type Address = ReturnType<typeof useAddress>;

export const Page = () => {
  const address = useAddress();
  const zone = useTimezone();
  const days = address.get("days");
  // Held until the filter changes: a moving start would be a new request at every rendering.
  const since = useMemo(
    () => (days === "" ? "" : new Date(Date.now() - parseInt(days, 10) * 86_400_000).toISOString()),
    [days],
  );
  const filters = { dag_id: address.get("dag"), q: address.get("q"), since };
  const offsetOf = (name: string) => parseInt(address.get(name), 10) || 0;
  const [busy, setBusy] = useState(false);
  const seconds = busy ? REFRESH_SECONDS : 0;
  const inFlight = useApi<JobPage>("jobs", { ...filters, limit: LIMIT, offset: offsetOf("a"), view: "in_flight" }, seconds);
  const recent = useApi<JobPage>(
    "jobs",
    { ...filters, limit: LIMIT, offset: offsetOf("b"), result: address.get("result"), view: "recent" },
    seconds,
  );
  const totals = useApi<Totals>("totals", { dag_id: filters.dag_id, tz: zone }, seconds * 6);
  const dags = useApi<{ dag_ids: string[] }>("dags", {});
  const job = keyIn(address.get("job"));
  const open = (key: JobKey) => address.set({ job: nameOf(key) });

  useEffect(() => setBusy((inFlight.data?.total ?? 0) > 0), [inFlight.data]);

  const reload = () => [inFlight, recent, totals, dags].forEach((one) => one.reload());
  const error = inFlight.error ?? recent.error ?? totals.error;
  const filtered = Object.values(filters).some(Boolean) || address.get("result") !== "";
  const none = !filtered && inFlight.data?.total === 0 && recent.data?.total === 0;

  return (
    <Box h="100%" overflowY="auto" p={4}>
      <Stack gap={6} maxW="1600px" mx="auto">
        <HStack justify="space-between">
          <Heading size="xl">Claude Batches</Heading>
          <HStack gap={3}>
            <Text aria-live="polite" color="fg.muted" fontSize="xs" hideBelow="sm">
              {busy ? `refreshes every ${REFRESH_SECONDS} s` : ""}
            </Text>
            <Button onClick={reload} size="xs" variant="outline">
              Refresh
            </Button>
          </HStack>
        </HStack>
        {error === undefined ? undefined : <ErrorNote>{error}</ErrorNote>}
        {none ? (
          <Empty />
        ) : (
          <>
            {totals.data ? (
              <Tiles inFlight={inFlight.data ? count(inFlight.data.total) : "–"} totals={totals.data} />
            ) : (
              <Skeleton h="86px" />
            )}
            <Filters address={address} dagIds={dags.data?.dag_ids ?? []} filtered={filtered} />
            <Jobs address={address} loaded={inFlight.data} name="a" none="Nothing is in flight." onOpen={open} title="In flight" />
            <Jobs
              address={address}
              loaded={recent.data}
              name="b"
              none={filtered ? "No job matches." : "No job is over yet."}
              onOpen={open}
              title="Recent"
            />
            {totals.data ? <Trends totals={totals.data} /> : <Skeleton h="320px" />}
          </>
        )}
      </Stack>
      <JobDrawer job={job} onChanged={reload} onClose={() => address.set({ job: "" })} seconds={seconds} />
    </Box>
  );
};

type JobsProps = {
  readonly address: Address;
  readonly loaded: JobPage | undefined;
  readonly name: "a" | "b";
  readonly none: string;
  readonly onOpen: (key: JobKey) => void;
  readonly title: string;
};

const Jobs = ({ address, loaded, name, none, onOpen, title }: JobsProps) => {
  const List = name === "a" ? InFlightList : RecentList;

  return (
    <Section
      aside={
        loaded ? (
          <Paging
            limit={LIMIT}
            offset={parseInt(address.get(name), 10) || 0}
            onChange={(offset) => address.set({ [name]: offset === 0 ? "" : String(offset) })}
            total={loaded.total}
          />
        ) : undefined
      }
      title={title}
    >
      {loaded === undefined ? <Skeleton h="120px" /> : undefined}
      {loaded?.jobs.length === 0 ? (
        <Text borderRadius="md" borderWidth="1px" color="fg.muted" fontSize="sm" px={4} py={3}>
          {none}
        </Text>
      ) : undefined}
      {loaded && loaded.jobs.length > 0 ? <List jobs={loaded.jobs} onOpen={onOpen} /> : undefined}
    </Section>
  );
};

type FiltersProps = { readonly address: Address; readonly dagIds: string[]; readonly filtered: boolean };

const Filters = ({ address, dagIds, filtered }: FiltersProps) => {
  const first = { a: "", b: "" };

  return (
    <HStack flexWrap="wrap" gap={2} role="search">
      <Search onSearch={(q) => address.set({ ...first, q })} value={address.get("q")} />
      <Choice
        label="DAG"
        onChange={(dag) => address.set({ ...first, dag })}
        options={{ "": "All DAGs", ...Object.fromEntries(dagIds.map((dagId) => [dagId, dagId])) }}
        value={address.get("dag")}
      />
      <Choice label="Result" onChange={(result) => address.set({ ...first, result })} options={RESULTS} value={address.get("result")} />
      <Choice label="Time" onChange={(days) => address.set({ ...first, days })} options={PERIODS} value={address.get("days")} />
      {filtered ? (
        <Button onClick={() => address.set({ ...first, dag: "", days: "", q: "", result: "" })} size="sm" variant="ghost">
          Clear filters
        </Button>
      ) : undefined}
    </HStack>
  );
};

const Search = ({ onSearch, value }: { readonly onSearch: (q: string) => void; readonly value: string }) => {
  const [text, setText] = useState(value);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);

  useEffect(() => setText(value), [value]);

  return (
    <Input
      aria-label="Search by batch id, run id or task id"
      onChange={(event) => {
        const { value: typed } = event.target;

        setText(typed);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => onSearch(typed.trim()), 300);
      }}
      placeholder="Batch id, run id or task id"
      size="sm"
      type="search"
      value={text}
      w={{ base: "100%", md: "260px" }}
    />
  );
};

type ChoiceProps = {
  readonly label: string;
  readonly onChange: (value: string) => void;
  readonly options: Record<string, string>;
  readonly value: string;
};

const Choice = ({ label, onChange, options, value }: ChoiceProps) => (
  <NativeSelect.Root size="sm" w={{ base: "100%", md: "180px" }}>
    <NativeSelect.Field aria-label={label} onChange={(event) => onChange(event.target.value)} value={value}>
      {Object.entries(value in options ? options : { ...options, [value]: value }).map(([key, name]) => (
        <option key={key} value={key}>
          {name}
        </option>
      ))}
    </NativeSelect.Field>
    <NativeSelect.Indicator />
  </NativeSelect.Root>
);

/** The key of the job that the address names, if it names one. */
const keyIn = (text: string): JobKey | undefined => {
  try {
    const [dag_id, run_id, task_id, map_index] = JSON.parse(text) as [string, string, string, number];

    return { dag_id, map_index, run_id, task_id };
  } catch {
    return undefined;
  }
};

type DrawerProps = {
  readonly job: JobKey | undefined;
  readonly onChanged: () => void;
  readonly onClose: () => void;
  readonly seconds: number;
};

const JobDrawer = ({ job, onChanged, onClose, seconds }: DrawerProps) => {
  const { data, error, loading, reload } = useApi<JobDetails>(job ? "job" : null, job ?? {}, seconds);
  const last = useRef("");

  if (job) {
    last.current = nameOf(job);
  }

  return (
    <Drawer.Root
      finalFocusEl={() => document.querySelector<HTMLElement>(`[data-job="${CSS.escape(last.current)}"]`)}
      onOpenChange={(change: { open: boolean }) => {
        if (!change.open) {
          onClose();
        }
      }}
      open={job !== undefined}
      placement="end"
      size="lg"
    >
      <Portal>
        <Drawer.Backdrop />
        <Drawer.Positioner>
          <Drawer.Content>
            <Drawer.Header>
              <Drawer.Title>
                {job?.dag_id} · {job?.task_id}
                {job && job.map_index >= 0 ? ` [${job.map_index}]` : ""}
              </Drawer.Title>
            </Drawer.Header>
            <Drawer.Body pb={8}>
              {error === undefined ? undefined : <ErrorNote>{error}</ErrorNote>}
              {data && !loading ? (
                <Details
                  job={data}
                  onChanged={() => {
                    reload();
                    onChanged();
                  }}
                />
              ) : undefined}
              {loading && error === undefined ? <Skeleton h="240px" /> : undefined}
            </Drawer.Body>
            <Drawer.CloseTrigger asChild>
              <CloseButton aria-label="Close details" size="sm" />
            </Drawer.CloseTrigger>
          </Drawer.Content>
        </Drawer.Positioner>
      </Portal>
    </Drawer.Root>
  );
};

const EXAMPLE = `from airflow.sdk import dag, task


@dag
def first_batch():
    @task.claude_batch(model="claude-haiku-4-5", max_tokens=200)
    def ask():
        for subject in ["a batch", "a DAG", "an asset"]:
            yield f"Explain in one sentence what {subject} is."

    ask()


first_batch()`;

const Empty = () => (
  <Stack borderRadius="md" borderWidth="1px" gap={4} p={6}>
    <Heading size="md">No batch has been submitted yet</Heading>
    <Text maxW="65ch">
      A job appears here as soon as a task starts to submit it: how far its batches are, what they cost, and why
      requests failed. This is a whole DAG; save it as <Code size="sm">first_batch.py</Code> among your DAGs, and trigger
      it:
    </Text>
    <Box overflowX="auto">
      <Code display="block" p={4} size="sm" whiteSpace="pre">
        {EXAMPLE}
      </Code>
    </Box>
    <Text color="fg.muted" fontSize="sm">
      The key is the password of the connection <Code size="xs">anthropic_default</Code>, or in{" "}
      <Code size="xs">ANTHROPIC_API_KEY</Code>. Jobs of DAGs that you may not read are not shown. About batches:{" "}
      <Link
        color="fg.info"
        href="https://platform.claude.com/docs/en/build-with-claude/batch-processing"
        rel="noreferrer"
        target="_blank"
      >
        Claude’s documentation
      </Link>
      .
    </Text>
  </Stack>
);
