/** Small pieces that lists and details share. */
import { Badge, Box, Button, HStack, Link, Text, VisuallyHidden } from "@chakra-ui/react";
import { useEffect, useState, type ReactNode } from "react";
import { Link as RouterLink } from "react-router-dom";

import { OUTCOMES, type Counts, type Job, type JobKey, type JobState, type Outcome } from "./api";
import { count, dateTime, duration, percent, secondsBetween, useTimezone } from "./format";

const STATES: Record<JobState, { label: string; palette: string; meaning: string }> = {
  canceling: { label: "Canceling", meaning: "Cancellation was asked for", palette: "orange" },
  delivered: { label: "Delivered", meaning: "Every request succeeded", palette: "success" },
  delivering: { label: "Delivering", meaning: "All batches ended; results are being fetched", palette: "running" },
  failed: { label: "Failed", meaning: "No request succeeded, or a task of the job failed", palette: "failed" },
  partial: { label: "Partial", meaning: "Delivered; some requests did not succeed", palette: "up_for_retry" },
  paused: { label: "Paused", meaning: "Submission waits, without a worker slot", palette: "queued" },
  submitting: { label: "Submitting", meaning: "Requests are being stored and sent", palette: "running" },
  unattended: { label: "No results", meaning: "The run ended without fetching results", palette: "gray" },
  waiting: { label: "Waiting", meaning: "Claude is working on the batches", palette: "deferred" },
};

export const JobStateBadge = ({ state }: { readonly state: JobState }) => {
  const { label, meaning, palette } = STATES[state];

  return (
    <Badge colorPalette={palette} title={meaning} variant="solid" whiteSpace="nowrap">
      {label}
    </Badge>
  );
};

export const TaskStateBadge = ({ state }: { readonly state: string | null }) => (
  <Badge colorPalette={state ?? "none"} variant="solid" whiteSpace="nowrap">
    {(state ?? "no status").replaceAll("_", " ")}
  </Badge>
);

const OUTCOME_COLORS: Record<Outcome, string> = {
  canceled: "gray.emphasized",
  errored: "failed.solid",
  expired: "orange.solid",
  invalid: "purple.solid",
  missing: "fg.muted",
  succeeded: "success.solid",
};

const OutcomeDot = ({ outcome }: { readonly outcome: Outcome }) => (
  <Box bg={OUTCOME_COLORS[outcome]} borderRadius="xs" display="inline-block" flexShrink={0} h="8px" w="8px" />
);

type CountsProps = { readonly counts: Counts };

/** One bar, a color for each outcome. What occurred is visible, however rare. */
export const OutcomeBar = ({ counts, height = "8px" }: CountsProps & { readonly height?: string }) => (
  <HStack aria-hidden bg="bg.emphasized" borderRadius="full" gap={0} h={height} overflow="hidden" w="100%">
    {OUTCOMES.filter((outcome) => counts[outcome] > 0).map((outcome) => (
      <Box bg={OUTCOME_COLORS[outcome]} flexBasis={0} flexGrow={counts[outcome]} h="100%" key={outcome} minW="3px" />
    ))}
  </HStack>
);

export const outcomeText = (counts: Counts): string =>
  OUTCOMES.filter((outcome) => counts[outcome] > 0)
    .map((outcome) => `${count(counts[outcome])} ${outcome}`)
    .join(", ") || "no requests";

/** Every outcome that occurred, with its color, number and share. */
export const OutcomeLegend = ({ counts }: CountsProps) => (
  <HStack columnGap={5} flexWrap="wrap" fontSize="sm" rowGap={1}>
    {OUTCOMES.filter((outcome) => counts[outcome] > 0 || outcome === "succeeded").map((outcome) => (
      <HStack gap={1.5} key={outcome}>
        <OutcomeDot outcome={outcome} />
        <Text>
          {outcome} <Number value={counts[outcome]} />
          {counts.total > 0 ? (
            <Text as="span" color="fg.muted">
              {" "}
              {percent(counts[outcome] / counts.total)}
            </Text>
          ) : undefined}
        </Text>
      </HStack>
    ))}
  </HStack>
);

/** Digits of one width, so that columns of numbers align. */
export const Number = ({ value }: { readonly value: number }) => (
  <Text as="span" fontVariantNumeric="tabular-nums">
    {count(value)}
  </Text>
);

export const Nothing = () => (
  <Text as="span" color="fg.subtle">
    –
  </Text>
);

export const Moment = ({ iso }: { readonly iso: string | null }) => {
  const zone = useTimezone();

  return iso === null ? (
    <Nothing />
  ) : (
    <Text as="span" fontVariantNumeric="tabular-nums" title={`${dateTime(iso, zone)} ${zone}`} whiteSpace="nowrap">
      <time dateTime={iso}>{dateTime(iso, zone)}</time>
    </Text>
  );
};

/** The time now, renewed twice a minute. */
export const useNow = (): number => {
  const [now, setNow] = useState(() => Date.now());

  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 30_000);

    return () => clearInterval(timer);
  }, []);

  return now;
};

