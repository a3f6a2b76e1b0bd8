/** The two lists: jobs in flight, and those that are over. */
import { Badge, Box, Button, Table, Text } from "@chakra-ui/react";
import type { MouseEvent, ReactNode } from "react";

import { keyOf, nameOf, type Job, type JobKey } from "./api";
import { compact, duration, percent, plural, secondsBetween, usd } from "./format";
import { DeadlineBar, FailedTask, JobName, JobStateBadge, Moment, Nothing, Number, OutcomeBar, outcomeText } from "./parts";

type ListProps = { readonly jobs: Job[]; readonly onOpen: (key: JobKey) => void };

const Money = ({ value }: { readonly value: number | null | undefined }) =>
  value === null || value === undefined ? <Nothing /> : <>{usd(value)}</>;

type Width = "sm" | "md" | "lg" | "xl";

/** A column: numbers stand on the right; what narrow windows leave out, the details have. */
type Column = { readonly from?: Width; readonly name: string; readonly number?: boolean };

const Right = ({ children, from }: { readonly children: ReactNode; readonly from?: Width }) => (
  <Table.Cell fontVariantNumeric="tabular-nums" hideBelow={from} textAlign="end" whiteSpace="nowrap">
    {children}
  </Table.Cell>
);

const Head = ({ columns }: { readonly columns: Column[] }) => (
  <Table.Header>
    <Table.Row>
      {columns.map(({ from, name, number }) => (
        <Table.ColumnHeader
          hideBelow={from}
          key={name}
          scope="col"
          textAlign={number === true ? "end" : undefined}
          whiteSpace="nowrap"
        >
          {name}
        </Table.ColumnHeader>
      ))}
      <Table.ColumnHeader aria-label="Details" scope="col" />
    </Table.Row>
  </Table.Header>
);

/** A row opens the details wherever it is clicked; with the keyboard, its button does. */
const Row = ({ children, job, onOpen }: { readonly children: ReactNode; readonly job: Job } & Pick<ListProps, "onOpen">) => {
  const open = (event: MouseEvent) => {
    if (!(event.target as Element).closest("a, button")) {
      onOpen(keyOf(job));
    }
  };

  return (
    <Table.Row cursor="pointer" onClick={open}>
      {children}
      <Table.Cell textAlign="end">
        <Button
          data-job={nameOf(job)}
          aria-label={`Details of ${job.task_id} in ${job.dag_id}, ${job.run_id}`}
          onClick={() => onOpen(keyOf(job))}
          size="xs"
          variant="outline"
        >
          Details
        </Button>
      </Table.Cell>
    </Table.Row>
  );
};

const Scrolling = ({ children, label }: { readonly children: ReactNode; readonly label: string }) => (
  <Table.ScrollArea borderRadius="md" borderWidth="1px">
    <Table.Root aria-label={label} interactive size="sm">
      {children}
    </Table.Root>
  </Table.ScrollArea>
);

const IN_FLIGHT: Column[] = [
  { name: "Job" },
  { name: "State" },
  { from: "md", name: "Batches ended", number: true },
  { from: "lg", name: "Requests", number: true },
  { from: "xl", name: "Waiting since" },
  { from: "sm", name: "24-hour deadline" },
  { from: "sm", name: "Estimated cost", number: true },
];

export const InFlightList = ({ jobs, onOpen }: ListProps) => (
  <Scrolling label="Jobs in flight">
    <Head columns={IN_FLIGHT} />
    <Table.Body>
      {jobs.map((job) => (
        <Row job={job} key={nameOf(job)} onOpen={onOpen}>
          <Table.Cell>
            <JobName job={job} />
          </Table.Cell>
          <Table.Cell>
            <JobStateBadge state={job.state} />
            {job.pause ? (
              <Text color="fg.muted" fontSize="xs" hideBelow="sm" maxW="240px" minW="150px" whiteSpace="normal">
                {job.pause.reason}
                {job.pause.until === null ? "" : "; goes on "}
                <Moment iso={job.pause.until} />
              </Text>
            ) : undefined}
          </Table.Cell>
          <Right from="md">
            {job.batches > 0 ? (
              <>
                <Number value={job.batches_ended} /> / <Number value={job.batches} />
              </>
            ) : (
              <Nothing />
            )}
          </Right>
          <Right from="lg">{job.requests === null ? <Nothing /> : <Number value={job.requests} />}</Right>
          <Table.Cell hideBelow="xl">
            <Moment iso={job.submitted_at} />
          </Table.Cell>
          <Table.Cell hideBelow="sm">
            <DeadlineBar job={job} />
          </Table.Cell>
          <Right from="sm">
            <Money value={job.estimate?.total_usd} />
          </Right>
        </Row>
      ))}
    </Table.Body>
  </Scrolling>
);

