/** Small pieces that lists and details share. */
import { Badge, Box, Button, HStack, Link, Text, VisuallyHidden } from "@chakra-ui/react";
import { Fragment, useEffect, useState, type ReactNode } from "react";
import { Link as RouterLink } from "react-router-dom";

import type { Job, JobKey, JobState } from "./api";
import { count, dateTime, duration, secondsBetween, useTimezone } from "./format";
import { t, tx } from "./text";

const STATES: Record<JobState, { label: string; palette: string; meaning: string }> = {
  canceling: { label: "Canceling", meaning: "Cancellation was asked for", palette: "orange" },
  delivered: { label: "Delivered", meaning: "Every request succeeded", palette: "success" },
  delivering: { label: "Delivering", meaning: "All batches ended; results are being fetched", palette: "running" },
  failed: { label: "Failed", meaning: "No request succeeded, or a task of the job failed", palette: "failed" },
  partial: { label: "Partial", meaning: "Delivered; some requests did not succeed", palette: "up_for_retry" },
  paused: { label: "Paused", meaning: "Submission waits, without a worker slot", palette: "queued" },
  submitting: { label: "Submitting", meaning: "Requests are being stored and sent", palette: "running" },
  unreadable: { label: "Cannot be read", meaning: "An XCom of this job has another form than this package writes", palette: "gray" },
  unattended: { label: "No results", meaning: "The run ended without fetching results", palette: "gray" },
  waiting: { label: "Waiting", meaning: "Claude is working on the batches", palette: "deferred" },
};

export const JobStateBadge = ({ state }: { readonly state: JobState }) => {
  const { label, meaning, palette } = STATES[state];

  return (
    <Badge colorPalette={palette} title={t(meaning)} variant="surface" whiteSpace="nowrap">
      {t(label)}
    </Badge>
  );
};

export const LateBadge = ({ job }: { readonly job: Job }) =>
  job.late ? (
    <Badge colorPalette="red" title={t("Its results were wanted earlier")} variant="surface" whiteSpace="nowrap">
      {t("Late")}
    </Badge>
  ) : undefined;

export const GoingDirectBadge = ({ job }: { readonly job: Job }) =>
  job.going_direct ? (
    <Badge colorPalette="orange" title={t("What its batches leave open is asked by single calls")} variant="surface" whiteSpace="nowrap">
      {t("Going direct")}
    </Badge>
  ) : undefined;

/** How many of those single calls are answered. */
export const DirectSoFar = ({ told }: { readonly told: NonNullable<Job["going_direct"]> }) =>
  told.requests === null ? t("once the batches are canceled") : <Ltr>{`${count(told.answered)} / ${count(told.requests)}`}</Ltr>;

export const Tags = ({ tags }: { readonly tags: Record<string, string> }) => (
  <HStack flexWrap="wrap" gap={1}>
    {Object.entries(tags).map(([name, value]) => (
      <Badge colorPalette="gray" key={name} maxW="100%" variant="outline">
        <Text as="span" truncate>
          <Ltr>{`${name}=${value}`}</Ltr>
        </Text>
      </Badge>
    ))}
  </HStack>
);

export const TaskStateBadge = ({ state }: { readonly state: string | null }) => (
  <Badge colorPalette={state ?? "none"} variant="solid" whiteSpace="nowrap">
    {t((state ?? "no status").replaceAll("_", " "))}
  </Badge>
);

/** Digits of one width, so that columns of numbers align. */
export const Number = ({ value }: { readonly value: number }) => (
  <Text as="span" dir="ltr" fontVariantNumeric="tabular-nums">
    {count(value)}
  </Text>
);

/** Ids and pairs of numbers keep their direction in right-to-left languages. */
export const Ltr = ({ children }: { readonly children: ReactNode }) => (
  <bdi dir="ltr">{children}</bdi>
);

