/** Everything about one job: in the page's drawer, and in the tabs of runs and task instances. */
import { Box, Code, HStack, SimpleGrid, Stack, Text } from "@chakra-ui/react";

import type { JobDetails } from "./api";
import { Batches } from "./batches";
import { Block, Fact } from "./blocks";
import { CancelButton } from "./cancel";
import { FailedRecords } from "./failures";
import { compact, count, duration, percent, secondsBetween, usd } from "./format";
import { tokensIn } from "./lists";
import { OutcomeBar, OutcomeLegend } from "./outcomes";
import {
  CopyButton,
  DeadlineBar,
  DirectSoFar,
  FailedTask,
  GoingDirectBadge,
  JobStateBadge,
  LateBadge,
  Ltr,
  Moment,
  Note,
  Nothing,
  Number,
  OutsideLink,
  PageLink,
  Tags,
  TaskStateBadge,
  dagPath,
  runPath,
  taskPath,
} from "./parts";
import { plural, t, tx } from "./text";

const money = (value: number | null | undefined) =>
  value === null || value === undefined ? <Nothing /> : usd(value);

export const Details = ({ job, onChanged }: { readonly job: JobDetails; readonly onChanged: () => void }) => (
  <Stack gap={6}>
    <HStack flexWrap="wrap" gap={3}>
      {job.going_direct ? <GoingDirectBadge job={job} /> : <JobStateBadge state={job.state} />}
      <LateBadge job={job} />
      <Text fontSize="sm">
        <PageLink to={dagPath(job.dag_id)}>{job.dag_id}</PageLink> ·{" "}
        <PageLink to={runPath(job)}>{job.run_id}</PageLink>
      </Text>
      {job.can_cancel && job.may_edit ? <CancelButton job={job} onCanceled={onChanged} /> : undefined}
    </HStack>
    {job.unreadable.length > 0 ? (
      <Note>
        {t("The XCom {names} of this job has another form than this package writes; what it says is left out.", {
          names: job.unreadable.join(", "),
        })}
      </Note>
    ) : undefined}
    {job.cancellation ? (
      <Text color="fg.muted" fontSize="sm">
        {tx("{user} asked to cancel {batches} at {time}.", {
          batches: plural(job.cancellation.batches, "{n} batch", "{n} batches"),
          time: <Moment iso={job.cancellation.at} />,
          user: job.cancellation.by,
        })}
      </Text>
    ) : undefined}
    {job.pause && job.in_flight ? (
      <Text color="fg.muted" fontSize="sm">
        {tx("Submission waits: {reason}. It goes on {time}.", {
          reason: job.pause.reason,
          time: <Moment iso={job.pause.until} />,
        })}
      </Text>
    ) : undefined}
    {job.in_flight && job.submitted_at !== null ? <DeadlineBar job={job} /> : undefined}
    {job.counts ? (
      <Block title={t("Outcomes")}>
        <Stack gap={2}>
          <OutcomeBar counts={job.counts} height="10px" />
          <OutcomeLegend counts={job.counts} />
        </Stack>
      </Block>
    ) : undefined}
    {!job.counts && job.tasks.some(({ state }) => state === "failed") ? (
      <Text fontSize="sm">
        {t("Nothing was delivered.")} <FailedTask job={job} says="See {log} for why." />
      </Text>
    ) : undefined}
    {job.warning_texts && job.warning_texts.length > 0 ? (
      <Block title={t("Warnings")}>
        <Stack as="ul" gap={1} listStyleType="none">
          {job.warning_texts.map((text) => (
            <Text as="li" fontSize="sm" key={text} overflowWrap="anywhere">
              {text}
            </Text>
          ))}
        </Stack>
      </Block>
    ) : undefined}
    {job.errors && job.errors.length > 0 ? <Errors errors={job.errors} /> : undefined}
    <FailedRecords job={job} />
    <Facts job={job} />
    <Batches job={job} />
    {job.paths && job.paths.length > 0 ? (
      <Block title={t("Output")}>
        <Stack as="dl" gap={2}>
          {job.paths.map(({ name, path, url }) => (
            <Fact key={name} name={t(name)}>
              <OutsideLink href={url}>
                <Ltr>{path}</Ltr>
              </OutsideLink>
              <CopyButton name={t(name)} text={path} />
            </Fact>
          ))}
        </Stack>
      </Block>
    ) : undefined}
    <Tasks job={job} />
  </Stack>
);

const lastEnd = (job: JobDetails): string | null =>
  job.batch_list
    .map((batch) => batch.ended_at)
    .filter((time) => time !== null)
    .sort()
    .at(-1) ?? null;

