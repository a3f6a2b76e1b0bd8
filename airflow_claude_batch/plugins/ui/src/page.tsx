/** The page: what is in flight, what is over, what it costs. */
import { Box, Button, HStack, Heading, Skeleton, Stack, Text, VisuallyHidden } from "@chakra-ui/react";
import { useEffect, useMemo, useState, type ReactNode } from "react";

import { keyIn, useAddress, type Address } from "./address";
import { nameOf, useApi, type Attention, type Job, type JobKey, type JobPage, type Schedule, type Totals } from "./api";
import { NeedsAttention } from "./attention";
import { JobDrawer } from "./drawer";
import { Empty } from "./empty";
import { Filters, PERIODS, RESULTS } from "./filters";
import { clock, count, longDay, useTimezone } from "./format";
import { InFlightList, RecentList } from "./lists";
import { ErrorNote, Paging, Section } from "./parts";
import { IN_FLIGHT } from "./places";
import { SpendingSection } from "./spending";
import { STILL, Still } from "./still";
import { plural, spoken, t } from "./text";
import { Tiles } from "./tiles";
import { Trends } from "./trends";

const LIMIT = 15;
const REFRESH_SECONDS = 10;
const IDLE_SECONDS = 60;
/** What is scheduled changes seldom. */
const HOUR_SECONDS = 3600;
/** Until sums that are being made are there. */
const SOON_SECONDS = 3;

/** The number in the title of the browser's tab; Airflow sets the rest of it. */
const useTitle = (attention: number | undefined) => {
  useEffect(() => {
    if (attention === undefined) {
      return undefined;
    }
    const before = document.title;

    document.title = `${attention > 0 ? `(${count(attention)}) ` : ""}Claude Batches`;

    return () => {
      document.title = before;
    };
  }, [attention]);
};