/** A name whose words no spaces part: lines may end between them. */
export const Words = ({ children }: { readonly children: string }) =>
  children.split(/(?<=[-_./])(?![-_./])/u).map((word, index) => (
    <Fragment key={index}>
      {index > 0 ? <wbr /> : undefined}
      {word}
    </Fragment>
  ));

export const Nothing = () => (
  <Text as="span" color="fg.muted">
    –
  </Text>
);

export const Moment = ({ iso }: { readonly iso: string | null }) => {
  const zone = useTimezone();

  return iso === null ? (
    <Nothing />
  ) : (
    <Text as="span" dir="ltr" fontVariantNumeric="tabular-nums" title={`${dateTime(iso, zone)} ${zone}`} whiteSpace="nowrap">
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

/** How long ago a moment is. */
export const Age = ({ iso }: { readonly iso: string }) => <Ltr>{duration(secondsBetween(iso, useNow()))}</Ltr>;

/** How much of the time until the results are wanted, or else the API gives up, has gone by. */
export const DeadlineBar = ({ job }: { readonly job: Job }) => {
  const now = useNow();
  const end = job.due ?? job.deadline;

  if (job.submitted_at === null || end === null) {
    return <Nothing />;
  }
  const whole = secondsBetween(job.submitted_at, end);
  const gone = secondsBetween(job.submitted_at, now);
  const share = whole > 0 ? Math.min(Math.max(gone / whole, 0), 1) : 1;
  const left = whole - gone;
  const text =
    left > 0
      ? t("{span} left", { span: duration(left) })
      : t(job.due === null ? "overdue {span}" : "late by {span}", { span: duration(-left) });

  return (
    <Box title={t("{gone} of {whole} have gone by", { gone: duration(gone), whole: duration(Math.max(whole, 0)) })}>
      <Box aria-hidden bg="bg.emphasized" borderRadius="full" h="6px" mb={1} overflow="hidden">
        <Box bg={share > 0.9 ? "failed.solid" : "deferred.solid"} h="100%" minW="3px" w={`${share * 100}%`} />
      </Box>
      <Text color="fg.muted" fontSize="xs" fontVariantNumeric="tabular-nums">
        {text}
      </Text>
    </Box>
  );
};

export const dagPath = (dagId: string) => `/dags/${encodeURIComponent(dagId)}`;
export const runPath = (key: JobKey) => `${dagPath(key.dag_id)}/runs/${encodeURIComponent(key.run_id)}`;
export const taskPath = (key: JobKey) =>
  `${runPath(key)}/tasks/${encodeURIComponent(key.task_id)}${key.map_index >= 0 ? `/mapped/${key.map_index}` : ""}`;

type PageLinkProps = {
  readonly children: ReactNode;
  /** Within a sentence, where colour alone does not tell it from the words around it. */
  readonly inText?: boolean;
  readonly to: string;
};

export const PageLink = ({ children, inText, to }: PageLinkProps) => (
  <Link asChild color="fg.info" display="inline" textDecoration={inText === true ? "underline" : undefined}>
    <RouterLink to={to}>{children}</RouterLink>
  </Link>
);

/** Another site, in another tab; nothing but https. */
export const OutsideLink = ({ children, href }: { readonly children: ReactNode; readonly href: string | null }) =>
  href?.startsWith("https://") ? (
    <Link color="fg.info" href={href} rel="noreferrer" target="_blank">
      {children}
      <VisuallyHidden>{t("(opens in a new tab)")}</VisuallyHidden>
    </Link>
  ) : (
    <>{children}</>
  );

/** Where to read on when a job has failed without a result: the task that did, and its log. */
export const FailedTask = ({ job, says }: { readonly job: Job; readonly says: string }) => {
  const task = job.tasks.find(({ state }) => state === "failed");

  return task ? (
    <>
      {tx(says, {
        log: (
          <PageLink inText to={taskPath(task)}>
            {t("the log of {task}", { task: task.task_id })}
          </PageLink>
        ),
      })}
    </>
  ) : undefined;
};

/** A name in a table: where it has no room, it takes two lines; the whole is in its tooltip. */
export const TWO_LINES = { lineClamp: 2, overflowWrap: "anywhere", whiteSpace: "normal" } as const;

/** DAG, run and submitting task of a job. */
export const JobName = ({ job }: { readonly job: Job }) => {
  const task = `${job.task_id}${job.map_index >= 0 ? ` [${job.map_index}]` : ""}`;

  return (
    // What is cut off must not cut the ring around what has the focus.
    <Box css={{ "& a:focus-visible": { outlineOffset: "-2px" } }} minW={0}>
      <Box {...TWO_LINES} title={job.dag_id}>
        <PageLink to={dagPath(job.dag_id)}>
          <Text as="span" fontWeight="medium">
            <Ltr>
              <Words>{job.dag_id}</Words>
            </Ltr>
          </Text>
        </PageLink>
      </Box>
      <Box fontSize="xs" title={`${task} · ${job.run_id}`} truncate>
        <PageLink to={taskPath(job)}>
          <Ltr>{task}</Ltr>
        </PageLink>
        {" · "}
        <PageLink to={runPath(job)}>
          <Ltr>{job.run_id}</Ltr>
        </PageLink>
      </Box>
    </Box>
  );
};

export const Note = ({ children }: { readonly children: ReactNode }) => (
  <Box bg="orange.subtle" borderColor="orange.muted" borderRadius="md" borderWidth="1px" color="orange.fg" fontSize="sm" px={3} py={2} role="status">
    {children}
  </Box>
);

export const CopyButton = ({ name, text }: { readonly name: string; readonly text: string }) => {
  const [copied, setCopied] = useState(false);

  return (
    <Button
      aria-label={t("Copy {name}", { name })}
      ms={2}
      onClick={() => {
        void navigator.clipboard?.writeText(text).then(() => setCopied(true));
      }}
      size="2xs"
      variant="outline"
    >
      {copied ? t("Copied") : t("Copy")}
    </Button>
  );
};

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

/** Bring a part of the page into view, and the keyboard with it. */
export const goTo = (id: string) => {
  const part = document.getElementById(id);

  part?.scrollIntoView({ block: "start" });
  part?.focus({ preventScroll: true });
};

export const Section = ({
  aside,
  id,
  note,
  children,
  title,
}: {
  readonly aside?: ReactNode;
  readonly children: ReactNode;
  /** To be gone to by {@link goTo}. */
  readonly id?: string;
  readonly note?: string;
  readonly title: string;
}) => (
  <Box aria-label={title} as="section" id={id} minW={0} tabIndex={id === undefined ? undefined : -1}>
    <HStack flexWrap="wrap" justify="space-between" mb={2} minH={8}>
      <HStack alignItems="baseline" flexWrap="wrap" gap={2}>
        <Text as="h2" fontSize="lg" fontWeight="semibold">
          {title}
        </Text>
        {note === undefined ? undefined : (
          <Text color="fg.muted" fontSize="sm">
            {note}
          </Text>
        )}
      </HStack>
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
  readonly words?: [string, string];
};

export const Paging = ({ limit, offset, onChange, total, words = [t("Previous"), t("Next")] }: PagingProps) =>
  total <= limit && offset === 0 ? undefined : (
    <HStack aria-label={t("Pages")} as="nav" flexShrink={0} gap={2}>
      <Text color="fg.muted" dir="ltr" fontSize="sm" fontVariantNumeric="tabular-nums">
        {t("{first}–{last} of {total}", {
          first: count(Math.min(offset + 1, total)),
          last: count(Math.min(offset + limit, total)),
          total: count(total),
        })}
      </Text>
      <Button disabled={offset === 0} onClick={() => onChange(Math.max(offset - limit, 0))} size="xs" variant="outline">
        {words[0]}
      </Button>
      <Button disabled={offset + limit >= total} onClick={() => onChange(offset + limit)} size="xs" variant="outline">
        {words[1]}
      </Button>
    </HStack>
  );