const RECENT: Column[] = [
  { name: "Job" },
  { name: "State" },
  { from: "sm", name: "Outcome" },
  { from: "xl", name: "Requests", number: true },
  { from: "md", name: "Submitted" },
  { from: "lg", name: "Duration", number: true },
  { from: "xl", name: "Tokens in / out", number: true },
  { from: "xl", name: "Cache hits", number: true },
  { from: "sm", name: "Cost", number: true },
  { from: "lg", name: "Saved", number: true },
];

export const RecentList = ({ jobs, onOpen }: ListProps) => (
  <Scrolling label="Recent jobs">
    <Head columns={RECENT} />
    <Table.Body>
      {jobs.map((job) => (
        <Row job={job} key={nameOf(job)} onOpen={onOpen}>
          <Table.Cell>
            <JobName job={job} />
          </Table.Cell>
          <Table.Cell>
            <JobStateBadge state={job.state} />
          </Table.Cell>
          <Table.Cell hideBelow="sm">
            <OutcomeCell job={job} />
          </Table.Cell>
          <Right from="xl">{job.requests === null ? <Nothing /> : <Number value={job.requests} />}</Right>
          <Table.Cell hideBelow="md">
            <Moment iso={job.submitted_at} />
          </Table.Cell>
          <Right from="lg">
            {job.submitted_at !== null && job.delivered_at !== null ? (
              duration(secondsBetween(job.submitted_at, job.delivered_at))
            ) : (
              <Nothing />
            )}
          </Right>
          <Right from="xl">
            {job.usage ? (
              `${compact(tokensIn(job))} / ${compact(job.usage.output_tokens)}`
            ) : (
              <Nothing />
            )}
          </Right>
          <Right from="xl">{typeof job.cache_hit_rate === "number" ? percent(job.cache_hit_rate) : <Nothing />}</Right>
          <Right from="sm">
            <Cost job={job} />
          </Right>
          <Right from="lg">
            <Money value={job.cost?.saved_usd} />
          </Right>
        </Row>
      ))}
    </Table.Body>
  </Scrolling>
);

export const tokensIn = (job: Job): number =>
  job.usage
    ? job.usage.input_tokens + job.usage.cache_creation_input_tokens + job.usage.cache_read_input_tokens
    : 0;

const OutcomeCell = ({ job }: { readonly job: Job }) => {
  if (!job.counts) {
    return (
      <Text color="fg.muted" fontSize="xs" whiteSpace="normal">
        {job.batches > 0 ? "no results delivered" : "no batch known"}
        <FailedTask job={job} />
      </Text>
    );
  }
  const failed = job.counts.total - job.counts.succeeded;

  return (
    <Box minW="120px" title={outcomeText(job.counts)}>
      <OutcomeBar counts={job.counts} />
      <Text color="fg.muted" fontSize="xs" fontVariantNumeric="tabular-nums" mt={1} whiteSpace="nowrap">
        {failed === 0 ? "all succeeded" : `${plural(failed, "request")} did not succeed`}
      </Text>
      {job.main_error ? (
        <Text color="fg.muted" fontSize="xs" maxW="220px" truncate>
          {job.main_error.count < failed ? "mostly " : ""}
          {job.main_error.type}
        </Text>
      ) : undefined}
    </Box>
  );
};

const Cost = ({ job }: { readonly job: Job }) => (
  <>
    <Money value={job.cost?.total_usd} />
    {job.cost && job.cost.unpriced_requests > 0 ? (
      <Badge ms={1} size="xs" title={`${plural(job.cost.unpriced_requests, "request")} of models without a known price`}>
        partly
      </Badge>
    ) : undefined}
  </>
);