export const Page = () => {
  const address = useAddress();
  const zone = useTimezone();
  const days = address.get("days") in PERIODS ? address.get("days") : "";
  // Held until the filter changes: a moving start would be a new request at every rendering.
  const since = useMemo(
    () => (days === "" ? "" : new Date(Date.now() - parseInt(days, 10) * 86_400_000).toISOString()),
    [days],
  );
  const day = /^\d{4}-\d\d-\d\d$/u.test(address.get("day")) ? address.get("day") : "";
  const result = address.get("result") in RESULTS ? address.get("result") : "";
  const filters = { dag_id: address.get("dag"), q: address.get("q").slice(0, 250), since };
  const [busy, setBusy] = useState(false);
  const seconds = busy ? REFRESH_SECONDS : IDLE_SECONDS;
  const inFlight = useApi<JobPage>(
    "jobs",
    { dag_id: filters.dag_id, limit: LIMIT, offset: offsetIn(address.get("a")), q: filters.q, view: "in_flight" },
    seconds,
  );
  const recent = useApi<JobPage>(
    "jobs",
    { ...filters, day, limit: LIMIT, offset: offsetIn(address.get("b")), result, tz: zone, view: "recent" },
    seconds,
  );
  const attention = useApi<Attention>("attention", { dag_id: filters.dag_id }, Math.max(seconds, 30));
  const [renewing, setRenewing] = useState(false);
  const totals = useApi<Totals>("totals", { dag_id: filters.dag_id, tz: zone }, renewing ? SOON_SECONDS : IDLE_SECONDS);
  const schedule = useApi<Schedule>("schedule", { dag_id: filters.dag_id }, HOUR_SECONDS);
  const dags = useApi<{ dag_ids: string[] }>("dags", {});
  const job = keyIn(address.get("job"));
  const open = (key: JobKey) => address.set({ job: nameOf(key) });
  const hrefOf = (key: JobKey) => address.href({ job: nameOf(key) });
  const working = (inFlight.data?.total ?? 0) > 0;

  useEffect(() => {
    if (working) {
      setBusy(true);
      return undefined;
    }
    // Where the last job has gone is in the next answers, which must not be a minute late.
    const timer = setTimeout(() => setBusy(false), 3 * REFRESH_SECONDS * 1_000);
    return () => clearTimeout(timer);
  }, [working]);
  useEffect(() => setRenewing(totals.data?.renewing === true), [totals.data]);
  useTitle(attention.data?.total);
  // The job that was called needs a page that exists.
  useEffect(() => {
    for (const [name, loaded] of [["a", inFlight.data], ["b", recent.data]] as const) {
      if (loaded && loaded.total > 0 && offsetIn(address.get(name)) >= loaded.total) {
        address.set({ [name]: "" }, { replace: true });
      }
    }
  }, [inFlight.data, recent.data]);

  const reload = () => [inFlight, recent, attention, totals, schedule, dags].forEach((one) => one.reload());
  const broken = [inFlight, recent, attention, totals].find((one) => one.error !== undefined);
  const filtered = filters.dag_id !== "" || filters.q !== "" || day !== "" || days !== "" || result !== "";
  const none = !filtered && inFlight.data?.total === 0 && recent.data?.total === 0;
  const scope = filters.dag_id === "" ? undefined : filters.dag_id;
  const night = (dag: string, chosen: string) => {
    address.set({ a: "", b: "", dag, day: chosen, days: "" });
    document.querySelector("[role=search]")?.scrollIntoView({ block: "start" });
  };

  return (
    <Box {...spoken()} aria-label="Claude Batches" as="section" className={STILL} h="100%" overflowY="auto" p={{ base: 2, md: 4 }} tabIndex={0}>
      <Still />
      <Stack gap={6} maxW="1600px" mx="auto">
        <HStack flexWrap="wrap" justify="space-between">
          <Heading as="h1" size="xl">
            Claude Batches
          </Heading>
          <HStack gap={3}>
            <Text color="fg.muted" fontSize="xs">
              {inFlight.at === undefined ? "" : t("as of {time}, refreshes every {n} s", { n: seconds, time: clock(inFlight.at, zone) })}
            </Text>
            <Button onClick={reload} size="xs" variant="outline">
              {t("Refresh")}
            </Button>
          </HStack>
        </HStack>
        {broken === undefined ? undefined : (
          <ErrorNote>
            {broken.error}
            {broken.at === undefined ? "" : ` ${t("What is shown is as of {time}.", { time: clock(broken.at, zone) })}`}
          </ErrorNote>
        )}
        {none ? (
          <Empty />
        ) : (
          <>
            {totals.data ? <Tiles attention={attention.data?.total} next={schedule.data ?? null} totals={totals.data} /> : <Skeleton h="86px" />}
            {attention.data && attention.data.total > 0 ? (
              <NeedsAttention attention={attention.data} hrefOf={hrefOf} onOpen={open} scope={scope} />
            ) : undefined}
            <Filters address={address} dagIds={dags.data?.dag_ids ?? []} day={day} days={days} filtered={filtered} result={result} />
            <VisuallyHidden aria-live="polite">
              {inFlight.data && recent.data
                ? t("In flight: {flying}. Recent: {over}.", {
                    flying: plural(inFlight.data.total, "{n} job", "{n} jobs"),
                    over: plural(recent.data.total, "{n} job", "{n} jobs"),
                  })
                : ""}
            </VisuallyHidden>
            <Jobs address={address} id={IN_FLIGHT} loaded={inFlight.data} name="a" none={t("Nothing is in flight.")} note={t("those due soonest first")} title={t("In flight")}>
              {(jobs) => <InFlightList hrefOf={hrefOf} jobs={jobs} onOpen={open} usual={totals.data?.usual_seconds} />}
            </Jobs>
            <Jobs
              address={address}
              loaded={recent.data}
              name="b"
              none={filtered ? t("No job matches.") : t("No job is over yet.")}
              note={day !== "" ? t("submitted on {day}", { day: longDay(day) }) : days === "" ? t("the newest first") : t(PERIODS[days] ?? "")}
              title={t("Recent")}
            >
              {(jobs) => <RecentList hrefOf={hrefOf} jobs={jobs} onOpen={open} />}
            </Jobs>
            <SpendingSection dagId={filters.dag_id} />
            {totals.data ? <Trends onNight={night} schedule={schedule.data} scope={scope} totals={totals.data} /> : <Skeleton h="320px" />}
          </>
        )}
      </Stack>
      <JobDrawer job={job} onChanged={reload} onClose={() => address.set({ job: "" })} seconds={seconds} />
    </Box>
  );
};

const offsetIn = (text: string): number => {
  const number = parseInt(text, 10);

  return number > 0 && number <= 1_000_000 ? number : 0;
};

type JobsProps = {
  readonly address: Address;
  readonly children: (jobs: Job[]) => ReactNode;
  readonly id?: string;
  readonly loaded: JobPage | undefined;
  readonly name: "a" | "b";
  readonly none: string;
  readonly note: string;
  readonly title: string;
};

const Jobs = ({ address, children, id, loaded, name, none, note, title }: JobsProps) => (
  <Section
    id={id}
    aside={
      loaded ? (
        <Paging
          limit={LIMIT}
          offset={offsetIn(address.get(name))}
          onChange={(offset) => address.set({ [name]: offset === 0 ? "" : String(offset) })}
          total={loaded.total}
          words={name === "a" ? undefined : [t("Newer"), t("Older")]}
        />
      ) : undefined
    }
    note={loaded && loaded.total > 0 ? `${count(loaded.total)}, ${note}` : undefined}
    title={title}
  >
    {loaded === undefined ? <Skeleton h="120px" /> : undefined}
    {loaded?.jobs.length === 0 ? (
      <Text borderRadius="md" borderWidth="1px" color="fg.muted" fontSize="sm" px={4} py={3}>
        {none}
      </Text>
    ) : undefined}
    {loaded && loaded.jobs.length > 0 ? children(loaded.jobs) : undefined}
  </Section>
);