const Facts = ({ job }: { readonly job: JobDetails }) => (
  <SimpleGrid as="dl" columnGap={6} minChildWidth="140px" rowGap={3}>
    <Fact name={t("Requests")}>{job.requests === null ? <Nothing /> : <Number value={job.requests} />}</Fact>
    <Fact name={t("Batches ended")}>
      {job.batches > 0 ? <Ltr>{`${count(job.batches_ended)} / ${count(job.batches)}`}</Ltr> : <Nothing />}
    </Fact>
    <Fact name={t("Model")}>{job.model ?? t("named by each request")}</Fact>
    <Fact name={t("Stored")}>
      <Moment iso={job.tasks.find((task) => task.task_id === job.task_id)?.started_at ?? job.announced_at} />
    </Fact>
    <Fact name={t("Sent")}>
      <Moment iso={job.submitted_at} />
    </Fact>
    <Fact name={t("Last batch ended")}>
      <Moment iso={lastEnd(job)} />
    </Fact>
    {job.delivered_at === null ? undefined : (
      <Fact name={t("Delivered")}>
        <Moment iso={job.delivered_at} />
      </Fact>
    )}
    {job.delivered_at !== null && job.submitted_at !== null ? (
      <Fact name={t("Duration")}>{duration(secondsBetween(job.submitted_at, job.delivered_at))}</Fact>
    ) : undefined}
    {job.empty ? (
      <Fact name={t("Empty answers")}>
        <Number value={job.empty} />
      </Fact>
    ) : undefined}
    {job.due === null ? undefined : (
      <Fact name={t("Wanted by")}>
        <Moment iso={job.due} />
      </Fact>
    )}
    {typeof job.rounds === "number" ? <Fact name={t("Rounds")}>{job.rounds}</Fact> : undefined}
    {job.usage ? (
      <>
        <Fact name={t("Tokens in")}>{compact(tokensIn(job))}</Fact>
        <Fact name={t("Tokens out")}>{compact(job.usage.output_tokens)}</Fact>
        <Fact name={t("Cache hits")}>
          {typeof job.cache_hit_rate === "number" ? percent(job.cache_hit_rate) : <Nothing />}
        </Fact>
      </>
    ) : undefined}
    {job.counts ? (
      <>
        <Fact name={t("Cost")}>{money(job.cost?.total_usd)}</Fact>
        <Fact name={t("Standard price")}>{money(job.cost?.standard_usd)}</Fact>
        <Fact name={t("Saved")}>{money(job.cost?.saved_usd)}</Fact>
      </>
    ) : (
      <Fact name={t("Estimated cost")}>{money(job.estimate?.total_usd)}</Fact>
    )}
    {job.going_direct ? (
      <Fact name={t("Going direct")}>
        <DirectSoFar told={job.going_direct} />
      </Fact>
    ) : undefined}
    {job.direct ? (
      <Fact name={t("Answered directly")}>
        <Number value={job.direct} />
        {job.direct_extra_usd ? ` (${t("{usd} more than in a batch", { usd: usd(job.direct_extra_usd) })})` : ""}
      </Fact>
    ) : undefined}
    {job.reused ? (
      <Fact name={t("Reused answers")}>
        <Number value={job.reused} />
        {job.saved_by_reuse_usd ? ` (${t("{usd} saved", { usd: usd(job.saved_by_reuse_usd) })})` : ""}
      </Fact>
    ) : undefined}
    {job.paid_before && job.paid_before.jobs > 0 ? (
      <Fact name={t("Paid before")}>
        {plural(job.paid_before.jobs, "{usd} for {n} job that a clear has replaced", "{usd} for {n} jobs that a clear has replaced", {
          usd: usd(job.paid_before.usd),
        })}
      </Fact>
    ) : undefined}
    <Fact name={t("Connection")}>{job.conn_id || <Nothing />}</Fact>
    {Object.keys(job.tags).length > 0 ? (
      <Fact name={t("Tags")}>
        <Tags tags={job.tags} />
      </Fact>
    ) : undefined}
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
    <Block title={t("Why requests did not succeed")}>
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
              {sample?.message || (Object.hasOwn(MEANINGS, type) ? t(MEANINGS[type] ?? "") : "")}
              {sample?.message && sample.request_id !== null ? ` (${sample.request_id})` : ""}
            </Text>
          </Box>
        ))}
      </Stack>
    </Block>
  );
};

const Tasks = ({ job }: { readonly job: JobDetails }) => (
  <Block title={t("Tasks")}>
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
          {t("Ledger")}: <Code display="inline" overflowWrap="anywhere" size="xs" whiteSpace="normal">{job.job}</Code>
        </Text>
      )}
    </Stack>
  </Block>
);
