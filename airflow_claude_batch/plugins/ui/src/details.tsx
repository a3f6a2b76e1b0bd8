/** Everything about one job: in the page's drawer, and in the tabs of runs and task instances. */
import { Box, Code, HStack, SimpleGrid, Stack, Table, Text } from "@chakra-ui/react";
import type { ReactNode } from "react";

import type { JobDetails } from "./api";
import { CancelButton } from "./cancel";
import { compact, count, duration, percent, plural, secondsBetween, usd } from "./format";
import { tokensIn } from "./lists";
import {
  DeadlineBar,
  FailedTask,
  JobStateBadge,
  Moment,
  Nothing,
  Number,
  OutcomeBar,
  OutcomeLegend,
  OutsideLink,
  PageLink,
  TaskStateBadge,
  dagPath,
  runPath,
  taskPath,
} from "./parts";

const Fact = ({ children, name }: { readonly children: ReactNode; readonly name: string }) => (
  <Box>
    <Text as="dt" color="fg.muted" fontSize="xs">
      {name}
    </Text>
    <Box as="dd" fontSize="sm" fontVariantNumeric="tabular-nums" overflowWrap="anywhere">
      {children}
    </Box>
  </Box>
);

const Block = ({ children, title }: { readonly children: ReactNode; readonly title: string }) => (
  <Box as="section">
    <Text as="h3" fontSize="sm" fontWeight="semibold" mb={2}>
      {title}
    </Text>
    {children}
  </Box>
);

const money = (value: number | null | undefined) =>
  value === null || value === undefined ? <Nothing /> : usd(value);

export const Details = ({ job, onChanged }: { readonly job: JobDetails; readonly onChanged: () => void }) => (
  <Stack gap={6}>
    <HStack flexWrap="wrap" gap={3}>
      <JobStateBadge state={job.state} />
      <Text fontSize="sm">
        <PageLink to={dagPath(job.dag_id)}>{job.dag_id}</PageLink> ·{" "}
        <PageLink to={runPath(job)}>{job.run_id}</PageLink>
      </Text>
      {job.can_cancel && job.may_edit ? <CancelButton job={job} onCanceled={onChanged} /> : undefined}
    </HStack>
    {job.cancellation ? (
      <Text color="fg.muted" fontSize="sm">
        {job.cancellation.by} asked to cancel {plural(job.cancellation.batches, "batch", "batches")} at{" "}
        <Moment iso={job.cancellation.at} />.
      </Text>
    ) : undefined}
    {job.pause && job.in_flight ? (
      <Text color="fg.muted" fontSize="sm">
        Submission waits: {job.pause.reason}. It goes on <Moment iso={job.pause.until} />.
      </Text>
    ) : undefined}
    {job.in_flight && job.submitted_at !== null ? <DeadlineBar job={job} /> : undefined}
    <Facts job={job} />
    {job.counts ? (
      <Block title="Outcomes">
        <Stack gap={2}>
          <OutcomeBar counts={job.counts} height="10px" />
          <OutcomeLegend counts={job.counts} />
        </Stack>
      </Block>
    ) : undefined}
    {!job.counts && job.tasks.some(({ state }) => state === "failed") ? (
      <Text fontSize="sm">
        Nothing was delivered
        <FailedTask job={job} />.
      </Text>
    ) : undefined}
    {job.errors && job.errors.length > 0 ? <Errors errors={job.errors} /> : undefined}
    <Batches job={job} />
    {job.paths && job.paths.length > 0 ? (
      <Block title="Output">
        <Stack as="dl" gap={2}>
          {job.paths.map(({ name, path, url }) => (
            <Fact key={name} name={name}>
              <OutsideLink href={url}>{path}</OutsideLink>
            </Fact>
          ))}
        </Stack>
      </Block>
    ) : undefined}
    <Tasks job={job} />
  </Stack>
);