/** How much of the time that the API gives a batch has gone by. */
export const DeadlineBar = ({ job }: { readonly job: Job }) => {
  const now = useNow();

  if (job.submitted_at === null || job.deadline === null) {
    return <Nothing />;
  }
  const whole = secondsBetween(job.submitted_at, job.deadline);
  const gone = secondsBetween(job.submitted_at, now);
  const share = Math.min(Math.max(gone / whole, 0), 1);
  const left = whole - gone;
  const text = left > 0 ? `${duration(left)} left` : `overdue ${duration(-left)}`;

  return (
    <Box minW="110px" title={`${duration(gone)} of ${duration(whole)} have gone by`}>
      <Box aria-hidden bg="bg.emphasized" borderRadius="full" h="6px" mb={1} overflow="hidden">
        <Box bg={share > 0.9 ? "failed.solid" : "deferred.solid"} h="100%" minW="3px" w={`${share * 100}%`} />
      </Box>
      <Text color="fg.muted" fontSize="xs" fontVariantNumeric="tabular-nums" whiteSpace="nowrap">
        {text}
      </Text>
    </Box>
  );
};

export const dagPath = (dagId: string) => `/dags/${encodeURIComponent(dagId)}`;
export const runPath = (key: JobKey) => `${dagPath(key.dag_id)}/runs/${encodeURIComponent(key.run_id)}`;
export const taskPath = (key: JobKey) =>
  `${runPath(key)}/tasks/${encodeURIComponent(key.task_id)}${key.map_index >= 0 ? `/mapped/${key.map_index}` : ""}`;

export const PageLink = ({ children, to }: { readonly children: ReactNode; readonly to: string }) => (
  <Link asChild color="fg.info">
    <RouterLink to={to}>{children}</RouterLink>
  </Link>
);

/** Another site, in another tab; nothing but https. */
export const OutsideLink = ({ children, href }: { readonly children: ReactNode; readonly href: string | null }) =>
  href?.startsWith("https://") ? (
    <Link color="fg.info" href={href} rel="noreferrer" target="_blank">
      {children}
      <VisuallyHidden>(opens in a new tab)</VisuallyHidden>
    </Link>
  ) : (
    <>{children}</>
  );

/** Where to read on when a job has failed without a result: the task that did, and its log. */
export const FailedTask = ({ job }: { readonly job: Job }) => {
  const task = job.tasks.find(({ state }) => state === "failed");

  return task ? (
    <>
      ; <PageLink to={taskPath(task)}>the log of {task.task_id}</PageLink> says why
    </>
  ) : undefined;
};

/** DAG, run and submitting task of a job. */
export const JobName = ({ job }: { readonly job: Job }) => (
  <Box minW={{ base: "110px", md: "180px" }}>
    <PageLink to={dagPath(job.dag_id)}>
      <Text as="span" fontWeight="medium">
        {job.dag_id}
      </Text>
    </PageLink>
    <HStack color="fg.muted" fontSize="xs" gap={1}>
      <PageLink to={runPath(job)}>
        <Text as="span" display="inline-block" maxW={{ base: "84px", md: "220px" }} title={job.run_id} truncate verticalAlign="bottom">
          {job.run_id}
        </Text>
      </PageLink>
      <Text as="span">·</Text>
      <PageLink to={taskPath(job)}>
        <Text as="span" whiteSpace="nowrap">
          {job.task_id}
          {job.map_index >= 0 ? ` [${job.map_index}]` : ""}
        </Text>
      </PageLink>
    </HStack>
  </Box>
);

export const ErrorNote = ({ children }: { readonly children: ReactNode }) => (
  <Box
    bg="red.subtle"
    borderColor="red.muted"
    borderRadius="md"
    borderWidth="1px"
    color="red.fg"
    fontSize="sm"
    px={3}
    py={2}
    role="alert"
  >
    {children}
  </Box>
);

export const Section = ({
  aside,
  children,
  title,
}: {
  readonly aside?: ReactNode;
  readonly children: ReactNode;
  readonly title: string;
}) => (
  <Box aria-label={title} as="section">
    <HStack justify="space-between" mb={2} minH={8}>
      <Text as="h2" fontSize="lg" fontWeight="semibold">
        {title}
      </Text>
      {aside}
    </HStack>
    {children}
  </Box>
);

type PagingProps = {
  readonly limit: number;
  readonly offset: number;
  readonly onChange: (offset: number) => void;
  readonly total: number;
};

export const Paging = ({ limit, offset, onChange, total }: PagingProps) =>
  total <= limit && offset === 0 ? undefined : (
    <HStack as="nav" gap={2}>
      <Text color="fg.muted" fontSize="sm" fontVariantNumeric="tabular-nums">
        {count(Math.min(offset + 1, total))}–{count(Math.min(offset + limit, total))} of {count(total)}
      </Text>
      <Button disabled={offset === 0} onClick={() => onChange(Math.max(offset - limit, 0))} size="xs" variant="outline">
        Newer
      </Button>
      <Button disabled={offset + limit >= total} onClick={() => onChange(offset + limit)} size="xs" variant="outline">
        Older
      </Button>
    </HStack>
  );