const Facts = ({ job }: { readonly job: JobDetails }) => (
  <SimpleGrid as="dl" columnGap={6} minChildWidth="140px" rowGap={3}>
    <Fact name="Requests">{job.requests === null ? <Nothing /> : <Number value={job.requests} />}</Fact>
    <Fact name="Batches ended">
      {job.batches > 0 ? `${count(job.batches_ended)} / ${count(job.batches)}` : <Nothing />}
    </Fact>
    <Fact name="Model">{job.model ?? "named by each request"}</Fact>
    <Fact name="Submitted">
      <Moment iso={job.submitted_at} />
    </Fact>
    {job.delivered_at === null ? undefined : (
      <Fact name="Delivered">
        <Moment iso={job.delivered_at} />
      </Fact>
    )}
    {job.delivered_at !== null && job.submitted_at !== null ? (
      <Fact name="Duration">{duration(secondsBetween(job.submitted_at, job.delivered_at))}</Fact>
    ) : undefined}
    {typeof job.rounds === "number" ? <Fact name="Rounds">{job.rounds}</Fact> : undefined}
    {job.usage ? (
      <>
        <Fact name="Tokens in">{compact(tokensIn(job))}</Fact>
        <Fact name="Tokens out">{compact(job.usage.output_tokens)}</Fact>
        <Fact name="Cache hits">
          {typeof job.cache_hit_rate === "number" ? percent(job.cache_hit_rate) : <Nothing />}
        </Fact>
      </>
    ) : undefined}
    {job.counts ? (
      <>
        <Fact name="Cost">{money(job.cost?.total_usd)}</Fact>
        <Fact name="Standard price">{money(job.cost?.standard_usd)}</Fact>
        <Fact name="Saved">{money(job.cost?.saved_usd)}</Fact>
      </>
    ) : (
      <Fact name="Estimated cost">{money(job.estimate?.total_usd)}</Fact>
    )}
    <Fact name="Connection">{job.conn_id || <Nothing />}</Fact>
  </SimpleGrid>
);

/** What is counted under the name of its outcome has no message of the API. */
const MEANINGS: Record<string, string> = {
  canceled: "The batch was canceled before their turn came.",
  expired: "Their turn did not come within the 24 hours that a batch has.",
  invalid: "The answer does not fit the output schema, was refused, or was cut off.",
  missing: "The API gave no result for them.",
};

const Errors = ({ errors }: { readonly errors: NonNullable<JobDetails["errors"]> }) => {
  const most = Math.max(...errors.map((error) => error.count), 1);

  return (
    <Block title="Why requests did not succeed">
      <Stack gap={3}>
        {errors.map(({ count: number, sample, type }) => (
          <Box key={type}>
            <HStack fontSize="sm" justify="space-between">
              <Text fontWeight="medium">{type}</Text>
              <Number value={number} />
            </HStack>
            <Box aria-hidden bg="bg.emphasized" borderRadius="full" h="6px" my={1} overflow="hidden">
              <Box bg="failed.solid" h="100%" minW="3px" w={`${(number / most) * 100}%`} />
            </Box>
            <Text color="fg.muted" fontSize="xs" overflowWrap="anywhere">
              {sample?.message || MEANINGS[type]}
              {sample?.message && sample.request_id !== null ? ` (${sample.request_id})` : ""}
            </Text>
          </Box>
        ))}
      </Stack>
    </Block>
  );
};

const Batches = ({ job }: { readonly job: JobDetails }) =>
  job.batch_list.length === 0 ? undefined : (
    <Block title={plural(job.batch_list.length, "batch", "batches")}>
      <Table.ScrollArea borderRadius="md" borderWidth="1px" maxH="320px">
        <Table.Root aria-label="Batches" size="sm">
          <Table.Header>
            <Table.Row>
              <Table.ColumnHeader scope="col">Batch</Table.ColumnHeader>
              <Table.ColumnHeader scope="col" textAlign="end">
                Round
              </Table.ColumnHeader>
              <Table.ColumnHeader scope="col">Ended</Table.ColumnHeader>
            </Table.Row>
          </Table.Header>
          <Table.Body>
            {job.batch_list.map((batch) => (
              <Table.Row key={batch.id}>
                <Table.Cell fontFamily="mono" fontSize="xs">
                  <OutsideLink href={batch.console_url}>{batch.id}</OutsideLink>
                </Table.Cell>
                <Table.Cell fontVariantNumeric="tabular-nums" textAlign="end">
                  {batch.round + 1}
                </Table.Cell>
                <Table.Cell>
                  <Moment iso={batch.ended_at} />
                </Table.Cell>
              </Table.Row>
            ))}
          </Table.Body>
        </Table.Root>
      </Table.ScrollArea>
    </Block>
  );

const Tasks = ({ job }: { readonly job: JobDetails }) => (
  <Block title="Tasks">
    <Stack gap={1.5}>
      {job.tasks.map((task) => (
        <HStack fontSize="sm" justify="space-between" key={`${task.task_id}${task.map_index}`}>
          <PageLink to={taskPath(task)}>
            {task.task_id}
            {task.map_index >= 0 ? ` [${task.map_index}]` : ""}
          </PageLink>
          <HStack>
            <Text color="fg.muted" fontSize="xs" hideBelow="sm">
              {task.operator}
            </Text>
            <TaskStateBadge state={task.state} />
          </HStack>
        </HStack>
      ))}
      {job.job === null ? undefined : (
        <Text color="fg.muted" fontSize="xs" mt={2} overflowWrap="anywhere">
          Ledger: <Code size="xs">{job.job}</Code>
        </Text>
      )}
    </Stack>
  </Block>
);
